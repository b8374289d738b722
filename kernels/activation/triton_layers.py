"""The activation unit on a GPU, device code that both passes use: layers and activations of a tile of keys.

Widths that are no power of two are cut into powers of two, 80 into 64 + 16, so that neither multiplications nor
registers go to padding; a row of activations is a tuple of such chunks.

Layouts: `a` [Q, D', H1'] is A(q), `b` [Q, H1'] fp32; `weights` holds W_2 .. W_L as [in', out'], one after another;
`vectors` fp32 holds four rows [H'] per hidden layer (bias, alpha, mean, 1 / sqrt(var + eps)), then w [H_L'] and its
bias. A prime marks a width padded to its chunks; padding is zeros, and keys alone are not padded.
A unit without hidden layers has one of one unit, `identity`, and w = 1.
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import libdevice

INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)  # where CUDA's library is not


@triton.constexpr_function
def total(chunks):
    """Width of some chunks: where chunk i starts is total(chunks[:i])."""
    return sum(chunks)


@triton.constexpr_function
def chunk_start(chunks, i):
    return sum(chunks[:i])


@triton.constexpr_function
def weights_start(units, layer):
    """Where W_layer, layer >= 1 counted from 0, starts in `weights`."""
    return sum(sum(units[i - 1]) * sum(units[i]) for i in range(1, layer))


@triton.constexpr_function
def vectors_start(units, layer):
    """Where the rows of a hidden layer start in `vectors`; of layer L: where w does."""
    return 4 * sum(sum(units[i]) for i in range(layer))


@triton.jit
def dot(x, y, acc, PRECISION: tl.constexpr, LEAN: tl.constexpr):
    """acc + x @ y. LEAN: three products of float32 without looking for NaN in each sum, as Triton does.

    Each operand is what TF32 holds of it and a rest; the product of the rests is left out. Tensor cores cut sums off,
    so a sum begins at zero, with what is small, and float32 adds `acc`.
    """
    if LEAN and PRECISION == "tf32x3" and x.dtype == tl.float32:
        x_high, y_high = as_tf32(x), as_tf32(y)
        part = tl.dot(x - x_high, y_high, input_precision="tf32")
        part = tl.dot(x_high, y - y_high, part, input_precision="tf32")
        acc += tl.dot(x_high, y_high, part, input_precision="tf32")
    else:
        acc = tl.dot(x, y, acc, input_precision=PRECISION)
    return acc


@triton.jit
def as_tf32(x):
    """x with the 10 bits of mantissa that TF32 has, cut off; infinities stay."""
    return (x.to(tl.int32, bitcast=True) & -8192).to(tl.float32, bitcast=True)


@triton.jit
def affine(x, matrix, bias, IN: tl.constexpr, OUT: tl.constexpr, PRECISION: tl.constexpr, LEAN: tl.constexpr):
    """x [BLOCK, IN] in chunks -> x @ matrix + bias [BLOCK, OUT] in chunks, fp32."""
    out = ()
    for o in tl.static_range(len(OUT)):
        columns = chunk_start(OUT, o) + tl.arange(0, OUT[o])
        out = out + (tl.zeros([x[0].shape[0], OUT[o]], tl.float32) + tl.load(bias + columns)[None, :],)
    for i in tl.static_range(len(IN)):  # outside, so that one chunk of x at a time is an operand in registers
        rows = chunk_start(IN, i) + tl.arange(0, IN[i])
        added = ()
        for o in tl.static_range(len(OUT)):
            columns = chunk_start(OUT, o) + tl.arange(0, OUT[o])
            block = tl.load(matrix + rows[:, None] * total(OUT) + columns[None, :])
            added = added + (dot(x[i], block, out[o], PRECISION, LEAN),)
        out = added
    return out


@triton.jit
def lanes(N: tl.constexpr, zero):
    """0 .. N - 1, made again for a `zero` that the compiler cannot know, so that pointers are not kept in registers."""
    return tl.max_contiguous(tl.multiple_of(tl.arange(0, N) ^ tl.full([], zero, tl.int32), N), N)


@triton.jit
def affine_of_keys(
    keys,
    rows,
    valid,
    matrix,
    bias,
    again,
    D: tl.constexpr,
    DIMS: tl.constexpr,
    OUT: tl.constexpr,
    PRECISION: tl.constexpr,
    LEAN: tl.constexpr,
):
    """`affine` of keys that are read chunk by chunk in a loop, so that few of them are in registers at a time."""
    STEP: tl.constexpr = DIMS[len(DIMS) - 1]  # the narrowest, which divides the others
    lane = lanes(STEP, again)
    out = ()
    for o in tl.static_range(len(OUT)):
        columns = chunk_start(OUT, o) + lanes(OUT[o], again)
        acc = tl.zeros([rows.shape[0], OUT[o]], tl.float32) + tl.load(bias + columns)[None, :]
        for start in tl.range(0, total(DIMS) + again, STEP, disable_licm=True):
            mask = valid[:, None] & (start + lane < D)[None, :]
            x = tl.load(keys + rows[:, None] * D + (start + lane)[None, :], mask=mask, other=0.0)
            block = tl.load(matrix + (start + lane)[:, None] * total(OUT) + columns[None, :])
            acc = dot(x, block, acc, PRECISION, LEAN)
        out = out + (acc,)
    return out


@triton.jit
def sigmoid(z, LEAN: tl.constexpr):
    """1 / (1 + exp(-z)). LEAN: without the care of small numbers that Triton's exp and division take: none matters."""
    if LEAN:
        x = z * -1.4426950408889634  # 1 / log(2)
        if INTERPRETED:
            power = tl.exp2(x)
        else:
            power = libdevice.exp2(x)
        out = tl.fdiv(1.0, 1.0 + power, approx=True)
    else:
        out = tl.sigmoid(z)
    return out


@triton.jit
def activate(z, vectors, H: tl.constexpr, ACTIVATION: tl.constexpr, LEAN: tl.constexpr):
    """phi(z) for a chunk [BLOCK, C] whose layer is H wide; `vectors` points at the chunk's biases."""
    units = tl.arange(0, z.shape[1])
    if ACTIVATION == "sigmoid":
        out = sigmoid(z, LEAN)
    elif ACTIVATION == "identity":
        out = z
    elif ACTIVATION == "relu":
        out = tl.where(z < 0, 0.0, z)  # NaN stays NaN
    elif ACTIVATION == "relu of extremes":
        out = not_below_zero(z)
    elif ACTIVATION == "tanh":
        out = 2 * sigmoid(2 * z, LEAN) - 1
    elif ACTIVATION == "bisigmoid":
        out = 2 * sigmoid(z, LEAN) - 1
    else:
        alpha = tl.load(vectors + H + units)[None, :]
        if ACTIVATION == "prelu":
            out = tl.where(z > 0, z, alpha * z)
        elif ACTIVATION == "prelu of extremes":
            out = not_below_zero(z) + alpha * not_above_zero(z)
        else:
            p = dice_share(z, vectors, H, LEAN)
            out = p * z + (1 - p) * alpha * z
    return out


@triton.jit
def not_below_zero(z):
    """max(z, 0), NaN where z is."""
    return tl.maximum(z, 0.0, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def not_above_zero(z):
    """min(z, 0), NaN where z is."""
    return tl.minimum(z, 0.0, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def dice_share(z, vectors, H: tl.constexpr, LEAN: tl.constexpr):
    """Dice's p = sigmoid((z - mean) / sqrt(var + eps))."""
    units = tl.arange(0, z.shape[1])
    mean = tl.load(vectors + 2 * H + units)[None, :]
    inverse_std = tl.load(vectors + 3 * H + units)[None, :]
    return sigmoid((z - mean) * inverse_std, LEAN)


@triton.jit
def hidden_layer(z, vectors, dtype: tl.constexpr, CHUNKS: tl.constexpr, ACTIVATION: tl.constexpr, LEAN: tl.constexpr):
    """phi(z) in chunks, in `dtype`, as the next product reads it."""
    h = ()
    for o in tl.static_range(len(CHUNKS)):
        h = h + (activate(z[o], vectors + chunk_start(CHUNKS, o), total(CHUNKS), ACTIVATION, LEAN).to(dtype),)
    return h


@triton.jit
def output(h, w, CHUNKS: tl.constexpr):
    """w . h + b [BLOCK] for h in chunks; the bias follows w."""
    s = tl.zeros([h[0].shape[0]], tl.float32) + tl.load(w + total(CHUNKS))
    for o in tl.static_range(len(CHUNKS)):
        row = tl.load(w + chunk_start(CHUNKS, o) + tl.arange(0, CHUNKS[o]))
        s += tl.sum(h[o].to(tl.float32) * row.to(tl.float32)[None, :], 1)
    return s
