"""Every declared semantic, as the smallest model that has it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from din_infer.schema import Schema
from din_infer.semantics import ACTIVATIONS, Semantics

TOLERANCE = 2e-6  # of a float32 probability, against float64
Fields = Mapping[str, Any]


@dataclass(frozen=True)
class Semantic:
    """`other` is another model with parameters of the same shapes, which must not give the same scores.

    `batch_norm` is of training alone: model files have it in the tower's weights and biases. `table_dtype` is of model
    files alone: the other columns have the tables that its numbers stand for.
    """

    name: str
    schema: Schema
    semantics: Semantics
    other: tuple[Schema, Semantics] | None = None
    batch_norm: bool = False
    table_dtype: str = "float32"


def make_schema(
    tables: Fields | None = None,
    candidate: Fields | None = None,
    features: Fields | None = None,
    history: Fields | None = None,
    more: Fields | None = None,
    **sides: Fields,
) -> Schema:
    """Items as candidates and in the history `clicks`, and what is added: `more` histories, user and context."""
    clicks = {"features": {"item": None, **(features or {})}, **(history or {})}
    return Schema.from_dict(
        {
            "version": 1,
            "tables": {"item": {"dim": 4}, **(tables or {})},
            "candidate": {"item": {"table": "item"}, **(candidate or {})},
            "histories": {"clicks": clicks, **(more or {})},
            **sides,
        }
    )


def layers(hidden: tuple[int, ...], activation: str) -> dict[str, Any]:
    return {"hidden": hidden, "activation": activation, "eps": 1e-8 if activation == "dice" else None}


Make = Callable[[Schema], Semantics]


def make_semantics(unit: Fields | None = None, tower: Fields | None = None, pooling: str = "activation_unit") -> Make:
    unit = {**layers((5, 3), "dice"), "interaction": "outer", "normalize": "none", **(unit or {})}
    units = {"clicks": unit, "buys": {**unit, "interaction": "hadamard"}} if pooling == "activation_unit" else {}
    return lambda schema: Semantics.from_dict(
        {
            "pooling": pooling,
            "units": {name: spec for name, spec in units.items() if name in schema.histories},
            "tower": {**layers((4,), "relu"), **(tower or {})},
        }
    )


PLAIN, DIN = make_schema(), make_semantics()
DENSE = {"dense": "standardise"}
TWINS = {"sigmoid": "tanh", "relu": "tanh", "tanh": "sigmoid", "bisigmoid": "tanh"}  # parameters of the same shapes


def semantic(name: str, schema: Schema = PLAIN, semantics: Make = DIN, other: Schema | Make | None = None) -> Semantic:
    made = semantics(schema)
    if other is None:
        return Semantic(name, schema, made)
    return Semantic(name, schema, made, (other, made) if isinstance(other, Schema) else (schema, other(schema)))


def of_units() -> list[Semantic]:
    found = []
    for interaction in ("outer", "hadamard"):
        plain = make_semantics({"interaction": interaction})
        softmax = make_semantics({"interaction": interaction, "normalize": "softmax"})
        found += [
            semantic(f"interaction {interaction}, normalize none", semantics=plain, other=softmax),
            semantic(f"interaction {interaction}, normalize softmax", semantics=softmax, other=plain),
        ]
        for normalize, base in (("none", plain), ("softmax", softmax)):
            scaled = make_semantics({"interaction": interaction, "normalize": normalize, "scale": 0.25})
            found.append(
                semantic(f"interaction {interaction}, normalize {normalize}, scale", semantics=scaled, other=base)
            )
    for activation in ACTIVATIONS:
        twin = make_semantics(layers((5, 3), TWINS[activation])) if activation in TWINS else None
        made = make_semantics(layers((5, 3), activation))
        found.append(semantic(f"activation {activation} in the unit", semantics=made, other=twin))
    wide_eps = make_semantics({**layers((5, 3), "dice"), "eps": 0.5})
    found.append(semantic("eps of dice", semantics=wide_eps, other=DIN))
    for depth in range(5):
        hidden = (5, 3, 7, 2)[:depth]
        for interaction in ("outer", "hadamard"):
            unit = {**layers(hidden, "tanh"), "interaction": interaction}
            found.append(semantic(f"{depth} hidden layers in the unit, {interaction}", semantics=make_semantics(unit)))
    return found


def of_towers() -> list[Semantic]:
    found = [
        semantic(f"activation {a} in the tower", semantics=make_semantics(tower=layers((6, 4), a))) for a in ACTIVATIONS
    ]
    for depth in range(5):
        tower = layers((6, 4, 9, 3)[:depth], "prelu")
        found.append(semantic(f"{depth} hidden layers in the tower", semantics=make_semantics(tower=tower)))
    for activation in ("relu", "dice"):
        made = semantic(
            f"batch norm in the tower, {activation}", semantics=make_semantics(tower=layers((6, 4), activation))
        )
        found.append(replace(made, batch_norm=True))
    total, mean = make_semantics(pooling="sum"), make_semantics(pooling="mean")
    return [
        *found,
        semantic("base model, sum", semantics=total, other=mean),
        semantic("base model, mean", semantics=mean, other=total),
    ]


def of_features() -> list[Semantic]:
    shop = {"shop": {"dim": 2, "ids": {"hash": 7}}}
    found = [
        semantic("a history-only feature", make_schema(shop, features={"shop": {"table": "shop"}})),
        semantic("a candidate-only feature", make_schema(shop, {"shop": {"table": "shop"}})),
        semantic("user features", make_schema(shop, user={"shop": {"table": "shop"}, "age": DENSE})),
        semantic("context features", make_schema(shop, context={"shop": {"table": "shop"}, "load": DENSE})),
        semantic("a dense feature of the candidate", make_schema(candidate={"price": DENSE})),
        semantic("a dense feature of the history", make_schema(features={"age": DENSE})),
        semantic("a dense feature of both", make_schema(candidate={"price": DENSE}, features={"price": None})),
        semantic(
            "several histories",
            make_schema(shop, more={"buys": {"features": {"item": None, "shop": {"table": "shop"}}}}),
        ),
        semantic(
            "several histories, base model",
            make_schema(shop, more={"buys": {"features": {"shop": {"table": "shop"}}}}),
            make_semantics(pooling="mean"),
        ),
    ]
    table = {"genre": {"dim": 3, "dtype": "string"}}
    for side in ("user", "context", "candidate", "history-only", "shared"):
        one, two = (_many(table, side, many) for many in ("sum", "mean"))
        found += [
            semantic(f"multi-valued {side} feature, {m}", a, other=b)
            for m, a, b in (("sum", one, two), ("mean", two, one))
        ]
    return found


def _many(tables: Fields, side: str, many: str) -> Schema:
    feature = {"genre": {"table": "genre", "many": many}}
    if side in ("user", "context"):
        return make_schema(tables, **{side: feature})
    if side == "shared":
        return make_schema(tables, feature, {"genre": None})
    return make_schema(tables, feature) if side == "candidate" else make_schema(tables, features=feature)


def of_ids() -> list[Semantic]:
    kinds: dict[str, Fields] = {
        "hashed ids, negative ones too": {"dim": 3, "ids": {"hash": 7}},
        "identity ids, those outside too": {"dim": 3, "ids": {"identity": 6}},
        "vocabulary of int64 ids, unknown ones to the default row": {"dim": 3},
        "vocabulary of string ids, unknown ones to the default row": {"dim": 3, "dtype": "string"},
        "min_count of int64 ids, rarer ones to the default row": {"dim": 3, "min_count": 6},
        "min_count of string ids, rarer ones to the default row": {"dim": 3, "dtype": "string", "min_count": 6},
    }
    feature = {"thing": {"table": "thing"}}
    return [semantic(name, make_schema({"thing": kind}, feature, {"thing": None})) for name, kind in kinds.items()]


def of_lengths() -> list[Semantic]:
    found = []
    for order in ("oldest_first", "latest_first"):
        for keep, other in (("latest", "oldest"), ("oldest", "latest")):
            one, two = (make_schema(history={"order": order, "max_length": 3, "keep": k}) for k in (keep, other))
            found.append(semantic(f"max_length, order {order}, keep {keep}", one, other=two))
    cut = make_schema(history={"max_length": 3})
    found.append(semantic("max_length, base model", cut, make_semantics(pooling="mean"), PLAIN))
    return [*found, semantic("no max_length", PLAIN, other=cut)]


def of_tables() -> list[Semantic]:
    tables = {
        "genre": {"dim": 3, "dtype": "string"},
        "shop": {"dim": 1, "ids": {"hash": 7}},
        "hour": {"dim": 2, "ids": {"identity": 6}},
    }
    genre = {"genre": {"table": "genre", "many": "mean"}}
    user = {"tags": {"table": "genre", "many": "sum"}}
    schema = make_schema(
        tables, genre, {"genre": None, "shop": {"table": "shop"}}, user=user, context={"hour": {"table": "hour"}}
    )
    return [
        replace(semantic(f"tables stored as {dtype}{of}", schema, make), table_dtype=dtype)
        for dtype in ("float16", "int8")
        for of, make in (("", DIN), (", base model", make_semantics(pooling="mean")))
    ]


EVERY_SEMANTIC = [*of_units(), *of_towers(), *of_features(), *of_ids(), *of_lengths(), *of_tables()]
