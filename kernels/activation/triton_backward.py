"""The activation unit on a GPU, kernels of the backward pass.

`unit_gradients_kernel` goes over each query's keys and gives the gradients of A(q), b(q) and, per program, of the
packed weights; `key_gradients_kernel` over each tile of keys' queries and gives those of the keys. Each output has one
writer, which adds up in a fixed order. Layouts are those of triton_kernel.py.
"""

from __future__ import annotations

import triton
import triton.language as tl

from din_infer.kernels.activation.triton_kernel import chunk_start, load_keys, total, weights_start
from din_infer.kernels.activation.triton_tile_backward import affine_backward, matrix_gradient, tile_backward


@triton.jit
def plus(x, y):
    """Two tuples of tensors, added."""
    out = ()
    for i in tl.static_range(len(x)):
        out = out + (x[i] + y[i],)
    return out


@triton.jit
def zeros_of_matrix(IN: tl.constexpr, OUT: tl.constexpr):
    out = ()
    for i in tl.static_range(len(IN)):
        for o in tl.static_range(len(OUT)):
            out = out + (tl.zeros([IN[i], OUT[o]], tl.float32),)
    return out


@triton.jit
def zeros_of_matrices(UNITS: tl.constexpr):
    """Where the gradients of W_L .. W_2 are added up, the last layer's first."""
    out = ()
    for layer in tl.static_range(len(UNITS) - 1, 0, -1):
        out = out + zeros_of_matrix(UNITS[layer - 1], UNITS[layer])
    return out


@triton.jit
def load_row(row, D: tl.constexpr, DIMS: tl.constexpr):
    """A float32 row [D] in chunks."""
    out = ()
    for i in tl.static_range(len(DIMS)):
        columns = chunk_start(DIMS, i) + tl.arange(0, DIMS[i])
        out = out + (tl.load(row + columns, mask=columns < D, other=0.0),)
    return out


@triton.jit
def store_matrix(out, chunks, IN: tl.constexpr, OUT: tl.constexpr):
    for i in tl.static_range(len(IN)):
        rows = chunk_start(IN, i) + tl.arange(0, IN[i])
        for o in tl.static_range(len(OUT)):
            columns = chunk_start(OUT, o) + tl.arange(0, OUT[o])
            tl.store(out + rows[:, None] * total(OUT) + columns[None, :], chunks[i * len(OUT) + o])


@triton.jit
def store_matrices(dweights, matrices, UNITS: tl.constexpr):
    """Writes what `zeros_of_matrices` began, in the packed layout."""
    for layer in tl.static_range(len(UNITS) - 1, 0, -1):
        chunks = ()
        for i in tl.static_range(len(UNITS[layer - 1]) * len(UNITS[layer])):
            chunks = chunks + (matrices[first_matrix(UNITS, layer) + i],)
        store_matrix(dweights + weights_start(UNITS, layer), chunks, UNITS[layer - 1], UNITS[layer])


@triton.constexpr_function
def first_matrix(units, layer):
    return sum(len(units[i - 1]) * len(units[i]) for i in range(layer + 1, len(units)))


@triton.jit
def unit_gradients_kernel(
    keys,
    counts,
    a,
    b,
    weights,
    vectors,
    dout,
    lses,
    deltas,
    starts,
    stops,
    da,
    db,
    dweights,
    dvectors,
    scale,
    queries,
    per_program,
    weights_size,
    vectors_size,
    D: tl.constexpr,
    DIMS: tl.constexpr,
    UNITS: tl.constexpr,
    H1: tl.constexpr,
    ACTIVATION: tl.constexpr,
    SOFTMAX: tl.constexpr,
    COUNTED: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Takes `per_program` queries, keys [starts, stops) each: `da`, `db` of each, sums of `dweights`, `dvectors`."""
    program = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, BLOCK)
    matrix_sums = zeros_of_matrices(UNITS)
    dvectors += program * vectors_size
    for query in range(program * per_program, tl.minimum((program + 1) * per_program, queries)):
        start, stop = tl.load(starts + query), tl.load(stops + query)
        a_here, b_here = a + query * total(DIMS) * H1, b + query * H1
        du = load_row(dout + query * D, D, DIMS)
        lse, delta = tl.load(lses + query), tl.load(deltas + query)
        a_sums, b_sums = zeros_of_matrix(DIMS, UNITS[0]), zeros_of_row(UNITS[0])
        for first in range(start, stop, BLOCK):
            rows = first + lane
            valid = rows < stop
            near = tl.multiple_of(first >> 62, 16)  # 0, which the compiler cannot know
            k = load_keys(keys, rows, valid, D, DIMS)
            count = tl.load(counts + rows, mask=valid, other=0).to(tl.float32) if COUNTED else valid.to(tl.float32)
            _, dz, dmatrices = tile_backward(
                k,
                a_here + near,
                b_here + near,
                weights + near,
                vectors + near,
                dvectors + near,
                du,
                count,
                valid,
                scale,
                lse,
                delta,
                tl.multiple_of(first >> 61, 16),
                DIMS,
                UNITS,
                ACTIVATION,
                SOFTMAX,
                PRECISION,
                True,
            )
            matrix_sums = plus(matrix_sums, dmatrices)
            a_sums = plus(a_sums, matrix_gradient(k, dz, k[0].dtype, PRECISION))
            b_sums = plus(b_sums, sums_of_columns(dz))
        store_matrix(da + query * total(DIMS) * H1, a_sums, DIMS, UNITS[0])
        for o in tl.static_range(len(UNITS[0])):
            tl.store(db + query * H1 + chunk_start(UNITS[0], o) + tl.arange(0, UNITS[0][o]), b_sums[o])
    store_matrices(dweights + program * weights_size, matrix_sums, UNITS)


@triton.jit
def zeros_of_row(CHUNKS: tl.constexpr):
    out = ()
    for i in tl.static_range(len(CHUNKS)):
        out = out + (tl.zeros([CHUNKS[i]], tl.float32),)
    return out


@triton.jit
def sums_of_columns(chunks):
    out = ()
    for i in tl.static_range(len(chunks)):
        out = out + (tl.sum(chunks[i], 0),)
    return out


@triton.jit
def key_gradients_kernel(
    keys,
    counts,
    a,
    b,
    weights,
    vectors,
    dout,
    lses,
    deltas,
    tile_start,
    tile_stop,
    first_query,
    last_query,
    dkeys,
    scale,
    D: tl.constexpr,
    DIMS: tl.constexpr,
    UNITS: tl.constexpr,
    H1: tl.constexpr,
    ACTIVATION: tl.constexpr,
    SOFTMAX: tl.constexpr,
    COUNTED: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Takes a tile of one request's keys, [tile_start, tile_stop), and its queries [first_query, last_query)."""
    tile = tl.program_id(0).to(tl.int64)
    stop = tl.load(tile_stop + tile)
    rows = tl.load(tile_start + tile) + tl.arange(0, BLOCK)
    valid = rows < stop
    count = tl.load(counts + rows, mask=valid, other=0).to(tl.float32) if COUNTED else valid.to(tl.float32)
    sums = ()
    for i in tl.static_range(len(DIMS)):
        sums = sums + (tl.zeros([BLOCK, DIMS[i]], tl.float32),)
    for query in range(tl.load(first_query + tile), tl.load(last_query + tile)):
        near = tl.multiple_of(query >> 62, 16)  # 0, which the compiler cannot know
        k = load_keys(keys + near, rows, valid, D, DIMS)
        du = load_row(dout + query * D, D, DIMS)
        a_here = a + query * total(DIMS) * H1
        weight, dz, _ = tile_backward(
            k,
            a_here,
            b + query * H1,
            weights + near,
            vectors + near,
            vectors,
            du,
            count,
            valid,
            scale,
            tl.load(lses + query),
            tl.load(deltas + query),
            tl.multiple_of(query >> 61, 16),
            DIMS,
            UNITS,
            ACTIVATION,
            SOFTMAX,
            PRECISION,
            False,
        )
        sums = plus(sums, affine_backward(dz, a_here, DIMS, UNITS[0], k[0].dtype, PRECISION))
        direct = ()
        for i in tl.static_range(len(DIMS)):
            direct = direct + (weight[:, None] * du[i][None, :],)
        sums = plus(sums, direct)
    for i in tl.static_range(len(DIMS)):
        columns = chunk_start(DIMS, i) + tl.arange(0, DIMS[i])
        mask = valid[:, None] & (columns < D)[None, :]
        tl.store(dkeys + rows[:, None] * D + columns[None, :], sums[i].to(dkeys.dtype.element_ty), mask=mask)
