"""The Triton kernels as PyTorch operators: items of work, launches, what torch.compile has to know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor

from din_infer.errors import InputError
from din_infer.kernels.activation import triton_backward, triton_kernel
from din_infer.kernels.activation.triton_config import (
    CHUNK_KEYS,
    POOL_CAP,
    PROGRAMS,
    Config,
    forward_config,
    key_gradients_config,
    powers_of_two,
    unit_gradients_config,
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
) -> tuple[Tensor, Tensor]:
    """Pools keys [K, D] for the queries whose folds are `a` [Q, D', H1'] and `b` [Q, H1']: float32 [Q, D].

    Also gives each query's log of the sum of exponentials [Q] under a softmax, and an empty tensor without one.
    """
    dim, queries = keys.shape[1], len(a)
    keys, a, b, weights, vectors = map(aligned, (keys, a, b, weights, vectors))
    precision = products()
    config = forward_config(dim, hidden, keys.dtype.itemsize, precision, capability(keys.device))
    items, first_items = work_items(key_offsets, query_offsets, keys.device)
    partial = items.shape[1] > queries
    rows = items.shape[1]
    out, maxima, sums = (keys.new_empty(shape, dtype=torch.float32) for shape in ((rows, dim), (rows,), (rows,)))
    if rows:
        launch(
            triton_kernel.forward_kernel,
            (rows,),
            keys,
            items if counts is None else counts.float(),
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
            ACTIVATION=config.activation(activation),
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
    per_program = triton.cdiv(queries, max(programs, 1))
    precision = products()
    kind = keys.dtype.itemsize, precision, capability(keys.device)
    unit_config, key_config = unit_gradients_config(*kind, activation), key_gradients_config(hidden, *kind)
    work = BackwardWork.of(key_offsets, query_offsets, key_config.block, keys.device)
    delta = (dout * out).sum(1)
    # What is not read is any pointer. Counts of 64 bits would take registers that are full.
    times, sums = (delta if counts is None else counts.float()), (lse if softmax else delta)
    inputs = [aligned(t) for t in (keys, times, a, b, weights, vectors, dout, sums, delta)]
    same: dict[str, Any] = {"COUNTED": counts is not None, "PRECISION": precision}
    dkeys, da, db = (torch.zeros_like(t, dtype=torch.float32) for t in (keys, a, b))
    dweights, dvectors = (keys.new_zeros((programs, len(p)), dtype=torch.float32) for p in (weights, vectors))
    if programs:
        gradients, sizes = (da, db, dweights, dvectors), (queries, per_program, len(weights), len(vectors))
        launch(
            triton_backward.unit_gradients_kernel,
            (programs,),
            *inputs,
            *work.spans,
            *gradients,
            scale,
            *sizes,
            **same,
            SOFTMAX=softmax,
            ACTIVATION=unit_config.activation(activation),
            **backward_constants(dim, hidden, b.shape[1], unit_config),
            **launch_options(unit_config),
        )
    if work.tiles.shape[1]:
        launch(
            triton_backward.key_gradients_kernel,
            (work.tiles.shape[1],),
            *inputs,
            *work.tiles,
            dkeys,
            scale,
            softmax,
            **same,
            ACTIVATION=key_config.activation(activation),
            **backward_constants(dim, hidden, b.shape[1], key_config),
            **launch_options(key_config),
        )
    return dkeys.to(keys.dtype), da.to(a.dtype), db, dweights.sum(0).to(weights.dtype), dvectors.sum(0)


@pool_backward.register_fake
def _(dout: Any, out: Any, lse: Any, keys: Tensor, c: Any, a: Tensor, b: Tensor, w: Tensor, v: Tensor, *_: Any) -> Any:
    return tuple(torch.empty_like(t) for t in (keys, a, b, w, v))


pool.register_autograd(_backward, setup_context=_setup_context)


@dataclass(frozen=True)
class BackwardWork:
    """`spans` int64 [2, Q]: each query's keys; `tiles` int64 [4, tiles]: first key, end of keys, first query, end."""

    spans: Tensor
    tiles: Tensor

    @classmethod
    def of(cls, key_offsets: Tensor, query_offsets: Tensor, block: int, device: torch.device) -> BackwardWork:
        keys, queries = key_offsets.cpu(), query_offsets.cpu()
        owner = torch.repeat_interleave(torch.arange(len(keys) - 1), queries.diff())
        tiles = (keys.diff() + block - 1) // block
        request = torch.repeat_interleave(torch.arange(len(tiles)), tiles)
        start = keys[request] + (torch.arange(len(request)) - (tiles.cumsum(0) - tiles)[request]) * block
        stop = torch.minimum(start + block, keys[request + 1])
        made = torch.stack([start, stop, queries[request], queries[request + 1]])
        return cls(torch.stack([keys[owner], keys[owner + 1]]).to(device), made.to(device))


def _combine(
    parts: Tensor, maxima: Tensor, sums: Tensor, first_items: Tensor, queries: int, softmax: bool
) -> tuple[Tensor, Tensor, Tensor]:
    dim = parts.shape[1]
    out, top, total = parts.new_empty(queries, dim), parts.new_empty(queries), parts.new_empty(queries)
    block = min(triton.next_power_of_2(dim), 128)
    launch(
        triton_kernel.combine_kernel,
        (queries, triton.cdiv(dim, block)),
        parts,
        maxima,
        sums,
        first_items,
        out,
        top,
        total,
        D=dim,
        BLOCK_D=block,
        SOFTMAX=softmax,
        num_warps=1,
        enable_fp_fusion=True,
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


def aligned(tensor: Tensor) -> Tensor:
    """The tensor, copied where it does not start at a multiple of 16 bytes: Triton would compile a kernel for that."""
    return tensor if tensor.data_ptr() % 16 == 0 else tensor.clone()


def shape_constants(dim: int, hidden: list[int], h1: int, config: Config) -> dict[str, Any]:
    pool_chunks, key_chunks = powers_of_two(dim, POOL_CAP), config.key_chunks(dim)
    return {"D": dim, "DIMS": key_chunks, "POOL": pool_chunks, "UNITS": config.unit_chunks(hidden), "H1": h1}


def backward_constants(dim: int, hidden: list[int], h1: int, config: Config) -> dict[str, Any]:
    constants = shape_constants(dim, hidden, h1, config)
    del constants["POOL"]
    return {**constants, "BLOCK": config.block}


def products() -> str:
    """How products of float32 are rounded, as PyTorch is told to round its own on CUDA devices."""
    # PyTorch 2.9 and above has a setting for them; the older one cannot be asked where both were used.
    told = getattr(torch.backends.cuda.matmul, "fp32_precision", None)
    if told is None:
        return "tf32x3" if torch.get_float32_matmul_precision() == "highest" else "tf32"
    return "tf32" if told == "tf32" else "tf32x3"


def launch(kernel: Any, grid: tuple[int, ...], first: Tensor, /, *arguments: Any, **constants: Any) -> None:
    """Runs `kernel` on the device of its first argument, which need not be PyTorch's current one."""
    with torch.cuda.device_of(first):  # type: ignore[no-untyped-call]
        kernel[grid](first, *arguments, **constants)


def launch_options(config: Config) -> dict[str, Any]:
    """Triton 3.9 warns where fusion of multiplications and additions is left to its default."""
    options: dict[str, Any] = {"num_warps": config.warps, "num_stages": 1, "enable_fp_fusion": True}
    return {**options, "ptx_options": config.assembler} if config.assembler else options


def capability(device: torch.device) -> int:
    """Compute capability of a CUDA device as 10 * major + minor; the interpreter takes the choices of 80.

    Raises InputError below 8.0, whose tensor cores have neither TF32 nor bfloat16.
    """
    if device.type != "cuda":
        return 80
    major, minor = torch.cuda.get_device_capability(device)
    if major < 8:
        raise InputError(f"{device}: expected compute capability 8.0 or above, got {major}.{minor}")
    return 10 * major + minor
