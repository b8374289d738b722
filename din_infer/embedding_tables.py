"""Embedding tables as model files store them: float32, float16, or int8 with a scale and an offset for each row.

A parameter `table.<name>` of type int8 has a second one beside it, `table.<name>.range` [rows, 2]: row r stands for
level * range[r, 0] + range[r, 1].
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from din_infer.errors import ModelFileError

TABLE_DTYPES = ("float32", "float16", "int8")
LEVELS = 127  # int8 levels on either side of a row's middle: its smallest and largest value are levels themselves
_ROWS_AT_A_TIME = 1 << 16  # float64 copies of whole tables would take memory that tables of this size do not leave

Parameters = Mapping[str, npt.NDArray[Any]]
Float32Array = npt.NDArray[np.float32]


def stored_parameters(parameters: Mapping[str, Float32Array], dtype: str) -> dict[str, npt.NDArray[Any]]:
    """A model's parameters with its tables, those named `table.<name>` [rows, dim], stored as `dtype`.

    float16 rounds to nearest and keeps NaN and infinity. int8 rounds to the nearest of 255 levels between a row's
    smallest and largest value, so an error is at most 1/508 of their distance; rows whose values are all the same,
    zeros among them, are exact.

    Raises ModelFileError for an unknown dtype, a finite value past float16's 65504, and what is not finite under int8.
    """
    if dtype not in TABLE_DTYPES:
        raise ModelFileError(f"table dtype: expected {' | '.join(TABLE_DTYPES)}, got {dtype!r}")
    stored: dict[str, npt.NDArray[Any]] = {}
    for name, array in parameters.items():
        if dtype == "float32" or not name.startswith("table."):
            stored[name] = array
        elif dtype == "float16":
            stored[name] = _as_float16(name, array)
        else:
            stored[name], stored[f"{name}.range"] = _as_int8(name, array)
    return stored


def restored_parameters(stored: Parameters) -> dict[str, Float32Array]:
    """The float32 parameters that stored ones stand for."""
    restored = {}
    for name, array in stored.items():
        if array.dtype == np.int8:
            scale, offset = stored[f"{name}.range"].T
            restored[name] = array * scale[:, None] + offset[:, None]
        elif array.dtype == np.float16:
            restored[name] = array.astype(np.float32)
        elif not _is_range(name, stored):
            restored[name] = array
    return restored


def _is_range(name: str, stored: Parameters) -> bool:
    table = name.removesuffix(".range")
    return table != name and table in stored and stored[table].dtype == np.int8


def _as_float16(name: str, table: Float32Array) -> npt.NDArray[np.float16]:
    with np.errstate(over="ignore"):
        halves = table.astype(np.float16)
    for first, rows in _blocks(table):
        _refuse(name, first, rows, np.isinf(halves[first : first + len(rows)]) & np.isfinite(rows), "up to 65504")
    return halves


def _as_int8(name: str, table: Float32Array) -> tuple[npt.NDArray[np.int8], Float32Array]:
    levels, ranges = np.empty(table.shape, np.int8), np.empty((len(table), 2), np.float32)
    for first, rows in _blocks(table):
        _refuse(name, first, rows, ~np.isfinite(rows), "that are finite")
        wide = rows.astype(np.float64)
        low, high = wide.min(axis=1), wide.max(axis=1)
        # Rounded down, or the largest level could overflow.
        scale = _rounded_down((high - low) / (2 * LEVELS))
        offset = ((high + low) / 2).astype(np.float32)
        steps = np.divide(wide - offset[:, None], scale[:, None], out=np.zeros_like(wide), where=scale[:, None] > 0)
        levels[first : first + len(rows)] = np.clip(np.rint(steps), -LEVELS, LEVELS)
        ranges[first : first + len(rows)] = np.stack([scale, offset], axis=1)
    return levels, ranges


def _rounded_down(values: npt.NDArray[np.float64]) -> Float32Array:
    rounded = values.astype(np.float32)
    return np.where(rounded > values, np.nextafter(rounded, np.float32(0)), rounded)


def _refuse(name: str, first: int, rows: Float32Array, bad: npt.NDArray[np.bool_], expected: str) -> None:
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise ModelFileError(
            f"parameter {name}: expected numbers {expected}, got {rows[row, column]} in row {first + row};"
            " export with --table-dtype float32"
        )


def _blocks(table: Float32Array) -> Iterator[tuple[int, Float32Array]]:
    for first in range(0, len(table), _ROWS_AT_A_TIME):
        yield first, table[first : first + _ROWS_AT_A_TIME]
