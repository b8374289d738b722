"""Models for runtimes that take neither functions nor LabelEncoder, such as OpenVINO: ids are row numbers."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from din_infer.arrays import Array, Int64Array
from din_infer.batch import encode
from din_infer.export.graph import DOMAIN, Vocabulary
from din_infer.extras import require
from din_infer.jagged import Jagged
from din_infer.schema import Schema, Table

if TYPE_CHECKING:
    import onnx

VOCABULARY_FILE = "vocabulary.parquet"


def inline_functions(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model with every function's body in place of its calls, and no other domain than ONNX's own."""
    inlined = require("onnx.inliner", "export").inline_local_functions(model)
    standard = [opset for opset in inlined.opset_import if opset.domain not in (DOMAIN, "ai.onnx.ml")]
    del inlined.opset_import[:]
    inlined.opset_import.extend(standard)
    return inlined  # type: ignore[no-any-return]


def write_vocabulary(schema: Schema, vocabularies: Mapping[str, Vocabulary], path: Path) -> None:
    """Parquet, one row per known id: table, int64_id or string_id, row. All other ids belong to row 0."""
    pa, pq = require("pyarrow", "table"), require("pyarrow.parquet", "table")
    parts = []
    for name, ids in vocabularies.items():
        is_string = schema.tables[name].dtype == "string"
        parts.append(
            pa.table(
                {
                    "table": pa.array([name] * len(ids), pa.string()),
                    "int64_id": pa.nulls(len(ids), pa.int64()) if is_string else pa.array(ids, pa.int64()),
                    "string_id": pa.array(ids, pa.string()) if is_string else pa.nulls(len(ids), pa.string()),
                    "row": np.arange(1, 1 + len(ids)),
                }
            )
        )
    if parts:
        pq.write_table(pa.concat_tables(parts), path, compression="zstd")


def row_schema(schema: Schema) -> Schema:
    """The schema of an inlined model's inputs: every id is a row number."""
    tables = {name: dataclasses.replace(table, dtype="int64") for name, table in schema.tables.items()}
    return dataclasses.replace(schema, tables=tables)


def rows_of(schema: Schema, vocabularies: Mapping[str, Vocabulary], columns: Mapping[str, Any]) -> dict[str, Any]:
    """Columns of raw ids as columns of rows, for `padded_inputs(row_schema(schema), ...)`."""
    encoded, _ = encode(schema, columns)
    result: dict[str, Any] = {}
    for column in schema.columns():
        values, *offsets = encoded[column.name]
        if column.spec.table is not None:
            spec = schema.tables[column.spec.table]
            values = _rows(spec, values, vocabularies.get(column.spec.table, ()))
        for level in reversed(offsets):
            values = Jagged(values, level)
        result[column.name] = values
    return result


def _rows(table: Table, values: Any, vocabulary: Vocabulary) -> Int64Array:
    if isinstance(values, tuple):
        data, offsets = values[0].tobytes(), values[1]
        values = [data[first:last].decode() for first, last in itertools.pairwise(offsets)]
    if table.ids == "vocabulary":
        ids = vocabulary.tolist() if isinstance(vocabulary, np.ndarray) else vocabulary
        places = {raw: row for row, raw in enumerate(ids, start=1)}
        raw_ids = values.tolist() if isinstance(values, np.ndarray) else values
        return np.fromiter((places.get(raw, 0) for raw in raw_ids), np.int64, len(raw_ids))
    assert table.size is not None, "Schema gives hash and identity a size"
    if table.ids == "hash":
        rows: Array = values % table.size
        return rows
    return np.where((values >= 0) & (values < table.size), values + 1, 0)
