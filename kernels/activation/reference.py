"""The activation unit as its definition reads: every pair's input written out, in float64. Slow and obvious."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from din_infer.kernels.activation.arguments import Arguments
from din_infer.kernels.activation.params import ActivationUnitParams

Array = npt.NDArray[Any]


def run(arguments: Arguments, params: ActivationUnitParams, threads: int) -> None:
    """Writes `arguments.out`; one thread, whatever `threads` is."""
    spans = zip(pairwise(arguments.key_offsets), pairwise(arguments.query_offsets), strict=True)
    for (key, last_key), (query, last_query) in spans:
        keys = arguments.keys[key:last_key]
        counts = None if arguments.counts is None else arguments.counts[key:last_key]
        for q in range(query, last_query):
            arguments.out[q] = pool(keys, weights(keys, arguments.queries[q], params), params, counts)


def weights(keys: Array, query: Array, params: ActivationUnitParams, dtype: type = np.float64) -> Array:
    """scale * a(k_t, q) for each key [T, D] and one query [D], computed in `dtype`: [T]."""
    x = unit_input(keys.astype(dtype), query.astype(dtype), params.interaction)
    hidden = zip(params.weights[:-1], params.biases[:-1], params.activation_params, strict=True)
    for weight, bias, layer in hidden:
        x = activate(x @ weight.T.astype(dtype) + bias.astype(dtype), params.activation, layer)
    a = (x @ params.weights[-1].T.astype(dtype) + params.biases[-1].astype(dtype))[:, 0]
    scores: Array = a if params.scale is None else a * dtype(params.scale)
    return scores


def pool(keys: Array, scores: Array, params: ActivationUnitParams, counts: Array | None = None) -> Array:
    """sum_t w_t k_t, where w is `scores` [T] or their softmax, each key as often as `counts` [T] says: [D]."""
    if len(keys) == 0:
        return np.zeros(keys.shape[1], scores.dtype)
    counts = np.ones(len(keys), scores.dtype) if counts is None else counts.astype(scores.dtype)
    if params.normalize == "softmax":
        scores = np.exp(scores - scores.max())
        scores = scores / (counts @ scores)
    pooled: Array = (counts * scores) @ keys.astype(scores.dtype)
    return pooled


def unit_input(keys: Array, query: Array, interaction: str) -> Array:
    """[k, q, vec(k (x) q)] or [q, k, q - k, q * k] for each key: [T, 2D + D*D] or [T, 4D]."""
    queries = np.broadcast_to(query, keys.shape)
    if interaction == "outer":
        outer = keys[:, :, None] * queries[:, None, :]  # [T, D, D], k_i q_j
        return np.concatenate([keys, queries, outer.reshape(len(keys), query.size**2)], axis=1)
    return np.concatenate([queries, keys, queries - keys, queries * keys], axis=1)


def activate(s: Array, activation: str, layer: Mapping[str, Any]) -> Array:
    """phi(s), element by element; `layer` holds alpha, mean, var and eps where `activation` has them."""
    if activation == "relu":
        return np.maximum(s, 0)
    if activation == "tanh":
        return np.tanh(s)
    if activation == "bisigmoid":
        return 2 * _sigmoid(s) - 1
    if activation == "sigmoid":
        return _sigmoid(s)
    alpha: Array = layer["alpha"].astype(s.dtype)
    if activation == "prelu":
        return np.where(s > 0, s, alpha * s)
    mean, var, eps = (np.asarray(layer[name], s.dtype) for name in ("mean", "var", "eps"))
    p = _sigmoid((s - mean) / np.sqrt(var + eps))
    dice: Array = p * s + (1 - p) * alpha * s
    return dice


def _sigmoid(s: Array) -> Array:
    with np.errstate(over="ignore"):  # exp(-s) = inf gives the right 0
        result: Array = 1 / (1 + np.exp(-s))
    return result
