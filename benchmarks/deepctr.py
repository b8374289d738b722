"""One user's candidates through DeepCTR-Torch's own DIN and, imported and exported, through din_infer: processor time.

    python -P benchmarks/deepctr.py --out report/

The library's default layers (unit 64-16 with Dice, tower 256-128), D = 64, 5,000 items, untrained; one thread each, in
turns, outputs compared first. The library gets rows that are looked up, repeated and padded to the history beforehand.
`din-infer bench request` has the strongest peers. Needs the extra `peers`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import din_infer
from din_infer.bench.machine import machine_facts, machine_line
from din_infer.bench.peers.deepctr import deepctr_module
from din_infer.bench.timing import Competitor, Measurement, measure
from din_infer.export import export_model, from_deepctr

CASES = (100, 50), (500, 50), (100, 200), (300, 1000)  # candidates, behaviours
ITEMS, CATEGORIES, DIM = 5_000, 100, 32

Probabilities = Callable[[], Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for deepctr.json")
    parser.add_argument("--rounds", type=int, default=25)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = {f"{n} x {t}": timed(n, t, options.rounds) for n, t in CASES}
    facts = machine_facts()
    table = Table("candidates x behaviours", "DeepCTR-Torch over din_infer", "10th to 90th percentile")
    for case, (ours, theirs) in found.items():
        ratios = np.divide(theirs.seconds, ours.seconds)
        low, high = np.percentile(ratios, [10, 90])
        table.add_row(case, f"{np.median(ratios):.1f}", f"{low:.1f} to {high:.1f}")
    Console().print(table, machine_line(facts))
    options.out.mkdir(parents=True, exist_ok=True)
    content = {"machine": facts, "cases": {case: [m.to_dict() for m in pair] for case, pair in found.items()}}
    (options.out / "deepctr.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def timed(candidates: int, behaviours: int, rounds: int) -> tuple[Measurement, Measurement]:
    rng = np.random.default_rng(0)
    history = {"item": rng.integers(ITEMS, size=behaviours), "category": rng.integers(CATEGORIES, size=behaviours)}
    asked = {"item": rng.integers(ITEMS, size=candidates), "category": rng.integers(CATEGORIES, size=candidates)}
    network = untrained(behaviours)
    with tempfile.TemporaryDirectory() as folder:
        path = export_model(from_deepctr(network, user=["user"]), Path(folder) / "model.onnx")
        model = din_infer.load(path, threads=1)

    def ours() -> Any:
        return model.score_one(user={"user": 7}, history=history, candidates=asked)

    competitors = [
        Competitor("din_infer", ours),
        Competitor("DeepCTR-Torch", of_library(network, history, asked), "din_infer"),
    ]
    first, second = measure(competitors, tolerance=1e-5, rounds=rounds, budget=60.0, clock=time.process_time)
    return first, second


def untrained(behaviours: int) -> Any:
    inputs = deepctr_module("inputs")
    sparse, many = inputs.SparseFeat, inputs.VarLenSparseFeat
    columns = [sparse("user", 1_000, 16), sparse("item", ITEMS, DIM), sparse("category", CATEGORIES, DIM)]
    for name, rows in (("item", ITEMS), ("category", CATEGORIES)):
        column = sparse(f"hist_{name}", rows, DIM, embedding_name=name)
        columns.append(many(column, behaviours, length_name="length"))
    return deepctr_module("models.din").DIN(columns, ["item", "category"], init_std=0.1).eval()


def of_library(network: Any, history: dict[str, Any], asked: dict[str, Any]) -> Probabilities:
    given = {**{f"hist_{name}": ids for name, ids in history.items()}, "user": 7, "length": len(history["item"])}
    given |= {name: ids[:, None] for name, ids in asked.items()}
    rows = np.zeros((len(asked["item"]), max(end for _, end in network.feature_index.values())), np.float32)
    for name, (begin, end) in network.feature_index.items():
        rows[:, begin:end] = given[name]
    inputs = torch.from_numpy(rows)

    def run() -> Any:
        with torch.inference_mode():
            return network(inputs)[:, 0].numpy()

    return run


if __name__ == "__main__":
    main()
