"""How the work of a call is cut into programs. In NumPy: PyTorch's operators in main memory wake threads for it."""

from __future__ import annotations

from itertools import accumulate
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from din_infer.kernels.activation.triton_config import CHUNK_KEYS

Integers = npt.NDArray[np.int64]


class ForwardWork(NamedTuple):
    """`items` int64 [items, 3]: query, first key, end of keys; `first_items` int64 [Q + 1]: where each query's start.

    A query's items are consecutive, of CHUNK_KEYS keys each but the last, one of them where there are no keys.
    """

    items: Tensor
    first_items: Tensor


class BackwardWork(NamedTuple):
    """`spans` int64 [2, Q]: each query's keys; `tiles` int64 [4, tiles]: first key, end of keys, first query, end."""

    spans: Tensor
    tiles: Tensor


def forward_work(key_offsets: Tensor, query_offsets: Tensor, device: torch.device) -> ForwardWork:
    keys, queries = key_offsets.cpu().numpy(), query_offsets.cpu().numpy()
    starts, stops, candidates = keys[:-1], keys[1:], queries[1:] - queries[:-1]
    each = np.maximum((stops - starts + (CHUNK_KEYS - 1)) // CHUNK_KEYS, 1).repeat(candidates)  # [Q]
    first_items = np.zeros(len(each) + 1, np.int64)
    each.cumsum(out=first_items[1:])
    items = np.empty((first_items[-1], 3), np.int64)
    query, start, stop = items.T
    query[:] = np.arange(len(each)).repeat(each)
    start[:] = (starts.repeat(candidates) - first_items[:-1] * CHUNK_KEYS)[query] + np.arange(len(items)) * CHUNK_KEYS
    np.minimum(start + CHUNK_KEYS, stops.repeat(candidates)[query], out=stop)
    return ForwardWork(*_moved(device, items, first_items))


def backward_work(key_offsets: Tensor, query_offsets: Tensor, block: int, device: torch.device) -> BackwardWork:
    keys, queries = key_offsets.cpu().numpy(), query_offsets.cpu().numpy()
    spans = np.stack([np.repeat(ends, np.diff(queries)) for ends in (keys[:-1], keys[1:])])
    tiles = -(-np.diff(keys) // block)
    request = np.repeat(np.arange(len(tiles)), tiles)
    start = keys[request] + (np.arange(len(request)) - (tiles.cumsum() - tiles)[request]) * block
    stop = np.minimum(start + block, keys[request + 1])
    return BackwardWork(*_moved(device, spans, np.stack([start, stop, queries[request], queries[request + 1]])))


def _moved(device: torch.device, *arrays: Integers) -> list[Tensor]:
    """The arrays on the device, in one copy."""
    flat = torch.from_numpy(np.concatenate(arrays, axis=None)).to(device)
    ends = accumulate(array.size for array in arrays)
    return [flat[end - array.size : end].view(array.shape) for array, end in zip(arrays, ends, strict=True)]
