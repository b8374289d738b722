"""The activation unit on a GPU, kernels of the backward pass.

`unit_gradients_kernel` goes over each query's keys and gives the gradients of A(q), b(q) and, per program, of the
packed weights; `key_gradients_kernel` over each tile of keys' queries and gives those of the keys. Each output has one
program that writes it, adding tile after tile in memory: in registers the sums would spill. All are float32 and
zeros beforehand. Layouts are those of triton_layers.py.
"""

from __future__ import annotations

import triton
import triton.language as tl

from din_infer.kernels.activation.triton_layers import chunk_start, lanes, total
from din_infer.kernels.activation.triton_tile_backward import add, add_column_sums, tile_backward


@triton.jit(
    do_not_specialize=("queries", "per_program", "weights_size", "vectors_size"),
    do_not_specialize_on_alignment=("starts", "stops"),
)
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
    dweights += program * weights_size
    dvectors += program * vectors_size
    last = tl.minimum((program + 1) * per_program, queries)
    for query in tl.range(program * per_program, last, disable_licm=True):
        start, stop = tl.load(starts + query), tl.load(stops + query)
        matrix = query * total(DIMS) * H1
        for first in tl.range(start, stop, BLOCK, disable_licm=True):
            near = tl.multiple_of(first >> 62, 16)  # 0, which the compiler cannot know
            rows = first + lanes(BLOCK, near)
            valid = rows < stop
            count = tl.load(counts + rows, mask=valid, other=0.0) if COUNTED else valid.to(tl.float32)
            _, dz = tile_backward(
                keys,
                rows,
                valid,
                a + matrix + near,
                b + query * H1 + near,
                weights + near,
                vectors + near,
                dweights + near,
                dvectors + near,
                dout + query * D,
                count,
                scale,
                tl.load(lses + query),
                tl.load(deltas + query),
                tl.multiple_of(first >> 61, 16),
                D,
                DIMS,
                UNITS,
                ACTIVATION,
                SOFTMAX,
                PRECISION,
                True,
            )
            add_fold_gradient(
                da + matrix, keys, rows, valid, dz, tl.multiple_of(first >> 60, 16), D, DIMS, UNITS[0], PRECISION
            )
            for o in tl.static_range(len(UNITS[0])):
                add_column_sums(db + query * H1 + chunk_start(UNITS[0], o), dz[o])


@triton.jit
def add_fold_gradient(
    da, keys, rows, valid, dz, again, D: tl.constexpr, DIMS: tl.constexpr, OUT: tl.constexpr, PRECISION: tl.constexpr
):
    """da [D', H1'] += keys.T @ dz, for dz [BLOCK, H1'] in chunks."""
    STEP: tl.constexpr = DIMS[len(DIMS) - 1]
    lane = lanes(STEP, again)
    for start in tl.range(0, total(DIMS) + again, STEP, disable_licm=True):
        mask = valid[:, None] & (start + lane < D)[None, :]
        k = tl.load(keys + rows[:, None] * D + (start + lane)[None, :], mask=mask, other=0.0)
        for o in tl.static_range(len(OUT)):
            columns = chunk_start(OUT, o) + lanes(OUT[o], again)
            block = tl.dot(tl.trans(k), dz[o].to(k.dtype), input_precision=PRECISION)
            add(da + (start + lane)[:, None] * total(OUT) + columns[None, :], block)


@triton.jit(do_not_specialize_on_alignment=("tile_start", "tile_stop", "first_query", "last_query"))
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
    softmax,
    D: tl.constexpr,
    DIMS: tl.constexpr,
    UNITS: tl.constexpr,
    H1: tl.constexpr,
    ACTIVATION: tl.constexpr,
    COUNTED: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Takes a tile of one request's keys, [tile_start, tile_stop), and its queries [first_query, last_query).

    `softmax` is read at run time: compiled for none alone, some activations spilled.
    """
    tile = tl.program_id(0).to(tl.int64)
    start, stop = tl.load(tile_start + tile), tl.load(tile_stop + tile)
    for query in tl.range(tl.load(first_query + tile), tl.load(last_query + tile), disable_licm=True):
        near = tl.multiple_of(query >> 62, 16)  # 0, which the compiler cannot know
        rows = start + lanes(BLOCK, near)
        valid = rows < stop
        count = tl.load(counts + rows, mask=valid, other=0.0) if COUNTED else valid.to(tl.float32)
        matrix = a + query * total(DIMS) * H1
        weight, dz = tile_backward(
            keys + near,
            rows,
            valid,
            matrix,
            b + query * H1,
            weights + near,
            vectors + near,
            weights,
            vectors,
            dout + query * D,
            count,
            scale,
            tl.load(lses + query),
            tl.load(deltas + query),
            tl.multiple_of(query >> 61, 16),
            D,
            DIMS,
            UNITS,
            ACTIVATION,
            softmax,
            PRECISION,
            False,
        )
        add_key_gradients(
            dkeys,
            rows,
            valid,
            weight,
            dout + query * D,
            dz,
            matrix,
            tl.multiple_of(query >> 60, 16),
            D,
            DIMS,
            UNITS[0],
            PRECISION,
        )


@triton.jit
def add_key_gradients(
    dkeys,
    rows,
    valid,
    weight,
    du,
    dz,
    matrix,
    again,
    D: tl.constexpr,
    DIMS: tl.constexpr,
    OUT: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """dkeys [BLOCK, D] += weight du + dz @ matrix.T, for dz [BLOCK, H1'] in chunks."""
    STEP: tl.constexpr = DIMS[len(DIMS) - 1]
    lane = lanes(STEP, again)
    for start in tl.range(0, total(DIMS) + again, STEP, disable_licm=True):
        inside = start + lane < D
        acc = weight[:, None] * tl.load(du + start + lane, mask=inside, other=0.0)[None, :]
        for o in tl.static_range(len(OUT)):
            columns = chunk_start(OUT, o) + lanes(OUT[o], again)
            block = tl.load(matrix + (start + lane)[None, :] * total(OUT) + columns[:, None])
            acc = tl.dot(dz[o].to(block.dtype), block, acc, input_precision=PRECISION)
        add(dkeys + rows[:, None] * D + (start + lane)[None, :], acc, valid[:, None] & inside[None, :])
