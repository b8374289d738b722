"""Lists of different lengths in two arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise
from typing import Any

import numpy as np

from din_infer.arrays import (
    Array,
    Int64Array,
    describe,
    from_scalars,
    join_integers,
    off_host,
    read_array,
    read_integers,
    tensors,
    to_array,
    to_integers,
)
from din_infer.errors import InputError


@dataclass(frozen=True, eq=False)
class Jagged:
    """List i is `values[offsets[i]:offsets[i + 1]]`.

    - `values`: integers, floats or strings in one dimension, or a Jagged for lists of lists;
    - `offsets`: int64 [n + 1], from 0 to len(values), never going down.

    Anything that reads as an array is taken: NumPy, `__array__`, DLPack, flat lists; arrays are shared, not copied,
    where their dtype allows. What is on a CUDA device stays there, as a PyTorch tensor, for models that are there too;
    values may be on a device whose offsets are not. Raises InputError for offsets or values that do not fit,
    MissingExtraError for arrays on a device where torch is not installed.
    """

    values: Array | Jagged
    offsets: Int64Array

    def __post_init__(self) -> None:
        values = self.values if isinstance(self.values, Jagged) else read_array(self.values, "values")
        if not isinstance(values, Jagged) and values.ndim != 1:
            shape = tuple(values.shape)
            raise InputError(
                f"values: expected one dimension, got shape {shape}; for padded arrays use Jagged.from_padded"
            )
        offsets = self.offsets
        if off_host(offsets):
            offsets = tensors().check_offsets(tensors().adopt(offsets, "offsets"), len(values), "offsets")
        else:
            offsets = check_offsets(offsets, len(values), "offsets")
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "offsets", offsets)

    @classmethod
    def from_lists(cls, lists: Sequence[Any], depth: int | None = None) -> Jagged:
        """From a list of lists, or from lists of lists of lists; the innermost may be arrays.

        `depth`, the levels of lists inside the outer one, need be given only where all lists are empty.
        """
        return from_lists(lists, depth, "lists")

    @classmethod
    def from_lengths(cls, values: Any, lengths: Any) -> Jagged:
        """From the values of all lists, one after another, and the length of each list [n]."""
        lengths = read_integers(lengths, "lengths")
        if len(lengths) and lengths.min() < 0:
            raise InputError(f"lengths: expected at least 0, got {int(lengths.min())}")
        return cls(values, _offsets(lengths))

    @classmethod
    def from_padded(cls, matrix: Any, lengths: Any, inner_lengths: Any = None) -> Jagged:
        """From a padded array [n, T], row i holding `lengths[i]` values from its left.

        A nested one comes from [n, T, G] with `lengths` [n] and `inner_lengths` [n, T]; padded entries are not read.
        """
        matrix = read_array(matrix, "matrix")
        expected = 2 if inner_lengths is None else 3
        if matrix.ndim != expected:
            raise InputError(f"matrix: expected {expected} dimensions, got shape {tuple(matrix.shape)}")
        lengths = read_integers(_beside(matrix, lengths, "lengths"), "lengths")
        valid = _prefixes(lengths, matrix.shape[0], matrix.shape[1], "lengths")
        if inner_lengths is None:
            return cls.from_lengths(matrix[valid], lengths)
        inner = _beside(matrix, inner_lengths, "inner_lengths")
        if tuple(inner.shape) != tuple(matrix.shape[:2]):
            raise InputError(f"inner_lengths: expected shape {tuple(matrix.shape[:2])}, got {tuple(inner.shape)}")
        rows, inner = matrix[valid], read_integers(inner[valid], "inner_lengths")
        nested = cls.from_lengths(rows[_prefixes(inner, len(rows), matrix.shape[2], "inner_lengths")], inner)
        return cls.from_lengths(nested, lengths)

    @property
    def lengths(self) -> Int64Array:
        """Length of each list, int64 [n], where the offsets are."""
        return self.offsets[1:] - self.offsets[:-1]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int | slice) -> Any:
        """List i, as an array or a Jagged; or a Jagged of neighbouring lists for a slice of step 1."""
        if isinstance(index, slice):
            first, last, step = index.indices(len(self))
            if step != 1:
                raise InputError(f"slice: expected step 1, got {step}")
            offsets = self.offsets[first : max(first, last) + 1]
            return Jagged(self.values[offsets[0] : offsets[-1]], offsets - offsets[0])
        if not -len(self) <= index < len(self):
            raise IndexError(f"expected an index below {len(self)}, got {index}")
        index %= len(self)
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def to_lists(self) -> list[Any]:
        """Nested Python lists; `from_lists` reads them back."""
        rows = self.values.to_lists() if isinstance(self.values, Jagged) else self.values.tolist()
        return [rows[first:last] for first, last in pairwise(self.offsets.tolist())]

    def __repr__(self) -> str:
        rows = ", ".join(str(row.to_lists() if isinstance(row, Jagged) else row.tolist()) for row in self[:3])
        return f"Jagged([{rows}{', ...' if len(self) > 3 else ''}], {len(self)} lists, {len(self.values)} values)"


def from_lists(lists: Any, depth: int | None, where: str) -> Jagged:
    """Jagged.from_lists, whose errors name `where`."""
    if depth not in (None, 1, 2):
        raise InputError(f"depth: expected 1, 2 or None, got {depth!r}")
    if type(lists) is not list and (isinstance(lists, str | bytes) or not isinstance(lists, Sequence | np.ndarray)):
        raise InputError(f"{where}: expected a list of lists, got {describe(lists)}")
    others = [row for row in lists if type(row) is not list]  # the checks below would be felt in a small request
    for row in others:
        if not _is_list(row):
            raise InputError(f"{where}: expected a list in each place, got {describe(row)}")
    nested = _is_nested(lists) if depth is None else depth == 2
    offsets = np.fromiter(accumulate(map(len, lists), initial=0), np.int64, len(lists) + 1)
    if nested:
        return unchecked(from_lists(list(chain.from_iterable(lists)), 1, where), offsets)
    arrays = [row for row in others if hasattr(row, "__array__") or hasattr(row, "__dlpack__") or off_host(row)]
    if len(arrays) == len(lists) and arrays:
        if any(map(off_host, arrays)):
            return unchecked(_concatenate_on_device(arrays, where), offsets)
        return unchecked(_concatenate([to_array(row, where) for row in arrays], where), offsets)
    return unchecked(from_scalars(list(chain.from_iterable(lists)), where), offsets)


def unchecked(values: Array | Jagged, offsets: Int64Array) -> Jagged:
    """A Jagged of offsets that were counted here; the checks would take half of the time of a small request."""
    jagged = object.__new__(Jagged)
    object.__setattr__(jagged, "values", values)
    object.__setattr__(jagged, "offsets", offsets)
    return jagged


def check_offsets(source: Any, total: int, where: str) -> Int64Array:
    """Offsets as contiguous int64 that start at 0, never go down and end at `total`; otherwise InputError."""
    offsets = to_integers(source, where)
    if len(offsets) == 2 and offsets[0] == 0 and offsets[1] == total:  # most calls have one list, and NumPy takes 2 us
        return offsets
    if offsets.size == 0 or offsets[0] != 0:
        raise InputError(f"{where}: expected 0 first, got {offsets[0] if offsets.size else 'no offsets'}")
    down = np.flatnonzero(offsets[1:] < offsets[:-1])
    if down.size:
        at = int(down[0])
        raise InputError(f"{where}: expected no offset below the one before, got {offsets[at + 1]} after {offsets[at]}")
    if offsets[-1] != total:
        raise InputError(f"{where}: expected the last to be the number of values, {total}, got {offsets[-1]}")
    return offsets


def _offsets(lengths: Any) -> Any:
    if isinstance(lengths, np.ndarray):
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    return tensors().offsets_of(lengths)


def _is_nested(lists: Any) -> bool:
    for row in lists:
        if len(row):
            return _is_list(row[0])
    return False


def _is_list(row: Any) -> bool:
    unordered = isinstance(row, str | bytes | Set | Mapping)
    return hasattr(row, "__len__") and not unordered and getattr(row, "ndim", 1) > 0


def _concatenate(arrays: list[Array], where: str) -> Array:
    filled = [array for array in arrays if array.size] or arrays[:1]  # NumPy's empty array is a float64 one
    if any(array.ndim != 1 for array in filled) or len({array.dtype.kind in "iuf" for array in filled}) > 1:
        kinds = sorted({describe(array) for array in filled})
        raise InputError(f"{where}: expected lists of numbers alone or strings alone, got {' and '.join(kinds[:3])}")
    if all(array.dtype.kind in "iu" for array in filled):
        return join_integers(filled, where)
    return np.concatenate(filled)


def _concatenate_on_device(arrays: list[Any], where: str) -> Any:
    if not all(map(off_host, arrays)):
        raise InputError(f"{where}: expected lists on one device or all in main memory, got some of each")
    return tensors().concatenate(arrays, where)


def _beside(matrix: Any, source: Any, where: str) -> Any:
    """An array of numbers where the matrix is that they cut."""
    return to_array(source, where) if isinstance(matrix, np.ndarray) else tensors().beside(matrix, source, where)


def _prefixes(lengths: Any, rows: int, width: int, where: str) -> Any:
    if lengths.shape != (rows,):
        raise InputError(f"{where}: expected {rows}, one per row, got {len(lengths)}")
    if len(lengths) and not 0 <= lengths.min() <= lengths.max() <= width:
        raise InputError(f"{where}: expected 0 to {width}, got {int(lengths.min())} to {int(lengths.max())}")
    places = np.arange(width) if isinstance(lengths, np.ndarray) else tensors().beside(lengths, np.arange(width), where)
    return places < lengths[:, None]
