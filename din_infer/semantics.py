"""What a model computes: pooling, activation units and tower, declared and never guessed (DIN, arXiv 1706.06978)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from din_infer.arrays import is_float32
from din_infer.errors import SchemaError
from din_infer.schema import Schema

INTERACTIONS = ("outer", "hadamard")
TRAINING_INTERACTIONS = (*INTERACTIONS, "none")  # [k, q] alone: an ablation, which no model file holds
ACTIVATIONS = ("sigmoid", "relu", "prelu", "tanh", "dice", "bisigmoid")
NORMALIZATIONS = ("none", "softmax")
POOLINGS = ("activation_unit", "sum", "mean")
DICE_EPS = 1e-8


@dataclass(frozen=True)
class Layers:
    """A stack of fully connected layers: `hidden` widths, each followed by `activation`, then one linear output.

    `eps` is Dice's, used as p = sigmoid((s - mean) / sqrt(var + eps)), and absent for other activations.
    """

    hidden: tuple[int, ...]
    activation: str = "dice"
    eps: float | None = None


@dataclass(frozen=True)
class ActivationUnit(Layers):
    """The network that weighs a behaviour k by a candidate q.

    - `interaction`: `outer`, input [k, q, vec(k (x) q)], or `hadamard`, input [q, k, q - k, q * k];
    - `normalize`: `none`, the paper's weighted sum, or `softmax` over the valid behaviours;
    - `scale`: a factor on each weight, before the softmax where there is one.
    """

    interaction: str = "outer"
    normalize: str = "none"
    scale: float | None = None


@dataclass(frozen=True)
class Semantics:
    """How histories are pooled (`activation_unit`: DIN; `sum` or `mean`: the base model), and the tower on top.

    `units` has one activation unit per history under `activation_unit`, and none otherwise.
    """

    pooling: str
    units: Mapping[str, ActivationUnit]
    tower: Layers

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Semantics:
        """Reads the JSON of a model file. Raises SchemaError for what is unknown or contradictory."""
        try:
            tower = _layers(Layers, raw["tower"], "tower")
            units = {name: _layers(ActivationUnit, unit, f"units.{name}") for name, unit in raw["units"].items()}
            semantics = cls(pooling=raw["pooling"], units=units, tower=tower)
        except KeyError as error:
            raise SchemaError(f"semantics: expected a field {error}, got none") from None
        except (TypeError, AttributeError) as error:
            raise SchemaError(f"semantics: {error}") from None
        _one_of(semantics.pooling, POOLINGS, "pooling")
        if bool(units) and semantics.pooling != "activation_unit":
            raise SchemaError(f"semantics: pooling {semantics.pooling!r} has no units, got {', '.join(units)}")
        return semantics

    def check(self, schema: Schema) -> None:
        """Raises SchemaError unless the units are those of the schema's histories."""
        if self.pooling == "activation_unit" and set(self.units) != set(schema.histories):
            expected, got = ", ".join(schema.histories) or "none", ", ".join(self.units) or "none"
            raise SchemaError(f"units: expected one per history, {expected}, got {got}")

    def to_dict(self) -> dict[str, Any]:
        """The form that `from_dict` reads."""
        return dataclasses.asdict(self)


def _layers(cls: type, raw: Mapping[str, Any], where: str) -> Any:
    layers = cls(**{**raw, "hidden": tuple(raw["hidden"])})
    for width in layers.hidden:
        if type(width) is not int or width < 1:
            raise SchemaError(f"{where}.hidden: expected widths of at least 1, got {width!r}")
    _one_of(layers.activation, ACTIVATIONS, f"{where}.activation")
    if (layers.eps is not None) != (layers.activation == "dice"):
        raise SchemaError(f"{where}.eps: expected a number with dice and none with others, got {layers.eps!r}")
    if layers.eps is not None and (not _is_finite(layers.eps) or layers.eps < 0):
        raise SchemaError(f"{where}.eps: expected a finite float32 of at least 0, got {layers.eps!r}")
    if isinstance(layers, ActivationUnit):
        if layers.scale is not None and not _is_finite(layers.scale):
            raise SchemaError(f"{where}.scale: expected a finite float32, got {layers.scale!r}")
        _one_of(layers.interaction, TRAINING_INTERACTIONS, f"{where}.interaction")
        _one_of(layers.normalize, NORMALIZATIONS, f"{where}.normalize")
    return layers


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and is_float32(value)


def _one_of(value: Any, choices: tuple[str, ...], where: str) -> None:
    if value not in choices:
        raise SchemaError(f"{where}: expected {' | '.join(choices)}, got {value!r}")
