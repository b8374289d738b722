"""A batch's columns with their arrays elsewhere: as tensors, or on a device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from din_infer import Jagged, Schema
from din_infer.batch import encode


def moved_columns(schema: Schema, columns: Mapping[str, Any], move: Callable[[Any], Any]) -> dict[str, Any]:
    """`move` of each column's array of values and of each array of offsets; columns of strings as they are."""
    found = dict(columns)
    for name, (values, *offsets) in encode(schema, columns)[0].items():
        if not isinstance(values, tuple):
            found[name] = move(values)
            for ends in reversed(offsets):
                found[name] = Jagged(found[name], move(ends))
    return found
