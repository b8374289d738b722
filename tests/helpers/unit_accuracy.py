"""The error bound that every backend of the activation unit keeps against the float64 reference."""

from __future__ import annotations

import numpy as np

from din_infer.kernels.activation import reference


def worst_error(out, keys, queries, params, counts=None, unit=2.0**-24):
    """Largest error of the rows of `out` for one request, as a share of its bound: at most 1 is right, NaN is not.

    The bound is 4 times the error of the formulas in float32, or 16 `unit` of what is added up,
    sum_t c_t (|s_t| + 1) |k_t|, with the softmax's weights in it where there is one. `unit` is half the spacing of
    numbers at 1 in the dtype of the products.
    """
    times = np.ones(len(keys)) if counts is None else counts.astype(float)
    worst = [0.0]
    for row, query in zip(out, queries, strict=True):
        scores = reference.weights(keys, query, params)
        expected = reference.pool(keys, scores, params, times)
        naive = reference.pool(keys, reference.weights(keys, query, params, np.float32), params, times)
        share = times * np.exp(scores - scores.max()) if params.normalize == "softmax" and len(keys) else times
        share = share / share.sum() if params.normalize == "softmax" and len(keys) else share
        summed = (share * (np.abs(scores) + 1)) @ np.abs(keys.astype(float))
        bound = np.maximum(4 * np.abs(naive - expected).max(), 16 * unit * summed)
        worst.append(float((np.abs(row - expected) / np.maximum(bound, 1e-300)).max()))
    return max(worst, key=lambda share: (np.isnan(share), share))
