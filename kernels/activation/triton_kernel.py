"""The activation unit on a GPU, kernels of the forward pass: README.md in this folder has its maths.

One program takes one *item*, a query and at most `CHUNK_KEYS` of its keys, and goes over them in tiles of BLOCK keys:
all layers, the softmax and the pooling in one pass. Layouts are those of triton_layers.py.
"""

from __future__ import annotations

import triton
import triton.language as tl

from din_infer.kernels.activation.triton_layers import (
    affine,
    affine_of_keys,
    chunk_start,
    hidden_layer,
    output,
    total,
    vectors_start,
    weights_start,
)


@triton.jit
def load_keys(keys, rows, valid, D: tl.constexpr, DIMS: tl.constexpr):
    """Keys [BLOCK, D] in chunks, zeros where not valid."""
    chunks = ()
    for i in tl.static_range(len(DIMS)):
        columns = chunk_start(DIMS, i) + tl.arange(0, DIMS[i])
        if total(DIMS) == D:
            mask = valid[:, None]
        else:
            mask = valid[:, None] & (columns < D)[None, :]
        chunks = chunks + (tl.load(keys + rows[:, None] * D + columns[None, :], mask=mask, other=0.0),)
    return chunks


@triton.jit
def scores(
    keys,
    rows,
    valid,
    a,
    b,
    weights,
    vectors,
    D: tl.constexpr,
    DIMS: tl.constexpr,
    UNITS: tl.constexpr,
    ACTIVATION: tl.constexpr,
    PRECISION: tl.constexpr,
    STREAM: tl.constexpr,
    LEAN: tl.constexpr,
):
    """The unit's outputs [BLOCK] for some keys; `a` and `b` are the query's."""
    dtype: tl.constexpr = keys.dtype.element_ty
    if STREAM:
        z = affine_of_keys(keys, rows, valid, a, b, 0, D, DIMS, UNITS[0], PRECISION, LEAN)
    else:
        z = affine(load_keys(keys, rows, valid, D, DIMS), a, b, DIMS, UNITS[0], PRECISION, LEAN)
    for layer in tl.static_range(1, len(UNITS)):
        h = hidden_layer(z, vectors + vectors_start(UNITS, layer - 1), dtype, UNITS[layer - 1], ACTIVATION, LEAN)
        matrix, bias = weights + weights_start(UNITS, layer), vectors + vectors_start(UNITS, layer)
        z = affine(h, matrix, bias, UNITS[layer - 1], UNITS[layer], PRECISION, LEAN)
    last: tl.constexpr = len(UNITS) - 1
    h = hidden_layer(z, vectors + vectors_start(UNITS, last), tl.float32, UNITS[last], ACTIVATION, LEAN)
    s = output(h, vectors + vectors_start(UNITS, last + 1), UNITS[last])
    return s


@triton.jit
def finite_or_zero(m):
    """m, or 0 where it is -inf: what to take from scores, of which none is left at -inf, before an exponential."""
    return tl.where(m == float("-inf"), 0.0, m)


@triton.jit
def one_for_zero(x):
    """A divisor of what is zero where there are no keys."""
    return tl.where(x == 0, 1.0, x)


@triton.jit
def reload_offset(first, RELOAD: tl.constexpr):
    """0, which the compiler cannot know where RELOAD: what is read there is then read for each tile anew."""
    return tl.multiple_of(first >> 62, 16) if RELOAD else 0


@triton.jit
def forward_kernel(
    keys,
    counts,
    a,
    b,
    weights,
    vectors,
    items,
    out,
    maxima,
    sums,
    scale,
    D: tl.constexpr,
    DIMS: tl.constexpr,
    POOL: tl.constexpr,
    UNITS: tl.constexpr,
    H1: tl.constexpr,
    ACTIVATION: tl.constexpr,
    SOFTMAX: tl.constexpr,
    COUNTED: tl.constexpr,
    PARTIAL: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK: tl.constexpr,
    RELOAD: tl.constexpr,
    STREAM: tl.constexpr,
    LEAN: tl.constexpr,
):
    """Pools one of `items`, int64 [items, 3]: query, first key, end of keys.

    Writes `out` [items, D], and under a softmax the item's `maxima` and `sums` of exponentials, [items].
    POOL: chunks of D for the sums, wide ones: each thread keeps its columns of each chunk.
    PARTIAL: `combine_kernel` adds the items of a query up. Otherwise each query has one item, in the queries' order.
    """
    item = tl.program_id(0).to(tl.int64)
    items += 3 * item
    query, start, stop = tl.load(items), tl.load(items + 1), tl.load(items + 2)
    a, b = a + query * total(DIMS) * H1, b + query * H1
    lane = tl.arange(0, BLOCK)
    pooled = ()
    for i in tl.static_range(len(POOL)):
        pooled = pooled + (tl.zeros([POOL[i]], tl.float32),)
    top, sum_exp = tl.full([1], float("-inf"), tl.float32), tl.zeros([1], tl.float32)
    for first in range(start, stop, BLOCK):
        rows = first + lane
        valid = rows < stop
        behind, near = reload_offset(first, RELOAD), reload_offset(first, True)
        matrix, behind_weights = a + behind, weights + behind
        w = scale * scores(
            keys,
            rows,
            valid,
            matrix,
            b + near,
            behind_weights,
            vectors + near,
            D,
            DIMS,
            UNITS,
            ACTIVATION,
            PRECISION,
            STREAM,
            LEAN,
        )
        count = tl.load(counts + rows, mask=valid, other=0.0) if COUNTED else valid.to(tl.float32)
        if SOFTMAX:
            w = tl.where(valid, w, float("-inf"))
            larger = tl.maximum(top, tl.max(w, 0))
            base = finite_or_zero(larger)
            shrink = tl.exp(top - base)
            w = tl.exp(w - base) * count
            top, sum_exp = larger, sum_exp * shrink + tl.sum(w, 0)
            pooled = scaled(pooled, shrink)
        else:
            w = tl.where(valid, w * count, 0.0)
        pooled = add_weighted(pooled, w, load_keys(keys, rows, valid, D, POOL))
    if SOFTMAX:
        sum_exp = tl.where(
            (sum_exp == 0) & (stop > start), float("nan"), sum_exp
        )  # scores at -inf alone: NaN, as by the formula
        if not PARTIAL:
            pooled = scaled(pooled, 1 / one_for_zero(sum_exp))
        zero = tl.arange(0, 1)
        tl.store(maxima + item + zero, top)
        tl.store(sums + item + zero, sum_exp)
    for i in tl.static_range(len(POOL)):
        columns = chunk_start(POOL, i) + tl.arange(0, POOL[i])
        tl.store(out + item * D + columns, pooled[i], mask=columns < D)


@triton.jit
def scaled(chunks, factor):
    """Chunks [C] times factor [1]."""
    out = ()
    for i in tl.static_range(len(chunks)):
        out = out + (chunks[i] * factor,)
    return out


@triton.jit
def add_weighted(chunks, w, k):
    """Chunks [C] + sum_t w_t k_t. Summed tile by tile: [BLOCK, C] accumulators would spill."""
    out = ()
    for i in tl.static_range(len(chunks)):
        out = out + (chunks[i] + tl.sum(w[:, None] * k[i].to(tl.float32), 0),)
    return out


@triton.jit(do_not_specialize_on_alignment=("first_items",))
def combine_kernel(
    parts,
    part_maxima,
    part_sums,
    first_items,
    out,
    maxima,
    sums,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    SOFTMAX: tl.constexpr,
):
    """Adds the items of one query up in their order, which does not depend on the other queries.

    `parts` [items, D] with `part_maxima` and `part_sums` [items]; `first_items` int64 [Q + 1]; `out` [Q, D].
    """
    query = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    start, stop = tl.load(first_items + query), tl.load(first_items + query + 1)
    pooled = tl.zeros([BLOCK_D], tl.float32)
    top, sum_exp = tl.full([1], float("-inf"), tl.float32), tl.zeros([1], tl.float32)
    for item in range(start, stop):
        part = tl.load(parts + item * D + columns, mask=columns < D, other=0.0)
        if SOFTMAX:
            part_top = tl.load(part_maxima + item)
            larger = tl.maximum(top, part_top)
            base = finite_or_zero(larger)
            shrink, grow = tl.exp(top - base), tl.exp(part_top - base)
            pooled = pooled * shrink + part * grow
            top, sum_exp = larger, sum_exp * shrink + tl.load(part_sums + item) * grow
        else:
            pooled += part
    if SOFTMAX:
        pooled = pooled * (1 / one_for_zero(sum_exp))  # as where there is one item
        zero = tl.arange(0, 1)
        tl.store(maxima + query + zero, top)
        tl.store(sums + query + zero, sum_exp)
    tl.store(out + query * D + columns, pooled, mask=columns < D)
