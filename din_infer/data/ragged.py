"""Ranges of flat arrays, cut out and put one behind the other, and the Arrow lists made of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from din_infer.tables import list_array

Ints = npt.NDArray[np.int64]


def positions_of(begin: Ints, lengths: Ints) -> Ints:
    """begin[r], ..., begin[r] + lengths[r] - 1 for all r, one range behind the other."""
    shift = np.repeat(begin - (np.cumsum(lengths) - lengths), lengths)
    positions: Ints = np.arange(len(shift)) + shift
    return positions


def runs_of(sizes: Ints, most: int) -> Iterator[slice]:
    """Runs of neighbours whose sizes sum up to `most` at most, or of one whose size is greater."""
    ends, start = np.cumsum(sizes), 0
    while start < len(sizes):
        stop = max(int(np.searchsorted(ends, ends[start] - sizes[start] + most, side="right")), start + 1)
        yield slice(start, stop)
        start = stop


def lists_of(values: Any, lengths: Ints) -> pa.Array:
    """Flat NumPy or Arrow values as one list per length."""
    return list_array(values, np.append(0, np.cumsum(lengths)))
