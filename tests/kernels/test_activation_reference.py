"""The reference against formulas written another way: what all other backends are then measured with."""

from __future__ import annotations

import math

import numpy as np
import pytest

from din_infer.kernels import ActivationUnitParams, activation_unit
from din_infer.kernels.activation import reference


def fold(params, query):
    """A(q) [D, H1] and b(q) [H1]: the first layer as a linear map of k, by the formulas of the operator's README."""
    w, b, q = params.weights[0].astype(float), params.biases[0].astype(float), query.astype(float)
    d = len(q)
    if params.interaction == "outer":
        wk, wq, wo = w[:, :d], w[:, d : 2 * d], w[:, 2 * d :].reshape(len(w), d, d)
        return (wk + wo @ q).T, b + wq @ q
    wq, wk, wd, wp = (w[:, i * d : (i + 1) * d] for i in range(4))
    return (wk - wd + q * wp).T, b + (wq + wd) @ q


@pytest.mark.parametrize("interaction", ["outer", "hadamard"])
@pytest.mark.parametrize("dim", [1, 5, 16])
def test_folded_form_is_the_same_function(random_params, interaction, dim):
    rng = np.random.default_rng(dim)
    params = random_params(rng, dim, hidden=(), interaction=interaction)
    keys, query = rng.normal(size=(9, dim)), rng.normal(size=dim)
    a, b = fold(params, query)
    np.testing.assert_allclose(reference.weights(keys, query, params), (keys @ a + b)[:, 0], rtol=1e-12, atol=1e-12)


def test_outer_input_is_in_the_stated_order():
    x = reference.unit_input(np.array([[2.0, 3.0]]), np.array([5.0, 7.0]), "outer")
    assert x.tolist() == [[2, 3, 5, 7, 10, 14, 15, 21]]


def test_hadamard_input_is_in_the_stated_order():
    x = reference.unit_input(np.array([[2.0, 3.0]]), np.array([5.0, 7.0]), "hadamard")
    assert x.tolist() == [[5, 7, 2, 3, 3, 4, 10, 21]]


@pytest.mark.parametrize("s", [-800.0, -1.5, 0.0, 0.3, 800.0])
def test_activations_as_printed(s):
    layer = {name: np.array([value]) for name, value in (("alpha", -0.3), ("mean", 0.5), ("var", 4.0))} | {"eps": 1e-8}
    sigmoid = 0.0 if s < -700 else 1 / (1 + math.exp(-s))
    p = 0.0 if s < -700 else 1 / (1 + math.exp(-(s - 0.5) / math.sqrt(4 + 1e-8)))
    expected = {
        "sigmoid": sigmoid,
        "relu": max(s, 0),
        "tanh": math.tanh(s),
        "prelu": s if s > 0 else -0.3 * s,
        "bisigmoid": 2 * sigmoid - 1,
        "dice": p * s + (1 - p) * -0.3 * s,
    }
    for activation, value in expected.items():
        got = reference.activate(np.array([s]), activation, layer)
        np.testing.assert_allclose(got, [value], rtol=1e-13, atol=1e-15, err_msg=activation)


def test_one_pair_by_hand():
    params = ActivationUnitParams(
        "hadamard",
        [np.array([[1, 2, 3, 4], [0, -1, 0, 1]], np.float32), np.array([[2, -1]], np.float32)],
        [np.array([0.5, 1], np.float32), np.array([0.25], np.float32)],
        "relu",
        scale=2.0,
    )
    # k = 2, q = 3: x = [3, 2, 1, 6], h = [34.5, 5], a = 64.25, u = 2 * 64.25 * 2
    one = np.ones((1, 1), np.float32)
    assert activation_unit(2 * one, [0, 1], 3 * one, [0, 1], params, backend="reference").tolist() == [[257]]


@pytest.mark.parametrize("normalize", ["none", "softmax"])
def test_counts_stand_for_repeated_keys(random_params, normalize):
    rng = np.random.default_rng(3)
    params = random_params(rng, 6, activation="dice", normalize=normalize)
    keys, queries = (rng.normal(size=(n, 6)).astype(np.float32) for n in (5, 4))
    counts = np.array([1, 3, 2, 1, 7])
    merged = activation_unit(keys, [0, 5], queries, [0, 4], params, counts=counts, backend="reference")
    repeated = np.repeat(keys, counts, axis=0)
    spread = activation_unit(repeated, [0, len(repeated)], queries, [0, 4], params, backend="reference")
    np.testing.assert_allclose(merged, spread, rtol=1e-6, atol=1e-7)


def test_softmax_weights_sum_to_one(random_params):
    rng = np.random.default_rng(4)
    params = random_params(rng, 3, normalize="softmax", scale=50.0)
    keys = np.ones((7, 3), np.float32)
    out = activation_unit(keys, [0, 7], keys[:2], [0, 2], params, backend="reference")
    np.testing.assert_allclose(out, 1, rtol=1e-6)


def test_torch_agrees_with_the_reference(random_params):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(5)
    params = random_params(rng, 8, hidden=(12, 5), activation="prelu")
    keys, query = torch.from_numpy(rng.normal(size=(10, 8))), torch.from_numpy(rng.normal(size=8))
    x = torch.cat([keys, query.expand(10, 8), torch.einsum("ti,j->tij", keys, query).flatten(1)], dim=1)
    for i, (weight, bias) in enumerate(zip(params.weights, params.biases, strict=True)):
        x = torch.nn.functional.linear(x, torch.tensor(weight).double(), torch.tensor(bias).double())
        if i < 2:
            x = torch.nn.functional.prelu(x, torch.tensor(params.activation_params[i]["alpha"]).double())
    weights = reference.weights(keys.numpy(), query.numpy(), params)
    np.testing.assert_allclose(weights, x[:, 0].numpy(), rtol=1e-12, atol=1e-12)
