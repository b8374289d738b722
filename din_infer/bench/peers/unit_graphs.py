"""The activation unit alone as ONNX graphs: what a careful user writes by hand, and what libraries export.

Inputs are one request's keys float32 [T, D] and queries [N, D]; the output is the pooled history per query [N, D].
Activation sigmoid, no normalisation: what the kernel benchmark measures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from din_infer.bench.peers import pairs
from din_infer.extras import require

if TYPE_CHECKING:
    from din_infer.kernels import ActivationUnitParams

Form = Literal["folded", "unfolded"]

# A and b of the fold, then all keys through every query's own first layer.
_FOLD = {
    "outer": """
        products = MatMul(queries, outer_weights)
        flat = Add(products, key_weights)
    """,
    "hadamard": """
        query_columns = Unsqueeze(queries, last)
        products = Mul(query_columns, product_weights)
        flat = Add(products, key_weights)
    """,
}
_FOLDED = """
    own_weights = Reshape(flat, own_shape)
    own_bias = Gemm(queries, query_weights, bias_0)
    own_bias_rows = Unsqueeze(own_bias, one)
    products_0 = MatMul(keys, own_weights)
    sums_0 = Add(products_0, own_bias_rows)
"""
_UNFOLDED = """
    n = Shape<start = 0, end = 1>(queries)
    t = Shape<start = 0, end = 1>(keys)
    leading = Concat<axis = 0>(n, t)
    key_rows = Unsqueeze(keys, zero)
    query_rows = Unsqueeze(queries, one)
"""


def unit_model(params: ActivationUnitParams, form: Form) -> Any:
    """An `onnx.ModelProto`, opset 17.

    `folded`: the first layer is folded with each query before it meets the keys, as the best hand-written graph does.
    `unfolded`: the input of every pair is written out; for `hadamard` that is the graph that libraries export, for
    `outer` the naive one.
    """
    onnx = require("onnx", extra="export")
    require("onnx.parser", extra="export")
    dim = params.dim
    hidden = len(params.weights) - 1
    if form == "folded":
        body, constants = _FOLD[params.interaction] + _FOLDED, _folded_constants(params, dim)
    else:
        body = _UNFOLDED + pairs.text(params.interaction) + pairs.FIRST_LAYER
        constants = {"w_0": params.weights[0].T, "bias_0": params.biases[0]}
    for layer in range(hidden):
        body += f"h_{layer} = Sigmoid(sums_{layer})\n"
        body += f"products_{layer + 1} = MatMul(h_{layer}, w_{layer + 1})\n"
        body += f"sums_{layer + 1} = Add(products_{layer + 1}, bias_{layer + 1})\n"
        constants[f"w_{layer + 1}"] = params.weights[layer + 1].T
        constants[f"bias_{layer + 1}"] = params.biases[layer + 1]
    body += f"weights = Squeeze(sums_{hidden}, last)\ninterest = MatMul(weights, keys)\n"
    shapes = {"zero": [0], "one": [1], "before_last": [-2], "last": [-1], "dim": [dim], "dim_squared": [dim * dim]}
    shapes["own_shape"] = [-1, dim, params.weights[0].shape[0]]
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]>\n'
        f"activation_unit (float[T,{dim}] keys, float[N,{dim}] queries) => (float[N,{dim}] interest) {{\n{body}}}"
    )
    used = {name for node in model.graph.node for name in node.input}
    arrays = {name: np.ascontiguousarray(a, np.float32) for name, a in constants.items()}
    arrays.update({name: np.array(shape, np.int64) for name, shape in shapes.items()})
    model.graph.initializer.extend(onnx.numpy_helper.from_array(a, name) for name, a in arrays.items() if name in used)
    onnx.checker.check_model(model, full_check=True)
    return model


def _folded_constants(params: ActivationUnitParams, dim: int) -> dict[str, Any]:
    w = params.weights[0]
    if params.interaction == "hadamard":  # columns of q, k, q - k, q * k
        q, k, difference, product = (w[:, i * dim : (i + 1) * dim].T for i in range(4))
        return {
            "product_weights": product,
            "key_weights": k - difference,
            "query_weights": q + difference,
            "bias_0": params.biases[0],
        }
    k, q, outer = w[:, :dim].T, w[:, dim : 2 * dim].T, w[:, 2 * dim :].reshape(-1, dim, dim)  # [H, i, j]
    return {
        "outer_weights": outer.transpose(2, 1, 0).reshape(dim, -1),  # [j, i * H + h]
        "key_weights": k.reshape(-1),
        "query_weights": q,
        "bias_0": params.biases[0],
    }
