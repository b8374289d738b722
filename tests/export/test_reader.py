"""Files that the exporter wrote and somebody changed: loading them is an error, never a crash or another model."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

import din_infer
from din_infer.errors import ModelFileError
from din_infer.export.graph import build_model
from din_infer.export.parity import check_certificate
from din_infer.export.storage import check_external, file_bytes

Edit = Callable[[onnx.ModelProto], object]


@pytest.fixture(scope="module")
def model(make_case: Any) -> onnx.ModelProto:
    case = make_case()
    return build_model(case.schema, case.semantics, case.parameters, case.vocabularies)


def test_it_loads_unchanged(model: onnx.ModelProto) -> None:
    assert din_infer.load(file_bytes(model)).schema.histories


def test_cuts_and_flipped_bits(model: onnx.ModelProto) -> None:
    content = file_bytes(model)
    rng = random.Random(0)
    for place in sorted(rng.sample(range(len(content)), 400)):
        with pytest.raises(ModelFileError):
            din_infer.load(content[:place])
        changed = bytearray(content)
        changed[place] ^= 1 << rng.randrange(8)
        with pytest.raises(ModelFileError):
            din_infer.load(bytes(changed))


def test_other_tools_may_not_rewrite_it(model: onnx.ModelProto) -> None:
    rewritten = onnx.load_from_string(file_bytes(model)).SerializeToString()
    with pytest.raises(ModelFileError, match="changed since it was exported"):
        din_infer.load(rewritten)
    with pytest.raises(ModelFileError, match=r"expected it to end with CRC-32 .* got none; export"):
        din_infer.load(model.SerializeToString())


def edit_function(model: onnx.ModelProto) -> None:
    unit = next(f for f in model.functions if f.name == "ActivationUnit_1")
    next(node for node in unit.node if node.op_type == "Where").op_type = "Identity"


def call_another_function(model: onnx.ModelProto) -> None:
    next(node for node in model.graph.node if node.op_type == "ActivationUnit_1").op_type = "ActivationUnit_2"


def make_a_cycle(model: onnx.ModelProto) -> None:
    first, last = model.graph.node[0], model.graph.node[-1]
    first.input[:] = [*first.input[:-1], last.output[0]]


def huge_shape(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[0] = 2**62


def negative_shape(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[0] = -(2**62)


def other_dtype(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].data_type = onnx.TensorProto.FLOAT16


def data_elsewhere(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")


def newer_version(model: onnx.ModelProto) -> None:
    next(entry for entry in model.metadata_props if entry.key == "din_infer.format_version").value = "3"


def subgraph(model: onnx.ModelProto) -> None:
    attribute = model.graph.node[0].attribute.add(name="body", type=onnx.AttributeProto.GRAPH)
    attribute.g.name = "body"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (edit_function, r"function ActivationUnit_1, node \d+ \(Where 'valid_keys'\): operator: expected 'Where', got"),
        (call_another_function, "expected 'ActivationUnit_1', got 'ActivationUnit_2'"),
        (make_a_cycle, "inputs: expected"),
        (huge_shape, r"parameter table.item: expected a shape that fits in memory, got \[4611686018427387904, 3\]"),
        (negative_shape, "parameter table.item: expected shape"),
        (other_dtype, "parameter table.item: expected float32, got float16"),
        (data_elsewhere, "parameter table.item: expected external data at a path inside the model's folder"),
        (newer_version, "format version: expected 1 or 2, got '3'; export the model again"),
        (subgraph, "graph, node 0 "),
    ],
)
def test_edits_by_hand_are_named(model: onnx.ModelProto, edit: Edit, message: str) -> None:
    edited = onnx.ModelProto()
    edited.CopyFrom(model)
    edit(edited)
    with pytest.raises(ModelFileError, match=message):
        din_infer.load(file_bytes(edited))


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ("[" * 100_000, "din_infer.training: expected JSON, got str"),
        ("{", "din_infer.training: expected JSON, got str '{': Expecting property name"),
        ('{"a":' * 500 + "1" + "}" * 500, "din_infer.training: expected at most 32 lists and objects in each other"),
        ("[1, 2]", r"din_infer.training: expected a JSON object, got list \[1, 2\]"),
        ("5", "din_infer.training: expected a JSON object, got int 5"),
        ('{"a": ' + "9" * 5000 + "}", "din_infer.training: expected JSON, got str"),
    ],
    ids=["endless", "cut", "deep", "list", "number", "digits"],
)
def test_training_facts_are_a_json_object(model: onnx.ModelProto, training: str, message: str, tmp_path: Path) -> None:
    edited = onnx.ModelProto()
    edited.CopyFrom(model)
    edited.metadata_props.add(key="din_infer.training", value=training)
    path = tmp_path / "model.onnx"
    path.write_bytes(file_bytes(edited))
    with pytest.raises(ModelFileError, match=f"{path}: {message}"):
        din_infer.load(path)


@pytest.mark.parametrize("certificate", ["[" * 100_000, "[]", "5", "{", "{}"])
def test_certificates_are_a_json_object(model: onnx.ModelProto, certificate: str, tmp_path: Path) -> None:
    edited = onnx.ModelProto()
    edited.CopyFrom(model)
    edited.metadata_props.add(key="din_infer.certificate", value=certificate)
    path = tmp_path / "model.onnx"
    path.write_bytes(file_bytes(edited))
    with pytest.raises(ModelFileError, match="certificate: expected"):
        check_certificate(path)


@pytest.mark.parametrize("missing", ["location", "offset", "length", "checksum"])
def test_external_data_without_an_entry_is_refused_by_its_name(missing: str, tmp_path: Path) -> None:
    tensor = onnx.TensorProto(name="table.item", data_location=onnx.TensorProto.EXTERNAL)
    entries = {"location": "item.data", "offset": "0", "length": "0", "checksum": hashlib.sha1().hexdigest()}
    (tmp_path / "item.data").touch()
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    model = onnx.ModelProto()
    model.graph.initializer.append(tensor)
    check_external(model, tmp_path)
    entry = next(entry for entry in model.graph.initializer[0].external_data if entry.key == missing)
    entry.key = "other"
    with pytest.raises(ModelFileError, match=f"parameter table.item: expected external data with {missing}, got"):
        check_external(model, tmp_path)
