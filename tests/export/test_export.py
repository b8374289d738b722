"""Checkpoints to files: what is written, that it is complete or not there, and that every runtime agrees."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

import din_infer
from din_infer.cli import build_app
from din_infer.errors import ModelFileError
from din_infer.export import check_certificate, export_model, exporter, run_padded, storage
from din_infer.export.inline import VOCABULARY_FILE, row_schema, rows_of
from din_infer.export.padded import padded_inputs, unpadded
from din_infer.export.parity import TOLERANCE, read_certificate
from din_infer.training.checkpoint import Checkpoint
from din_infer.training.model import DIN
from din_infer.training.predict import predict

Make = Callable[..., Checkpoint]


@pytest.fixture(scope="module")
def make_checkpoint(make_case: Any) -> Make:
    def make(**semantics: Any) -> Checkpoint:
        case = make_case(**semantics)
        torch.manual_seed(0)
        model = DIN(case.schema, case.semantics, {name: len(ids) for name, ids in case.vocabularies.items()})
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(0, 0.4)
        facts = {"data": "synthetic", "metrics": {"auc": 0.5}}
        return Checkpoint(model.eval(), case.schema, case.semantics, case.vocabularies, facts)

    return make


@pytest.fixture(scope="module")
def checkpoint(make_checkpoint: Make) -> Checkpoint:
    return make_checkpoint()


@pytest.fixture
def columns(make_case: Any, request_lengths: Any) -> Any:
    return make_case().columns(request_lengths)


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(
    "semantics",
    [
        {},
        {"interaction": "hadamard", "activation": "prelu", "scale": 0.5},
        {"activation": "bisigmoid", "normalize": "softmax"},
        {"hidden": ()},
        {"pooling": "mean"},
    ],
    ids=str,
)
def test_all_runtimes_agree(make_checkpoint: Make, columns: Any, tmp_path: Path, semantics: dict[str, Any]) -> None:
    checkpoint = make_checkpoint(**semantics)
    path = export_model(checkpoint, tmp_path / "model.onnx")
    expected = predict(checkpoint, columns)
    model = din_infer.load(path, threads=1)
    np.testing.assert_allclose(run_padded(session(path), checkpoint.schema, columns), expected, atol=TOLERANCE)
    np.testing.assert_allclose(model.score(columns), expected, atol=TOLERANCE)


def test_the_file_says_what_it_holds(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = export_model(checkpoint, tmp_path / "model.onnx")
    metadata = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert metadata["din_infer.format_version"] == "1"
    assert json.loads(metadata["din_infer.schema"]) == checkpoint.schema.to_dict()
    assert json.loads(metadata["din_infer.training"])["metrics"] == {"auc": 0.5}
    assert set(json.loads(metadata["din_infer.training"])["exported"]) == {"date", "din_infer", "torch"}
    assert din_infer.load(path).schema == checkpoint.schema
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


def test_the_certificate_holds_every_edge_case(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = export_model(checkpoint, tmp_path / "model.onnx")
    requests = {request["case"]: request for request in read_certificate(path)["requests"]}
    assert {"empty history", "one behaviour", "longest history", "unknown ids", "duplicate behaviours"} < set(requests)
    assert requests["empty history"]["columns"]["clicks.item"] == []
    assert len(requests["longest history"]["columns"]["buys.brand"]) > checkpoint.schema.histories["buys"].max_length
    agreement = check_certificate(path)
    assert agreement.candidates == sum(len(request["probabilities"]) for request in requests.values())
    assert agreement.max_abs_error <= 1e-6


def test_a_model_whose_probabilities_are_no_numbers_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    broken = copy.deepcopy(checkpoint)
    with torch.no_grad():
        for parameter in broken.model.parameters():
            parameter.fill_(torch.nan)
    with pytest.raises(ModelFileError, match="expected finite probabilities from the trained model"):
        export_model(broken, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_a_model_that_fails_its_certificate_replaces_nothing(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = export_model(checkpoint, tmp_path / "model.onnx")
    before = path.read_bytes()
    monkeypatch.setattr(exporter, "TOLERANCE", -1.0)
    with pytest.raises(ModelFileError, match="expected PyTorch's probabilities"):
        export_model(checkpoint, path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


def test_large_tables_lie_beside_the_model(
    checkpoint: Checkpoint, columns: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "MAX_INSIDE", 0)
    path = export_model(checkpoint, tmp_path / "model.onnx")
    (data,) = tmp_path.glob("model-*.data")
    assert data.stat().st_mode == path.stat().st_mode
    expected = predict(checkpoint, columns)
    np.testing.assert_allclose(din_infer.load(path).score(columns), expected, atol=TOLERANCE)
    np.testing.assert_allclose(run_padded(session(path), checkpoint.schema, columns), expected, atol=TOLERANCE)
    storage.check_external(storage.load_onnx(path), tmp_path)
    content = bytearray(data.read_bytes())
    content[-1] ^= 1
    data.write_bytes(content)
    din_infer.load(path)  # which maps external data and checks its place and size
    with pytest.raises(ModelFileError, match="expected external data with SHA-1"):
        storage.check_external(storage.load_onnx(path), tmp_path)
    command = CliRunner().invoke(build_app(), ["validate", str(path)])
    assert isinstance(command.exception, ModelFileError)
    assert "expected external data with SHA-1" in str(command.exception)
    data.write_bytes(content[:-1])
    with pytest.raises(ModelFileError, match=r"expected \d+ bytes in .*\.data"):
        din_infer.load(path)


def test_inlined_models_run_on_openvino(checkpoint: Checkpoint, columns: Any, tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    path = export_model(checkpoint, tmp_path / "inline.onnx", inline=True)
    model = onnx.load(path)
    assert not model.functions
    assert {node.domain for node in model.graph.node} == {""}
    rows = rows_of(checkpoint.schema, checkpoint.vocabularies, columns)
    inputs = padded_inputs(row_schema(checkpoint.schema), rows)
    (probability,) = session(path).run(None, inputs)
    expected = predict(checkpoint, columns)
    got = unpadded(probability, inputs["candidate.lengths"])
    np.testing.assert_allclose(got, expected, atol=TOLERANCE)
    compiled = openvino.Core().compile_model(
        path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )  # else bf16, where it is fast
    got = unpadded(compiled(inputs)[0], inputs["candidate.lengths"])
    np.testing.assert_allclose(got, expected, atol=TOLERANCE)
    with pytest.raises(ModelFileError, match="exported with --inline"):
        din_infer.load(path)


def test_the_vocabulary_beside_an_inlined_model(checkpoint: Checkpoint, tmp_path: Path) -> None:
    export_model(checkpoint, tmp_path / "inline.onnx", inline=True)
    table = pq.read_table(tmp_path / VOCABULARY_FILE).to_pylist()
    item = checkpoint.vocabularies["item"]
    rows = {row["int64_id"]: row["row"] for row in table if row["table"] == "item"}
    assert rows == {int(raw): place for place, raw in enumerate(item, start=1)}
    assert {row["string_id"] for row in table if row["table"] == "brand"} == set(checkpoint.vocabularies["brand"])
