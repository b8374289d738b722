"""From raw ids to table rows, the way the model file does it, and vocabularies from the training split."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from din_infer.batch import Encoded, encode
from din_infer.schema import Schema, Table

Vocabulary = npt.NDArray[np.int64] | list[str]


def build_vocabularies(schema: Schema, columns: Mapping[str, Any]) -> dict[str, Vocabulary]:
    """The ids of each `vocabulary` table that occur at least `min_count` times in `columns`, in ascending order.

    An id's count runs over all columns that share the table, and over each of their values. Ids below `min_count` are
    left out, so they train the table's default row. Raises InputError for columns that do not fit the schema.
    """
    encoded, _ = encode(schema, columns)
    return {
        name: _frequent(table, [_ids(table, encoded[c.name][0]) for c in schema.columns() if c.spec.table == name])
        for name, table in schema.tables.items()
        if table.ids == "vocabulary"
    }


def rows_of(table: Table, vocabulary: Vocabulary | None, column: Encoded) -> npt.NDArray[np.int64]:
    """Rows [n] of a column's ids. `vocabulary` is that of a `vocabulary` table; see `Table` for the rules."""
    rows: npt.NDArray[np.int64]
    if table.ids == "vocabulary":
        assert vocabulary is not None, "a vocabulary table has a vocabulary"
        places = pc.index_in(_ids(table, column[0]), value_set=pa.array(vocabulary, type=_dtype(table)))
        rows = pc.fill_null(places, -1).to_numpy().astype(np.int64) + 1
        return rows
    assert table.size is not None, "a hash or identity table has a size"
    ids = column[0]
    if table.ids == "hash":
        rows = np.mod(ids, np.int64(table.size))
    else:
        rows = np.where((ids >= 0) & (ids < table.size), ids + 1, 0)
    return rows


def _frequent(table: Table, columns: Iterable[pa.Array]) -> Vocabulary:
    counts = pa.chunked_array(list(columns), type=_dtype(table)).value_counts()
    ids = counts.field("values").filter(pc.greater_equal(counts.field("counts"), table.min_count))
    ids = ids.take(pc.sort_indices(ids))
    vocabulary: Vocabulary = ids.to_pylist() if table.dtype == "string" else ids.to_numpy()
    return vocabulary


def _dtype(table: Table) -> pa.DataType:
    return pa.large_string() if table.dtype == "string" else pa.int64()


def _ids(table: Table, values: Any) -> pa.Array:
    """The first entry of an Encoded, int64 [n] or (UTF-8 bytes, offsets [n + 1]), as an Arrow array."""
    if table.dtype == "int64":
        return pa.array(values)
    data, offsets = values
    return pa.LargeStringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(data))
