"""Device code of the backward pass over one tile of keys: what the forward pass did not store is made again."""

from __future__ import annotations

import triton
import triton.language as tl

from din_infer.kernels.activation.triton_layers import (
    activate,
    affine,
    affine_of_keys,
    chunk_start,
    dice_share,
    hidden_layer,
    lanes,
    not_above_zero,
    output,
    total,
    vectors_start,
    weights_start,
)


@triton.jit
def activate_backward(dh, z, vectors, dvectors, H: tl.constexpr, ACTIVATION: tl.constexpr, UNIT: tl.constexpr):
    """dz for a chunk; arguments as of `activate`. UNIT: adds the gradients of the chunk's vectors to `dvectors`."""
    units = tl.arange(0, z.shape[1])
    if ACTIVATION == "identity":
        dz = dh
    elif ACTIVATION == "relu" or ACTIVATION == "relu of extremes":
        dz = tl.where(z > 0, dh, 0.0)
    elif ACTIVATION == "prelu" or ACTIVATION == "prelu of extremes":
        dz = tl.where(z > 0, dh, dh * tl.load(vectors + H + units)[None, :])
        if UNIT:
            if ACTIVATION == "prelu":
                add_column_sums(dvectors + H, tl.where(z > 0, 0.0, dh * z))
            else:
                add_column_sums(dvectors + H, dh * not_above_zero(z))
    elif ACTIVATION == "dice":
        alpha = tl.load(vectors + H + units)[None, :]
        mean = tl.load(vectors + 2 * H + units)[None, :]
        inverse_std = tl.load(vectors + 3 * H + units)[None, :]
        p = dice_share(z, vectors, H, False)
        dn = dh * z * (1 - alpha) * p * (1 - p)
        dz = dh * (p + (1 - p) * alpha) + dn * inverse_std
        if UNIT:
            add_column_sums(dvectors + H, dh * z * (1 - p))
            add_column_sums(dvectors + 2 * H, -dn * inverse_std)
            add_column_sums(dvectors + 3 * H, dn * (z - mean))
    else:
        y = activate(z, vectors, H, ACTIVATION, False)
        if ACTIVATION == "sigmoid":
            dz = dh * y * (1 - y)
        elif ACTIVATION == "tanh":
            dz = dh * (1 - y * y)
        else:
            dz = dh * 0.5 * (1 - y * y)
    if UNIT:
        add_column_sums(dvectors, dz)
    return dz


@triton.jit
def add(pointers, x, mask=None):
    """Adds x to memory that no other program writes, without reading it: carried in registers, sums would spill.

    Each element is one thread's in every tile, so it is added up in the order of the tiles.
    """
    tl.atomic_add(pointers, x, mask=mask, sem="relaxed")


@triton.jit
def add_column_sums(row, x):
    """row [C] += the sum of x [BLOCK, C]."""
    add(row + tl.arange(0, x.shape[1]), tl.sum(x, 0))


@triton.jit
def layer_backward(
    dz,
    z,
    matrix,
    vectors,
    dmatrix,
    dvectors,
    IN: tl.constexpr,
    OUT: tl.constexpr,
    ACTIVATION: tl.constexpr,
    dtype: tl.constexpr,
    PRECISION: tl.constexpr,
    UNIT: tl.constexpr,
):
    """dz of the layer below [BLOCK, IN] in chunks, for its `z` and the dz [BLOCK, OUT] of the layer after `matrix`.

    `vectors` are those of the layer below. UNIT: adds the gradients to `dmatrix` and `dvectors`. Activations are made
    again where they are used, and a chunk of dz as soon as its sum is there, so that few wait in registers.
    """
    if UNIT:
        for i in tl.static_range(len(IN)):
            rows = chunk_start(IN, i) + tl.arange(0, IN[i])
            h = activate(z[i], vectors + chunk_start(IN, i), total(IN), ACTIVATION, False).to(dtype)
            for o in tl.static_range(len(OUT)):
                columns = chunk_start(OUT, o) + tl.arange(0, OUT[o])
                block = tl.dot(tl.trans(h), dz[o].to(dtype), input_precision=PRECISION)
                add(dmatrix + rows[:, None] * total(OUT) + columns[None, :], block)
    below = ()
    for i in tl.static_range(len(IN)):
        start = chunk_start(IN, i)
        rows = start + tl.arange(0, IN[i])
        dh = tl.zeros([dz[0].shape[0], IN[i]], tl.float32)
        for o in tl.static_range(len(OUT)):
            columns = chunk_start(OUT, o) + tl.arange(0, OUT[o])
            block = tl.load(matrix + rows[None, :] * total(OUT) + columns[:, None])
            dh = tl.dot(dz[o].to(dtype), block, dh, input_precision=PRECISION)
        below = below + (activate_backward(dh, z[i], vectors + start, dvectors + start, total(IN), ACTIVATION, UNIT),)
    return below


@triton.jit
def score_gradient(
    keys,
    rows,
    valid,
    s,
    du,
    count,
    scale,
    lse,
    delta,
    again,
    D: tl.constexpr,
    DIMS: tl.constexpr,
    softmax,
):
    """(weight of each key in the pooled sum, gradient of its score s), [BLOCK] each; du [D] is the pooled sum's."""
    STEP: tl.constexpr = DIMS[len(DIMS) - 1]
    lane = lanes(STEP, again)
    g = tl.zeros([s.shape[0]], tl.float32)
    for start in tl.range(0, total(DIMS) + again, STEP, disable_licm=True):
        inside = start + lane < D
        k = tl.load(
            keys + rows[:, None] * D + (start + lane)[None, :], mask=valid[:, None] & inside[None, :], other=0.0
        )
        g += tl.sum(k.to(tl.float32) * tl.load(du + start + lane, mask=inside, other=0.0)[None, :], 1)
    if softmax:
        weight = tl.where(valid, tl.exp(scale * s - lse) * count, 0.0)
        ds = scale * weight * (g - delta)
    else:
        weight = tl.where(valid, scale * s * count, 0.0)
        ds = scale * count * g
    return weight, tl.where(valid, ds, 0.0)


@triton.jit
def tile_backward(
    keys,
    rows,
    valid,
    a,
    b,
    weights,
    vectors,
    dweights,
    dvectors,
    du,
    count,
    scale,
    lse,
    delta,
    again,
    D: tl.constexpr,
    DIMS: tl.constexpr,
    UNITS: tl.constexpr,
    ACTIVATION: tl.constexpr,
    softmax,
    PRECISION: tl.constexpr,
    UNIT: tl.constexpr,
):
    """(weights of the keys [BLOCK], dz of the first layer in chunks)."""
    dtype: tl.constexpr = keys.dtype.element_ty
    last: tl.constexpr = len(UNITS) - 1
    z = (affine_of_keys(keys, rows, valid, a, b, again, D, DIMS, UNITS[0], PRECISION, False),)
    for layer in tl.static_range(1, len(UNITS)):
        h = hidden_layer(
            z[layer - 1], vectors + vectors_start(UNITS, layer - 1), dtype, UNITS[layer - 1], ACTIVATION, False
        )
        matrix, bias = weights + weights_start(UNITS, layer), vectors + vectors_start(UNITS, layer)
        z = z + (affine(h, matrix, bias, UNITS[layer - 1], UNITS[layer], PRECISION, False),)
    h = hidden_layer(z[last], vectors + vectors_start(UNITS, last), tl.float32, UNITS[last], ACTIVATION, False)
    w = vectors + vectors_start(UNITS, last + 1)
    s = output(h, w, UNITS[last])
    weight, ds = score_gradient(keys, rows, valid, s, du, count, scale, lse, delta, again, D, DIMS, softmax)

    vectors += again  # 0, which the compiler cannot know: read again, they need not stay in registers
    dz = ()
    for o in tl.static_range(len(UNITS[last])):
        at = vectors_start(UNITS, last + 1) + chunk_start(UNITS[last], o)
        if UNIT:
            add_column_sums(dvectors + at, ds[:, None] * h[o])
        dh = ds[:, None] * tl.load(vectors + at + tl.arange(0, UNITS[last][o]))[None, :]
        at = vectors_start(UNITS, last) + chunk_start(UNITS[last], o)
        dz = dz + (
            activate_backward(dh, z[last][o], vectors + at, dvectors + at, total(UNITS[last]), ACTIVATION, UNIT),
        )
    if UNIT:
        add_column_sums(dvectors + vectors_start(UNITS, last + 1) + total(UNITS[last]), ds[:, None])
    for layer in tl.static_range(len(UNITS) - 1, 0, -1):
        at = vectors_start(UNITS, layer - 1)
        dz = layer_backward(
            dz,
            z[layer - 1],
            weights + weights_start(UNITS, layer),
            vectors + at,
            dweights + weights_start(UNITS, layer),
            dvectors + at,
            UNITS[layer - 1],
            UNITS[layer],
            ACTIVATION,
            dtype,
            PRECISION,
            UNIT,
        )
    return weight, dz
