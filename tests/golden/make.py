"""Writes the golden model files of each format version, with requests and their scores.

    PYTHONPATH=tests/helpers .venv/bin/python tests/golden/make.py FOLDER

The files in this folder stand for all files of their format version that people have: a later change has to load them
and give their scores. They are never made again. A new format version gets files, and names, of its own.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from din_reference import Case

from din_infer.embedding_tables import restored_parameters, stored_parameters
from din_infer.export.graph import build_model
from din_infer.export.parity import build_certificate
from din_infer.export.storage import save_model
from din_infer.schema import Schema
from din_infer.semantics import Semantics

DICE = {"activation": "dice", "eps": 1e-8}

MODELS: dict[str, dict[str, Any]] = {
    "v1-outer-dice": {
        "schema": {
            "version": 1,
            "tables": {"item": {"dim": 3}, "hour": {"dim": 2, "ids": {"identity": 24}}},
            "user": {"age": {"dense": "standardise"}},
            "context": {"hour": {"table": "hour"}},
            "candidate": {"item_id": {"table": "item"}, "price": {"dense": "standardise"}},
            "histories": {"history": {"features": {"item_id": None, "price": None}, "max_length": 5}},
        },
        "semantics": {
            "pooling": "activation_unit",
            "units": {"history": {"hidden": [5, 3], **DICE, "interaction": "outer", "normalize": "none"}},
            "tower": {"hidden": [4], **DICE},
        },
    },
    "v1-hadamard-softmax-strings": {
        "schema": {
            "version": 1,
            "tables": {
                "item": {"dim": 3, "dtype": "string"},
                "genre": {"dim": 2, "dtype": "string"},
                "shop": {"dim": 2, "ids": {"hash": 7}},
            },
            "user": {"tags": {"table": "genre", "many": "sum"}},
            "candidate": {"item": {"table": "item"}, "genres": {"table": "genre", "many": "mean"}},
            "histories": {
                "clicks": {"features": {"item": None, "genres": None, "shop": {"table": "shop"}}},
                "buys": {"features": {"item": None}, "max_length": 3, "keep": "oldest"},
            },
        },
        "semantics": {
            "pooling": "activation_unit",
            "units": {
                "clicks": {
                    "hidden": [4],
                    "activation": "prelu",
                    "interaction": "hadamard",
                    "normalize": "softmax",
                    "scale": 0.5,
                },
                "buys": {"hidden": [], "activation": "tanh", "interaction": "hadamard", "normalize": "softmax"},
            },
            "tower": {"hidden": [5], "activation": "relu"},
        },
    },
    "v1-base-mean": {
        "schema": {
            "version": 1,
            "tables": {"item": {"dim": 4}},
            "candidate": {"item": {"table": "item"}},
            "histories": {"views": {"features": {"item": None}, "order": "latest_first", "max_length": 4}},
        },
        "semantics": {"pooling": "mean", "units": {}, "tower": {"hidden": [3, 2], "activation": "sigmoid"}},
    },
}


MODELS["v2-float16"] = {**MODELS["v1-hadamard-softmax-strings"], "table_dtype": "float16"}
MODELS["v2-int8"] = {
    "schema": {
        "version": 1,
        "tables": {
            "item": {"dim": 17},
            "genre": {"dim": 5, "dtype": "string"},
            "shop": {"dim": 1, "ids": {"hash": 7}},
            "hour": {"dim": 2, "ids": {"identity": 24}},
        },
        "user": {"tags": {"table": "genre", "many": "sum"}},
        "context": {"hour": {"table": "hour"}},
        "candidate": {"item": {"table": "item"}, "genres": {"table": "genre", "many": "mean"}},
        "histories": {"clicks": {"features": {"item": None, "genres": None, "shop": {"table": "shop"}}}},
    },
    "semantics": {
        "pooling": "activation_unit",
        "units": {"clicks": {"hidden": [6, 4], **DICE, "interaction": "outer", "normalize": "softmax"}},
        "tower": {"hidden": [5], **DICE},
    },
    "table_dtype": "int8",
}


def make(name: str, folder: Path) -> None:
    schema, table_dtype = Schema.from_dict(MODELS[name]["schema"]), MODELS[name].get("table_dtype", "float32")
    case = Case.random(schema, Semantics.from_dict(MODELS[name]["semantics"]))
    stored = stored_parameters(case.parameters, table_dtype)
    case = replace(case, parameters=restored_parameters(stored))
    certificate = build_certificate(schema, case.vocabularies, case.parameters, case.probabilities)
    metadata = {"training": {"data": "random"}, "certificate": certificate}
    save_model(
        stored,
        lambda external: build_model(
            schema,
            case.semantics,
            stored,
            case.vocabularies,
            table_dtype=table_dtype,
            metadata=metadata,
            external=external,
        ),
        folder / f"{name}.onnx",
    )
    sizes = [(3, 7), (1, 0), (0, 2), (2, 40), (20, 1)]  # candidates and behaviours
    columns = case.columns([{"candidate": n, **dict.fromkeys(schema.histories, t)} for n, t in sizes])
    scores = [round(float(score), 9) for score in case.probabilities(columns)]
    (folder / f"{name}.json").write_text(json.dumps({"columns": columns, "scores": scores}, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    for model in MODELS:
        make(model, Path(sys.argv[1]))
