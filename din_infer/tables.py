"""Tables of requests, one row each: pyarrow, Polars, pandas, or anything with the Arrow PyCapsule interface."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any

import numpy as np

from din_infer import arrow
from din_infer.arrays import Array, Int64Array
from din_infer.batch import check_names
from din_infer.errors import InputError
from din_infer.extras import require
from din_infer.jagged import Jagged
from din_infer.schema import Schema


def columns_of(table: Any, schema: Schema, groups: Collection[str] | None = None) -> dict[str, Array | Jagged]:
    """The schema's columns of a table, or of some of its groups; others are left alone. Needs pyarrow.

    A scalar candidate column means one candidate per request, and a flat list of a multi-valued one its values. Raises
    InputError for columns that are missing or come twice, and for nulls.
    """
    table = to_arrow(table)
    chosen = [column for column in schema.columns() if groups is None or column.group in groups]
    expected = [column.name for column in chosen]
    check_once(name for name in table.column_names if name in expected)
    others = [name for name in table.column_names if name not in expected]
    missing = [name for name in expected if name not in table.column_names]
    if missing:
        near = [name for name in others if name.partition(".")[0] in schema.groups()]
        check_names(expected, [name for name in table.column_names if name in expected or name in near], "column")
    columns = {}
    for column in chosen:
        value = arrow.to_column(table.column(column.name), column.name)
        if len(table) == 0:  # whose lists may have come without a type, as from pandas
            value = _empty(column.depth)
        elif column.group == "candidate" and _depth(value) == column.depth - 1:
            value = Jagged(value, np.arange(len(value) + 1))
        columns[column.name] = value
    return columns


def check_once(names: Iterable[str]) -> None:
    """Raises InputError for a table's column whose name another has too."""
    for name, count in Counter(names).items():
        if count > 1:
            raise InputError(f"{name}: expected one column of that name, got {count}")


def to_arrow(table: Any) -> Any:
    """Any Arrow-compatible table as a pyarrow.Table. Raises InputError for what is none."""
    pa = require("pyarrow", "table")
    if isinstance(table, pa.RecordBatch):
        return pa.table(table)
    if isinstance(table, pa.Table):
        return table
    what = f"expected a pyarrow, Polars or pandas table, got {type(table).__name__}"
    if not arrow.is_arrow(table) or hasattr(table, "type"):
        raise InputError(what)
    try:
        return pa.table(table)
    except pa.ArrowException as error:
        raise InputError(f"{what}: {error}") from None


def to_known(table: Any) -> Any:
    """pyarrow, Polars and pandas tables as they are, others, whose streams may be read only once, as pyarrow.Table."""
    pa = require("pyarrow", "table")
    known = type(table).__module__.partition(".")[0] in ("pandas", "polars")
    return table if known or isinstance(table, pa.Table | pa.RecordBatch) else to_arrow(table)


def with_column(table: Any, name: str, values: Jagged) -> Any:
    """The same kind of table with float32 lists as its last column, in place of one of that name."""
    pa = require("pyarrow", "table")
    column = list_array(values.values, values.offsets)
    module = type(table).__module__.partition(".")[0]
    if module == "polars":
        import polars as pl

        return table.with_columns(pl.Series(name, pl.from_arrow(column)))
    if module == "pandas":
        import pandas as pd

        return table.assign(**{name: pd.Series(column, index=table.index, dtype=pd.ArrowDtype(column.type))})
    result = table if isinstance(table, pa.RecordBatch) else to_arrow(table)
    if name in result.column_names:
        result = result.drop_columns([name])
    return result.append_column(name, column)


def list_array(values: Any, offsets: Int64Array) -> Any:
    """Lists of NumPy or Arrow values as an Arrow array, without copying the values."""
    pa = require("pyarrow", "table")
    values = values if isinstance(values, pa.Array) else pa.array(values)
    if offsets[-1] > np.iinfo(np.int32).max:
        return pa.LargeListArray.from_arrays(offsets, values)
    return pa.ListArray.from_arrays(offsets.astype(np.int32), values)


def _empty(depth: int) -> Array | Jagged:
    return Jagged(_empty(depth - 1), np.zeros(1, np.int64)) if depth else np.empty(0, np.int64)


def _depth(value: Array | Jagged) -> int:
    return 1 + _depth(value.values) if isinstance(value, Jagged) else 0
