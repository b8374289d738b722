"""Hyper-parameters of a training run; `run/config.yaml` holds them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, cast

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from din_infer.errors import SchemaError
from din_infer.schema import Schema
from din_infer.semantics import DICE_EPS, ActivationUnit, Layers, Semantics

STRENGTH = {"mba": 1.0, "l2": 1e-4, "none": 0.0}

Whole = Annotated[int, Field(ge=0, lt=2**63)]
Count = Annotated[int, Field(gt=0, lt=2**63)]
Activation = Literal["sigmoid", "relu", "prelu", "tanh", "dice", "bisigmoid"]


class TrainConfig(BaseModel):
    """What `din-infer train` can be told. Widths of embeddings and lengths of histories are schema.yaml's.

    | name            | default  | meaning                                                                         |
    |-----------------|----------|---------------------------------------------------------------------------------|
    | model           | din      | `din`, or `base`: the same with histories pooled with equal weights             |
    | pooling         | sum      | of the base model: `sum` or `mean`                                              |
    | interaction     | outer    | of the activation unit: `outer`, `hadamard` or, as an ablation, `none`          |
    | activation      | dice     | of the hidden layers of unit and tower                                          |
    | normalize       | softmax  | of the unit's weights: `softmax` or `none`                                      |
    | scale           | absent   | factor on the unit's weights                                                    |
    | unit_hidden     | 36       | widths of the unit's hidden layers, 0 to 4 of them                              |
    | tower_hidden    | 256 128  | widths of the tower's hidden layers                                             |
    | batch_norm      | false    | batch normalisation in the tower, between linear layer and activation           |
    | epochs          | 6        | passes over the training split at most                                          |
    | patience        | 2        | epochs without a better validation GAUC after which training stops; 0: never    |
    | batch_size      | 512      | labelled candidates in a mini-batch; requests are not cut                       |
    | learning_rate   | 5e-3     | Adam's at the start; it falls linearly to 0                                     |
    | clip_norm       | absent   | largest Euclidean norm of all gradients together                                |
    | dropout         | 0        | share of the tower's inputs left out                                            |
    | regularisation  | mba      | of the embeddings: `mba` (mini-batch aware), `l2` or `none`                     |
    | penalty_strength| 1, 1e-4  | its lambda; 1 for `mba`, 1e-4 for `l2`                                          |
    | seed            | 0        | of initial weights and of the order of the requests                             |
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    model: Literal["din", "base"] = "din"
    pooling: Literal["sum", "mean"] = "sum"
    interaction: Literal["outer", "hadamard", "none"] = "outer"
    activation: Activation = "dice"
    normalize: Literal["none", "softmax"] = "softmax"
    scale: float | None = None
    unit_hidden: Annotated[tuple[PositiveInt, ...], Field(max_length=4)] = (36,)
    tower_hidden: tuple[PositiveInt, ...] = (256, 128)
    batch_norm: bool = False
    epochs: Count = 6
    patience: Whole = 2
    batch_size: Count = 512
    learning_rate: PositiveFloat = 5e-3
    clip_norm: PositiveFloat | None = None
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    regularisation: Literal["mba", "l2", "none"] = "mba"
    penalty_strength: NonNegativeFloat = STRENGTH["mba"]
    seed: Whole = 0

    @model_validator(mode="before")
    @classmethod
    def _strength_of_the_kind(cls, options: dict[str, Any]) -> dict[str, Any]:
        strength = STRENGTH.get(cast(str, options.get("regularisation", "mba")))
        return options if strength is None else {"penalty_strength": strength, **options}

    @classmethod
    def from_options(cls, options: dict[str, Any]) -> TrainConfig:
        """Checks options; those at None take their defaults. Raises SchemaError for what is unknown or out of range."""
        try:
            return cls(**{name: value for name, value in options.items() if value is not None})
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(map(str, first["loc"]))
            raise SchemaError(f"{name}: {first['msg']}, got {first['input']!r}") from None

    def semantics(self, schema: Schema) -> Semantics:
        """The semantics that these hyper-parameters declare for a schema's histories."""
        eps = DICE_EPS if self.activation == "dice" else None
        tower = Layers(self.tower_hidden, self.activation, eps)
        if self.model == "base":
            return Semantics(self.pooling, {}, tower)
        unit = ActivationUnit(self.unit_hidden, self.activation, eps, self.interaction, self.normalize, self.scale)
        return Semantics("activation_unit", dict.fromkeys(schema.histories, unit), tower)

    def write(self, path: Path) -> None:
        path.write_text(yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False), encoding="utf-8")
