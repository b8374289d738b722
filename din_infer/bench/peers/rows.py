"""Requests as other libraries train on them: one row per labelled candidate, its history beside it, padded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from din_infer.errors import SchemaError
from din_infer.schema import Schema
from din_infer.training.embedding import dense_columns
from din_infer.training.loop import TrainingData, dense_statistics
from din_infer.training.requests import Requests, Values, chunk_requests, take_ranges

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Rows:
    """n candidates. Ids are rows of tables or, where a feature has several, numbers of lists of them.

    `ids` and `dense` hold [n] for each of the candidate's features, `history` int64 [n, T] for each of the behaviours',
    the first `lengths` [n] of them valid and zeros behind; `labels` float32 [n].
    """

    ids: dict[str, Ints]
    dense: dict[str, Floats]
    history: dict[str, Ints]
    lengths: Ints
    labels: Floats

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, places: Ints) -> Rows:
        return Rows(
            ids={name: values[places] for name, values in self.ids.items()},
            dense={name: values[places] for name, values in self.dense.items()},
            history={name: values[places] for name, values in self.history.items()},
            lengths=self.lengths[places],
            labels=self.labels[places],
        )


class RowReader:
    """The splits of a folder as `Rows`, with the vocabularies and dense statistics that din_infer trains with.

    Raises SchemaError for what such rows cannot say: other than one history of bounded length whose features the
    candidate has too, user or context features, dense behaviours.
    """

    def __init__(self, data: TrainingData) -> None:
        self.data, schema = data, data.schema
        _check(schema)
        (self.name, self.history), *_ = schema.histories.items()
        self.statistics = dense_statistics(schema, data.splits["train"].requests)
        self.requests, self.shares = _numbered_lists(data)

    def rows_of(self, feature: str) -> int:
        """Rows of the table of one of the candidate's features."""
        table = self.data.schema.candidate[feature].table
        assert table is not None
        return self.data.schema.tables[table].rows(len(self.data.vocabularies.get(table, ())))

    def dim(self, feature: str) -> int:
        return self.data.schema.width(self.data.schema.candidate[feature])

    @property
    def id_features(self) -> list[str]:
        return [name for name, feature in self.data.schema.candidate.items() if feature.table is not None]

    @property
    def dense_features(self) -> list[str]:
        return [column.removeprefix("candidate.") for column in dense_columns(self.data.schema)]

    def read(self, split: str, requests: Tensor | None = None) -> Rows:
        """The candidates of a split, or of those of its requests."""
        whole = self.requests[split]
        if requests is None:
            requests = torch.arange(whole.count)
        chosen = whole.select(requests)
        places, _ = take_ranges(whole.offsets["candidate"], requests)
        owner = np.repeat(np.arange(chosen.count), chosen.lengths("candidate").numpy())
        lengths = chosen.lengths(self.name).numpy()
        return Rows(
            ids={f: chosen.columns[f"candidate.{f}"].values.numpy() for f in self.id_features},
            dense={f: self._standardised(chosen, f) for f in self.dense_features},
            history={f: self._padded(chosen, f, lengths)[owner] for f in self.history.features},
            lengths=lengths[owner],
            labels=self.data.splits[split].labels[places].numpy(),
        )

    def chunks(self, split: str, candidates: int) -> Iterator[Rows]:
        """A split in its order, some `candidates` at a time: padded, the whole of it may not fit in memory."""
        requests = self.requests[split]
        for chunk in chunk_requests(torch.arange(requests.count), requests.lengths("candidate"), candidates):
            yield self.read(split, chunk)

    def _standardised(self, requests: Requests, feature: str) -> Floats:
        mean, std = self.statistics[f"candidate.{feature}"]
        values: Floats = ((requests.columns[f"candidate.{feature}"].values.numpy() - mean) / std).astype(np.float32)
        return values

    def _padded(self, requests: Requests, feature: str, lengths: Ints) -> Ints:
        padded = np.zeros((len(lengths), self.history.max_length or 0), np.int64)
        padded[np.arange(padded.shape[1]) < lengths[:, None]] = requests.columns[
            f"{self.name}.{feature}"
        ].values.numpy()
        return padded


class ListEmbedding(nn.Module):
    """In place of an nn.Embedding, on its own weight: the number of a list -> its ids' rows, averaged or summed."""

    def __init__(self, embedding: nn.Embedding, shares: Tensor) -> None:
        super().__init__()
        self.weight = embedding.weight
        self.register_buffer("shares", shares)

    shares: Tensor  # [lists, rows of the table]

    def forward(self, lists: Tensor) -> Tensor:
        return functional.embedding(lists, self.shares @ self.weight)


def _check(schema: Schema) -> None:
    if len(schema.histories) != 1:
        raise SchemaError(f"histories: expected one, got {len(schema.histories)}")
    (name, history), *_ = schema.histories.items()
    if history.max_length is None:
        raise SchemaError(f"{name}: expected a max_length, got none")
    alone = [f for f, feature in history.features.items() if f not in schema.candidate or feature.table is None]
    if alone:
        raise SchemaError(f"{name}.{alone[0]}: expected ids of a feature that the candidate has too, got another one")
    others = [column.name for column in schema.columns() if column.group in ("user", "context")]
    if others:
        raise SchemaError(f"expected features of candidate and history alone, got {others[0]}")


def _numbered_lists(data: TrainingData) -> tuple[dict[str, Requests], dict[str, Tensor]]:
    """The splits with each list of ids replaced by its number, and each list's shares [lists, rows] of the table."""
    splits = {name: split.requests for name, split in data.splits.items()}
    shares = {}
    for feature, spec in data.schema.candidate.items():
        if spec.many is None or spec.table is None:
            continue
        rows = data.schema.tables[spec.table].rows(len(data.vocabularies.get(spec.table, ())))
        groups = ["candidate", *(h for h, history in data.schema.histories.items() if feature in history.features)]
        places = [(split, f"{group}.{feature}") for split in splits for group in groups]
        numbers, members = _distinct([splits[split].columns[column] for split, column in places], rows)
        for (split, column), found in zip(places, numbers, strict=True):
            columns = {**splits[split].columns, column: Values(torch.from_numpy(found))}
            splits[split] = replace(splits[split], columns=columns)
        counts = torch.from_numpy(members).float()
        shares[feature] = counts / counts.sum(1, keepdim=True).clamp(min=1) if spec.many == "mean" else counts
    return splits, shares


def _distinct(columns: list[Values], rows: int) -> tuple[list[Ints], Ints]:
    """The number of each list of each column, and how often each list has each row: int64 [lists, rows]."""
    offsets = [column.offsets.numpy() for column in columns if column.offsets is not None]
    lengths = np.concatenate([np.diff(o) for o in offsets])
    flat = np.concatenate([column.values.numpy() for column in columns])
    padded = np.full((len(lengths), int(lengths.max(initial=0))), -1)
    padded[np.arange(padded.shape[1]) < lengths[:, None]] = flat
    number = np.zeros(len(padded), np.int64)
    for ids in padded.T:  # one more place of the lists at a time, so that numbers stay small
        number = np.unique(number * (rows + 1) + ids + 1, return_inverse=True)[1]
    first = np.unique(number, return_index=True)[1]
    members = np.zeros((len(first), rows), np.int64)
    which, place = np.nonzero(padded[first] >= 0)
    np.add.at(members, (which, padded[first][which, place]), 1)
    return np.split(number, np.cumsum([len(o) - 1 for o in offsets])[:-1]), members
