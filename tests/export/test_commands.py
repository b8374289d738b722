"""`din-infer export`, `validate` and `inspect`, as people run them."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from onnx import numpy_helper
from typer.testing import CliRunner

import din_infer
from din_infer.cli import build_app
from din_infer.errors import ModelFileError
from din_infer.export.storage import file_bytes
from din_infer.training.checkpoint import Checkpoint, save_checkpoint
from din_infer.training.model import DIN


@pytest.fixture(scope="module")
def case(make_case: Any) -> Any:
    return make_case(activation="prelu")


@pytest.fixture(scope="module")
def run(case: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `din-infer train` leaves it, with `model.onnx` and `requests.parquet` beside the checkpoint."""
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    model = DIN(case.schema, case.semantics, {name: len(ids) for name, ids in case.vocabularies.items()})
    facts = {"data": {"train": {"dataset": "synthetic", "sampled_negatives": 4}}}
    save_checkpoint(Checkpoint(model.eval(), case.schema, case.semantics, case.vocabularies, facts), folder)
    columns = case.columns([{"candidate": 2, "clicks": 3}, {"candidate": 3, "buys": 4}])
    pq.write_table(pa.table(columns), folder / "requests.parquet")
    invoke("export", folder, "--out", folder / "model.onnx")
    return folder


def invoke(*arguments: Any, status: int = 0) -> str:
    result = CliRunner().invoke(build_app(), [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output + repr(result.exception)
    return result.stdout


def test_validate_compares_with_every_runtime(run: Path) -> None:
    options = ("--requests", run / "requests.parquet", "--checkpoint", run)
    found = json.loads(invoke("validate", run / "model.onnx", *options, "--json"))
    assert list(found) == ["certificate", "onnxruntime", "pytorch"]
    assert all(agreement["max_abs_error"] <= 1e-5 for agreement in found.values())
    assert found["onnxruntime"]["candidates"] == found["pytorch"]["candidates"] == 5
    assert "ONNX Runtime" in invoke("validate", run / "model.onnx", *options)


def test_validate_fails_where_the_weights_are_others(run: Path, tmp_path: Path) -> None:
    model = onnx.load(run / "model.onnx")
    (bias,) = (tensor for tensor in model.graph.initializer if tensor.name == "tower.biases.2")
    bias.raw_data = struct.pack("<f", np.float32(1.0))
    del model.metadata_props[-1]  # the checksum, which would stop it earlier
    path = tmp_path / "changed.onnx"
    path.write_bytes(file_bytes(model))
    found = json.loads(invoke("validate", path, "--json", status=1))
    assert found["certificate"]["max_abs_error"] > 1e-3
    assert found["onnxruntime"]["max_abs_error"] <= 1e-5, "both runtimes read the same file"


def test_inspect_shows_all(run: Path, case: Any) -> None:
    facts = json.loads(invoke("inspect", run / "model.onnx", "--json"))
    assert facts["schema"] == case.schema.to_dict()
    assert facts["semantics"] == json.loads(json.dumps(case.semantics.to_dict()))
    assert facts["training"]["data"]["train"]["dataset"] == "synthetic"
    assert (facts["calibrated"], facts["sampled_negatives"]) == (False, 4)
    assert facts["tables"]["item"] == {
        "rows": 10,
        "dim": 3,
        "ids": "vocabulary",
        "dtype": "int64",
        "vocabulary": 9,
        "stored": "float32",
        "bytes": 120,
    }
    assert facts["parameters"]["unit.clicks.weights.0"]["shape"] == [5, 2 * 7 + 7 * 7]
    text = invoke("inspect", run / "model.onnx")
    assert all(
        part in text for part in ("candidate.genres", "mean of several", "table.brand", "synthetic", "Not calibrated")
    )


@pytest.mark.parametrize(("dtype", "size"), [("float16", 60), ("int8", 110)])
def test_tables_of_other_types(run: Path, tmp_path: Path, dtype: str, size: int) -> None:
    path = tmp_path / "small.onnx"
    assert json.loads(invoke("export", run, "--out", path, "--table-dtype", dtype, "--json"))["table_dtype"] == dtype
    facts = json.loads(invoke("inspect", path, "--json"))
    assert facts["format_version"] == 2
    assert (facts["tables"]["item"]["stored"], facts["tables"]["item"]["bytes"]) == (dtype, size)
    assert facts["parameters"]["table.item"] == {"shape": [10, 3], "dtype": dtype, "bytes": size if size < 99 else 30}
    assert dtype in invoke("inspect", path)
    options = (path, "--requests", run / "requests.parquet", "--checkpoint", run)
    found = json.loads(invoke("validate", *options, "--json"))
    assert list(found) == ["certificate", "onnxruntime", "pytorch", "rounding"]
    rounding = found.pop("rounding")["max_abs_error"]
    assert all(agreement["max_abs_error"] <= 1e-6 for agreement in found.values())
    assert 0 < rounding < 0.01
    assert "not judged" in invoke("validate", *options)
    other = json.loads(invoke("validate", run / "model.onnx", *options[1:], "--json"))
    assert "rounding" not in other


def test_an_unknown_table_type_is_refused(run: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        build_app(), ["export", str(run), "--out", str(tmp_path / "x"), "--table-dtype", "uint4"]
    )
    assert isinstance(result.exception, ModelFileError)
    assert "expected float32 | float16 | int8, got 'uint4'" in str(result.exception)


def cut(content: bytes) -> bytes:
    return content[:-1]


def with_an_id_twice(content: bytes) -> bytes:
    model = onnx.load_from_string(content)
    nodes = [node for function in model.functions for node in function.node]
    (keys, *_) = (a.t for node in nodes for a in node.attribute if a.name == "keys_tensor")
    ids = numpy_helper.to_array(keys).copy()
    ids[-1] = ids[0]
    keys.CopyFrom(numpy_helper.from_array(ids, keys.name))
    del model.metadata_props[-1]  # the checksum, which would stop it earlier
    return file_bytes(model)


@pytest.mark.parametrize("edit", [cut, with_an_id_twice])
def test_inspect_says_what_loading_says(run: Path, tmp_path: Path, edit: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "edited.onnx"
    path.write_bytes(edit((run / "model.onnx").read_bytes()))
    with pytest.raises(ModelFileError) as error:
        din_infer.load(path)
    result = CliRunner().invoke(build_app(), ["inspect", str(path)])
    assert isinstance(result.exception, ModelFileError)
    assert str(result.exception) == str(error.value)
    assert edit is cut or "expected different ids, got one twice" in str(error.value)


def test_export_can_inline(run: Path, tmp_path: Path) -> None:
    summary = json.loads(invoke("export", run, "--out", tmp_path / "inline.onnx", "--inline", "--json"))
    assert summary == {
        "path": str(tmp_path / "inline.onnx"),
        "bytes": summary["bytes"],
        "inline": True,
        "table_dtype": "float32",
    }
    assert (tmp_path / "vocabulary.parquet").is_file()
