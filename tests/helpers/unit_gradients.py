"""Gradients of the Triton kernels against those of the formulas in float64 by PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from din_infer.kernels import ActivationUnitParams
from din_infer.kernels.activation.triton_backend import interest
from din_infer.kernels.activation.triton_pack import UnitTensors, pack

Offsets = tuple[torch.Tensor, torch.Tensor]  # of keys and of queries
CPU = torch.device("cpu")


def gradient_errors(
    params: ActivationUnitParams, offsets: Offsets, dtype: torch.dtype, device: torch.device = CPU
) -> dict[str, float]:
    """The largest error of each gradient over the largest number in it, for random keys, queries and counts.

    Keys and queries are of `dtype`; the unit's own tensors are float32.
    """
    rng = np.random.default_rng(0)
    keys, queries = (int(ends[-1]) for ends in offsets)
    arrays = [rng.normal(size=(n, params.dim)).astype(np.float16) for n in (keys, queries)]
    counts, dout = torch.tensor(rng.integers(1, 4, keys)), rng.normal(size=(queries, params.dim)).astype(np.float32)
    found = []
    for place, own, given in ((device, torch.float32, dtype), (CPU, torch.float64, torch.float64)):
        unit, leaves = trained(params, own, place)
        leaves |= {
            name: torch.tensor(array, device=place).to(given).requires_grad_()
            for name, array in zip(("keys", "queries"), arrays, strict=True)
        }
        function = formulas if own == torch.float64 else with_kernels
        out = function(unit, leaves["keys"], leaves["queries"], counts.to(place), offsets)
        out.backward(torch.tensor(dout, device=place).to(out.dtype))
        found.append({name: leaf.grad for name, leaf in leaves.items()})
    # Under a softmax the last bias has a gradient of zero, so what is small counts as 0.1.
    return {
        name: float((found[0][name].cpu().double() - right).abs().max() / right.abs().max().clamp(min=0.1))
        for name, right in found[1].items()
    }


def trained(
    params: ActivationUnitParams, dtype: torch.dtype, device: torch.device = CPU
) -> tuple[UnitTensors, dict[str, torch.Tensor]]:
    """The unit's tensors, which require gradients, and all of them by name."""
    unit = UnitTensors.of(params, device)
    leaves: dict[str, torch.Tensor] = {}

    def leaf(name: str, tensor: torch.Tensor) -> torch.Tensor:
        leaves[name] = tensor.to(dtype).requires_grad_()
        return leaves[name]

    weights = [leaf(f"weights {i}", t) for i, t in enumerate(unit.weights)]
    biases = [leaf(f"biases {i}", t) for i, t in enumerate(unit.biases)]
    layers = [
        {name: v if name == "eps" else leaf(f"{name} {i}", v) for name, v in layer.items()}
        for i, layer in enumerate(unit.layers)
    ]
    made = UnitTensors(params.interaction, weights, biases, params.activation, layers, params.normalize, params.scale)
    return made, leaves


def with_kernels(unit: UnitTensors, keys: Any, queries: Any, counts: Any, offsets: Offsets) -> torch.Tensor:
    return interest(pack(unit, keys.dtype), keys, offsets[0], queries, offsets[1], counts)


def formulas(unit: UnitTensors, keys: Any, queries: Any, counts: Any, offsets: Offsets) -> torch.Tensor:
    """The operator's README, pair by pair."""
    rows = []
    key_ends, query_ends = (ends.tolist() for ends in offsets)
    for r in range(len(key_ends) - 1):
        k, c = (t[key_ends[r] : key_ends[r + 1]] for t in (keys, counts))
        for row in range(query_ends[r], query_ends[r + 1]):
            q = queries[row].expand_as(k)
            outer = (k.unsqueeze(2) * q.unsqueeze(1)).flatten(1)
            x = torch.cat([k, q, outer] if unit.interaction == "outer" else [q, k, q - k, q * k], 1)
            for weight, bias, layer in zip(unit.weights[:-1], unit.biases[:-1], unit.layers, strict=True):
                x = _activate(x @ weight.T + bias, unit.activation, layer)
            s = (x @ unit.weights[-1].T + unit.biases[-1])[:, 0] * (1.0 if unit.scale is None else unit.scale)
            if unit.normalize == "softmax":
                s = torch.softmax(s + torch.log(c), 0) / c
            rows.append(((c * s).unsqueeze(1) * k).sum(0))
    return torch.stack(rows)


def _activate(s: Any, activation: str, layer: Any) -> Any:
    if activation == "prelu":
        return torch.where(s > 0, s, layer["alpha"] * s)
    if activation == "dice":
        p = torch.sigmoid((s - layer["mean"]) / torch.sqrt(layer["var"] + layer["eps"]))
        return p * s + (1 - p) * layer["alpha"] * s
    return torch.tanh(s / 2) if activation == "bisigmoid" else getattr(torch, activation)(s)
