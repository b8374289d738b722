"""What the DIN of another library looks like to the comparison of trained models, and the loop that trains it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from torch import nn

from din_infer.bench.peers.rows import Floats, RowReader, Rows
from din_infer.training.loop import Metrics, Split, negative_weight
from din_infer.training.metrics import evaluate

CANDIDATES_PER_CHUNK = 1 << 15


@dataclass(frozen=True)
class LibraryOptions:
    """What a search varies; None is the library's own default. `l2` adds `l2` w to the gradient of embeddings w."""

    learning_rate: float | None = None
    dropout: float | None = None
    l2: float | None = None
    batch_size: int = 512
    seed: int = 0


class Library(Protocol):
    """A model of another library, trained by that library's own step."""

    network: nn.Module

    def train_epoch(self, train: Rows) -> None:
        """One pass over the rows in a new order."""

    def predict(self, rows: Rows) -> Floats:
        """Probabilities [n]."""

    def end_epoch(self, score: float) -> None:
        """What the library does after a validation, as to lower its learning rate."""


Make = Callable[[RowReader, LibraryOptions], Library]


@dataclass(frozen=True)
class LibraryRun:
    """The best epoch's metrics on valid and test and its test probabilities [N]; `epochs` as of `din-infer train`."""

    metrics: Metrics
    epochs: list[dict[str, Any]]
    best_epoch: int
    probabilities: Floats


def train(
    library: Library, reader: RowReader, epochs: int, patience: int, progress: Callable[[int, float], None]
) -> LibraryRun:
    """As `din-infer train` does: the epoch with the best validation GAUC (AUC without groups) counts."""
    rows, history = reader.read("train"), []
    best, best_epoch, weights = -np.inf, 0, copy.deepcopy(library.network.state_dict())
    for epoch in range(1, epochs + 1):
        library.train_epoch(rows)
        valid = _metrics(reader, "valid", _predict(library, reader, "valid"))
        history.append({"valid": valid})
        score = valid["auc"] if valid["gauc"] is None else valid["gauc"]
        assert score is not None, "a validation split with one class alone has no best epoch"
        library.end_epoch(score)
        progress(epoch, score)
        if score > best:
            best, best_epoch, weights = score, epoch, copy.deepcopy(library.network.state_dict())
        elif patience and epoch - best_epoch >= patience:
            break
    library.network.load_state_dict(weights)
    test = _predict(library, reader, "test")
    metrics = {"valid": history[best_epoch - 1]["valid"], "test": _metrics(reader, "test", test)}
    return LibraryRun(metrics, history, best_epoch, test)


def _predict(library: Library, reader: RowReader, split: str) -> Floats:
    parts = [library.predict(rows) for rows in reader.chunks(split, CANDIDATES_PER_CHUNK)]
    return np.concatenate(parts).astype(np.float32)


def _metrics(reader: RowReader, name: str, probabilities: Floats) -> dict[str, float | None]:
    split: Split = reader.data.splits[name]
    weight = negative_weight(reader.data.splits["train"].facts, split.facts)
    return evaluate(split.labels.numpy(), probabilities, split.groups, weight)
