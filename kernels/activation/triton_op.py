"""The Triton kernels as PyTorch operators: what they launch, and what autograd and torch.compile have to know."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import triton
from torch import Tensor

from din_infer.kernels.activation import triton_backward, triton_kernel
from din_infer.kernels.activation.triton_config import (
    POOL_CAP,
    PROGRAMS,
    Config,
    forward_config,
    key_gradients_config,
    powers_of_two,
    unit_gradients_config,
)
from din_infer.kernels.activation.triton_launch import Kernel, aligned, capability, options_of, products
from din_infer.kernels.activation.triton_work import backward_work, forward_work


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
) -> tuple[Tensor, Tensor]:
    """Pools keys [K, D] for the queries whose folds are `a` [Q, D', H1'] and `b` [Q, H1']: float32 [Q, D].

    Also gives each query's log of the sum of exponentials [Q] under a softmax, and an empty tensor without one.
    """
    dim, queries = keys.shape[1], len(a)
    keys, a, b, weights, vectors = map(aligned, (keys, a, b, weights, vectors))
    work = forward_work(key_offsets, query_offsets, keys.device)
    rows = len(work.items)
    out = keys.new_empty((rows, dim), dtype=torch.float32)
    maxima, sums = _statistics(out, rows, softmax)
    split = rows > queries
    if rows:
        precision = products()
        config = forward_config(dim, tuple(hidden), keys.dtype.itemsize, precision, capability(keys.device))
        run = kernel_of(
            triton_kernel.forward_kernel,
            config,
            keys.dtype,
            dim,
            tuple(hidden),
            H1=b.shape[1],
            ACTIVATION=activation,
            SOFTMAX=softmax,
            COUNTED=counts is not None,
            PARTIAL=split,
            PRECISION=precision,
        )
        times = work.items if counts is None else counts.float()  # what is not read is any pointer
        run((rows, 1, 1), keys, times, a, b, weights, vectors, work.items, out, maxima, sums, float(scale))
    if split:
        out, maxima, sums = _combine(out, maxima, sums, work.first_items, queries, softmax)
    return out, maxima + torch.log(sums) if softmax else out.new_empty(0)


pool_op = torch.library.custom_op("din_infer::pool", pool, mutates_args=())


@pool_op.register_fake
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


def _setup_context(ctx: Any, inputs: Any, output: Any) -> None:
    keys, counts, a, b, weights, vectors, key_offsets, query_offsets, *ctx.unit = inputs
    ctx.save_for_backward(keys, counts, a, b, weights, vectors, key_offsets, query_offsets, *output)


def _backward(ctx: Any, dout: Tensor, _: Any) -> tuple[Tensor | None, ...]:
    *inputs, out, lse = ctx.saved_tensors
    dkeys, da, db, dweights, dvectors = pool_backward(dout.contiguous(), out, lse, *inputs, *ctx.unit)
    return dkeys, None, da, db, dweights, dvectors, *(None,) * 6


@torch.library.custom_op("din_infer::pool_backward", mutates_args=())
def pool_backward(
    dout: Tensor,
    out: Tensor,
    lse: Tensor,
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
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of keys, a, b, weights and vectors, for that of `pool`'s first output, [Q, D]."""
    dim, queries = keys.shape[1], len(a)
    programs = min(queries, PROGRAMS)
    per_program = -(-queries // max(programs, 1))
    precision = products()
    kind = keys.dtype.itemsize, precision, capability(keys.device)
    unit_config, key_config = unit_gradients_config(*kind, activation), key_gradients_config(tuple(hidden), *kind)
    work = backward_work(key_offsets, query_offsets, key_config.block, keys.device)
    delta = (dout * out).sum(1)
    # What is not read is any pointer. Counts of 64 bits would take registers that are full.
    times, sums = (delta if counts is None else counts.float()), (lse if softmax else delta)
    inputs = [aligned(t) for t in (keys, times, a, b, weights, vectors, dout, sums, delta)]
    shape = keys.dtype, dim, tuple(hidden)
    flags = {"H1": b.shape[1], "ACTIVATION": activation, "COUNTED": counts is not None, "PRECISION": precision}
    dkeys, da, db = (torch.zeros_like(t, dtype=torch.float32) for t in (keys, a, b))
    dweights, dvectors = (keys.new_zeros((programs, len(p)), dtype=torch.float32) for p in (weights, vectors))
    if programs:
        gradients, sizes = (da, db, dweights, dvectors), (queries, per_program, len(weights), len(vectors))
        run = kernel_of(triton_backward.unit_gradients_kernel, unit_config, *shape, **flags, SOFTMAX=softmax)
        run((programs, 1, 1), *inputs, *work.spans, *gradients, scale, *sizes)
    if work.tiles.shape[1]:
        run = kernel_of(triton_backward.key_gradients_kernel, key_config, *shape, **flags)
        run((work.tiles.shape[1], 1, 1), *inputs, *work.tiles, dkeys, scale, softmax)
    return dkeys.to(keys.dtype), da.to(a.dtype), db, dweights.sum(0).to(weights.dtype), dvectors.sum(0)


@pool_backward.register_fake
def _(dout: Any, out: Any, lse: Any, keys: Tensor, c: Any, a: Tensor, b: Tensor, w: Tensor, v: Tensor, *_: Any) -> Any:
    return tuple(torch.empty_like(t) for t in (keys, a, b, w, v))


pool_op.register_autograd(_backward, setup_context=_setup_context)


def _statistics(out: Tensor, rows: int, softmax: bool) -> tuple[Tensor, Tensor]:
    """Where maxima and sums of exponentials go, float32 [rows]; anywhere without a softmax, which writes none."""
    return (out.new_empty(rows), out.new_empty(rows)) if softmax else (out, out)


def _combine(
    parts: Tensor, maxima: Tensor, sums: Tensor, first_items: Tensor, queries: int, softmax: bool
) -> tuple[Tensor, Tensor, Tensor]:
    dim = parts.shape[1]
    out = parts.new_empty(queries, dim)
    top, total = _statistics(out, queries, softmax)
    run = combine_of(dim, softmax)
    run((queries, -(-dim // run.constants["BLOCK_D"]), 1), parts, maxima, sums, first_items, out, top, total)
    return out, top, total


@lru_cache
def kernel_of(
    function: Any, config: Config, dtype: torch.dtype, dim: int, hidden: tuple[int, ...], **others: Any
) -> Kernel:
    """One for each kind of call; `dtype`, that of the keys, is part of the kind. `others`: its other constants."""
    known = {
        "D": dim,
        "DIMS": config.key_chunks(dim),
        "POOL": powers_of_two(dim, POOL_CAP),
        "UNITS": config.unit_chunks(hidden),
        "BLOCK": config.block,
        "RELOAD": config.reload,
        "STREAM": config.stream,
        "LEAN": config.lean,
        **others,
        "ACTIVATION": config.activation(others["ACTIVATION"]),
    }
    return Kernel(function, {name: known[name] for name in function.arg_names if name in known}, options_of(config))


@lru_cache
def combine_of(dim: int, softmax: bool) -> Kernel:
    constants = {"D": dim, "BLOCK_D": min(triton.next_power_of_2(dim), 128), "SOFTMAX": softmax}
    return Kernel(triton_kernel.combine_kernel, constants, {"num_warps": 1, "enable_fp_fusion": True})
