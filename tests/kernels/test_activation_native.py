"""The native kernel against the float64 reference: accuracy, equal bits, nothing read or written outside its arrays.

`test_activation_targets.py` runs this file once more for each instruction-set target of the machine.
"""

from __future__ import annotations

import os

import numpy as np
import pytest
from unit_accuracy import worst_error

from din_infer import _core
from din_infer.kernels import ActivationUnitParams, activation_unit

GUARD = 37  # floats around an array; odd, so that its rows start off every vector boundary


def test_target_is_the_one_that_is_forced():
    assert _core.target() in _core.targets()
    assert os.environ.get("DIN_INFER_TARGET", _core.target()) == _core.target()


def guarded(array):
    """A copy of `array` in the middle of NaN, and the whole buffer."""
    buffer = np.full(array.size + 2 * GUARD, np.nan, np.float32)
    view = buffer[GUARD : GUARD + array.size].reshape(array.shape)
    view[:] = array
    return view, buffer


def check_accuracy(params, keys, queries, counts, orders=(None,)):
    poisoned = np.full_like(queries, np.nan)
    out = activation_unit(
        guarded(keys)[0], [0, len(keys)], guarded(queries)[0], [0, len(queries)], params, counts=counts, out=poisoned
    )
    assert worst_error(out, keys, queries, params, counts, orders) <= 1


def test_accuracy(random_params, pairwise_case):
    case = dict(pairwise_case)
    rng = np.random.default_rng(case["dim"])
    count, counted = case.pop("keys"), case.pop("counted")
    params = random_params(rng, **case)
    keys, queries = (rng.normal(size=(n, params.dim)).astype(np.float32) for n in (count, 3))
    check_accuracy(params, keys, queries, rng.integers(1, 9, count) if counted else None)


@pytest.mark.parametrize("normalize", ["none", "softmax"])
@pytest.mark.parametrize(("dim", "interaction"), [(16, "outer"), (16, "hadamard"), (36, "outer"), (36, "hadamard")])
def test_accuracy_of_20000_keys(random_params, dim, interaction, normalize):
    rng = np.random.default_rng(1)
    params = random_params(rng, dim, (36,), "dice", interaction, normalize)
    keys, queries = (rng.normal(size=(n, dim)).astype(np.float32) for n in (20_000, 2))
    check_accuracy(params, keys, queries, rng.integers(1, 9, 20_000) if normalize == "softmax" else None)


def test_accuracy_where_activations_saturate(random_params):
    """Sums of 1e4 and more: how exact they are depends on their order, and one order may be lucky (4.8 times the error
    of [k, q, vec(k (x) q)] was seen, never twice that of the worst of eight)."""
    rng = np.random.default_rng(2)
    for activation in ("sigmoid", "tanh", "dice", "bisigmoid", "prelu", "relu"):
        params = random_params(rng, 7, (17, 9), activation)
        keys, queries = (100 * rng.normal(size=(n, 7)).astype(np.float32) for n in (31, 3))
        check_accuracy(params, keys, queries, None, orders=(None, *[rng] * 8))


def test_softmax_of_huge_scores_is_finite(random_params):
    rng = np.random.default_rng(3)
    params = random_params(rng, 8, normalize="softmax", scale=1e4)
    keys, queries = (rng.normal(size=(n, 8)).astype(np.float32) for n in (100, 4))
    out = activation_unit(keys, [0, 100], queries, [0, 4], params, backend="native")
    assert np.isfinite(out).all()
    assert (np.abs(out) <= np.abs(keys).max() * (1 + 1e-6)).all()


@pytest.fixture
def ragged():
    """Keys and queries of eight requests, some without keys or queries; around every tile size."""
    rng = np.random.default_rng(4)
    lengths, candidates = [0, 1, 5, 16, 33, 0, 64, 130], [3, 1, 0, 7, 2, 0, 5, 9]
    keys, queries = (rng.normal(size=(sum(n), 20)).astype(np.float32) for n in (lengths, candidates))
    return keys, np.cumsum([0, *lengths]), queries, np.cumsum([0, *candidates]), rng.integers(1, 5, sum(lengths))


@pytest.mark.parametrize("normalize", ["none", "softmax"])
@pytest.mark.parametrize(("activation", "hidden"), [("sigmoid", (80, 40)), ("dice", (36,)), ("relu", ())])
def test_same_bits_alone_and_in_any_batch(random_params, ragged, normalize, activation, hidden):
    params = random_params(np.random.default_rng(5), 20, hidden, activation, normalize=normalize)
    keys, key_offsets, queries, query_offsets, counts = ragged
    batch = activation_unit(keys, key_offsets, queries, query_offsets, params, counts=counts, threads=1)
    threaded = activation_unit(keys, key_offsets, queries, query_offsets, params, counts=counts, threads=2)
    assert batch.tobytes() == threaded.tobytes()
    for request in range(len(key_offsets) - 1):
        own = slice(key_offsets[request], key_offsets[request + 1])
        for row in range(query_offsets[request], query_offsets[request + 1]):
            n = own.stop - own.start
            alone = activation_unit(keys[own], [0, n], queries[row : row + 1], [0, 1], params, counts=counts[own])
            assert alone.tobytes() == batch[row].tobytes()


def test_nothing_outside_the_arrays_matters_or_changes(random_params, ragged):
    params = random_params(np.random.default_rng(6), 20, (17, 9, 5), "dice")
    keys, key_offsets, queries, query_offsets, counts = ragged
    clean = activation_unit(keys, key_offsets, queries, query_offsets, params, counts=counts)
    out, buffer = guarded(np.full_like(queries, np.nan))
    inputs = guarded(keys)[0], key_offsets, guarded(queries)[0], query_offsets
    activation_unit(*inputs, params, counts=counts, out=out)
    assert out.tobytes() == clean.tobytes()
    assert np.isnan(buffer[:GUARD]).all()
    assert np.isnan(buffer[-GUARD:]).all()


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("normalize", ["none", "softmax"])
def test_non_finite_queries_stay_in_their_row(random_params, ragged, poison, normalize):
    params = random_params(np.random.default_rng(7), 20, (36,), "dice", normalize=normalize)
    keys, key_offsets, queries, query_offsets, _ = ragged
    clean = activation_unit(keys, key_offsets, queries, query_offsets, params)
    row = query_offsets[6] + 2
    queries = queries.copy()
    queries[row, 3] = poison
    got = activation_unit(keys, key_offsets, queries, query_offsets, params)
    others = np.arange(len(queries)) != row
    assert got[others].tobytes() == clean[others].tobytes()
    assert not np.isfinite(got[row]).all()


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_non_finite_keys_stay_in_their_request(random_params, ragged, poison):
    params = random_params(np.random.default_rng(8), 20, (36,), "sigmoid")
    keys, key_offsets, queries, query_offsets, _ = ragged
    clean = activation_unit(keys, key_offsets, queries, query_offsets, params)
    keys = keys.copy()
    keys[key_offsets[4] - 1, 3] = poison  # the last of request 3, beside request 4
    got = activation_unit(keys, key_offsets, queries, query_offsets, params)
    own = slice(query_offsets[3], query_offsets[4])
    others = np.ones(len(queries), bool)
    others[own] = False
    assert got[others].tobytes() == clean[others].tobytes()
    assert not np.isfinite(got[own, 3]).any()


@pytest.mark.parametrize("count", [1, 5, 17, 49])
@pytest.mark.parametrize(("normalize", "bias", "slope"), [("none", 3e38, 0), ("softmax", 200, 1)])
def test_columns_past_the_last_key_do_not_count(normalize, bias, slope, count):
    """There a key of zeros would score infinity, or so much that nothing is left of the others' softmax."""
    first = np.array([[0, 0, -bias, slope, 0, 0, 0, 0]], np.float32)  # of [q, k, q - k, q * k]
    weights, biases = (
        [first, np.float32([[2.0]])],
        [np.float32([bias]), np.float32([1.0])],
    )  # bias (1 - k_0) + slope k_1
    params = ActivationUnitParams("hadamard", weights, biases, "relu", normalize=normalize)
    keys = np.stack([np.ones(count), np.linspace(0.1, 2, count)], axis=1).astype(np.float32)
    arguments = keys, [0, count], np.ones((3, 2), np.float32), [0, 3], params
    expected = activation_unit(*arguments, backend="reference")
    assert expected.min() > 0
    np.testing.assert_allclose(activation_unit(*arguments, backend="native"), expected, rtol=1e-5)


def test_no_keys_give_zeros_and_no_queries_nothing(random_params):
    for normalize in ("none", "softmax"):
        params = random_params(np.random.default_rng(9), 5, normalize=normalize)
        none, some = np.zeros((0, 5), np.float32), np.full((2, 5), np.nan, np.float32)
        out = activation_unit(none, [0, 0], some, [0, 2], params, out=np.full_like(some, np.nan))
        assert out.tolist() == np.zeros((2, 5)).tolist()
        assert activation_unit(some, [0, 2], none, [0, 0], params).shape == (0, 5)
        assert activation_unit(none, [0], none, [0], params).shape == (0, 5)
