"""Small random models with every kind of feature."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from din_reference import Case

from din_infer.schema import Schema
from din_infer.semantics import ActivationUnit, Layers, Semantics

SCHEMA: dict[str, Any] = {
    "version": 1,
    "tables": {
        "item": {"dim": 3},
        "brand": {"dim": 2, "dtype": "string"},
        "tag": {"dim": 2, "ids": {"hash": 7}},
        "action": {"dim": 1, "ids": {"identity": 4}},
        "genre": {"dim": 2},
    },
    "user": {"segment": {"table": "action"}, "tags": {"table": "tag", "many": "sum"}, "age": {"dense": "standardise"}},
    "context": {"hour": {"table": "action"}, "load": {"dense": "standardise"}},
    "candidate": {
        "item": {"table": "item"},
        "brand": {"table": "brand"},
        "genres": {"table": "genre", "many": "mean"},
        "price": {"dense": "standardise"},
        "tag": {"table": "tag"},
    },
    "histories": {
        "clicks": {"features": {"item": None, "action": {"table": "action"}, "genres": None, "price": None}},
        "buys": {"features": {"gap": {"dense": "standardise"}, "brand": None}, "max_length": 3},
        "views": {"features": {"item": None}, "max_length": 2, "keep": "oldest"},
        "saves": {"features": {"item": None}, "max_length": 2, "order": "latest_first"},
    },
}


def make_semantics(schema: Schema, pooling: str = "activation_unit", **unit: Any) -> Semantics:
    unit = {"hidden": (5, 4), "activation": "dice", **unit}
    activation = unit["activation"]
    eps = 1e-8 if activation == "dice" else None
    units = {name: ActivationUnit(**unit, eps=eps) for name in schema.histories} if pooling == "activation_unit" else {}
    return Semantics(pooling, units, Layers((6, 3) if unit["hidden"] else (), activation, eps))


@pytest.fixture(scope="session")
def schema() -> Schema:
    return Schema.from_dict(SCHEMA)


@pytest.fixture(scope="session")
def make_case(schema: Schema) -> Callable[..., Case]:
    """make_case(pooling=..., interaction=..., activation=..., hidden=..., normalize=..., scale=...)"""
    return lambda **semantics: Case.random(schema, make_semantics(schema, **semantics))


@pytest.fixture(scope="session")
def request_lengths() -> list[dict[str, int]]:
    """Candidates and behaviours of a batch: empty histories, more behaviours than are kept, no candidates."""
    groups = ("candidate", "clicks", "buys", "views", "saves")
    return [
        dict(zip(groups, counts, strict=True)) for counts in itertools.product((2, 0), (0, 4), (1, 5), (3, 0), (5,))
    ]
