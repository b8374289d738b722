"""How the work of a call is cut into programs. In C++: PyTorch's operators in main memory wake threads for it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from din_infer import _core
from din_infer.kernels.activation.triton_config import CHUNK_KEYS
from din_infer.tensors import moved


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
    numbers, items = _core.forward_work(key_offsets.cpu().numpy(), query_offsets.cpu().numpy(), CHUNK_KEYS)
    all_numbers = moved(torch.from_numpy(numbers), device)
    return ForwardWork(all_numbers[: 3 * items].view(items, 3), all_numbers[3 * items :])


def backward_work(key_offsets: Tensor, query_offsets: Tensor, block: int, device: torch.device) -> BackwardWork:
    numbers, queries, tiles = _core.backward_work(key_offsets.cpu().numpy(), query_offsets.cpu().numpy(), block)
    all_numbers = moved(torch.from_numpy(numbers), device)
    return BackwardWork(all_numbers[: 2 * queries].view(2, queries), all_numbers[2 * queries :].view(4, tiles))
