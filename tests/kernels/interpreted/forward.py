"""The Triton kernel against the float64 reference, in Triton's interpreter; ../test_activation_triton.py runs this.

The interpreter computes TF32 products in full float32 and bfloat16 ones wrongly, so those are tested by the
instructions that the compiled kernels hold, in ../test_triton_compiled.py.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from dlpack_only import DLPackOnly
from unit_accuracy import worst_error

from din_infer.errors import InputError
from din_infer.kernels import activation_unit
from din_infer.kernels.activation import triton_backend, triton_config, triton_launch, triton_op
from din_infer.kernels.activation.triton_pack import Packed, UnitTensors, pack

pytestmark = pytest.mark.filterwarnings(
    "ignore::RuntimeWarning"
)  # NumPy's, of exp(800): a GPU gives inf without a word


@pytest.fixture
def queries_folded_alone(monkeypatch):
    """The fold is a library's product, which may round by its shape: here a query's does not depend on the others."""
    fold = Packed.fold

    def alone(packed, queries):
        folds = zip(*(fold(packed, query) for query in queries.split(1)), strict=True)
        return tuple(torch.cat(each) for each in folds)

    monkeypatch.setattr(Packed, "fold", alone)


def test_the_interpreter_runs():
    assert triton_launch.ON_HOST


def test_accuracy(random_params, pairwise_case):
    case = dict(pairwise_case)
    rng = np.random.default_rng(case["dim"])
    count, counted = min(case.pop("keys"), 530), case.pop("counted")  # 530: two items
    params = random_params(rng, **case)
    keys, queries = (rng.normal(size=(n, params.dim)).astype(np.float32) for n in (count, 2))
    counts = rng.integers(1, 9, count) if counted else None
    out = np.full_like(queries, np.nan)
    activation_unit(keys, [0, count], queries, [0, 2], params, counts=counts, out=out, backend="triton")
    assert worst_error(out, keys, queries, params, counts) <= 1


@pytest.mark.parametrize("normalize", ["none", "softmax"])
@pytest.mark.parametrize(
    ("dim", "hidden", "activation", "interaction"),
    [(64, (80, 40), "sigmoid", "outer"), (20, (17, 9, 5), "dice", "hadamard"), (7, (), "relu", "outer")],
)
def test_accuracy_in_half_precision(random_params, dim, hidden, activation, interaction, normalize):
    rng = np.random.default_rng(1)
    params = random_params(rng, dim, hidden, activation, interaction, normalize)
    keys, queries = (rng.normal(size=(n, dim)).astype(np.float16) for n in (70, 2))
    out = activation_unit(keys, [0, 70], queries, [0, 2], params, backend="triton")
    assert out.dtype == np.float32
    assert worst_error(out, keys.astype(np.float32), queries.astype(np.float32), params, unit=2.0**-11) <= 1


def test_accuracy_where_activations_saturate(random_params):
    rng = np.random.default_rng(2)
    for activation in ("sigmoid", "tanh", "dice", "bisigmoid", "prelu", "relu"):
        params = random_params(rng, 7, (17, 9), activation)
        keys, queries = (100 * rng.normal(size=(n, 7)).astype(np.float32) for n in (31, 2))
        out = activation_unit(keys, [0, 31], queries, [0, 2], params, backend="triton")
        assert worst_error(out, keys, queries, params) <= 1, activation


def test_softmax_of_huge_scores_is_finite(random_params):
    rng = np.random.default_rng(3)
    params = random_params(rng, 8, normalize="softmax", scale=1e4)
    keys, queries = (rng.normal(size=(n, 8)).astype(np.float32) for n in (600, 2))
    out = activation_unit(keys, [0, 600], queries, [0, 2], params, backend="triton")
    assert np.isfinite(out).all()
    assert (np.abs(out) <= np.abs(keys).max() * (1 + 1e-6)).all()


@pytest.fixture
def ragged():
    """Keys and queries of seven requests, some without keys or queries, one of them split over its history."""
    rng = np.random.default_rng(4)
    lengths, candidates = [0, 1, 63, 64, 0, 65, 1100], [3, 1, 0, 2, 0, 1, 2]
    keys, queries = (rng.normal(size=(sum(n), 12)).astype(np.float32) for n in (lengths, candidates))
    return keys, np.cumsum([0, *lengths]), queries, np.cumsum([0, *candidates])


@pytest.mark.parametrize("normalize", ["none", "softmax"])
def test_ragged_requests_and_counts(random_params, ragged, normalize):
    params = random_params(np.random.default_rng(5), 12, (17, 9), "dice", normalize=normalize)
    keys, key_offsets, queries, query_offsets = ragged
    counts = np.random.default_rng(6).integers(1, 5, len(keys))
    out = activation_unit(keys, key_offsets, queries, query_offsets, params, counts=counts, backend="triton")
    for r in range(len(key_offsets) - 1):
        own = slice(key_offsets[r], key_offsets[r + 1])
        rows = slice(query_offsets[r], query_offsets[r + 1])
        assert worst_error(out[rows], keys[own], queries[rows], params, counts[own]) <= 1, f"request {r}"
    assert not out[:3].any(), "an empty history gives zeros"


@pytest.mark.usefixtures("queries_folded_alone")
@pytest.mark.parametrize("normalize", ["none", "softmax"])
def test_splitting_does_not_depend_on_the_other_requests(random_params, ragged, normalize):
    params = random_params(np.random.default_rng(7), 12, (9,), "prelu", normalize=normalize)
    keys, key_offsets, queries, query_offsets = ragged
    batch = activation_unit(keys, key_offsets, queries, query_offsets, params, backend="triton")
    for r in (3, 6):  # alone, request 3 needs no second pass
        own, rows = slice(key_offsets[r], key_offsets[r + 1]), slice(query_offsets[r], query_offsets[r + 1])
        n, m = own.stop - own.start, rows.stop - rows.start
        alone = activation_unit(keys[own], [0, n], queries[rows], [0, m], params, backend="triton")
        np.testing.assert_allclose(alone, batch[rows], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("normalize", ["none", "softmax"])
def test_a_row_has_the_same_bits_beside_a_split_request(random_params, normalize):
    params = random_params(np.random.default_rng(14), 12, (9,), "sigmoid", normalize=normalize)
    packed = pack(UnitTensors.of(params, torch.device("cpu")), torch.float32)
    keys, queries = torch.randn(70 + 2 * triton_config.CHUNK_KEYS, 12), torch.randn(40, 12)
    a, b = packed.fold(queries)

    def pooled(key_ends, query_ends):
        given = keys[: key_ends[-1]], None, a[: query_ends[-1]], b[: query_ends[-1]], packed.weights, packed.vectors
        ends = torch.tensor(key_ends), torch.tensor(query_ends)
        return triton_op.pool(*given, *ends, packed.hidden, packed.activation, normalize == "softmax", 1.0)[0]

    assert torch.equal(pooled([0, 70], [0, 20]), pooled([0, 70, len(keys)], [0, 20, 40])[:20])


def test_folds_that_do_not_fit_take_turns(random_params, ragged, monkeypatch):
    params = random_params(np.random.default_rng(8), 12, (9,), "sigmoid")
    keys, key_offsets, queries, query_offsets = ragged
    at_once = activation_unit(keys, key_offsets, queries, query_offsets, params, backend="triton")
    monkeypatch.setattr(triton_backend, "FOLD_BYTES", 4 * 16 * 16 * 4)  # four queries at a time
    in_turns = activation_unit(keys, key_offsets, queries, query_offsets, params, backend="triton")
    np.testing.assert_allclose(in_turns, at_once, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("normalize", ["none", "softmax"])
@pytest.mark.parametrize(
    ("poison", "activation"), [(np.nan, "sigmoid"), (np.inf, "sigmoid"), (np.nan, "prelu"), (np.nan, "relu")]
)
def test_what_is_not_finite_stays_in_its_row(random_params, ragged, normalize, poison, activation):
    params = random_params(np.random.default_rng(9), 12, (9,), activation, normalize=normalize)
    keys, key_offsets, queries, query_offsets = ragged
    clean = activation_unit(keys, key_offsets, queries, query_offsets, params, backend="triton")
    queries, keys = queries.copy(), keys.copy()
    queries[4, 3] = keys[key_offsets[6] - 1, 3] = poison  # of request 3's candidates, and of request 5's last key
    got = activation_unit(keys, key_offsets, queries, query_offsets, params, backend="triton")
    others = np.setdiff1d(np.arange(len(queries)), [4, query_offsets[5]])
    np.testing.assert_allclose(got[others], clean[others], rtol=1e-6, atol=1e-6)
    assert not np.isfinite(got[query_offsets[5]]).all()
    assert np.isnan(got[4]).any() or np.isinf(poison)


def test_tensors_in_tensor_out(random_params, ragged):
    params = random_params(np.random.default_rng(10), 12, (9,))
    keys, key_offsets, queries, query_offsets = ragged
    expected = activation_unit(keys, key_offsets, queries, query_offsets, params, backend="triton")
    tensors = torch.from_numpy(keys), torch.from_numpy(key_offsets), torch.from_numpy(queries), query_offsets
    got = activation_unit(*tensors, params, backend="triton")
    assert isinstance(got, torch.Tensor)
    assert np.array_equal(got.numpy(), expected)
    out = torch.full(queries.shape, torch.nan)
    assert activation_unit(*tensors, params, backend="triton", out=out) is out
    assert torch.equal(out, got)


def test_no_candidates_and_no_requests(random_params):
    params = random_params(np.random.default_rng(11), 5)
    none, some = np.zeros((0, 5), np.float32), np.ones((2, 5), np.float32)
    assert activation_unit(some, [0, 2], none, [0, 0], params, backend="triton").shape == (0, 5)
    assert activation_unit(none, [0], none, [0], params, backend="triton").shape == (0, 5)


@pytest.fixture
def valid(random_params):
    rng = np.random.default_rng(0)
    keys, queries = (rng.normal(size=(n, 3)).astype(np.float32) for n in (4, 5))
    arrays = {"keys": keys, "key_offsets": [0, 1, 4], "queries": queries, "query_offsets": [0, 2, 5]}
    return {**arrays, "params": random_params(rng, 3)}


@pytest.mark.parametrize(
    "change",
    [
        lambda given: {"keys": DLPackOnly(given["keys"]), "queries": DLPackOnly(given["queries"])},
        lambda given: {"keys": torch.tensor(given["keys"]), "queries": np.asfortranarray(given["queries"])},
        lambda given: {"keys": np.repeat(given["keys"], 2, 1)[:, ::2], "queries": given["queries"][::-1][::-1]},
        lambda given: {"keys": np.ndarray((4, 3), np.float32, b"x" + given["keys"].tobytes(), 1)},
        *(
            lambda given, dtype=dtype: {"counts": np.array([1, 2, 3, 4], dtype)}
            for dtype in ("u1", "u2", "u4", "u8", ">i8")
        ),
        lambda given: {"counts": torch.tensor([1, 2, 3, 4], dtype=torch.uint16)},
        lambda given: {"counts": DLPackOnly(np.array([1, 2, 3, 4]))},
        lambda given: {"key_offsets": torch.tensor([0, 1, 4], dtype=torch.int32)},
        lambda given: {"out": np.full((5, 3), np.nan, np.float32)},
        lambda given: {"out": torch.full((5, 3), np.nan)},
        lambda given: {"out": DLPackOnly(np.full((5, 3), np.nan, np.float32))},
        lambda given: {"queries": torch.tensor(given["queries"]), "out": np.full((5, 3), np.nan, np.float32)},
        lambda given: {"queries": torch.tensor(given["queries"]), "out": torch.full((5, 3), np.nan)},
    ],
)
def test_what_the_cpu_takes_is_taken(valid, change):
    changed, again = change(valid), change(valid)
    out = changed.get("out")
    got = activation_unit(**{**valid, **changed}, backend="triton")
    assert out is None or got is out
    expected = activation_unit(**{**valid, **again}, backend="native")
    assert type(got) is type(expected)
    got, expected = (np.asarray(r.array if isinstance(r, DLPackOnly) else r) for r in (got, expected))
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "changed",
    [
        {"keys": np.ma.masked_array(np.zeros((4, 3), np.float32))},
        {"keys": [[1.0, 2.0, 3.0]] * 4},
        {"queries": "abc"},
        {"params": None},
        {"key_offsets": [0, 4]},
        {"key_offsets": torch.tensor([0, 3, 2])},
        {"key_offsets": torch.empty(3, dtype=torch.int64, device="meta")},
        {"key_offsets": [0.0, 1.0, 4.0]},
        {"query_offsets": [0, 6, 6]},
        {"query_offsets": None},
        {"counts": [1, 2, 3]},
        {"counts": []},
        {"counts": [1, 2, 0, 1]},
        {"counts": [1.0, 2.0, 1.0, 1.0]},
        {"counts": ["a", "b", "c", "d"]},
        {"counts": [1, [2], 3, 4]},
        {"counts": np.array([True] * 4)},
        {"counts": np.array([1, 2, 3, 2**63], np.uint64)},
        {"counts": torch.ones(4, dtype=torch.int64, device="meta")},
        {"counts": 3},
        {"out": np.zeros((5, 3))},
        {"out": np.zeros((4, 3), np.float32)},
        {"out": torch.zeros(4, 3)},
        {"out": np.zeros((5, 6), np.float32)[:, ::2]},
        {"out": np.broadcast_to(np.float32(0), (5, 3))},
        {"out": torch.zeros(5, 6)[:, ::2]},
        {"out": [[0.0] * 3] * 5},
    ],
    ids=lambda changed: "-".join(f"{name} {value!r:.40}" for name, value in changed.items()),
)
def test_errors_are_those_of_the_cpu(valid, changed):
    messages = []
    for backend in ("triton", "native"):
        with pytest.raises(InputError) as error:
            activation_unit(**{**valid, **changed, "backend": backend})
        messages.append(str(error.value))
    assert messages[0] == messages[1]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"keys": np.zeros((4, 3))}, r"keys: expected float32, float16 or bfloat16 \[n, 3\], got an array of float64"),
        (
            {"keys": np.zeros((4, 3), ">f4")},
            r"keys: expected float32, float16 or bfloat16 \[n, 3\], got an array of >f4",
        ),
        ({"keys": np.zeros((4, 2), np.float32)}, r"keys: expected float32, .* \[n, 3\], got .* shape \(4, 2\)"),
        ({"keys": np.zeros((4, 3), np.float16)}, "queries: expected torch.float16 as keys have it, got torch.float32"),
        ({"keys": np.zeros((4, 3), np.int64)}, "keys: expected float32, float16 or bfloat16 .*, got an array of int64"),
        ({"keys": torch.zeros(4, 3, requires_grad=True)}, "keys: expected a tensor without gradient"),
        ({"keys": torch.zeros(4, 3).to_sparse()}, "keys: expected a dense tensor, got one of layout torch.sparse_coo"),
        ({"keys": torch.zeros(4, 3, device="meta")}, "keys: expected a tensor on cpu as queries are, got meta"),
        ({"queries": torch.zeros(5, 3, device="meta")}, "expected tensors in main memory under TRITON_INTERPRET=1"),
        ({"out": torch.zeros(5, 3, requires_grad=True)}, "out: expected a tensor without gradient"),
        ({"out": torch.zeros(1, 3).expand(5, 3)}, "out: expected a row-major, writeable array, got one that is not"),
    ],
)
def test_wrong_arguments_are_refused(valid, changed, message):
    with pytest.raises(InputError, match=message):
        activation_unit(**{**valid, "backend": "triton", **changed})


@pytest.mark.parametrize("name", ["keys", "queries"])
def test_results_do_not_go_where_arguments_are_read(random_params, name):
    memory = torch.zeros(7, 3)
    given = {"keys": torch.zeros(5, 3), "queries": torch.zeros(5, 3), name: memory[:5]}
    given |= {"params": random_params(np.random.default_rng(0), 3), "key_offsets": [0, 5], "query_offsets": [0, 5]}
    with pytest.raises(InputError, match="out: expected memory of its own, got some of keys or queries"):
        activation_unit(**given, backend="triton", out=memory[2:])


def test_every_configuration_computes_the_same(random_params, monkeypatch):
    rng = np.random.default_rng(12)
    params = random_params(rng, 40, (36, 17), "dice")
    keys, queries = (rng.normal(size=(n, 40)).astype(np.float32) for n in (100, 1))
    for config in {triton_config.forward_config(d, (80, 40), i, p, c) for d, i, p, c in triton_config.choices()}:
        monkeypatch.setattr(triton_op, "forward_config", lambda *_, config=config: config)
        out = activation_unit(keys, [0, 100], queries, [0, 1], params, backend="triton")
        assert worst_error(out, keys, queries, params) <= 1, config


@pytest.fixture
def matmul_settings():
    yield torch.backends.cuda.matmul
    torch.set_float32_matmul_precision("highest")
    torch.backends.fp32_precision = torch.backends.cuda.matmul.fp32_precision = "none"


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (lambda: None, "tf32x3"),
        (lambda: torch.set_float32_matmul_precision("high"), "tf32"),
        (lambda: torch.set_float32_matmul_precision("highest"), "tf32x3"),
        (lambda: setattr(torch.backends.cuda.matmul, "allow_tf32", True), "tf32"),
        (lambda: setattr(torch.backends.cuda.matmul, "fp32_precision", "tf32"), "tf32"),
        (lambda: setattr(torch.backends.cuda.matmul, "fp32_precision", "ieee"), "tf32x3"),
        (lambda: setattr(torch.backends, "fp32_precision", "tf32"), "tf32"),
    ],
)
def test_products_are_rounded_as_pytorch_is_told(matmul_settings, told, expected):
    if not hasattr(matmul_settings, "fp32_precision"):
        pytest.skip("PyTorch before 2.9 has one setting")
    told()
    assert triton_launch.products() == expected


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_changes_nothing(random_params, dtype):
    rng = np.random.default_rng(13)
    for interaction in ("outer", "hadamard"):
        params = random_params(rng, 5, (9,), interaction=interaction)
        keys, queries = (torch.tensor(rng.normal(size=(n, 5)).astype(np.float32)) for n in (4, 2))
        expected = activation_unit(keys, [0, 4], queries, [0, 2], params, backend="triton")
        with torch.autocast("cpu", dtype=dtype):
            got = activation_unit(keys, [0, 4], queries, [0, 2], params, backend="triton")
        assert torch.equal(got, expected)


@pytest.fixture
def nothing_remembered():
    triton_launch.capability.cache_clear()
    yield
    triton_launch.capability.cache_clear()


@pytest.mark.usefixtures("nothing_remembered")
@pytest.mark.parametrize(("found", "expected"), [((8, 0), 80), ((8, 9), 89), ((9, 0), 90), ((12, 0), 120)])
def test_compute_capability(monkeypatch, found, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: found)
    assert triton_launch.capability(torch.device("cuda", 0)) == expected


@pytest.mark.usefixtures("nothing_remembered")
def test_a_device_that_is_too_old_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    with pytest.raises(InputError, match=r"cuda:0: expected compute capability 8\.0 or above, got 7\.5"):
        triton_launch.capability(torch.device("cuda", 0))
