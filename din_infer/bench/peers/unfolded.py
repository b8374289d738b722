"""An exported model, its activation units unfolded: the naive graph for `outer`, the libraries' one for `hadamard`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from din_infer.bench.peers import pairs
from din_infer.errors import ModelFileError
from din_infer.extras import require

# Of the folded body: where the masked keys are, and where the first layer ends.
_KEYS, _FIRST_LAYER = "valid_keys", "linear.0"

# keys [B, T, D], queries [B, N, D] -> pairs [B, T, N]
_BODY = """
    b = Shape<start = 0, end = 1>(queries)
    n = Shape<start = 1, end = 2>(queries)
    t = Shape<start = 1, end = 2>(keys)
    leading = Concat<axis = 0>(b, t, n)
    one = Constant<value_ints = [1]>()
    before_last = Constant<value_ints = [-2]>()
    last = Constant<value_ints = [-1]>()
    key_rows = Unsqueeze(keys, before_last)
    query_rows = Unsqueeze(queries, one)
    w_0 = Transpose<perm = [1, 0]>(weights)
"""


def unfolded(path: Path) -> Any:
    """The same model as an `onnx.ModelProto`; all but the units' first layers stays as it is.

    Raises ModelFileError where the file's units are not those that din_infer exports.
    """
    onnx = require("onnx", extra="export")
    model = onnx.load(path)
    metadata = {p.key: p.value for p in model.metadata_props}
    semantics = json.loads(metadata["din_infer.semantics"])
    shapes = {initializer.name: initializer.dims for initializer in model.graph.initializer}
    calls = {node.op_type: node for node in model.graph.node if node.domain == "din_infer"}
    found = 0
    for function in model.functions:
        if list(function.input[:3]) != ["keys", "mask", "queries"]:
            continue
        call = calls[function.name]
        first = call.input[list(function.input).index("weights.0")]  # unit.<history>.weights.0
        interaction = semantics["units"][first.split(".")[1]]["interaction"]
        _unfold(function, interaction, inputs=shapes[first][1])
        found += 1
    if not found:
        raise ModelFileError(f"{path}: expected activation units of din_infer's exporter, got none")
    onnx.checker.check_model(model)
    return model


def _unfold(function: Any, interaction: str, inputs: int) -> None:
    dim = inputs // 4 if interaction == "hadamard" else round((1 + inputs) ** 0.5) - 1
    constants = f"dim = Constant<value_ints = [{dim}]>()\ndim_squared = Constant<value_ints = [{dim * dim}]>()\n"
    body = constants + _BODY + pairs.text(interaction) + pairs.FIRST_LAYER
    graph = require("onnx.parser", extra="export").parse_graph(
        f"unfold (float[B,T,D] keys, float[B,N,D] queries, float[H,I] weights, float[H] bias_0)"
        f" => (float[B,T,N,H] sums_0) {{\n{body}}}"
    )
    rename = {
        "keys": _KEYS,
        "queries": "queries",
        "weights": "weights.0",
        "bias_0": "biases.0",
        "sums_0": _FIRST_LAYER,
    }
    for node in graph.node:
        node.input[:] = [rename.get(name, f"unfolded.{name}") for name in node.input]
        node.output[:] = [rename.get(name, f"unfolded.{name}") for name in node.output]
    nodes = list(function.node)
    place = next(i for i, node in enumerate(nodes) if _FIRST_LAYER in node.output)
    nodes[place : place + 1] = graph.node
    kept: list[Any] = []
    needed = set(function.output)
    for node in reversed(nodes):
        if needed & set(node.output):
            needed |= set(node.input)
            kept.append(node)
    del function.node[:]
    function.node.extend(reversed(kept))
