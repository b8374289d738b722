"""The best of many scores per request, exactly, chunk by chunk.

A score and the place of its item make one 64-bit key: the score's bits, mapped so that higher scores have lower keys,
above the place. Keys are all different and their order is the rule: higher scores first, of equal scores the item
listed first, NaN last. So a partition finds the same items as a full sort, and keys of different chunks merge.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from din_infer.arrays import Int64Array
from din_infer.jagged import Jagged

Keys = npt.NDArray[np.uint64]  # [requests, n]
NONE = np.uint64(2**64 - 1)  # above every key: no item
MAX_ITEMS = 2**32 - 1
_SIGN, _ALL, _LOW = np.uint32(1 << 31), np.uint32(2**32 - 1), np.uint64(2**32 - 1)


def make_keys(scores: npt.NDArray[np.float32], first: int) -> Keys:
    """Keys of scores float32 [requests, n], whose columns are the items from place `first` on."""
    return _keys(scores, np.arange(first, first + scores.shape[1], dtype=np.uint64))


def _keys(scores: npt.NDArray[np.float32], places: npt.NDArray[np.uint64]) -> Keys:
    bits = (scores + np.float32(0)).view(np.uint32)  # -0 becomes 0, which it equals
    descending = np.where(bits & _SIGN, bits, ~(bits | _SIGN))
    descending = np.where(np.isnan(scores), _ALL, descending)
    return (descending.astype(np.uint64) << np.uint64(32)) | places


def merge(best: Keys, keys: Keys, k: int) -> Keys:
    """The `k` lowest keys of both in each row, in no order; all, where there are fewer."""
    if keys.shape[1] > k:
        keys = np.partition(keys, k - 1, axis=1)[:, :k]
    both = np.concatenate([best, keys], axis=1)
    return np.partition(both, k - 1, axis=1)[:, :k] if both.shape[1] > k else both


def decode(best: Keys) -> tuple[Int64Array, npt.NDArray[np.float32], npt.NDArray[Any]]:
    """Places int64 and scores float32 of all rows, best first, one row after another, and each row's length."""
    ordered = np.sort(best, axis=1)
    lengths = (ordered != NONE).sum(axis=1)
    chosen = ordered[ordered != NONE]
    descending = (chosen >> np.uint64(32)).astype(np.uint32)
    bits = np.where(descending & _SIGN, descending, ~descending & ~_SIGN)
    scores = np.where(descending == _ALL, np.float32(np.nan), bits.view(np.float32))
    return (chosen & _LOW).astype(np.int64), scores, lengths


def top_k(scores: Jagged, k: int) -> tuple[Jagged, Jagged]:
    """Places int64 and scores float32 of the `k` best of each list, or of all where it is shorter, best first."""
    lengths, values = scores.lengths, np.asarray(scores.values, np.float32)
    places = np.arange(len(values)) - np.repeat(scores.offsets[:-1], lengths)
    keys = _keys(values, places.astype(np.uint64))
    order = np.lexsort((keys, np.repeat(np.arange(len(lengths)), lengths)))  # places now are ranks
    chosen = order[places < k]
    kept = np.minimum(lengths, min(k, MAX_ITEMS))
    return Jagged.from_lengths(places[chosen], kept), Jagged.from_lengths(values[chosen], kept)
