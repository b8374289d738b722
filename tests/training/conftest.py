"""A schema with everything in it, and random requests for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from din_infer.schema import Schema

FULL = {
    "version": 1,
    "request": {"key": "request_id", "group": "user_id"},
    "tables": {
        "item": {"dim": 4, "min_count": 2},
        "genre.name": {"dim": 3, "dtype": "string"},
        "shop": {"dim": 2, "ids": {"hash": 7}},
        "hour": {"dim": 2, "ids": {"identity": 24}},
    },
    "user": {"city": {"table": "genre.name"}, "tags": {"table": "genre.name", "many": "sum"}},
    "context": {"hour": {"table": "hour"}, "load": {"dense": "standardise"}},
    "candidate": {
        "item_id": {"table": "item"},
        "genre": {"table": "genre.name", "many": "mean"},
        "price": {"dense": "standardise"},
    },
    "histories": {
        "clicks": {
            "features": {"item_id": None, "genre": None, "price": None, "age": {"dense": "standardise"}},
            "max_length": 4,
        },
        "values": {"features": {"item_id": None, "shop": {"table": "shop"}}, "order": "latest_first", "max_length": 3},
    },
}


@pytest.fixture
def schema() -> Schema:
    return Schema.from_dict(FULL)


def random_columns(seed: int, requests: int) -> dict[str, Any]:
    """Requests of the full schema as plain lists, empty histories and requests without candidates among them."""
    rng = np.random.default_rng(seed)

    def names() -> list[str]:
        return [f"g{i}" for i in rng.integers(0, 5, rng.integers(0, 4))]

    sizes = {"candidate": rng.integers(0, 4, requests), "clicks": rng.integers(0, 8, requests)}
    sizes["values"] = rng.integers(0, 6, requests)
    columns: dict[str, Any] = {
        "user.city": [f"g{i}" for i in rng.integers(0, 5, requests)],
        "user.tags": [names() for _ in range(requests)],
        "context.hour": rng.integers(-1, 25, requests),
        "context.load": rng.normal(3, 2, requests).astype(np.float32),
    }
    for group, lengths in sizes.items():
        columns[f"{group}.item_id"] = [rng.integers(0, 12, n).tolist() for n in lengths]
    for group in ("candidate", "clicks"):
        columns[f"{group}.genre"] = [[names() for _ in range(n)] for n in sizes[group]]
        columns[f"{group}.price"] = [rng.normal(10, 3, n).tolist() for n in sizes[group]]
    columns["clicks.age"] = [rng.normal(0, 1, n).tolist() for n in sizes["clicks"]]
    columns["values.shop"] = [rng.integers(-20, 20, n).tolist() for n in sizes["values"]]
    return columns


@pytest.fixture
def columns() -> dict[str, Any]:
    return random_columns(1, 12)
