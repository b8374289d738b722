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
    """What the kernel takes beside keys and A(q); triton_layers.py says how `weights` and `vectors` are laid out.

    `fold_matrix` [D, D' H1'] ([D', H1'] for hadamard) and `fold_start` [D' H1'] give A(q), `bias_matrix` [H1', D] and
    `bias` [H1'] b(q). All but `vectors`, `bias_matrix` and `bias`, which are float32, are of the keys' dtype.
    """

    unit: UnitTensors
    weights: Tensor
    vectors: Tensor
    hidden: list[int]
    activation: str
    fold_matrix: Tensor | None
    fold_start: Tensor
    bias_matrix: Tensor
    bias: Tensor

    def fold(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """A(q) [Q, D', H1'] and b(q) [Q, H1'] for queries [Q, D]; differentiable."""
        rows, dim = queries.shape[0], padded(self.unit.dim)  # not len, which torch.export takes for a constant
        if self.fold_matrix is None:
            a = self.fold_start.expand(rows, -1)
        elif self.unit.interaction == "outer":
            a = torch.addmm(self.fold_start, queries, self.fold_matrix)
        else:
            wide = pad(queries, (0, dim - queries.shape[1])).unsqueeze(2)
            a = torch.addcmul(self.fold_start.view(dim, -1), wide, self.fold_matrix)
        b = torch.addmm(self.bias, queries.float(), self.bias_matrix.T)
        return a.reshape(rows, dim, len(self.bias)).contiguous(), b


def pack(unit: UnitTensors, dtype: torch.dtype) -> Packed:
    """Differentiable, so that training packs a unit again for each step."""
    d, first, bias = unit.dim, unit.weights[0], unit.biases[0]
    rows, columns = padded(len(first)) - len(first), padded(d) - d
    if unit.interaction == "outer":
        w_key, w_query, w_outer = torch.split(first, [d, d, d * d], dim=1)
        matrix = pad(w_outer.view(-1, d, d).permute(2, 1, 0), (0, rows, 0, columns)).reshape(d, -1)  # [j, i, h]
    elif unit.interaction == "hadamard":
        w_query, w_key, w_difference, w_product = torch.split(first, d, dim=1)
        w_key, w_query = w_key - w_difference, w_query + w_difference
        matrix = pad(w_product.T, (0, rows, 0, columns))
    else:
        w_key, w_query = torch.split(first, d, dim=1)
        matrix = None
    weights = [_padded_matrix(w.T).flatten() for w in unit.weights[1:-1]]
    return Packed(
        unit,
        torch.cat(weights).to(dtype) if weights else first.new_zeros(1, dtype=dtype),
        _vectors(unit),
        unit.hidden or [1],
        unit.activation if unit.hidden else "identity",
        None if matrix is None else matrix.to(dtype).contiguous(),
        pad(w_key.T, (0, rows, 0, columns)).flatten().to(dtype),
        pad(w_query, (0, 0, 0, rows)),
        pad(bias, (0, rows)),
    )


def _padded_matrix(matrix: Tensor) -> Tensor:
    return pad(matrix, (0, padded(matrix.shape[1]) - matrix.shape[1], 0, padded(matrix.shape[0]) - matrix.shape[0]))


def _vectors(unit: UnitTensors) -> Tensor:
    if not unit.hidden:
        one = unit.weights[0].new_ones(1)
        return pad(one, (4 * padded(1), padded(1)))  # w = 1 for the one unit, and no bias
    parts = []
    for i, (width, layer) in enumerate(zip(unit.hidden, unit.layers, strict=True)):
        none = unit.biases[i].new_zeros(width)
        bias = unit.biases[i] if i else none  # the first layer's is in b(q)
        inverse_std = torch.rsqrt(layer["var"] + layer["eps"]) if "var" in layer else none
        rows = (bias, layer.get("alpha", none), layer.get("mean", none), inverse_std)
        parts += [pad(row, (0, padded(width) - width)) for row in rows]
    last = unit.weights[-1][0]
    return torch.cat([*parts, pad(last, (0, padded(len(last)) - len(last))), unit.biases[-1]])
