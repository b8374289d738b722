"""Training: splits from a folder of requests, mini-batches of whole requests, Adam, metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor
from torch.nn import functional

from din_infer.data.requests import facts_of, groups_of, labels_of, read_requests, read_schema
from din_infer.errors import DataError
from din_infer.schema import Schema
from din_infer.tables import columns_of
from din_infer.training.checkpoint import Checkpoint
from din_infer.training.config import TrainConfig
from din_infer.training.embedding import dense_columns
from din_infer.training.metrics import evaluate
from din_infer.training.model import DIN
from din_infer.training.predict import chunk_requests, predict_requests
from din_infer.training.requests import Requests, prepare, take_ranges
from din_infer.training.vocabulary import build_vocabularies

Metrics = dict[str, dict[str, float | None]]
Progress = Callable[[int, float], None]  # (candidates done in all epochs, loss of the last mini-batch)


@dataclass(frozen=True)
class Split:
    """One prepared file of requests: its candidates' labels [N] and GAUC's groups [N], and the facts of its making."""

    requests: Requests
    labels: Tensor
    groups: npt.NDArray[np.int64] | None
    facts: Mapping[str, Any]


class Trainer:
    """Reads `folder` (train, valid, test .parquet and schema.yaml) and trains one model on it.

    The same folder, config and number of threads give the same model. Raises DataError, SchemaError and InputError for
    what the folder lacks or gets wrong.
    """

    def __init__(self, folder: Path, config: TrainConfig) -> None:
        self.config = config
        self.schema = read_schema(folder)
        self.semantics = config.semantics(self.schema)
        train = read_requests(folder / "train.parquet")
        self.vocabularies = build_vocabularies(self.schema, columns_of(train, self.schema))
        self.splits = {"train": self._split(train)}
        self.splits |= {name: self._split(read_requests(folder / f"{name}.parquet")) for name in ("valid", "test")}
        if len(self.splits["train"].labels) == 0:
            raise DataError(f"{folder / 'train.parquet'}: expected labelled candidates, got none")

    @property
    def candidates(self) -> int:
        """Candidates that training goes through, all epochs counted."""
        return self.config.epochs * len(self.splits["train"].labels)

    def run(self, progress: Progress = lambda done, loss: None) -> tuple[Checkpoint, Metrics]:
        """Trains, and evaluates what came out on valid and test."""
        with torch.random.fork_rng():
            torch.manual_seed(self.config.seed)
            model = DIN(self.schema, self.semantics, {name: len(v) for name, v in self.vocabularies.items()})
            model.embedding.set_dense_statistics(dense_statistics(self.schema, self.splits["train"].requests))
            self._fit(model, progress)
        metrics = {name: self.evaluate(model, self.splits[name]) for name in ("valid", "test")}
        facts = {
            "data": {name: split.facts for name, split in self.splits.items()},
            "config": self.config.model_dump(mode="json"),
            "metrics": metrics,
        }
        return Checkpoint(model.eval(), self.schema, self.semantics, self.vocabularies, facts), metrics

    def _fit(self, model: DIN, progress: Progress) -> None:
        split, done = self.splits["train"], 0
        optimizer = torch.optim.Adam(model.parameters(), lr=self.config.learning_rate, fused=True)
        model.train()
        for _ in range(self.config.epochs):
            for batch, labels in self._batches(split):
                loss = functional.binary_cross_entropy_with_logits(model(batch), labels)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                done += len(labels)
                progress(done, float(loss.detach()))

    def _batches(self, split: Split) -> Iterator[tuple[Requests, Tensor]]:
        candidates = split.requests.lengths("candidate")
        labelled = candidates.nonzero().squeeze(1)
        order = labelled[torch.randperm(len(labelled))]
        for chunk in chunk_requests(order, candidates, self.config.batch_size):
            positions, _ = take_ranges(split.requests.offsets["candidate"], chunk)
            yield split.requests.select(chunk), split.labels[positions]

    def evaluate(self, model: DIN, split: Split) -> dict[str, float | None]:
        """Metrics of one split. Its log loss is taken at the training split's rate of sampled negatives."""
        sampled, trained = split.facts.get("sampled_negatives"), self.splits["train"].facts.get("sampled_negatives")
        weight = trained / sampled if sampled and trained else 1.0
        return evaluate(split.labels.numpy(), predict_requests(model, split.requests), split.groups, weight)

    def _split(self, table: pa.Table) -> Split:
        requests = prepare(self.schema, self.vocabularies, columns_of(table, self.schema))
        candidates = requests.lengths("candidate").numpy()
        groups = groups_of(table, self.schema)
        return Split(
            requests=requests,
            labels=torch.from_numpy(labels_of(table, self.schema, candidates)),
            groups=None if groups is None else np.repeat(groups, candidates),
            facts=facts_of(table),
        )


def dense_statistics(schema: Schema, train: Requests) -> dict[str, tuple[float, float]]:
    """Mean and (biased) standard deviation of each dense column; 1 for a constant one, 0 and 1 without values."""
    statistics = {}
    for name in dense_columns(schema):
        values = train.columns[name].values.double()
        std = float(values.std(correction=0)) if len(values) else 0.0
        statistics[name] = (float(values.mean()) if len(values) else 0.0, std if std > 0 else 1.0)
    return statistics
