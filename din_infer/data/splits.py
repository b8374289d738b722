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


def cut_moments(times: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> tuple[int, int]:
    """The moments from which on requests are `valid` and `test`; counts[i] requests have times[i], which ascend."""
    before = np.append(0, np.cumsum(counts))
    test = _holder(before, int((1 - TEST_SHARE) * before[-1]))
    valid = _holder(before, int((1 - VALID_SHARE) * before[test])) if test else 0
    return int(times[valid]), int(times[test])


def parts_at(times: npt.NDArray[np.int64], cuts: tuple[int, int]) -> npt.NDArray[np.int64]:
    """The part of each request, int64 [n], for the cuts of `cut_moments`."""
    parts: npt.NDArray[np.int64] = np.searchsorted(np.array(cuts), times, side="right").astype(np.int64)
    return parts


def _holder(before: npt.NDArray[np.int64], rank: int) -> int:
    """Which time holds the request number `rank`."""
    return int(np.searchsorted(before, rank, side="right")) - 1


def _parts(times: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Parts of one group's requests, whose times ascend."""
    return parts_at(times, cut_moments(*np.unique(times, return_counts=True)))
