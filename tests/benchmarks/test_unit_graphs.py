"""The peers' graphs compute the activation unit."""

from __future__ import annotations

import numpy as np
import pytest

from din_infer.bench import kernel
from din_infer.bench.kernel import KernelCase
from din_infer.bench.peers import onnx_runtime, unit_graphs
from din_infer.kernels import activation_unit


@pytest.mark.parametrize("form", ["folded", "unfolded"])
@pytest.mark.parametrize("interaction", ["outer", "hadamard"])
@pytest.mark.parametrize("hidden", [(6, 3), (5,)])
def test_graph_equals_the_reference(interaction: str, form: unit_graphs.Form, hidden: tuple[int, ...]) -> None:
    rng = np.random.default_rng(7)
    case = KernelCase(3, 5, dim=4, hidden=hidden)
    params = kernel.random_params(case, interaction, rng)
    keys, queries = rng.standard_normal((5, 4), np.float32), rng.standard_normal((3, 4), np.float32)
    session = onnx_runtime.session(unit_graphs.unit_model(params, form), threads=1)
    expected = activation_unit(keys, np.array([0, 5]), queries, np.array([0, 3]), params, backend="reference")
    np.testing.assert_allclose(session.run(None, {"keys": keys, "queries": queries})[0], expected, atol=1e-5)


def test_flops_count_layers_and_pooling_only() -> None:
    assert KernelCase(10, 20, dim=4, hidden=(6, 3)).flops == 2 * 10 * 20 * (4 * 6 + 6 * 3 + 3 + 4)
