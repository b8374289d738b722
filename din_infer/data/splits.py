"""Which requests train, which validate, which test: always by time, never through a tie."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

TEST_SHARE = 0.2
VALID_SHARE = 0.1  # of what the test leaves
PARTS = ("train", "valid", "test")


def split_in_time(groups: npt.NDArray[np.int64], times: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The part of each request, int64 [n], as an index into PARTS.

    Within a group the last 20% of the requests are `test`, and of the rest the last 10% `valid`. A cut is a moment: all
    the group's requests at or after it are on its later side, so those of one second stay together.
    """
    order = np.lexsort((times, groups))
    starts = np.flatnonzero(np.diff(groups[order], prepend=np.nan) != 0)
    parts = np.zeros(len(groups), np.int64)
    for members in np.split(order, starts[1:]):
        parts[members] = _parts(times[members])
    return parts


def _parts(times: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Parts of one group's requests, whose times ascend."""
    test = int(np.searchsorted(times, times[int((1 - TEST_SHARE) * len(times))]))
    valid = int(np.searchsorted(times, times[int((1 - VALID_SHARE) * test)])) if test else 0
    return np.repeat([0, 1, 2], [valid, test - valid, len(times) - test])
