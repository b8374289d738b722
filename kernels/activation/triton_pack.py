"""An activation unit as the Triton kernels read it: the first layer folded for each query, the others packed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from din_infer.kernels.activation.params import ActivationUnitParams, input_dim
from din_infer.kernels.activation.triton_config import padded


@dataclass(frozen=True, eq=False)
class UnitTensors:
    """`ActivationUnitParams` as tensors on one device, which may need gradients; `layers`: activation_params."""

    interaction: str
    weights: Sequence[Tensor]
    biases: Sequence[Tensor]
    activation: str
    layers: Sequence[Mapping[str, Any]]
    normalize: str = "none"
    scale: float | None = None

    @classmethod
    def of(cls, params: ActivationUnitParams, device: torch.device) -> UnitTensors:
        def tensor(array: Any) -> Tensor:
            return torch.tensor(array, device=device)

        layers = [{k: v if k == "eps" else tensor(v) for k, v in layer.items()} for layer in params.activation_params]
        weights, biases = [tensor(w) for w in params.weights], [tensor(b) for b in params.biases]
        return cls(params.interaction, weights, biases, params.activation, layers, params.normalize, params.scale)

    @property
    def dim(self) -> int:
        """D; `none`, the ablation of training, reads [k, q] alone."""
        inputs = self.weights[0].shape[1]
        return inputs // 2 if self.interaction == "none" else input_dim(self.interaction, inputs)

    @property
    def hidden(self) -> list[int]:
        return [len(w) for w in self.weights[:-1]]


@dataclass(frozen=True, eq=False)
class Packed:
    """What the kernel takes beside keys and A(q); triton_kernel.py says how `weights` and `vectors` are laid out.

    `fold_matrix` [D, D' H1'] ([D', H1'] for hadamard) and `fold_start` [D' H1'] give A(q), `bias_matrix` [H1', D] and
    `bias` [H1'] b(q). All but `vectors`, `bias_matrix` and `bias`, which are float32, are of the keys' dtype.
    """

    unit: UnitTensors
    weights: Tensor
    vectors: Tensor
    fold_matrix: Tensor | None
    fold_start: Tensor
    bias_matrix: Tensor
    bias: Tensor

    def fold(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """A(q) [Q, D', H1'] and b(q) [Q, H1'] for queries [Q, D]; differentiable."""
        rows, dim = len(queries), padded(self.unit.dim)
        if self.fold_matrix is None:
            a = self.fold_start.expand(rows, -1)
        elif self.unit.interaction == "outer":
            a = torch.addmm(self.fold_start, queries, self.fold_matrix)
        else:
            wide = pad(queries, (0, dim - queries.shape[1])).unsqueeze(2)
            a = torch.addcmul(self.fold_start.view(dim, -1), wide, self.fold_matrix)
        b = torch.addmm(self.bias, queries.float(), self.bias_matrix.T)
        return a.reshape(rows, dim, -1).contiguous(), b


def pack(unit: UnitTensors, dtype: torch.dtype) -> Packed:
    """Differentiable, so that training packs a unit again for each step."""
    d, first = unit.dim, unit.weights[0]
    h1 = padded(len(first)) if unit.hidden else 1
    rows = h1 - len(first)
    if unit.interaction == "outer":
        w_key, w_query, w_outer = torch.split(first, [d, d, d * d], dim=1)
        matrix = pad(w_outer.view(-1, d, d).permute(2, 1, 0), (0, rows, 0, padded(d) - d)).reshape(d, -1)  # [j, i, h]
    elif unit.interaction == "hadamard":
        w_query, w_key, w_difference, w_product = torch.split(first, d, dim=1)
        w_key, w_query = w_key - w_difference, w_query + w_difference
        matrix = pad(w_product.T, (0, rows, 0, padded(d) - d))
    else:
        w_key, w_query = torch.split(first, d, dim=1)
        matrix = None
    start = pad(w_key.T, (0, rows, 0, padded(d) - d)).flatten()
    weights = [_padded_matrix(w.T) for w in unit.weights[1:-1]]
    return Packed(
        unit,
        torch.cat([w.flatten() for w in weights]).to(dtype) if weights else start.new_zeros(1, dtype=dtype),
        _vectors(unit),
        None if matrix is None else matrix.to(dtype).contiguous(),
        start.to(dtype),
        pad(w_query, (0, 0, 0, rows)),
        pad(unit.biases[0], (0, rows)),
    )


def _padded_matrix(matrix: Tensor) -> Tensor:
    return pad(matrix, (0, padded(matrix.shape[1]) - matrix.shape[1], 0, padded(matrix.shape[0]) - matrix.shape[0]))


def _vectors(unit: UnitTensors) -> Tensor:
    if not unit.hidden:
        return unit.weights[0].new_zeros(1)
    parts = []
    for i, width in enumerate(unit.hidden):
        none = unit.biases[i].new_zeros(width)
        layer = unit.layers[i]
        inverse_std = torch.rsqrt(layer["var"] + layer["eps"]) if "var" in layer else none
        bias = unit.biases[i] if i else none  # the first layer's is in b(q)
        parts += [pad(v, (0, padded(width) - width)) for v in (bias, layer.get("alpha", none), layer.get("mean", none))]
        parts.append(pad(inverse_std, (0, padded(width) - width)))
    last = unit.weights[-1][0]
    return torch.cat([*parts, pad(last, (0, padded(len(last)) - len(last))), unit.biases[-1]])
