"""Training: splits from a folder of requests, mini-batches of whole requests, metrics."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor
from torch.nn import functional

from din_infer.data.requests import SCHEMA_FILE, facts_of, groups_of, labels_of, read_requests, read_schema
from din_infer.errors import DataError, InputError, TrainingError
from din_infer.extras import require
from din_infer.schema import Schema
from din_infer.tables import columns_of
from din_infer.training.checkpoint import FILE_NAME, Checkpoint, load_checkpoint
from din_infer.training.config import TrainConfig
from din_infer.training.embedding import dense_columns
from din_infer.training.metrics import evaluate
from din_infer.training.model import DIN
from din_infer.training.optimizer import Optimizer
from din_infer.training.predict import predict_requests
from din_infer.training.prepare import prepare
from din_infer.training.regularisation import MiniBatchAware, samples_per_row
from din_infer.training.requests import Requests, chunk_requests, take_ranges
from din_infer.training.state import TrainingState, check_identity
from din_infer.training.vocabulary import Vocabulary, build_vocabularies

SPLITS = ("train", "valid", "test")
Metrics = dict[str, dict[str, float | None]]
Progress = Callable[[int, float], None]  # (candidates done in all epochs, loss of the last mini-batch)


@dataclass(frozen=True)
class Split:
    """One prepared file of requests: its candidates' labels [N] and GAUC's groups [N], and the facts of its making."""

    requests: Requests
    labels: Tensor
    groups: npt.NDArray[np.int64] | None
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class TrainingData:
    """A folder of requests, prepared: vocabularies of the training split, and all three splits.

    `files` is the SHA-256 of each file that was read.
    """

    schema: Schema
    vocabularies: Mapping[str, Vocabulary]
    splits: Mapping[str, Split]
    files: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> TrainingData:
        """Reads train, valid, test .parquet and schema.yaml. Raises DataError, SchemaError and InputError."""
        schema = read_schema(folder)
        vocabularies: Mapping[str, Vocabulary] = {}
        splits = {}
        for name in SPLITS:
            with named(path := folder / f"{name}.parquet"):
                table = read_requests(path)
                if name == "train":
                    vocabularies = build_vocabularies(schema, columns_of(table, schema))
                splits[name] = read_split(schema, vocabularies, table)
        if len(splits["train"].labels) == 0:
            raise DataError(f"{folder / 'train.parquet'}: expected labelled candidates, got none")
        return cls(schema, vocabularies, splits, fingerprint(folder))

    def samples_per_row(self) -> dict[str, Tensor]:
        """n_j of every table's rows in the training split; see `regularisation.samples_per_row`."""
        rows = {name: t.rows(len(self.vocabularies.get(name, ()))) for name, t in self.schema.tables.items()}
        return samples_per_row(self.schema, self.splits["train"].requests, rows)


class Trained(NamedTuple):
    """The best epoch's model, its metrics on valid and test, and its probabilities, float32 [N] each."""

    checkpoint: Checkpoint
    metrics: Metrics
    probabilities: dict[str, npt.NDArray[np.float32]]


class Trainer:
    """Trains one model on a folder of requests, or on one that is read already, on the device `cpu` or `cuda`.

    On the CPU, the same data, config and number of threads give the same model; on a GPU sums run in an order that
    changes. There activation units are the Triton kernels, but for Dice, whose statistics of a mini-batch they do not
    compute: with it PyTorch trains, and the kernels evaluate. Raises DataError, SchemaError and InputError for what
    the folder lacks or gets wrong, TrainingError where the loss is no longer finite; for `cuda`, InputError without
    such a device, MissingExtraError without triton.
    """

    def __init__(self, data: Path | TrainingData, config: TrainConfig, device: str = "cpu") -> None:
        self.config = config
        self.device_name, self.device = device, _device(device)
        self.data = TrainingData.read(data) if isinstance(data, Path) else data
        self.schema, self.vocabularies, self.splits = self.data.schema, self.data.vocabularies, self.data.splits
        self.semantics = config.semantics(self.schema)

    @property
    def candidates(self) -> int:
        """Candidates that training goes through, all epochs counted."""
        return self.config.epochs * len(self.splits["train"].labels)

    def run(
        self, progress: Progress = lambda done, loss: None, state_file: Path | None = None, resume: bool = False
    ) -> Trained:
        """Trains, and evaluates the best epoch's model on valid and test.

        After each epoch `state_file` takes what `resume` needs to go on from there, to the same weights as without a
        break; who has stored the result removes it. Raises DataError where it is damaged or of another training.
        """
        with torch.random.fork_rng():
            torch.manual_seed(self.config.seed)
            sizes = {name: len(v) for name, v in self.vocabularies.items()}
            model = DIN(self.schema, self.semantics, sizes, self.config.dropout, self.config.batch_norm)
            model.embedding.set_dense_statistics(dense_statistics(self.schema, self.splits["train"].requests))
            model.to(self.device).fused = self.device_name == "cuda"
            identity = {**self._identity(), "threads": torch.get_num_threads()}
            state = TrainingState(model, self._optimizer(model), identity)
            if resume and state_file is not None and state_file.is_file():
                state.load(state_file)
            self._fit(state, progress, state_file)
        if state.best_weights is not None:
            model.load_state_dict(state.best_weights)
        probabilities = {name: predict_requests(model, self.splits[name].requests) for name in ("valid", "test")}
        metrics = {name: self._metrics(self.splits[name], p) for name, p in probabilities.items()}
        facts = {**self._identity(), "epochs": state.epochs, "best_epoch": state.best_epoch, "metrics": metrics}
        model.to("cpu").fused = False
        checkpoint = Checkpoint(model.eval(), self.schema, self.semantics, self.vocabularies, facts)
        return Trained(checkpoint, metrics, probabilities)

    def finished(self, run: Path) -> Checkpoint | None:
        """What this training left in `run` when it ended, on however many threads; None without a checkpoint.

        Raises DataError where it is damaged or of another training.
        """
        if not (path := run / FILE_NAME).is_file():
            return None
        checkpoint = load_checkpoint(run)
        check_identity(path, self._identity(), checkpoint.facts)
        return checkpoint

    def _identity(self) -> dict[str, Any]:
        """What two trainings have in common if, on as many threads, they end with the same weights; JSON.

        `files` are their SHA-256.
        """
        return {
            "data": {name: dict(split.facts) for name, split in self.splits.items()},
            "files": dict(self.data.files),
            "config": self.config.model_dump(mode="json"),
            "device": self.device_name,
        }

    def _optimizer(self, model: DIN) -> Optimizer:
        penalty = None
        if self.config.regularisation == "mba":
            counts = self.data.samples_per_row()
            penalty = MiniBatchAware(model.embedding, counts, self.config.penalty_strength)
        return Optimizer(model, self.config, penalty, self.candidates)

    def _fit(self, state: TrainingState, progress: Progress, state_file: Path | None) -> None:
        split = self.splits["train"]
        while len(state.epochs) < self.config.epochs and not state.stopped(self.config.patience):
            done, losses = len(state.epochs) * len(split.labels), []
            state.model.train()
            for batch, labels in self._batches(split):
                logits = state.model(batch.to(self.device))
                loss = functional.binary_cross_entropy_with_logits(logits, labels.to(self.device))
                state.optimizer.step(loss, done)
                done += len(labels)
                losses.append(float(loss.detach()))
                if not math.isfinite(losses[-1]):
                    raise TrainingError(
                        f"epoch {len(state.epochs) + 1}: expected a finite loss, got {losses[-1]}: training diverged;"
                        f" lower the learning rate, {self.config.learning_rate:g}, or clip its gradients (clip_norm)"
                    )
                progress(done, losses[-1])
            state.end_epoch(float(np.mean(losses)), self._evaluate(state.model, self.splits["valid"]))
            if state_file is not None:
                state.save(state_file)

    def _batches(self, split: Split) -> Iterator[tuple[Requests, Tensor]]:
        candidates = split.requests.lengths("candidate")
        labelled = candidates.nonzero().squeeze(1)
        order = labelled[torch.randperm(len(labelled))]
        for chunk in chunk_requests(order, candidates, self.config.batch_size):
            positions, _ = take_ranges(split.requests.offsets["candidate"], chunk)
            yield split.requests.select(chunk), split.labels[positions]

    def _evaluate(self, model: DIN, split: Split) -> dict[str, float | None]:
        return self._metrics(split, predict_requests(model, split.requests))

    def _metrics(self, split: Split, probabilities: npt.NDArray[np.float32]) -> dict[str, float | None]:
        weight = negative_weight(self.splits["train"].facts, split.facts)
        return evaluate(split.labels.numpy(), probabilities, split.groups, weight)


def _device(name: str) -> torch.device:
    if name == "cpu":
        return torch.device("cpu")
    if name != "cuda":
        raise InputError(f"device: expected cpu | cuda, got {name!r}")
    require("triton", "cuda")
    device: torch.device = require("din_infer.cuda", "cuda").device()
    return device


def read_split(schema: Schema, vocabularies: Mapping[str, Vocabulary], table: pa.Table) -> Split:
    """A table of labelled requests, prepared. Raises DataError and InputError for what does not fit the schema."""
    requests = prepare(schema, vocabularies, columns_of(table, schema))
    candidates = requests.lengths("candidate").numpy()
    groups = groups_of(table, schema)
    return Split(
        requests=requests,
        labels=torch.from_numpy(labels_of(table, schema, candidates)),
        groups=None if groups is None else np.repeat(groups, candidates),
        facts=facts_of(table),
    )


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Puts the file's name before errors in it that lack it."""
    try:
        yield
    except (DataError, InputError) as error:
        raise error if str(path) in str(error) else type(error)(f"{path}: {error}") from None


def negative_weight(trained: Mapping[str, Any], measured: Mapping[str, Any]) -> float:
    """What a negative counts in log loss and PCOC, where two splits' facts sample negatives at different rates."""
    rates = [facts.get("sampled_negatives") for facts in (trained, measured)]
    return rates[0] / rates[1] if rates[0] and rates[1] else 1.0


def fingerprint(folder: Path) -> dict[str, str]:
    """SHA-256 of each file that training reads."""
    found = {}
    for name in (SCHEMA_FILE, *(f"{split}.parquet" for split in SPLITS)):
        with (folder / name).open("rb") as file:
            found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def dense_statistics(schema: Schema, train: Requests) -> dict[str, tuple[float, float]]:
    """Mean and (biased) standard deviation of each dense column; 1 for a constant one, 0 and 1 without values."""
    statistics = {}
    for name in dense_columns(schema):
        values = train.columns[name].values.double()
        std = float(values.std(correction=0)) if len(values) else 0.0
        statistics[name] = (float(values.mean()) if len(values) else 0.0, std if std > 0 else 1.0)
    return statistics
