"""Scoring files of requests piece by piece, so that memory does not grow with the file."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from din_infer.arrays import Array
from din_infer.errors import DataError, InputError
from din_infer.extras import require
from din_infer.jagged import Jagged
from din_infer.model import Model
from din_infer.schema import Schema
from din_infer.tables import columns_of, list_array

ROWS = 1024  # requests read at a time
CANDIDATES = 1 << 20  # scored at a time, where every request meets a whole catalogue

Piecewise = Callable[[Any], tuple[Any, int]]  # table -> (table, candidates scored)
Progress = Callable[[int], object]  # hears how many more requests are done


@dataclass(frozen=True)
class Scored:
    """What a file held."""

    requests: int
    candidates: int


def score_file(model: Model, requests: Path, out: Path, progress: Progress) -> Scored:
    """Writes `requests` without the histories' columns and with `score`, a list<float32> beside the candidates.

    Both are Parquet, and `out` appears only when it is complete. Raises DataError for files that cannot be read and
    InputError for requests that do not fit the model.
    """

    def score(table: Any) -> tuple[Any, int]:
        columns = columns_of(table, model.schema)
        candidates = columns[f"candidate.{next(iter(model.schema.candidate))}"]
        assert isinstance(candidates, Jagged)
        scores = model.score(columns)
        result = _without(table, model.schema, model.schema.histories)
        result = result.drop_columns([name for name in result.column_names if name == "score"])
        return result.append_column("score", list_array(scores, candidates.offsets)), len(scores)

    return _map_file(score, requests, out, ROWS, progress)


def rank_file(model: Model, requests: Path, catalogue: Path, k: int, out: Path, progress: Progress) -> Scored:
    """Scores the whole catalogue for each request and writes its `k` best items, best first.

    `catalogue` has a row per item: the schema's candidate columns, scalars or, for multi-valued features, lists; other
    columns, such as a title, are carried. `out` has the requests' columns but those of histories, candidates and label,
    then each column of the catalogue as a list, and `score`, a list<float32>. Raises as `score_file` does.
    """
    items = open_parquet(catalogue).read()
    choices = {name: _item_values(name, c) for name, c in columns_of(items, model.schema, ("candidate",)).items()}
    given = [group for group in model.schema.groups() if group != "candidate"]

    def rank(table: Any) -> tuple[Any, int]:
        columns = columns_of(table, model.schema, given)
        columns |= {name: _for_each(len(table), values) for name, values in choices.items()}
        best = model.rank(columns, k)
        result = _without(table, model.schema, ("candidate", *model.schema.histories))
        replaced = {model.schema.label, "score", *items.column_names}
        result = result.drop_columns([name for name in result.column_names if name in replaced])
        for name in items.column_names:
            chosen = items.column(name).take(best.positions.values).combine_chunks()
            result = result.append_column(name, list_array(chosen, best.positions.offsets))
        scores = list_array(best.scores.values, best.scores.offsets)
        return result.append_column("score", scores), len(table) * len(items)

    return _map_file(rank, requests, out, max(1, CANDIDATES // max(1, len(items))), progress)


def count_rows(path: Path) -> int:
    """Rows of a Parquet file, from its footer."""
    rows: int = open_parquet(path).metadata.num_rows
    return rows


def _map_file(function: Piecewise, source: Path, out: Path, rows: int, progress: Progress) -> Scored:
    """Writes what `function` makes of each piece of `source`, a table of at most `rows` rows."""
    pa, pq = require("pyarrow", "table"), require("pyarrow.parquet", "table")
    file = open_parquet(source)
    empty, _ = function(file.schema_arrow.empty_table())
    part = out.with_name(f".{out.name}.{os.getpid()}")
    requests = candidates = 0
    try:
        with pq.ParquetWriter(part, empty.schema, compression="zstd") as writer:
            for batch in file.iter_batches(rows):
                result, scored = function(pa.Table.from_batches([batch]))
                writer.write_table(result.cast(empty.schema))
                requests, candidates = requests + len(batch), candidates + scored
                progress(len(batch))
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
    return Scored(requests, candidates)


def open_parquet(path: Path) -> Any:
    """A pyarrow.parquet.ParquetFile. Raises DataError for what is none."""
    pa, pq = require("pyarrow", "table"), require("pyarrow.parquet", "table")
    if not path.is_file():
        raise DataError(f"{path}: expected a Parquet file, got {'a folder' if path.is_dir() else 'nothing there'}")
    try:
        return pq.ParquetFile(path)
    except pa.ArrowException as error:
        raise DataError(f"{path}: expected a Parquet file, got: {error}") from None


def _without(table: Any, schema: Schema, groups: Collection[str]) -> Any:
    dropped = {column.name for column in schema.columns() if column.group in groups}
    return table.drop_columns([name for name in table.column_names if name in dropped])


def _item_values(name: str, column: Array | Jagged) -> Array | Jagged:
    """One value per item, out of a column that `columns_of` read as one candidate per row."""
    if not isinstance(column, Jagged) or (column.lengths != 1).any():
        raise InputError(f"{name}: expected a catalogue with one item per row, got lists of items")
    return column.values


def _for_each(requests: int, values: Array | Jagged) -> Jagged:
    """The same candidates for each request."""
    if isinstance(values, Jagged):
        inner = Jagged.from_lengths(np.tile(np.asarray(values.values), requests), np.tile(values.lengths, requests))
        return Jagged.from_lengths(inner, np.full(requests, len(values)))
    return Jagged.from_lengths(np.tile(values, requests), np.full(requests, len(values)))
