"""How an activation unit's output compares with float64: one bound for every backend."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from din_infer.kernels import ActivationUnitParams
from din_infer.kernels.activation import reference


def worst_error(
    out: np.ndarray,
    keys: np.ndarray,
    queries: np.ndarray,
    params: ActivationUnitParams,
    counts: np.ndarray | None = None,
    orders: Sequence[np.random.Generator | None] = (None,),
    unit: float = 2.0**-24,
) -> float:
    """The largest error of `out` [Q, D] over its bound, for one request of `keys` [K, D] and `queries` [Q, D].

    The bound of a query is 4 times the error of the formulas in float32, the largest over `orders`, or 16 `unit` of
    what is added up, sum_t c_t (|s_t| + 1) |k_t|, with the softmax's weights in it where there is one. `unit` is half
    the spacing of numbers at 1 in the dtype of the products. NaN and infinity in `out` give infinity.
    """
    if not np.isfinite(out).all():
        return float("inf")
    worst = 0.0
    times = np.ones(len(keys)) if counts is None else counts.astype(float)
    for row, query in zip(out, queries, strict=True):
        scores = reference.weights(keys, query, params)
        expected = reference.pool(keys, scores, params, times)
        naive = [reference.pool(keys, naive_weights(keys, query, params, order), params, times) for order in orders]
        share = times * np.exp(scores - scores.max()) if params.normalize == "softmax" and len(keys) else times
        share = share / share.sum() if params.normalize == "softmax" and len(keys) else share
        summed = (share * (np.abs(scores) + 1)) @ np.abs(keys.astype(float))
        bound = np.maximum(4 * np.abs(naive - expected).max(), 16 * unit * summed)
        worst = max(worst, float(np.max(np.abs(row - expected) / np.maximum(bound, 1e-300), initial=0.0)))
    return worst


def naive_weights(
    keys: np.ndarray, query: np.ndarray, params: ActivationUnitParams, order: np.random.Generator | None = None
) -> np.ndarray:
    """`reference.weights` in float32; with `order`, each layer adds its terms up in another order."""
    if order is None:
        return reference.weights(keys, query, params, np.float32)
    x = reference.unit_input(keys, query, params.interaction)
    for i, (weight, bias) in enumerate(zip(params.weights, params.biases, strict=True)):
        terms = order.permutation(x.shape[1])
        x = x[:, terms] @ weight.T[terms] + bias
        if i < len(params.activation_params):
            x = reference.activate(x, params.activation, params.activation_params[i])
    return x[:, 0] if params.scale is None else x[:, 0] * np.float32(params.scale)
