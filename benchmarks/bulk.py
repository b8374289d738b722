"""Bulk scoring of MovieLens 100K: every user's history against popular candidates, and against the whole catalogue.

    python benchmarks/bulk.py --out build/bench/bulk [--threads 2]

The plans of din_infer, and ONNX Runtime on the same file with requests sorted by length and padded. The model is
--model, trained on this data, or an untrained DIN (D = 64, unit 80-40, tower 80-40, sigmoid). Takes ten minutes on two
cores, most of them ONNX Runtime's.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml
from rich.console import Console

import din_infer
from din_infer import Jagged, Schema, Semantics
from din_infer.bench import report, timing
from din_infer.bench.peers import onnx_runtime
from din_infer.bench.request import exported, untrained
from din_infer.bench.tables import rich_table
from din_infer.bench.timing import Competitor
from din_infer.data.ml100k import Options, write_ml_100k
from din_infer.export.padded import padded_inputs, parts, unpadded
from din_infer.semantics import ActivationUnit, Layers
from din_infer.tables import columns_of

TOLERANCE = 1e-5
OURS = "din_infer, plan auto"
POPULAR = 200  # candidates of each user, drawn by popularity


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for results.json and bulk.png")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--min-rounds", type=int, default=1, help="also of those that take more than 15 s in all")
    parser.add_argument(
        "--every", type=int, default=1, metavar="N", help="of the users, by length of history, each Nth"
    )
    parser.add_argument("--against", choices=["request", "onnxruntime"], help="default: plan request and ONNX Runtime")
    parser.add_argument("--model", type=Path, help="a model file; default: an untrained one")
    parser.add_argument("--case", choices=["popular", "catalogue"], help="default: both")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help="cpu: processor time of all threads")
    arguments = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory() as folder, console.status("") as status:
        path, histories, items = movielens(Path(folder), arguments.model)
        model = din_infer.load(path, threads=arguments.threads)
        histories = histories[:: arguments.every]
        cases = {}
        if arguments.case != "catalogue":
            cases[f"{len(histories)} users x {POPULAR} popular items"] = popular(histories, items)
        if arguments.case != "popular":
            own = model_columns(histories, model), catalogue(items, model)
            cases[f"{len(histories)} users x all {len(items)} items"] = own
        table, plans = [], {}
        for name, (columns, shared) in cases.items():
            plans[name] = model.explain_plan(columns, catalogue=shared)._asdict()
            found = competitors(model, columns, shared)
            if arguments.against == "onnxruntime":
                del found[1:]
            if arguments.against != "request":
                found.append(peer(model, path, columns, shared, arguments.threads))
            measured = timing.measure(
                found,
                tolerance=TOLERANCE,
                rounds=arguments.rounds,
                min_rounds=arguments.min_rounds,
                budget=15,
                clock=time.process_time if arguments.clock == "cpu" else time.perf_counter,
                progress=lambda text, name=name: status.update(f"{name}: {text}"),
            )
            table += report.rows(name, measured)
    settings = {
        "threads": arguments.threads,
        "clock": arguments.clock,
        "trained": arguments.model is not None,
        "behaviours": mean_length(histories),
    }
    content = report.results("bulk", settings, table, plans=plans)
    paths = report.write(content, table, "MovieLens 100K, every user", arguments.out)
    console.print(rich_table(table, f"Bulk scoring, threads: {arguments.threads}"), *paths)


def movielens(folder: Path, model: Path | None) -> tuple[Path, pl.DataFrame, pl.DataFrame]:
    """A model file, untrained where none is given, and MovieLens 100K's users and items.

    Of a user the longest history, shortest first; of an item how often it was liked.
    """
    write_ml_100k(folder, None, Options(max_history=10_000))
    requests = pl.concat([pl.read_parquet(folder / f"{part}.parquet") for part in ("train", "valid", "test")])
    liked = pl.col("history.item_id")
    histories = requests.sort(liked.list.len()).group_by("user_id", maintain_order=True).last().sort(liked.list.len())
    counts = histories.select(liked.explode().alias("candidate.item_id")).group_by("candidate.item_id").len("liked_by")
    items = pl.read_parquet(folder / "items.parquet").join(counts, on="candidate.item_id", how="left")
    return model or untrained_model(folder, items), histories, items.with_columns(pl.col("liked_by").fill_null(0))


def untrained_model(folder: Path, items: pl.DataFrame) -> Path:
    described = yaml.safe_load((folder / "schema.yaml").read_text(encoding="utf-8"))
    described["tables"]["item"]["dim"] = 48
    described["tables"]["genre"]["dim"] = 16
    unit = ActivationUnit(hidden=(80, 40), activation="sigmoid")
    semantics = Semantics("activation_unit", {"history": unit}, Layers(hidden=(80, 40), activation="sigmoid"))
    vocabularies = {
        "item": items["candidate.item_id"].sort().to_numpy(),
        "genre": items["candidate.genre"].explode().drop_nulls().unique().sort().to_list(),
    }
    return exported(untrained(Schema.from_dict(described), semantics, vocabularies, seed=0), folder / "model.onnx")


def model_columns(histories: pl.DataFrame, model: din_infer.Model) -> dict[str, Any]:
    return columns_of(histories.to_arrow(), model.schema, ("history",))


def catalogue(items: pl.DataFrame, model: din_infer.Model) -> dict[str, Any]:
    return {f"candidate.{name}": items[f"candidate.{name}"].to_arrow() for name in model.schema.candidate}


def popular(histories: pl.DataFrame, items: pl.DataFrame) -> tuple[dict[str, Any], None]:
    """For each user items drawn without replacement, with probabilities as their number of likes, plus one."""
    rng = np.random.default_rng(0)
    weights = items["liked_by"].to_numpy() + 1
    drawn = [rng.choice(len(items), POPULAR, replace=False, p=weights / weights.sum()) for _ in range(len(histories))]
    chosen = items[np.concatenate(drawn)]
    lengths = [POPULAR] * len(histories)
    columns: dict[str, Any] = {name: histories[name] for name in ("history.item_id", "history.genre")}
    for name in ("candidate.item_id", "candidate.genre", "candidate.release_year"):
        values = chosen[name].to_list()
        inner = Jagged.from_lists(values) if name == "candidate.genre" else np.array(values)
        columns[name] = Jagged.from_lengths(inner, lengths)
    return columns, None


def competitors(
    model: din_infer.Model, columns: Mapping[str, Any], shared: Mapping[str, Any] | None
) -> list[Competitor]:
    return [
        Competitor(OURS, lambda: model.score(columns, "auto", catalogue=shared)),
        Competitor("din_infer, plan request", lambda: model.score(columns, "request", catalogue=shared), OURS),
    ]


def peer(
    model: din_infer.Model, path: Path, columns: Mapping[str, Any], shared: Mapping[str, Any] | None, threads: int
) -> Competitor:
    session = onnx_runtime.session(path, threads)
    padded = [padded_inputs(model.schema, part) for part in parts(model.schema, each_its_own(columns, shared))]

    def run() -> np.ndarray:
        scores = [unpadded(session.run(None, inputs)[0], inputs["candidate.lengths"]) for inputs in padded]
        return np.concatenate(scores)

    return Competitor("ONNX Runtime, folded", run, OURS)


def each_its_own(columns: Mapping[str, Any], shared: Mapping[str, Any] | None) -> dict[str, Any]:
    """The columns with the catalogue as every request's candidates."""
    if shared is None:
        return dict(columns)
    requests = len(columns["history.item_id"])
    repeated = {name: Jagged.from_lists([values.to_pylist()] * requests) for name, values in shared.items()}
    return {**columns, **repeated}


def mean_length(histories: pl.DataFrame) -> float:
    return float(histories["history.item_id"].list.len().mean())


if __name__ == "__main__":
    main()
