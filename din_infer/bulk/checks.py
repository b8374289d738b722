"""Which requests of a table do not fit the model, and why."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
import pyarrow as pa

from din_infer.arrays import Int64Array
from din_infer.errors import InputError
from din_infer.schema import Column, Schema
from din_infer.tables import check_once

Check = Callable[[pa.Table], object]  # raises InputError

_KINDS = {"int64": "integers", "string": "strings", "float32": "numbers"}


def find_bad_rows(table: pa.Table, check: Check) -> dict[int, str]:
    """Rows that make `check` fail, with its message for each alone. Halves the table, so good parts cost little."""
    bad: dict[int, str] = {}
    pieces = [(0, len(table))]
    while pieces:
        first, last = pieces.pop()
        try:
            check(table.slice(first, last - first))
        except InputError as error:
            if last - first == 1:
                bad[first] = _of_row(str(error))
                continue
            middle = (first + last) // 2
            pieces += [(first, middle), (middle, last)]
    return dict(sorted(bad.items()))


def _of_row(message: str) -> str:
    """Without the places in a table of one row."""
    message = message.replace(" in request 0", "")
    return message.removesuffix(" at position 0") if message.startswith(("user.", "context.")) else message


def good_rows(rows: int, bad: Collection[int]) -> Int64Array:
    return np.setdiff1d(np.arange(rows), np.fromiter(bad, np.int64, len(bad)))


def check_types(table: pa.Schema, schema: Schema, groups: Collection[str]) -> None:
    """Raises InputError where a column comes twice or has a type that no row of it could fit.

    A missing column is left to others.
    """
    check_once(table.names)
    for column in schema.columns():
        if column.group in groups and column.name in table.names:
            _check_type(column, table.field(column.name).type)


def _check_type(column: Column, given: pa.DataType) -> None:
    types, value, depth = pa.types, given, 0
    while not types.is_struct(value) and not types.is_dictionary(value) and hasattr(value, "value_type"):
        value, depth = value.value_type, depth + 1
    value = value.value_type if types.is_dictionary(value) else value
    fits = {
        "int64": types.is_integer(value),
        "string": types.is_string(value) or types.is_large_string(value) or types.is_string_view(value),
        "float32": types.is_integer(value) or types.is_floating(value),
    }[column.dtype]
    depths = {column.depth, column.depth - 1} if column.group == "candidate" else {column.depth}
    if not types.is_null(value) and not (fits and depth in depths):
        expected = "lists of " * column.depth + _KINDS[column.dtype]
        raise InputError(f"{column.name}: expected {expected}, got Arrow {given}")
