"""Parquet files of requests: one row per request, with facts about their making in the file's metadata."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from din_infer.errors import DataError
from din_infer.parquet import open_parquet
from din_infer.schema import Schema

FACTS_KEY = b"din_infer.data"
SCHEMA_FILE = "schema.yaml"
LABEL_KINDS = (pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating, pa.types.is_null)


def write_requests(table: pa.Table, path: Path, facts: Mapping[str, Any]) -> None:
    """Writes one split; `facts` is JSON that says where the requests come from."""
    metadata = {**(table.schema.metadata or {}), FACTS_KEY: json.dumps(dict(facts)).encode()}
    pq.write_table(table.replace_schema_metadata(metadata), path, compression="zstd")


class RequestsWriter:
    """Writes one split piece by piece. The file appears under its name when `close` has been given the facts.

    As a context manager it removes what an error left unfinished.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path = path
        self.schema = schema
        self._part = path.with_name(f".{path.name}.{os.getpid()}")
        self._writer = pq.ParquetWriter(self._part, schema, compression="zstd")

    def write(self, table: pa.Table) -> None:
        if len(table):
            self._writer.write_table(table.cast(self.schema))

    def close(self, facts: Mapping[str, Any]) -> None:
        self._writer.add_key_value_metadata({FACTS_KEY: json.dumps(dict(facts)).encode()})
        self._writer.close()
        self._part.replace(self.path)

    def __enter__(self) -> RequestsWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._writer.close()
        self._part.unlink(missing_ok=True)


def read_requests(path: Path) -> pa.Table:
    """Reads one split. Raises DataError where the file is missing or is no Parquet."""
    with open_parquet(path, "a Parquet file of requests") as file:
        table, stored = file.read(), file.metadata.metadata or {}
    if FACTS_KEY in stored:  # facts that were added when the file was closed are no part of Arrow's schema
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), FACTS_KEY: stored[FACTS_KEY]})
    return table


def facts_of(table: pa.Table) -> dict[str, Any]:
    """The facts that `write_requests` stored; empty for a table from elsewhere. Raises DataError for others."""
    stored = (table.schema.metadata or {}).get(FACTS_KEY, b"{}")
    try:
        facts = json.loads(stored)
    except (ValueError, RecursionError):
        facts = None
    if not isinstance(facts, dict):
        raise DataError(f"metadata {FACTS_KEY.decode()!r}: expected a JSON object, got {stored[:40]!r}")
    return facts


def dates_of(times: Collection[int]) -> list[str]:
    """First and last day of times since 1970, in seconds or, where they are too great, in 1/1000 of them and so on."""
    if not times:
        return []
    ends, unit = (min(times), max(times)), 1
    while max(map(abs, ends)) // unit >= 6 * 10**10:  # seconds, of the years 68 to 3871
        unit *= 1000
    return [(datetime(1970, 1, 1) + timedelta(seconds=t // unit)).date().isoformat() for t in ends]


def read_schema(folder: Path) -> Schema:
    """Reads `folder/schema.yaml`. Raises DataError where it is missing or no YAML, SchemaError where it is wrong."""
    path = folder / SCHEMA_FILE
    if not path.is_file():
        raise DataError(f"{path}: expected a schema, got no file")
    try:
        return Schema.from_dict(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: expected YAML, got: {' '.join(str(error).split())}") from None


def labels_of(table: pa.Table, schema: Schema, candidates: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Labels 0 or 1 of all candidates, float32 [N]; `candidates` [B] is the number of candidates of each request.

    A scalar column is that of requests with one candidate each.
    """
    column = _column(table, schema.label)
    if pa.types.is_fixed_size_list(column.type):
        column = column.cast(pa.list_(column.type.value_type))
    if not pa.types.is_nested(column.type) and (candidates == 1).all():
        column = pa.ListArray.from_arrays(pa.array(np.arange(len(column) + 1, dtype=np.int32)), column)
    if not pa.types.is_list(column.type) and not pa.types.is_large_list(column.type):
        raise DataError(f"{schema.label}: expected a list beside the candidates, got {column.type}")
    lengths = pc.list_value_length(column)
    wrong = lengths.fill_null(-1).to_numpy() != candidates
    if wrong.any():
        row = int(np.argmax(wrong))
        got = f"got {lengths[row]} for {candidates[row]} in request {row}"
        raise DataError(f"{schema.label}: expected one label per candidate, {got}")
    values = column.flatten()
    if not any(is_kind(values.type) for is_kind in LABEL_KINDS):
        raise DataError(f"{schema.label}: expected labels 0 or 1, got {values.type}")
    labels: npt.NDArray[np.float32] = values.to_numpy(zero_copy_only=False).astype(np.float32)
    if not np.isin(labels, (0, 1)).all():
        raise DataError(f"{schema.label}: expected labels 0 or 1, got {labels[~np.isin(labels, (0, 1))][0]}")
    return labels


def groups_of(table: pa.Table, schema: Schema) -> npt.NDArray[np.int64] | None:
    """GAUC's group of each request, int64 [B] from 0 upwards; None where the schema names no group.

    A request without one, null or NaN, is a group of its own.
    """
    if schema.request.group is None:
        return None
    groups = _column(table, schema.request.group)
    if pa.types.is_dictionary(groups.type):
        groups = groups.dictionary_decode()
    if pa.types.is_nested(groups.type):
        raise DataError(f"{schema.request.group}: expected a value per request, got {groups.type}")
    missing = pc.is_null(groups, nan_is_null=True).to_numpy(zero_copy_only=False)
    encoded = groups.dictionary_encode(null_encoding="encode")
    indices: npt.NDArray[np.int64] = encoded.indices.to_numpy().astype(np.int64)
    indices[missing] = len(encoded.dictionary) + np.arange(missing.sum())
    return indices


def _column(table: pa.Table, name: str) -> pa.Array:
    if name not in table.column_names:
        raise DataError(f"expected a column {name!r}, got {', '.join(table.column_names)}")
    column = table[name].combine_chunks()
    return column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
