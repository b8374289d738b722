"""What an activation unit computes with, checked once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from din_infer.arrays import describe, is_float32, to_array
from din_infer.errors import InputError
from din_infer.semantics import ACTIVATIONS, INTERACTIONS, NORMALIZATIONS

_LAYER_KEYS = {"prelu": ("alpha",), "dice": ("alpha", "mean", "var", "eps")}


@dataclass(frozen=True, eq=False)
class ActivationUnitParams:
    """An activation unit of L >= 0 hidden layers. Arrays are float32 and copied, so later changes to them do no harm.

    - `interaction`: `outer`, W_1's input is [k, q, vec(k (x) q)] with vec(k (x) q)[i * D + j] = k_i q_j; or `hadamard`,
      [q, k, q - k, q * k];
    - `weights`: L + 1 arrays [out, in] as in torch.nn.Linear, the last [1, H_L]; `biases`: [out] each;
    - `activation_params`: for each hidden layer {} | {alpha} for prelu | {alpha, mean, var, eps} for dice, alpha [] or
      [H], mean and var (the biased variance) [H];
    - `normalize`: `none` or `softmax` over a request's behaviours; `scale`: a factor on weights, before the softmax.

    Raises InputError where these do not fit together.
    """

    interaction: str
    weights: Sequence[Any]
    biases: Sequence[Any]
    activation: str
    activation_params: Sequence[Mapping[str, Any]] = ()
    normalize: str = "none"
    scale: float | None = None

    def __post_init__(self) -> None:
        _one_of(self.interaction, INTERACTIONS, "interaction")
        _one_of(self.activation, ACTIVATIONS, "activation")
        _one_of(self.normalize, NORMALIZATIONS, "normalize")
        if self.scale is not None:
            object.__setattr__(self, "scale", _number(self.scale, "scale"))
        weights = [_float32(w, f"weights[{i}]") for i, w in enumerate(_items(self.weights, "weights"))]
        biases = [_float32(b, f"biases[{i}]") for i, b in enumerate(_items(self.biases, "biases"))]
        _check_layers(weights, biases, self.interaction)
        hidden = [len(w) for w in weights[:-1]]
        given = _items(self.activation_params, "activation_params") or [{}] * len(hidden)
        if len(given) != len(hidden):
            raise InputError(f"activation_params: expected {len(hidden)}, one per hidden layer, got {len(given)}")
        layers = [
            _layer(self.activation, layer, h, f"activation_params[{i}]")
            for i, (layer, h) in enumerate(zip(given, hidden, strict=True))
        ]
        for name, value in (("weights", weights), ("biases", biases), ("activation_params", layers)):
            object.__setattr__(self, name, tuple(value))

    @cached_property
    def dim(self) -> int:
        """D, the width of keys and queries."""
        return input_dim(self.interaction, self.weights[0].shape[1])


def input_dim(interaction: str, inputs: int) -> int:
    """D of an input width 2D + D*D (outer) or 4D (hadamard). Raises InputError where none fits."""
    dim = math.isqrt(1 + inputs) - 1 if interaction == "outer" else inputs // 4
    if dim < 1 or inputs != (2 * dim + dim * dim if interaction == "outer" else 4 * dim):
        expected = "2D + D*D" if interaction == "outer" else "4D"
        raise InputError(f"weights[0]: expected {expected} inputs for {interaction}, got {inputs}")
    return dim


def _check_layers(
    weights: list[npt.NDArray[np.float32]], biases: list[npt.NDArray[np.float32]], interaction: str
) -> None:
    if not weights or len(biases) != len(weights):
        raise InputError(f"biases: expected one per weight and at least one, got {len(biases)} for {len(weights)}")
    for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        inputs = weights[i - 1].shape[0] if i else None
        if weight.ndim != 2 or 0 in weight.shape or (inputs is not None and weight.shape[1] != inputs):
            raise InputError(f"weights[{i}]: expected [out, {inputs or 'in'}], got shape {weight.shape}")
        if bias.shape != weight.shape[:1]:
            raise InputError(f"biases[{i}]: expected shape {weight.shape[:1]}, got {bias.shape}")
    if len(weights[-1]) != 1:
        raise InputError(
            f"weights[{len(weights) - 1}]: expected one output from the last layer, got {len(weights[-1])}"
        )
    input_dim(interaction, weights[0].shape[1])


def _layer(activation: str, given: Mapping[str, Any], width: int, where: str) -> dict[str, Any]:
    keys = _LAYER_KEYS.get(activation, ())
    if not isinstance(given, Mapping) or set(given) != set(keys):
        raise InputError(f"{where}: expected {{{', '.join(keys)}}} for {activation}, got {describe(given)}")
    layer: dict[str, Any] = {}
    for key in keys:
        if key == "eps":
            layer[key] = _number(given[key], f"{where}.eps")
            if layer[key] < 0:
                raise InputError(f"{where}.eps: expected at least 0, got {layer[key]}")
            continue
        array = _float32(given[key], f"{where}.{key}")
        if array.shape != (width,) and not (key == "alpha" and array.shape == ()):
            raise InputError(f"{where}.{key}: expected shape {(width,)}, got {array.shape}")
        layer[key] = np.broadcast_to(array, (width,))
    if activation == "dice" and not (layer["var"].min() >= 0 and layer["var"].min() + layer["eps"] > 0):
        raise InputError(f"{where}: expected var >= 0 and var + eps > 0, got {layer['var'].min()} and {layer['eps']}")
    return layer


def _items(source: Any, where: str) -> list[Any]:
    if isinstance(source, str | bytes | Mapping) or not isinstance(source, Iterable):
        raise InputError(f"{where}: expected a sequence with an entry per layer, got {describe(source)}")
    return list(source)


def _number(source: Any, where: str) -> float:
    if isinstance(source, bool) or not isinstance(source, Real) or not is_float32(source):
        raise InputError(f"{where}: expected a finite float32, got {describe(source)}")
    return float(source)


def _float32(source: Any, where: str) -> npt.NDArray[np.float32]:
    source = source.detach() if hasattr(source, "detach") else source  # a torch.nn.Parameter
    array = to_array(source, where)
    if array.dtype != np.float32:
        raise InputError(f"{where}: expected float32, got {describe(array)}")
    if not np.isfinite(array).all():
        raise InputError(f"{where}: expected finite numbers, got {array[~np.isfinite(array)][0]}")
    copy = np.array(array, order="C")
    copy.flags.writeable = False
    return copy


def _one_of(value: Any, choices: tuple[str, ...], where: str) -> None:
    if value not in choices:
        raise InputError(f"{where}: expected {' | '.join(choices)}, got {value!r}")
