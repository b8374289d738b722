"""Parquet files of requests: one row per request, with facts about their making in the file's metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from din_infer.errors import DataError
from din_infer.schema import Schema

FACTS_KEY = b"din_infer.data"
SCHEMA_FILE = "schema.yaml"


def write_requests(table: pa.Table, path: Path, facts: Mapping[str, Any]) -> None:
    """Writes one split; `facts` is JSON that says where the requests come from."""
    metadata = {**(table.schema.metadata or {}), FACTS_KEY: json.dumps(dict(facts)).encode()}
    pq.write_table(table.replace_schema_metadata(metadata), path, compression="zstd")


def read_requests(path: Path) -> pa.Table:
    """Reads one split. Raises DataError where the file is missing or is no Parquet."""
    if not path.is_file():
        raise DataError(f"{path}: expected a Parquet file of requests, got no file")
    try:
        return pq.read_table(path)
    except pa.ArrowException as error:
        raise DataError(f"{path}: expected a Parquet file of requests, got: {error}") from None


def facts_of(table: pa.Table) -> dict[str, Any]:
    """The facts that `write_requests` stored; empty for a table from elsewhere."""
    facts: dict[str, Any] = json.loads((table.schema.metadata or {}).get(FACTS_KEY, b"{}"))
    return facts


def read_schema(folder: Path) -> Schema:
    """Reads `folder/schema.yaml`. Raises DataError where it is missing or no YAML, SchemaError where it is wrong."""
    path = folder / SCHEMA_FILE
    if not path.is_file():
        raise DataError(f"{path}: expected a schema, got no file")
    try:
        return Schema.from_dict(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: expected YAML, got: {error}") from None


def labels_of(table: pa.Table, schema: Schema, candidates: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Labels 0 or 1 of all candidates, float32 [N]; `candidates` [B] is the number of candidates of each request."""
    column = _column(table, schema.label)
    if not pa.types.is_list(column.type) and not pa.types.is_large_list(column.type):
        raise DataError(f"{schema.label}: expected a list beside the candidates, got {column.type}")
    lengths = np.diff(column.offsets.to_numpy())
    if column.null_count or not np.array_equal(lengths, candidates):
        raise DataError(f"{schema.label}: expected one label per candidate, got {lengths.sum()} for {candidates.sum()}")
    labels: npt.NDArray[np.float32] = column.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    if not np.isin(labels, (0, 1)).all():
        raise DataError(f"{schema.label}: expected labels 0 or 1, got {labels[~np.isin(labels, (0, 1))][0]}")
    return labels


def groups_of(table: pa.Table, schema: Schema) -> npt.NDArray[np.int64] | None:
    """GAUC's group of each request, int64 [B] from 0 upwards; None where the schema names no group column."""
    if schema.request.group is None:
        return None
    groups = _column(table, schema.request.group).dictionary_encode(null_encoding="encode")
    indices: npt.NDArray[np.int64] = groups.indices.to_numpy().astype(np.int64)
    return indices


def _column(table: pa.Table, name: str) -> pa.Array:
    if name not in table.column_names:
        raise DataError(f"expected a column {name!r}, got {', '.join(table.column_names)}")
    column = table[name].combine_chunks()
    return column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
