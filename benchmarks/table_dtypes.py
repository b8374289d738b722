"""Embedding tables stored as float32, float16 and int8: memory, AUC and GAUC, and time, in one table.

    python -P benchmarks/table_dtypes.py --run demo/din --data demo/data --out build/bench/tables.json

AUC is of a run's test split. Times are of untrained models, for they do not depend on the weights: a request of 1,000
behaviours and 100 candidates (D = 64, unit 80-40), where look-ups are a small part; and histories summed by the base
model, 512 requests of 1,000 random ids in a call and one candidate each, where look-ups are nearly all. One thread.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

import din_infer
from din_infer import Jagged, Schema, Semantics, _core
from din_infer.bench import timing
from din_infer.bench.machine import machine_facts
from din_infer.embedding_tables import TABLE_DTYPES, stored_parameters
from din_infer.export import build_model, export_model
from din_infer.export.storage import save_model
from din_infer.semantics import ActivationUnit, Layers
from din_infer.training.checkpoint import load_checkpoint
from din_infer.training.metrics import evaluate

DIM = 64
TOWER = Layers(hidden=(80, 40), activation="sigmoid")
UNIT = ActivationUnit(hidden=(80, 40), activation="sigmoid")
DIN = Semantics("activation_unit", {"history": UNIT}, TOWER)
BASE = Semantics("sum", {}, TOWER)
Models = dict[str, din_infer.Model]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="folder of `din-infer train`, for AUC; with --data")
    parser.add_argument("--data", type=Path, help="folder with its test.parquet")
    parser.add_argument("--rows", type=int, nargs="*", default=[1_000_000, 10_000_000], help="of the large tables")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    found: dict[str, dict[str, Any]] = {dtype: {} for dtype in TABLE_DTYPES}
    with tempfile.TemporaryDirectory() as folder:
        if arguments.run is not None:
            quality(arguments.run, arguments.data, Path(folder), found)
        cases = [
            ("1,000 x 100", 100_000, DIN, 1, 100),
            *((f"look-ups, {n:,}", n, BASE, 512, 1) for n in arguments.rows),
        ]
        for name, rows, semantics, requests, candidates in cases:
            models = untrained(rows, semantics, Path(folder))
            columns = random_requests(rows, requests, candidates)
            measured = time_each(models, columns, arguments.rounds)
            for dtype, model in models.items():
                found[dtype][name] = {**measured[dtype], "memory_bytes": model.memory_bytes}
    report = {"machine": machine_facts(), "target": _core.target(), "results": found}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")
    show(found)


def quality(run: Path, data: Path, folder: Path, found: dict[str, dict[str, Any]]) -> None:
    """AUC and GAUC of a run's test split with tables of each type."""
    checkpoint, requests = load_checkpoint(run), pq.read_table(data / "test.parquet")
    labels = requests["label"].combine_chunks()
    counts = np.diff(labels.offsets.to_numpy())
    groups = np.repeat(requests["user_id"].to_numpy(), counts)
    for dtype, result in found.items():
        path = export_model(checkpoint, folder / f"{dtype}.onnx", table_dtype=dtype)
        scores = din_infer.load(path).score_table(requests)["score"].combine_chunks().flatten().to_numpy()
        metrics = evaluate(labels.flatten().to_numpy().astype(np.float32), scores, groups)
        result["quality"] = {"auc": metrics["auc"], "gauc": metrics["gauc"], "file_bytes": path.stat().st_size}


def untrained(rows: int, semantics: Semantics, folder: Path) -> Models:
    schema = Schema.from_dict(
        {
            "version": 1,
            "tables": {"item": {"dim": DIM, "ids": {"hash": rows}}},
            "candidate": {"item": {"table": "item"}},
            "histories": {"history": {"features": {"item": None}}},
        }
    )
    rng = np.random.default_rng(0)
    layout = _core.expected_graph(json.dumps(schema.to_dict()), json.dumps(semantics.to_dict()), True)
    parameters = {
        name: rng.standard_normal(shape, np.float32) * np.float32(0.05) for name, _, shape in layout["parameters"]
    }
    models = {}
    for dtype in TABLE_DTYPES:
        stored = stored_parameters(parameters, dtype)
        path = folder / f"{rows}-{semantics.pooling}-{dtype}.onnx"
        save_model(
            stored,
            lambda external, dtype=dtype, stored=stored: build_model(
                schema, semantics, stored, {}, table_dtype=dtype, external=external
            ),
            path,
        )
        models[dtype] = din_infer.load(path, threads=1)
    return models


def random_requests(rows: int, requests: int, candidates: int) -> dict[str, Jagged]:
    rng = np.random.default_rng(1)
    return {
        f"{group}.item": Jagged.from_lengths(rng.integers(0, rows, n * requests), np.full(requests, n))
        for group, n in (("history", 1000), ("candidate", candidates))
    }


def time_each(models: Models, columns: dict[str, Jagged], rounds: int) -> dict[str, dict[str, float]]:
    def run(model: din_infer.Model) -> Callable[[], Any]:
        return lambda: model.score(columns, "request")

    competitors = [timing.Competitor(dtype, run(model)) for dtype, model in models.items()]
    measured = timing.measure(competitors, tolerance=0.0, rounds=rounds, budget=20)
    return {m.name: {"median": m.median, "p10": m.spread[0], "p90": m.spread[1]} for m in measured}


def show(found: dict[str, dict[str, Any]]) -> None:
    cases = [name for name in found["float32"] if name != "quality"]
    table = Table("tables", "AUC", "GAUC", *(f"{name}: MB, ms" for name in cases))
    for dtype, result in found.items():
        quality = result.get("quality", {"auc": float("nan"), "gauc": float("nan")})
        cells = [f"{quality['auc']:.5f}", f"{quality['gauc']:.5f}"]
        for name in cases:
            time, base = result[name], found["float32"][name]
            ratio = base["median"] / time["median"]
            verdict = "" if dtype == "float32" else f", {ratio:.2f}x" + (" (slower)" if ratio < 1 else "")
            spread = f"{time['p10'] * 1e3:.1f} to {time['p90'] * 1e3:.1f}"
            cells.append(f"{time['memory_bytes'] / 1e6:,.0f}, {time['median'] * 1e3:.1f} ({spread}){verdict}")
        table.add_row(dtype, *cells)
    Console(width=200).print(table)


if __name__ == "__main__":
    main()
