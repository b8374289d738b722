"""Exports with tables of each type: the same probabilities in every runtime, external data and inlined files too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import din_infer
from din_infer.embedding_tables import stored_parameters
from din_infer.errors import ModelFileError
from din_infer.export import check_certificate, export_model, run_padded, storage
from din_infer.export.graph import build_model
from din_infer.export.inline import row_schema, rows_of
from din_infer.export.padded import padded_inputs, unpadded
from din_infer.training.checkpoint import Checkpoint, with_tables_of
from din_infer.training.model import DIN
from din_infer.training.predict import predict

TOLERANCE = 2e-6
DTYPES = ("float16", "int8")
Predict = Callable[[Any], Any]


@pytest.fixture(scope="module")
def checkpoint(make_case: Any) -> Checkpoint:
    case = make_case()
    torch.manual_seed(0)
    model = DIN(case.schema, case.semantics, {name: len(ids) for name, ids in case.vocabularies.items()})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.4)
    return Checkpoint(model.eval(), case.schema, case.semantics, case.vocabularies)


@pytest.fixture
def columns(make_case: Any, request_lengths: Any) -> Any:
    return make_case().columns(request_lengths)


def rounded(checkpoint: Checkpoint, dtype: str) -> Checkpoint:
    return with_tables_of(checkpoint, stored_parameters(checkpoint.model.file_parameters(), dtype))


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("outside", [False, True], ids=["inside", "external"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_all_runtimes_agree(
    checkpoint: Checkpoint, columns: Any, tmp_path: Path, dtype: str, outside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if outside:
        monkeypatch.setattr(storage, "MAX_INSIDE", 0)
    path = export_model(checkpoint, tmp_path / "model.onnx", table_dtype=dtype)
    expected = predict(rounded(checkpoint, dtype), columns)
    model = din_infer.load(path, threads=1)
    assert model.table_dtype == dtype
    np.testing.assert_allclose(model.score(columns), expected, atol=TOLERANCE)
    np.testing.assert_allclose(run_padded(session(path), checkpoint.schema, columns), expected, atol=TOLERANCE)
    assert check_certificate(path).max_abs_error <= TOLERANCE
    assert np.abs(predict(checkpoint, columns) - expected).max() > 10 * TOLERANCE, "tables are rounded"
    metadata = {entry.key: entry.value for entry in onnx.load(path, load_external_data=False).metadata_props}
    assert (metadata["din_infer.format_version"], metadata["din_infer.table_dtype"]) == ("2", dtype)
    assert len(list(tmp_path.glob("*.data"))) == outside
    storage.check_external(storage.load_onnx(path), tmp_path)


@pytest.mark.parametrize("lengths", [[], [{}], [{"candidate": 2}], [{"candidate": 1}, {"candidate": 3, "buys": 1}]])
@pytest.mark.parametrize("dtype", DTYPES)
def test_any_axis_may_be_empty(
    checkpoint: Checkpoint, make_case: Any, tmp_path: Path, dtype: str, lengths: Any
) -> None:
    path = export_model(checkpoint, tmp_path / "model.onnx", table_dtype=dtype)
    columns = make_case().columns(lengths)
    inputs = padded_inputs(checkpoint.schema, columns)
    (probability,) = session(path).run(None, inputs)
    got = unpadded(probability, inputs["candidate.lengths"])
    np.testing.assert_allclose(got, din_infer.load(path, threads=1).score(columns), atol=TOLERANCE)


@pytest.mark.parametrize("dtype", DTYPES)
def test_inlined_models_run_elsewhere(checkpoint: Checkpoint, columns: Any, tmp_path: Path, dtype: str) -> None:
    path = export_model(checkpoint, tmp_path / "inline.onnx", inline=True, table_dtype=dtype)
    inputs = padded_inputs(row_schema(checkpoint.schema), rows_of(checkpoint.schema, checkpoint.vocabularies, columns))
    expected = predict(rounded(checkpoint, dtype), columns)
    (probability,) = session(path).run(None, inputs)
    np.testing.assert_allclose(unpadded(probability, inputs["candidate.lengths"]), expected, atol=TOLERANCE)
    openvino = pytest.importorskip("openvino")
    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    got = unpadded(compiled(inputs)[0], inputs["candidate.lengths"])
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_memory_is_what_tables_take(checkpoint: Checkpoint, tmp_path: Path) -> None:
    sizes = {}
    for dtype in ("float32", *DTYPES):
        path = export_model(checkpoint, tmp_path / f"{dtype}.onnx", table_dtype=dtype)
        sizes[dtype] = din_infer.load(path).memory_bytes
    parameters = checkpoint.model.file_parameters()
    shapes = [array.shape for name, array in parameters.items() if name.startswith("table.")]
    numbers, rows = sum(rows * dim for rows, dim in shapes), sum(rows for rows, _ in shapes)
    assert sizes["float32"] - sizes["float16"] == 2 * numbers
    assert sizes["float32"] - sizes["int8"] == 3 * numbers - 8 * rows


def test_files_of_float32_stay_what_earlier_versions_read(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = export_model(checkpoint, tmp_path / "model.onnx", table_dtype="float32")
    metadata = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert metadata["din_infer.format_version"] == "1"
    assert "din_infer.table_dtype" not in metadata


def test_parameters_of_another_type_are_refused(make_case: Any) -> None:
    case = make_case()
    with pytest.raises(ModelFileError, match=r"parameter table.item: expected float16 of shape .*, got float32"):
        build_model(case.schema, case.semantics, case.parameters, case.vocabularies, table_dtype="float16")
    stored = stored_parameters(case.parameters, "int8")
    del stored["table.item.range"]
    with pytest.raises(ModelFileError, match=r"parameter table.item.range: expected shape"):
        build_model(case.schema, case.semantics, stored, case.vocabularies, table_dtype="int8")


@pytest.mark.parametrize("dtype", DTYPES)
def test_nothing_is_written_where_a_type_does_not_do(checkpoint: Checkpoint, tmp_path: Path, dtype: str) -> None:
    parameters = checkpoint.model.file_parameters()
    parameters["table.item"][2, 1] = 1e6 if dtype == "float16" else np.nan
    changed = with_tables_of(checkpoint, parameters)
    with pytest.raises(ModelFileError, match=r"parameter table.item: expected numbers .* in row 2"):
        export_model(changed, tmp_path / "model.onnx", table_dtype=dtype)
    assert list(tmp_path.iterdir()) == []


def test_nan_in_a_float16_table_stays_in_its_row(make_case: Any) -> None:
    case = make_case()
    known = [int(raw) for raw in case.vocabularies["item"]]
    columns = case.columns([{"candidate": 2, "clicks": 3}])
    columns["candidate.item"], columns["clicks.item"] = [[known[0], known[5]]], [[known[0]] * 3]
    table = case.parameters["table.item"].copy()
    table[6] = np.nan
    stored = stored_parameters({**case.parameters, "table.item": table}, "float16")
    file = build_model(case.schema, case.semantics, stored, case.vocabularies, table_dtype="float16")
    scores = din_infer.load(storage.file_bytes(file), threads=1).score(columns)
    assert np.isfinite(scores[0])
    assert np.isnan(scores[1])
