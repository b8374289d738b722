"""DeepCTR-Torch's own DIN attention layer, `AttentionSequencePoolingLayer`, eager, on the CPU."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from din_infer.bench.peers import torch_eager
from din_infer.bench.peers.peer import Array, Run
from din_infer.extras import require

if TYPE_CHECKING:
    from din_infer.kernels import ActivationUnitParams

_PACKAGE = "deepctr_torch"


def attention_layer(params: ActivationUnitParams, keys: Array, queries: Array, threads: int) -> Run:
    """`hadamard` with sigmoid. Its batch is the candidates, each with the history, which is repeated beforehand."""
    torch = require("torch", extra="train")
    layer = deepctr_module("layers.sequence").AttentionSequencePoolingLayer(
        att_hidden_units=[len(w) for w in params.weights[:-1]], att_activation="sigmoid", embedding_dim=params.dim
    )
    unit = layer.local_att
    with torch.no_grad():
        for linear, weights, biases in zip([*unit.dnn.linears, unit.dense], params.weights, params.biases, strict=True):
            linear.weight.copy_(torch.tensor(weights))
            linear.bias.copy_(torch.tensor(biases))
    layer.eval()
    repeated = torch.from_numpy(keys).repeat(len(queries), 1, 1)
    lengths = torch.full((len(queries), 1), len(keys))
    return torch_eager.timed(lambda _, q: layer(q.unsqueeze(1), repeated, lengths).squeeze(1), keys, queries, threads)


def deepctr_module(name: str) -> Any:
    """A module of the package, whose own `__init__` asks PyPI for newer versions and is left out."""
    found = importlib.util.find_spec(_PACKAGE) if _PACKAGE not in sys.modules else None
    if found is not None:
        package = ModuleType(_PACKAGE)
        package.__path__ = list(found.submodule_search_locations or ())
        sys.modules[_PACKAGE] = package
    return require(f"{_PACKAGE}.{name}", extra="peers")
