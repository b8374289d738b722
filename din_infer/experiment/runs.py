"""Runs of an experiment: each is trained once, in a folder of its own that its data and hyper-parameters name."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from din_infer.errors import DataError, TrainingError
from din_infer.experiment.spec import Options, Spec
from din_infer.training.checkpoint import Checkpoint, save_checkpoint
from din_infer.training.config import TrainConfig
from din_infer.training.loop import Metrics, Trainer, TrainingData

RESULT, PROBABILITIES = "result.json", "test.npy"
BINS_PER_DOUBLING = 1  # of a row's frequency, in the picture of row norms

Progress = Callable[[str, int, int, float], None]  # (run, candidates done, of how many, loss of the last mini-batch)


@dataclass(frozen=True)
class RowNorms:
    """Rows of one table by how many training samples have them: count [bins], and quantiles of their L2 norms."""

    samples: list[float]  # geometric middle of each bin
    rows: list[int]
    median: list[float]
    low: list[float]  # 10%
    high: list[float]  # 90%


@dataclass(frozen=True)
class Run:
    """One trained model's results. `epochs` has the training loss and the metrics on valid of each epoch."""

    variant: str
    seed: int
    config: TrainConfig
    folder: Path
    metrics: Metrics
    epochs: list[dict[str, Any]]
    best_epoch: int
    row_norms: dict[str, RowNorms]

    @cached_property
    def probabilities(self) -> npt.NDArray[np.float32]:
        """Of the test candidates, float32 [N]. Raises DataError for a damaged file."""
        path = self.folder / PROBABILITIES
        try:
            values: npt.NDArray[np.float32] = np.load(path)
        except (ValueError, EOFError, OSError) as error:
            raise DataError(f"{path}: expected the probabilities of a run, got: {error}; remove the folder") from None
        return values

    @property
    def valid_score(self) -> float:
        """Validation GAUC, or AUC where there are no groups."""
        valid = self.metrics["valid"]
        score = valid["auc"] if valid["gauc"] is None else valid["gauc"]
        return -np.inf if score is None else score


class Runner:
    """Trains what is not in `out/runs` yet. A training that was killed goes on from its last epoch.

    Raises DataError for a folder with nothing to test on, and what `Trainer` raises.
    """

    def __init__(self, data_folder: Path, out: Path, progress: Progress = lambda run, done, total, loss: None) -> None:
        self.data = TrainingData.read(data_folder)
        if len(self.data.splits["test"].labels) == 0:
            raise DataError(f"{data_folder / 'test.parquet'}: expected labelled candidates, got none")
        self.out, self.progress = out, progress

    @cached_property
    def samples(self) -> dict[str, npt.NDArray[np.int64]]:
        """Training samples of each table's rows."""
        return {name: counts.numpy() for name, counts in self.data.samples_per_row().items()}

    def run(self, variant: str, config: TrainConfig) -> Run:
        """The results of one run, trained now or before."""
        identity = json.dumps({"data": self.data.files, "config": config.model_dump(mode="json")}, sort_keys=True)
        name = f"{slug(variant)}-seed{config.seed}-{hashlib.sha256(identity.encode()).hexdigest()[:10]}"
        folder = self.out / "runs" / name
        if not (folder / RESULT).is_file():
            folder.mkdir(parents=True, exist_ok=True)
            self._train(folder, f"{variant}, seed {config.seed}", config)
        return read_run(folder, variant, config)

    def _train(self, folder: Path, name: str, config: TrainConfig) -> None:
        trainer = Trainer(self.data, config)
        total = trainer.candidates
        state_file = folder / "training.pt"
        try:
            trained = trainer.run(lambda done, loss: self.progress(name, done, total, loss), state_file, resume=True)
        except TrainingError as error:
            raise TrainingError(f"{name}: {error}") from None
        save_checkpoint(trained.checkpoint, folder)
        config.write(folder / "config.yaml")
        np.save(folder / PROBABILITIES, trained.probabilities["test"])
        facts = trained.checkpoint.facts
        content = {
            "metrics": trained.metrics,
            "epochs": facts["epochs"],
            "best_epoch": facts["best_epoch"],
            "row_norms": {name: vars(norms) for name, norms in row_norms(trained.checkpoint, self.samples).items()},
        }
        part = folder / f".{RESULT}"
        part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        part.replace(folder / RESULT)  # last, for it says that the run is complete
        state_file.unlink()

    def search(self, spec: Spec, variant: str) -> tuple[Options, list[tuple[Options, float]]]:
        """The best combination of `spec.search` for a variant, and the validation score of each."""
        points = list(spec.points())
        if len(points) == 1:
            return points[0], []
        if len(kinds := np.unique(self.data.splits["valid"].labels.numpy())) < 2:
            raise DataError(f"search: expected both labels in valid.parquet to choose by, got {kinds.tolist()}")
        seed = spec.seeds[0]
        tried = [(point, self.run(variant, spec.config(variant, point, seed)).valid_score) for point in points]
        return max(tried, key=lambda pair: pair[1])[0], tried

    def runs(self, spec: Spec) -> Iterator[tuple[str, list[Run], Options, list[tuple[Options, float]]]]:
        """Each variant with its runs over the seeds, the combination that the search chose, and what it tried."""
        for variant in spec.variants:
            chosen, tried = self.search(spec, variant)
            yield variant, [self.run(variant, spec.config(variant, chosen, s)) for s in spec.seeds], chosen, tried


def read_run(folder: Path, variant: str, config: TrainConfig) -> Run:
    """Raises DataError for a damaged result."""
    try:
        content = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        norms = {name: RowNorms(**bins) for name, bins in content["row_norms"].items()}
        facts = (content["metrics"], content["epochs"], content["best_epoch"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder / RESULT}: expected the result of a run, got {error!r}; remove the folder") from None
    return Run(variant, config.seed, config, folder, *facts, norms)


def row_norms(checkpoint: Checkpoint, samples: dict[str, npt.NDArray[np.int64]]) -> dict[str, RowNorms]:
    """L2 norms of embedding rows against the training samples that have them, those with none left out."""
    embedding, found = checkpoint.model.embedding, {}
    for table, index in embedding.table_index.items():
        norms = np.linalg.norm(embedding.tables[index].detach().numpy(), axis=1)
        seen = samples[table] > 0
        if not seen.any():
            continue
        frequency, norms = np.log2(samples[table][seen]), norms[seen]
        bins = np.floor(frequency * BINS_PER_DOUBLING).astype(np.int64)
        rows = [norms[bins == b] for b in np.unique(bins)]
        quantiles = np.array([np.quantile(r, (0.1, 0.5, 0.9)) for r in rows])
        found[table] = RowNorms(
            samples=[float(2 ** frequency[bins == b].mean()) for b in np.unique(bins)],
            rows=[len(r) for r in rows],
            low=quantiles[:, 0].tolist(),
            median=quantiles[:, 1].tolist(),
            high=quantiles[:, 2].tolist(),
        )
    return found


def slug(name: str) -> str:
    """A variant's name as part of a folder's."""
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-") or "variant"
