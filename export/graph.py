"""Model files as ONNX: the graph that `_core` lays out, filled with weights and vocabularies. Needs no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from din_infer import _core
from din_infer.errors import ModelFileError
from din_infer.extras import require
from din_infer.schema import Schema
from din_infer.semantics import Semantics

if TYPE_CHECKING:
    import onnx

FORMAT_VERSIONS = {"float32": 1, "float16": 2, "int8": 2}  # by how tables are stored: the lowest that knows it
DOMAIN = "din_infer"
IR_VERSION = 9  # of the ONNX release that brought version 4 of ai.onnx.ml

Vocabulary = npt.NDArray[np.int64] | Sequence[str]
Float32Array = npt.NDArray[np.float32]
Parameters = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class ExternalData:
    """Where a parameter's bytes lie: a file beside the model, from `offset` on, with the SHA-1 of these bytes."""

    location: str
    offset: int
    length: int
    checksum: str


def build_model(
    schema: Schema,
    semantics: Semantics,
    parameters: Parameters,
    vocabularies: Mapping[str, Vocabulary],
    *,
    table_dtype: str = "float32",
    raw_ids: bool = True,
    metadata: Mapping[str, Any] | None = None,
    external: Mapping[str, ExternalData] | None = None,
) -> onnx.ModelProto:
    """The ONNX model of a DIN: padded requests in, probabilities out.

    - `parameters`: float32 arrays under the model file's names, such as `table.item` [rows, dim];
    - `table_dtype`: how tables are stored, float32, float16 or int8: `parameters` are then what
      `embedding_tables.stored_parameters` gives for it;
    - `vocabularies`: the ids of each table with `ids: vocabulary`, int64 [n] or n strings; id i is row 1 + i;
    - `raw_ids`: whether the graph maps raw ids to rows; without, its id inputs are row numbers;
    - `metadata`: further entries, `din_infer.<key>`, written as JSON where they are no strings;
    - `external`: parameters whose data lies in another file.

    Raises ModelFileError where parameters or vocabularies do not fit the schema and semantics.
    """
    onnx = require("onnx", "export")
    schema_json, semantics_json = json.dumps(schema.to_dict()), json.dumps(semantics.to_dict())
    layout = _core.expected_graph(schema_json, semantics_json, raw_ids, table_dtype)
    vocabularies = _checked_vocabularies(schema, vocabularies)
    _check_parameters(schema, layout["parameters"], parameters, vocabularies)
    helper = onnx.helper
    opsets = [helper.make_opsetid("", layout["opset"]), helper.make_opsetid("ai.onnx.ml", layout["ml_opset"])]
    graph = helper.make_graph(
        [_node(node, vocabularies) for node in layout["nodes"]],
        "DIN",
        [_value(*value) for value in layout["inputs"]],
        [_value(*value) for value in layout["outputs"]],
        [_initializer(name, parameters[name], (external or {}).get(name)) for name, *_ in layout["parameters"]],
    )
    functions = [
        helper.make_function(
            DOMAIN, f["name"], f["inputs"], f["outputs"], [_node(node, vocabularies) for node in f["nodes"]], opsets
        )
        for f in layout["functions"]
    ]
    model = helper.make_model(
        graph,
        functions=functions,
        opset_imports=[*opsets, helper.make_opsetid(DOMAIN, 1)],
        ir_version=IR_VERSION,
        producer_name="din_infer",
    )
    version = FORMAT_VERSIONS[table_dtype]
    entries = {"format_version": str(version), "schema": schema_json, "semantics": semantics_json}
    entries |= {"table_dtype": table_dtype} if version > 1 else {}
    entries |= {} if raw_ids else {"ids": "rows"}
    entries |= {key: v if isinstance(v, str) else json.dumps(v, allow_nan=False) for key, v in (metadata or {}).items()}
    helper.set_model_props(model, {f"din_infer.{key}": value for key, value in entries.items()})
    return model  # type: ignore[no-any-return]


def _checked_vocabularies(schema: Schema, vocabularies: Mapping[str, Vocabulary]) -> dict[str, Vocabulary]:
    expected = sorted(name for name, table in schema.tables.items() if table.ids == "vocabulary")
    if sorted(vocabularies) != expected:
        raise ModelFileError(f"vocabularies: expected those of {', '.join(expected)}, got {', '.join(vocabularies)}")
    checked: dict[str, Vocabulary] = {}
    for name, ids in vocabularies.items():
        if schema.tables[name].dtype == "string":
            strings = list(ids)
            if not all(isinstance(raw, str) for raw in strings):
                raise ModelFileError(f"vocabulary of {name}: expected strings, got {type(strings[0]).__name__}")
            checked[name], distinct = strings, len(set(strings))
        else:
            integers = np.asarray(ids) if len(ids) else np.zeros(0, np.int64)
            if integers.dtype != np.int64:
                raise ModelFileError(f"vocabulary of {name}: expected int64 ids, got {integers.dtype}")
            checked[name], distinct = integers, len(np.unique(integers))
        if distinct != len(ids):
            raise ModelFileError(f"vocabulary of {name}: expected different ids, got {len(ids) - distinct} twice")
    return checked


def _check_parameters(
    schema: Schema,
    expected: Sequence[tuple[str, str, Sequence[int]]],
    parameters: Parameters,
    vocabularies: Mapping[str, Vocabulary],
) -> None:
    for name, dtype, dims in expected:
        if name not in parameters:
            raise ModelFileError(f"parameter {name}: expected shape {list(dims)}, got none of that name")
        array = parameters[name]
        shape = list(dims)
        if shape and shape[0] < 0:
            table = name.removeprefix("table.").removesuffix(".range")
            shape[0] = schema.tables[table].rows(len(vocabularies[table]))
        if array.dtype != dtype or list(array.shape) != shape:
            raise ModelFileError(
                f"parameter {name}: expected {dtype} of shape {shape}, got {array.dtype} of {list(array.shape)}"
            )
    unknown = sorted(set(parameters) - {name for name, *_ in expected})
    if unknown:
        raise ModelFileError(f"parameters: {', '.join(unknown)} belong to no layer or table of this model")


def _value(name: str, dtype: str, dims: Sequence[int | str]) -> onnx.ValueInfoProto:
    import onnx

    types = {"int64": onnx.TensorProto.INT64, "string": onnx.TensorProto.STRING, "float32": onnx.TensorProto.FLOAT}
    return onnx.helper.make_tensor_value_info(name, types[dtype], dims)


def _node(layout: Mapping[str, Any], vocabularies: Mapping[str, Vocabulary]) -> onnx.NodeProto:
    import onnx

    node = onnx.helper.make_node(
        layout["op"], layout["inputs"], layout["outputs"], layout["name"], domain=layout["domain"]
    )
    for name, value in layout["attributes"].items():
        if isinstance(value, tuple):
            table, part = value
            value = _vocabulary_tensor(vocabularies[table], part)
        types = {int: "INT", float: "FLOAT", str: "STRING", list: "INTS", onnx.TensorProto: "TENSOR"}
        kind = onnx.AttributeProto.AttributeType.Value(types[type(value)])
        node.attribute.append(onnx.helper.make_attribute(name, value, attr_type=kind))
    return node


def _vocabulary_tensor(ids: Vocabulary, part: str) -> onnx.TensorProto:
    import onnx

    if part == "default":
        return onnx.numpy_helper.from_array(np.zeros(1, np.int64))
    if part == "rows":
        return onnx.numpy_helper.from_array(np.arange(1, 1 + len(ids), dtype=np.int64))
    if isinstance(ids, np.ndarray):
        return onnx.numpy_helper.from_array(np.ascontiguousarray(ids))
    strings = [raw.encode() for raw in ids]
    return onnx.TensorProto(data_type=onnx.TensorProto.STRING, dims=[len(ids)], string_data=strings)


def _initializer(name: str, array: npt.NDArray[Any], external: ExternalData | None) -> onnx.TensorProto:
    import onnx

    if external is None:
        return onnx.numpy_helper.from_array(np.asarray(array, order="C"), name)  # ascontiguousarray has no scalars
    tensor = onnx.TensorProto(name=name, data_type=onnx.helper.np_dtype_to_tensor_dtype(array.dtype), dims=array.shape)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key in ("location", "offset", "length", "checksum"):
        tensor.external_data.add(key=key, value=str(getattr(external, key)))
    return tensor
