"""Gradients of the Triton kernels against those of the formulas in float64 by PyTorch, in Triton's interpreter."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from unit_gradients import gradient_errors, trained, with_kernels

from din_infer.kernels.activation import triton_config, triton_op
from din_infer.kernels.activation.triton_backend import interest
from din_infer.kernels.activation.triton_pack import UnitTensors, pack

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, of exp(800)

KEY_OFFSETS, QUERY_OFFSETS = torch.tensor([0, 0, 1, 34, 70]), torch.tensor([0, 1, 2, 5, 5])


def check(params, dtype, unit):
    errors = gradient_errors(params, (KEY_OFFSETS, QUERY_OFFSETS), dtype)
    assert len(errors) >= 4
    assert not {name: error for name, error in errors.items() if not error <= unit}


CASES = [
    (7, (17, 9, 5), "dice", "outer", "none", None),
    (20, (36,), "prelu", "hadamard", "softmax", 0.3),
    (16, (40, 20), "sigmoid", "outer", "softmax", None),
    (33, (12,), "tanh", "hadamard", "none", 2.0),
    (5, (), "relu", "outer", "softmax", None),
    (8, (9, 4), "bisigmoid", "hadamard", "none", None),
    (12, (20, 10), "relu", "outer", "none", None),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_gradients(random_params, case):
    check(random_params(np.random.default_rng(1), *case), torch.float32, 1e-4)


@pytest.mark.parametrize("case", CASES[:3], ids=lambda case: "-".join(map(str, case)))
def test_gradients_in_half_precision(random_params, case):
    check(random_params(np.random.default_rng(1), *case), torch.float16, 5e-2)


@pytest.mark.parametrize("itemsize", [2, 4])
def test_gradients_in_the_tiles_of_hopper(random_params, monkeypatch, itemsize):
    unit = triton_config.unit_gradients_config(itemsize, "tf32x3", 90, "dice")
    key = triton_config.key_gradients_config([36], itemsize, "tf32x3", 90)
    monkeypatch.setattr(triton_op, "unit_gradients_config", lambda *_: unit)
    monkeypatch.setattr(triton_op, "key_gradients_config", lambda *_: key)
    check(random_params(np.random.default_rng(1), *CASES[1]), torch.float32, 1e-4)


class Interest(torch.nn.Module):
    """A unit of two hidden layers with PReLU and trainable weights, as a model would hold it."""

    def __init__(self, params):
        super().__init__()
        self.interaction = params.interaction
        self.leaves = torch.nn.ParameterList(trained(params, torch.float32)[1].values())

    def forward(self, keys, queries, counts):
        leaves = list(self.leaves)
        layers = [{"alpha": leaves[6]}, {"alpha": leaves[7]}]
        unit = UnitTensors(self.interaction, leaves[:3], leaves[3:6], "prelu", layers)
        return with_kernels(unit, keys, queries, counts, (KEY_OFFSETS, QUERY_OFFSETS))


@pytest.fixture
def module_and_inputs(random_params):
    params = random_params(np.random.default_rng(2), 6, (9, 5), "prelu")
    keys, queries = (torch.randn(n, 6, generator=torch.manual_seed(0)) for n in (70, 5))
    return Interest(params), (keys, queries, torch.ones(70, dtype=torch.int64))


def test_torch_compile(module_and_inputs):
    module, (keys, queries, counts) = module_and_inputs
    grads = []
    for function in (module, torch.compile(module, backend="aot_eager", fullgraph=True)):
        leaf = keys.clone().requires_grad_()
        out = function(leaf, queries, counts)
        out.square().sum().backward()
        grads.append((out.detach(), leaf.grad))
    assert torch.equal(grads[0][0], grads[1][0])
    torch.testing.assert_close(grads[0][1], grads[1][1])


@pytest.mark.parametrize("strict", [False, True])
def test_torch_export(module_and_inputs, strict):
    module, inputs = module_and_inputs
    rows = torch.export.Dim("rows")
    exported = torch.export.export(module, inputs, dynamic_shapes=({0: rows}, None, {0: rows}), strict=strict)
    assert any("din_infer.pool" in str(node.target) for node in exported.graph.nodes)
    with torch.no_grad():
        assert torch.equal(exported.module()(*inputs), module(*inputs))


class Pooled(torch.nn.Module):
    """A unit whose offsets are inputs."""

    def __init__(self, params):
        super().__init__()
        self.packed = pack(UnitTensors.of(params, torch.device("cpu")), torch.float32)

    def forward(self, keys, key_offsets, queries, query_offsets):
        return interest(self.packed, keys, key_offsets, queries, query_offsets)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("interaction", ["outer", "hadamard"])
def test_torch_export_for_any_number_of_requests(random_params, interaction, strict):
    module = Pooled(random_params(np.random.default_rng(5), 6, (9,), interaction=interaction))

    def inputs(lengths, candidates):
        key_offsets, query_offsets = (torch.tensor([0, *n]).cumsum(0) for n in (lengths, candidates))
        return torch.randn(sum(lengths), 6), key_offsets, torch.randn(sum(candidates), 6), query_offsets

    sizes = {name: torch.export.Dim(name) for name in ("keys", "queries", "ends")}
    shapes = ({0: sizes["keys"]}, {0: sizes["ends"]}, {0: sizes["queries"]}, {0: sizes["ends"]})
    exported = torch.export.export(module, inputs([3, 0, 20], [2, 1, 1]), dynamic_shapes=shapes, strict=strict)
    for case in (inputs([5], [3]), inputs([2, 7, 1, 0], [0, 1, 0, 9])):
        assert torch.equal(exported.module()(*case), module(*case))


@pytest.mark.filterwarnings("ignore")  # torch.jit.trace is deprecated, and warns of sizes that it keeps
def test_what_records_calls_sees_the_operator(random_params):
    unit = UnitTensors.of(random_params(np.random.default_rng(5), 6, (9,)), torch.device("cpu"))
    ends = torch.tensor([0, 70]), torch.tensor([0, 5])

    def run(keys, queries):
        return interest(pack(unit, keys.dtype), keys, ends[0], queries, ends[1])

    keys, queries = torch.randn(70, 6), torch.randn(5, 6)
    with torch.no_grad():
        for recorded in (torch.jit.trace(run, (keys, queries)), make_fx(run)(keys, queries)):
            assert "din_infer" in str(recorded.graph)
            other = torch.randn(70, 6), torch.randn(5, 6)
            assert torch.equal(recorded(*other), run(*other))


def test_the_operator_keeps_what_it_declares(random_params):
    params = random_params(np.random.default_rng(3), 6, (9,), "dice", normalize="softmax")
    unit, _ = trained(params, torch.float32)
    packed = pack(unit, torch.float32)
    keys, queries = torch.randn(70, 6), torch.randn(5, 6)
    a, b = packed.fold(queries)
    leaves = [t.detach().requires_grad_() for t in (keys, a, b, packed.weights, packed.vectors)]
    arguments = (leaves[0], None, *leaves[1:], KEY_OFFSETS, QUERY_OFFSETS, [9], "dice", True, 1.0)
    torch.library.opcheck(triton_op.pool_op, arguments)


def test_no_candidates_have_no_gradients(random_params):
    unit, leaves = trained(random_params(np.random.default_rng(4), 5), torch.float32)
    keys = torch.ones(2, 5, requires_grad=True)
    out = interest(pack(unit, torch.float32), keys, torch.tensor([0, 2]), torch.zeros(0, 5), torch.tensor([0, 0]))
    out.sum().backward()
    assert not any(leaf.grad.any() for leaf in (keys, *leaves.values()))
