"""A model file with random weights, for the tests of what loads and scores it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from din_infer import Schema, Semantics, _core, cli

SCHEMA: dict[str, Any] = {
    "version": 1,
    "request": {"key": "request_id", "group": "user_id"},
    "tables": {
        "item": {"dim": 6},
        "genre": {"dim": 3},
        "country": {"dim": 2, "dtype": "string"},
        "hour": {"dim": 2, "ids": {"identity": 24}},
    },
    "user": {"country": {"table": "country"}, "age": {"dense": "standardise"}},
    "context": {"hour": {"table": "hour"}},
    "candidate": {"item_id": {"table": "item"}, "genre": {"table": "genre", "many": "mean"}},
    "histories": {"history": {"features": {"item_id": None, "genre": None}, "max_length": 40}},
}
UNIT = {"hidden": [9, 5], "activation": "dice", "eps": 1e-8}
SEMANTICS: dict[str, Any] = {
    "pooling": "activation_unit",
    "units": {"history": UNIT},
    "tower": {"hidden": [7], "activation": "prelu"},
}
VOCABULARIES: dict[str, Any] = {
    "item": np.arange(100, 130),
    "genre": np.arange(1, 8),
    "country": ["Österreich", "日本", "Chile"],
}


def write_model(path: Path, schema: Schema, semantics: Semantics, vocabularies: dict[str, Any], seed: int = 0) -> Path:
    """Writes a model file whose probabilities spread over (0, 1)."""
    build_model = pytest.importorskip("din_infer.export.graph").build_model
    file_bytes = pytest.importorskip("din_infer.export.storage").file_bytes
    layout = _core.expected_graph(json.dumps(schema.to_dict()), json.dumps(semantics.to_dict()), True)
    rng = np.random.default_rng(seed)
    parameters = {}
    for name, _, dims in layout["parameters"]:
        rows = len(vocabularies.get(name.removeprefix("table."), ())) + 1
        values = rng.normal(size=[rows if d < 0 else d for d in dims])
        values = np.abs(values) + 0.5 if name.endswith((".var", ".std")) else values
        values /= np.sqrt(dims[1]) if ".weights." in name else 3  # small, or long histories saturate the output
        parameters[name] = values.astype(np.float32)
    model = build_model(schema, semantics, parameters, vocabularies, metadata={"training": {"data": "random"}})
    path.write_bytes(file_bytes(model))
    return path


def make_columns(requests: int, seed: int = 0) -> dict[str, list[Any]]:
    """Requests for SCHEMA with unknown ids, empty histories, histories past max_length and no candidates among them."""
    rng = np.random.default_rng(seed)

    def items(n: int) -> list[int]:
        return [int(i) for i in rng.integers(95, 135, n)]

    def genres(n: int) -> list[list[int]]:
        return [[int(g) for g in rng.integers(0, 9, rng.integers(0, 4))] for _ in range(n)]

    lengths = [int(n) for n in rng.integers(0, 60, requests)]
    candidates = [int(n) for n in rng.integers(0, 7, requests)]
    if requests > 1:
        lengths[0], candidates[1] = 0, 0
    return {
        "user.country": [["Chile", "日本", "Utopia"][i] for i in rng.integers(0, 3, requests)],
        "user.age": [float(a) for a in rng.normal(size=requests)],
        "context.hour": [int(h) for h in rng.integers(-1, 25, requests)],
        "candidate.item_id": [items(n) for n in candidates],
        "candidate.genre": [genres(n) for n in candidates],
        "history.item_id": [items(n) for n in lengths],
        "history.genre": [genres(n) for n in lengths],
    }


@pytest.fixture(scope="session")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    return write_model(path, Schema.from_dict(SCHEMA), Semantics.from_dict(SEMANTICS), VOCABULARIES)


@pytest.fixture(scope="session")
def random_columns() -> Callable[..., dict[str, list[Any]]]:
    return make_columns


@pytest.fixture(scope="session")
def write_random_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """write_random_model(schema, semantics, vocabularies): a path"""

    def write(schema: dict[str, Any], semantics: dict[str, Any], vocabularies: dict[str, Any]) -> Path:
        path = tmp_path_factory.mktemp("model") / "model.onnx"
        return write_model(path, Schema.from_dict(schema), Semantics.from_dict(semantics), vocabularies)

    return write


@pytest.fixture
def din_infer_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[Any, str, str]]:
    """Runs a command line in this process: (exit status, stdout, stderr)."""

    def run(*arguments: object) -> tuple[Any, str, str]:
        monkeypatch.setattr(sys, "argv", ["din-infer", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return ended.value.code, captured.out, captured.err

    return run


@pytest.fixture(scope="session")
def path_of_large_unit(write_random_model: Callable[..., Path]) -> Path:
    """As model_path, with a unit whose folded queries are worth remembering."""
    schema = {**SCHEMA, "tables": {**SCHEMA["tables"], "item": {"dim": 60}}}
    semantics = {**SEMANTICS, "units": {"history": {**UNIT, "hidden": [64, 5]}}}
    return write_random_model(schema, semantics, VOCABULARIES)
