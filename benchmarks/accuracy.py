"""DIN of other libraries trained on the same requests as din_infer's: AUC and GAUC over seeds, paired by users.

    din-infer data ml-100k --out data/ --max-history 50
    python -P benchmarks/accuracy.py data/ --out report/ --seeds 5

Same training rows, vocabularies, dense statistics, embedding widths, batch size, number of epochs and choice of the
best epoch for all. Each model runs with its own defaults, with `--search` also with the best that it finds at seed 0 by
validation GAUC: one option of TRIED after the other, each from the best so far. What is in `report/runs` is not trained
again, so a stopped comparison goes on.
Needs the extra `peers`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from din_infer.bench.machine import machine_facts
from din_infer.bench.peers.deepctr_din import DeepCTR
from din_infer.bench.peers.fuxictr_din import FuxiCTR
from din_infer.bench.peers.library import LibraryOptions, Make, train
from din_infer.bench.peers.rows import RowReader
from din_infer.experiment.bootstrap import Resamples, interval
from din_infer.experiment.runs import Runner
from din_infer.experiment.summary import Spread
from din_infer.training.config import TrainConfig

OURS = "din_infer"
LIBRARIES: dict[str, Make] = {"DeepCTR-Torch": DeepCTR, "FuxiCTR": FuxiCTR}
RESAMPLES = 1000

Options = dict[str, float]
Tried = dict[str, tuple[float, ...]]
TRIED_FOR_LIBRARIES: Tried = {"learning_rate": (0.002, 0.005), "dropout": (0.3,), "l2": (1e-4,)}
TRIED: dict[str, Tried] = {  # besides each model's defaults; all have three learning rates, two dropouts, two penalties
    OURS: {"learning_rate": (0.001, 0.002), "dropout": (0.3,), "penalty_strength": (4.0,)},
    **dict.fromkeys(LIBRARIES, TRIED_FOR_LIBRARIES),
}


@dataclass(frozen=True)
class Result:
    """One trained model: its metrics, its best epoch, and its test probabilities [N]."""

    metrics: dict[str, dict[str, float | None]]
    best_epoch: int
    probabilities: np.ndarray

    @property
    def score(self) -> float:
        valid = self.metrics["valid"]
        score = valid["auc"] if valid["gauc"] is None else valid["gauc"]
        return -np.inf if score is None else score


class Variant(NamedTuple):
    """A model with its own defaults or with what a search chose; `tried` has each combination's validation GAUC."""

    name: str
    kind: str
    options: Options
    tried: list[tuple[Options, float]]


class Trainings:
    """Trains what is not in `out/runs` yet, whichever library it is of."""

    def __init__(self, data: Path, out: Path, console: Console) -> None:
        self.runner, self.out, self.console = Runner(data, out), out, console
        self.reader = RowReader(self.runner.data)
        self.defaults = TrainConfig()

    def run(self, name: str, options: Options, seed: int) -> Result:
        result = self._ours(options, seed) if name == OURS else self._library(name, options, seed)
        self.console.print(f"{name} {options or 'defaults'} seed {seed}: {result.metrics['test']}", highlight=False)
        return result

    def _ours(self, options: Options, seed: int) -> Result:
        run = self.runner.run("din", TrainConfig.from_options({**options, "seed": seed}))
        return Result(run.metrics, run.best_epoch, run.probabilities)

    def _library(self, name: str, options: Options, seed: int) -> Result:
        chosen = LibraryOptions(**options, batch_size=self.defaults.batch_size, seed=seed)
        budget = {"epochs": self.defaults.epochs, "patience": self.defaults.patience}
        identity = {"data": self.runner.data.files, **budget, **asdict(chosen)}
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:10]
        folder = self.out / "runs" / f"{name}-seed{seed}-{digest}"
        if not (folder / "result.json").is_file():
            folder.mkdir(parents=True, exist_ok=True)
            library = LIBRARIES[name](self.reader, chosen)
            found = train(library, self.reader, **budget, progress=self._progress(name, seed))
            np.save(folder / "test.npy", found.probabilities)
            content = {"metrics": found.metrics, "best_epoch": found.best_epoch, "epochs": found.epochs}
            (folder / "result.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        content = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        return Result(content["metrics"], content["best_epoch"], np.load(folder / "test.npy"))

    def _progress(self, name: str, seed: int) -> Callable[[int, float], None]:
        return lambda epoch, score: self.console.print(f"{name} seed {seed} epoch {epoch}: validation GAUC {score:.4f}")

    def search(self, name: str) -> Variant:
        """A model with the best options found at seed 0."""
        best: Options = {}
        tried = [(best, self.run(name, best, 0).score)]
        for option, values in TRIED[name].items():
            points = [{**best, option: value} for value in values]
            tried += [(point, self.run(name, point, 0).score) for point in points]
            best = max(tried, key=lambda pair: pair[1])[0]
        return Variant(name, "searched", best, tried)

    def variants(self, names: list[str], search: bool) -> Iterator[Variant]:
        for name in names:
            yield Variant(name, "defaults", {}, [])
            if search:
                yield self.search(name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder that `din-infer data` wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder for runs/ and results.json")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--model", action="append", choices=[OURS, *LIBRARIES], help="default: all")
    parser.add_argument("--search", action="store_true", help="the best of a search too, eight runs a model more")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    console = Console()
    trainings = Trainings(arguments.data, arguments.out, console)
    names = arguments.model or [OURS, *LIBRARIES]
    found = [
        (variant, [trainings.run(variant.name, variant.options, seed) for seed in range(arguments.seeds)])
        for variant in trainings.variants(names, arguments.search)
    ]
    rows = compared(trainings, found)
    content = {"machine": machine_facts(), "data": trainings.runner.data.splits["test"].facts, "results": rows}
    (arguments.out / "results.json").write_text(json.dumps(content, indent=1, default=dict) + "\n", encoding="utf-8")
    console.print(rich_table(rows), arguments.out / "results.json")


def compared(trainings: Trainings, found: list[tuple[Variant, list[Result]]]) -> list[dict[str, Any]]:
    """A row for each variant: metrics over the seeds; how far above the first it is, with a 95% interval over users."""
    test = trainings.runner.data.splits["test"]
    assert test.groups is not None, "both protocols of MovieLens have groups"
    resamples, labels = Resamples.draw(test.groups, RESAMPLES), test.labels.numpy()
    rows: list[dict[str, Any]] = []
    first: dict[str, tuple[float, np.ndarray]] = {}
    for variant, results in found:
        row: dict[str, Any] = {**variant._asdict(), "best_epochs": [result.best_epoch for result in results]}
        for metric in ("auc", "gauc"):
            spread = Spread.of([result.metrics["test"][metric] for result in results])
            assert spread is not None, "a test split has both classes"
            drawn = np.mean([getattr(resamples, metric)(labels, r.probabilities) for r in results], axis=0)
            mean, of_first = first.setdefault(metric, (spread.mean, drawn))
            row[metric] = {
                **asdict(spread),
                "gap": {"mean": spread.mean - mean, "interval": interval(drawn - of_first)},
            }
        rows.append(row)
    return rows


def rich_table(rows: list[dict[str, Any]]) -> Table:
    table = Table("model", "AUC", "GAUC", "AUC above the first", "GAUC above the first", "options")
    for row in rows:
        both = [row[metric] for metric in ("auc", "gauc")]
        spreads = [f"{m['mean']:.4f} ± {m['std'] or 0:.4f}" for m in both]
        gaps = [
            f"{m['gap']['mean']:+.4f} ({m['gap']['interval'][0]:.4f} to {m['gap']['interval'][1]:.4f})" for m in both
        ]
        table.add_row(f"{row['name']}, {row['kind']}", *spreads, *gaps, str(row["options"] or ""))
    return table


if __name__ == "__main__":
    main()
