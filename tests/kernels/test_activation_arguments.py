"""What activation_unit and its parameters take and refuse, the same on every backend."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from din_infer.errors import DINError, InputError
from din_infer.kernels import ActivationUnitParams, activation_unit


@pytest.fixture
def call(random_params):
    """Runs a small valid call with some arguments replaced."""
    rng = np.random.default_rng(0)
    keys, queries = (rng.normal(size=(n, 3)).astype(np.float32) for n in (4, 5))
    valid = {
        "keys": keys,
        "key_offsets": np.array([0, 1, 4]),
        "queries": queries,
        "query_offsets": np.array([0, 5, 5]),
        "params": random_params(rng, 3),
        "backend": "reference",
    }
    return lambda **changed: activation_unit(**{**valid, **changed})


def read_only(array):
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"backend": "cuda"}, "backend: expected auto, native, reference, triton, got 'cuda'"),
        ({"keys": np.zeros((4, 3))}, r"keys: expected float32 \[n, 3\], got an array of float64 and shape \(4, 3\)"),
        ({"keys": np.zeros((4, 2), np.float32)}, r"keys: expected float32 \[n, 3\], got an array of float32 and shape"),
        ({"keys": np.zeros(12, np.float32)}, r"keys: expected float32 \[n, 3\]"),
        ({"keys": np.zeros((4, 3), np.int64)}, r"keys: expected float32 \[n, 3\], got an array of int64"),
        ({"queries": np.zeros((5, 3), np.float16)}, r"queries: expected float32 \[n, 3\], got an array of float16"),
        ({"key_offsets": [0, 4]}, "query_offsets: expected 2, as many as key_offsets, got 3"),
        ({"key_offsets": [0, 3, 2]}, "key_offsets: expected no offset below the one before, got 2 after 3"),
        ({"key_offsets": [0, 1, 5]}, "key_offsets: expected the last to be the number of values, 4, got 5"),
        ({"key_offsets": [0.0, 1.0, 4.0]}, "key_offsets: expected integers in one dimension"),
        ({"query_offsets": [1, 5, 5]}, "query_offsets: expected 0 first, got 1"),
        ({"counts": [1, 2, 3]}, "counts: expected 4, one per key, got 3"),
        ({"counts": [1, 2, 0, 1]}, "counts: expected at least 1, got 0"),
        ({"counts": [1.0, 2.0, 1.0, 1.0]}, "counts: expected integers in one dimension"),
        ({"params": None}, "params: expected ActivationUnitParams, got NoneType None"),
        ({"threads": 0}, "threads: expected an integer from 1 to 1024 or None, got 0"),
        ({"threads": True}, "threads: expected an integer from 1 to 1024 or None, got True"),
        ({"out": np.zeros((5, 3))}, r"out: expected float32 \(5, 3\), got an array of float64"),
        ({"out": np.zeros((4, 3), np.float32)}, r"out: expected float32 \(5, 3\), got .* shape \(4, 3\)"),
        ({"out": np.zeros((3, 5), np.float32).T}, "out: expected a row-major, writeable array"),
        ({"out": read_only(np.zeros((5, 3), np.float32))}, "out: expected a row-major, writeable array"),
    ],
)
def test_wrong_arguments_are_refused(call, changed, message):
    with pytest.raises(InputError, match=message):
        call(**changed)


def test_out_may_not_be_an_input(call):
    queries = np.zeros((5, 3), np.float32)
    with pytest.raises(InputError, match="out: expected memory of its own"):
        call(queries=queries, out=queries)


def test_out_is_written_and_returned(call):
    out = np.full((5, 3), np.nan, np.float32)
    assert call(out=out) is out
    assert np.array_equal(out, call())


def test_any_layout_of_the_inputs_gives_the_same(call, random_params):
    rng = np.random.default_rng(0)
    keys, queries = (rng.normal(size=(n, 3)).astype(np.float32) for n in (4, 5))
    shifted = np.frombuffer(b"\0" + queries.tobytes(), np.float32, offset=1).reshape(5, 3)
    got = call(keys=read_only(np.asfortranarray(keys)), queries=shifted, key_offsets=np.array([0, 1, 4], np.uint8))
    assert np.array_equal(got, call())


def test_tensors_in_tensor_out(call):
    torch = pytest.importorskip("torch")
    queries = torch.ones(5, 3)
    expected = call(queries=queries.numpy())
    got = call(queries=queries, keys=torch.zeros(4, 3), key_offsets=torch.tensor([0, 1, 4]))
    assert isinstance(got, torch.Tensor)
    assert np.array_equal(call(queries=queries).numpy(), expected)
    out = torch.full((5, 3), torch.nan)
    assert call(queries=queries, out=out) is out
    assert np.array_equal(out.numpy(), expected)
    with pytest.raises(InputError, match="queries: expected an array in main memory, got Tensor"):
        call(queries=torch.ones(5, 3, requires_grad=True))


ONE_LAYER = {
    "interaction": "outer",
    "weights": [np.ones((4, 8), np.float32), np.ones((1, 4), np.float32)],
    "biases": [np.ones(4, np.float32), np.ones(1, np.float32)],
    "activation": "dice",
    "activation_params": [{"alpha": np.float32(0.1), "mean": np.zeros(4, np.float32), "var": np.ones(4, np.float32)}],
}
ONE_LAYER["activation_params"][0]["eps"] = 1e-8


@pytest.mark.parametrize("name", ["weights", "biases", "activation_params"])
@pytest.mark.parametrize("value", [None, 3, "ab", {"a": 1}])
def test_layers_are_a_sequence(name, value):
    with pytest.raises(InputError, match=f"{name}: expected a sequence with an entry per layer, got"):
        ActivationUnitParams(**{**ONE_LAYER, name: value})


@pytest.mark.parametrize("number", [np.float32(0.5), np.float16(0.5), np.float64(0.5), Fraction(1, 2), 0.5])
def test_any_real_number_is_a_scale_and_an_eps(call, number):
    layer = {**ONE_LAYER["activation_params"][0], "eps": number}
    params = ActivationUnitParams(**{**ONE_LAYER, "activation_params": [layer], "scale": number})
    assert (params.scale, params.activation_params[0]["eps"]) == (0.5, 0.5)
    assert type(params.scale) is type(params.activation_params[0]["eps"]) is float
    for wrong in (np.float32("nan"), True, np.bool_(True), "0.5", 1j, np.array([0.5])):
        with pytest.raises(InputError, match="scale: expected a finite float32, got"):
            ActivationUnitParams(**{**ONE_LAYER, "scale": wrong})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"interaction": "inner"}, "interaction: expected outer | hadamard, got 'inner'"),
        ({"activation": "gelu"}, "activation: expected sigmoid"),
        ({"normalize": "l1"}, "normalize: expected none | softmax, got 'l1'"),
        ({"scale": 1e39}, "scale: expected a finite float32, got float 1e\\+39"),
        ({"scale": float("nan")}, "scale: expected a finite float32, got float nan"),
        ({"weights": []}, "biases: expected one per weight and at least one, got 2 for 0"),
        ({"biases": [np.ones(4, np.float32)]}, "biases: expected one per weight and at least one, got 1 for 2"),
        (
            {"biases": [np.ones(3, np.float32), np.ones(1, np.float32)]},
            r"biases\[0\]: expected shape \(4,\), got \(3,\)",
        ),
        ({"weights": [np.ones((4, 8)), np.ones((1, 4))]}, r"weights\[0\]: expected float32, got an array of float64"),
        (
            {"weights": [np.ones((4, 9), np.float32), np.ones((1, 4), np.float32)]},
            r"weights\[0\]: expected 2D \+ D\*D inputs for outer, got 9",
        ),
        (
            {"interaction": "hadamard", "weights": [np.ones((4, 9), np.float32), np.ones((1, 4), np.float32)]},
            r"weights\[0\]: expected 4D inputs for hadamard, got 9",
        ),
        (
            {"weights": [np.ones((4, 8), np.float32), np.ones((1, 5), np.float32)]},
            r"weights\[1\]: expected \[out, 4\], got shape \(1, 5\)",
        ),
        (
            {
                "weights": [np.ones((4, 8), np.float32), np.ones((2, 4), np.float32)],
                "biases": [np.ones(4, np.float32), np.ones(2, np.float32)],
            },
            r"weights\[1\]: expected one output from the last layer, got 2",
        ),
        ({"activation_params": []}, r"activation_params\[0\]: expected {alpha, mean, var, eps} for dice, got dict {}"),
        ({"activation_params": [{}, {}]}, "activation_params: expected 1, one per hidden layer, got 2"),
        ({"activation": "relu"}, r"activation_params\[0\]: expected {} for relu"),
        ({"activation": "prelu"}, r"activation_params\[0\]: expected {alpha} for prelu"),
    ],
)
def test_wrong_parameters_are_refused(changed, message):
    with pytest.raises(InputError, match=message):
        ActivationUnitParams(**{**ONE_LAYER, **changed})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("alpha", np.zeros(3, np.float32), r"activation_params\[0\].alpha: expected shape \(4,\), got \(3,\)"),
        ("mean", np.float32(0), r"activation_params\[0\].mean: expected shape \(4,\), got \(\)"),
        ("mean", np.full(4, np.nan, np.float32), "mean: expected finite numbers, got nan"),
        ("var", np.array([1, 1, -1, 1], np.float32), "expected var >= 0 and var \\+ eps > 0, got -1.0"),
        ("eps", -0.5, r"activation_params\[0\].eps: expected at least 0, got -0.5"),
        ("eps", "small", r"activation_params\[0\].eps: expected a finite float32, got str 'small'"),
    ],
)
def test_wrong_layer_parameters_are_refused(name, value, message):
    with pytest.raises(InputError, match=message):
        ActivationUnitParams(**{**ONE_LAYER, "activation_params": [{**ONE_LAYER["activation_params"][0], name: value}]})


def test_parameters_are_copies():
    weight = np.ones((1, 3), np.float32)
    params = ActivationUnitParams("outer", [weight], [np.zeros(1, np.float32)], "sigmoid")
    weight[:] = 7
    assert params.dim == 1
    assert params.weights[0].tolist() == [[1, 1, 1]]
    with pytest.raises(ValueError, match="read-only"):
        params.weights[0][:] = 0


def test_torch_parameters_are_taken():
    torch = pytest.importorskip("torch")
    linear = torch.nn.Linear(8, 1)
    params = ActivationUnitParams("hadamard", [linear.weight], [linear.bias], "relu")
    assert params.dim == 2


def test_errors_have_one_base():
    assert issubclass(InputError, DINError)
    assert issubclass(InputError, ValueError)
