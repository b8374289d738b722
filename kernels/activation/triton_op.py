"""The Triton kernels as PyTorch operators: items of work, launches, what torch.compile has to know."""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from din_infer.kernels.activation import triton_kernel
from din_infer.kernels.activation.triton_config import (
    CHUNK_KEYS,
    POOL_CAP,
    Config,
    forward_config,
    powers_of_two,
)

ON_HOST = not isinstance(triton_kernel.forward_kernel, triton.JITFunction)  # under TRITON_INTERPRET=1


@torch.library.custom_op("din_infer::pool", mutates_args=())
def pool(
    keys: Tensor,
    counts: Tensor | None,
    a: Tensor,
    b: Tensor,
    weights: Tensor,
    vectors: Tensor,
    key_offsets: Tensor,
    query_offsets: Tensor,
    hidden: list[int],
    activation: str,
    softmax: bool,
    scale: float,
    precision: str,
) -> tuple[Tensor, Tensor]:
    """Pools keys [K, D] for the queries whose folds are `a` [Q, D', H1'] and `b` [Q, H1']: float32 [Q, D].

    Also gives each query's log of the sum of exponentials [Q] under a softmax, and an empty tensor without one.
    """
    dim, queries = keys.shape[1], len(a)
    config = forward_config(dim, hidden, keys.dtype.itemsize, precision, capability(keys.device))
    items, first_items = work_items(key_offsets, query_offsets, keys.device)
    partial = items.shape[1] > queries
    rows = items.shape[1]
    out, maxima, sums = (keys.new_empty(shape, dtype=torch.float32) for shape in ((rows, dim), (rows,), (rows,)))
    if rows:
        triton_kernel.forward_kernel[(rows,)](
            keys,
            items[1] if counts is None else counts,
            a,
            b,
            weights,
            vectors,
            *items,
            out,
            maxima,
            sums,
            scale,
            **shape_constants(dim, hidden, b.shape[1], config),
            ACTIVATION=activation,
            SOFTMAX=softmax,
            COUNTED=counts is not None,
            PARTIAL=partial,
            PRECISION=precision,
            BLOCK=config.block,
            RELOAD=config.reload,
            STREAM=config.stream,
            **launch_options(config),
        )
    if partial:
        out, maxima, sums = _combine(out, maxima, sums, first_items, queries, softmax)
    return out, maxima + torch.log(sums) if softmax else keys.new_empty(0, dtype=torch.float32)


@pool.register_fake
def _(
    keys: Tensor,
    counts: Any,
    a: Tensor,
    b: Any,
    w: Any,
    v: Any,
    ko: Any,
    qo: Any,
    h: Any,
    act: Any,
    softmax: bool,
    *_: Any,
) -> tuple[Tensor, Tensor]:
    out = keys.new_empty((a.shape[0], keys.shape[1]), dtype=torch.float32)
    return out, keys.new_empty(a.shape[0] if softmax else 0, dtype=torch.float32)


def _combine(
    parts: Tensor, maxima: Tensor, sums: Tensor, first_items: Tensor, queries: int, softmax: bool
) -> tuple[Tensor, Tensor, Tensor]:
    dim = parts.shape[1]
    out, top, total = parts.new_empty(queries, dim), parts.new_empty(queries), parts.new_empty(queries)
    block = min(triton.next_power_of_2(dim), 128)
    triton_kernel.combine_kernel[(queries, triton.cdiv(dim, block))](
        parts, maxima, sums, first_items, out, top, total, D=dim, BLOCK_D=block, SOFTMAX=softmax, num_warps=1
    )
    return out, top, total


def work_items(key_offsets: Tensor, query_offsets: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Query, first key and end of keys of each item, int64 [3, items], each query's first item [Q + 1].

    A query's items are consecutive, of CHUNK_KEYS keys each but the last, one of them where there are no keys.
    """
    keys, queries = key_offsets.cpu(), query_offsets.cpu()
    owner = torch.repeat_interleave(torch.arange(len(keys) - 1), queries.diff())  # [Q]
    items = ((keys.diff() + CHUNK_KEYS - 1) // CHUNK_KEYS).clamp(min=1)[owner]
    first_items = torch.cat([items.new_zeros(1), items.cumsum(0)])
    query = torch.repeat_interleave(torch.arange(len(owner)), items)
    start = keys[owner[query]] + (torch.arange(len(query)) - first_items[query]) * CHUNK_KEYS
    stop = torch.minimum(start + CHUNK_KEYS, keys[owner[query] + 1])
    return torch.stack([query, start, stop]).to(device), first_items.to(device)


def shape_constants(dim: int, hidden: list[int], h1: int, config: Config) -> dict[str, Any]:
    pool_chunks, key_chunks = powers_of_two(dim, POOL_CAP), config.key_chunks(dim)
    return {"D": dim, "DIMS": key_chunks, "POOL": pool_chunks, "UNITS": config.unit_chunks(hidden), "H1": h1}


def launch_options(config: Config) -> dict[str, Any]:
    """Triton 3.9 warns where fusion of multiplications and additions is left to its default."""
    return {"num_warps": config.warps, "num_stages": 1, "enable_fp_fusion": True}


def capability(device: torch.device) -> int:
    """Compute capability of a CUDA device as 10 * major + minor; the interpreter takes the choices of 80."""
    if device.type != "cuda":
        return 80
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor
