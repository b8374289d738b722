"""Why a request's candidates score as they do: which behaviours weigh how much, with names for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from din_infer.arrow import to_column
from din_infer.errors import InputError
from din_infer.extras import require
from din_infer.jagged import Jagged
from din_infer.model import Model
from din_infer.parquet import open_parquet
from din_infer.tables import columns_of, to_arrow

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Weights:
    """One history: the names of its T behaviours in the order given, and `weights` [N, T] for the N candidates."""

    history: str
    behaviours: list[str]
    weights: Floats

    def most_telling(self, count: int) -> list[int]:
        """The `count` behaviours with the greatest weights, either sign, for any candidate; in the order given."""
        greatest = np.abs(self.weights).max(axis=0, initial=0)
        return sorted(np.argsort(-greatest, kind="stable")[:count].tolist())


@dataclass(frozen=True)
class Explanation:
    """One request: its key, the names [N], places [N] and scores [N] of the chosen candidates, weights by history."""

    key: str
    candidates: list[str]
    places: list[int]
    scores: Floats
    histories: list[Weights]

    def to_dict(self) -> dict[str, Any]:
        """JSON."""
        return {
            "request": self.key,
            "candidates": [
                {"place": place, "name": name, "score": float(score)}
                for place, name, score in zip(self.places, self.candidates, self.scores, strict=True)
            ],
            "histories": {
                h.history: {"behaviours": h.behaviours, "weights": h.weights.astype(float).tolist()}
                for h in self.histories
            },
        }


class Names:
    """What people call items: `name` of a catalogue by the first feature that it shares with `history`, an id.

    Without a catalogue, or for an item that it lacks, the values of the features stand for the name.
    """

    def __init__(self, model: Model, catalogue: Path | None, name: str | None) -> None:
        self.model = model
        self.by_id: dict[Any, str] = {}
        self.id_feature: str | None = None
        if catalogue is None:
            return
        with open_parquet(catalogue) as file:
            items = file.read()
        shared = [f for f, spec in model.schema.candidate.items() if spec.table and not spec.many]
        found = [f for f in shared if f"candidate.{f}" in items.column_names]
        if not found:
            wanted = " or ".join(f"candidate.{f}" for f in shared)
            raise InputError(f"{catalogue}: expected a column {wanted}, got {', '.join(items.column_names)}")
        self.id_feature = found[0]
        name = name or _text_column(items, catalogue)
        if name not in items.column_names:
            raise InputError(f"{catalogue}: expected a column {name!r}, got {', '.join(items.column_names)}")
        ids = to_column(items.column(f"candidate.{self.id_feature}"), f"{catalogue}: candidate.{self.id_feature}")
        if isinstance(ids, Jagged):
            raise InputError(f"{catalogue}: expected a row per item, got lists in candidate.{self.id_feature}")
        self.by_id = dict(zip(ids.tolist(), map(str, items.column(name).to_pylist()), strict=True))

    def of(self, columns: Mapping[str, Any], group: str) -> list[str]:
        """The names of a group's entries in one request's columns, which are what `columns_of` gives."""
        features = self.model.schema.groups()[group]
        values = [columns[f"{group}.{f}"].to_lists()[0] for f in features]
        entries = [dict(zip(features, entry, strict=True)) for entry in zip(*values, strict=True)]
        ids = [None if self.id_feature is None else entry.get(self.id_feature) for entry in entries]
        return [self.by_id.get(i, _described(entry)) for i, entry in zip(ids, entries, strict=True)]


def explain_row(model: Model, row: Any, names: Names, candidates: Sequence[int] | None = None) -> Explanation:
    """Explains a table of one request; `candidates` are places in its list, by default those that score the highest,
    in the middle and the lowest. Raises InputError for a place that the list does not have."""
    columns = columns_of(row, model.schema)
    scores = model.score(columns)
    places = _spread(scores) if candidates is None else list(candidates)
    wrong = [place for place in places if not 0 <= place < len(scores)]
    if wrong:
        raise InputError(f"candidate: expected places from 0 to {len(scores) - 1}, got {wrong[0]}")
    of_candidates = names.of(columns, "candidate")
    histories = []
    for history, weights in model.explain(columns).items():
        of_request = list(weights[0])
        behaviours = names.of(columns, history)
        chosen = np.array([of_request[p] for p in places], np.float32).reshape(len(places), len(behaviours))
        histories.append(Weights(history, behaviours, chosen))
    key = model.schema.request.key
    name = str(row.column(key)[0].as_py()) if key in row.column_names else ""
    return Explanation(name, [of_candidates[p] for p in places], places, scores[places], histories)


def read_row(path: Path, row: int) -> Any:
    """Row number `row`, from 0, of a Parquet file of requests, as a table. Raises InputError past its end."""
    first = 0
    with open_parquet(path) as file:
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if first <= row < first + rows:
                return to_arrow(file.read_row_group(group).slice(row - first, 1))
            first += rows
    if first == 0:
        raise InputError(f"{path}: expected at least one request, got none")
    raise InputError(f"{path}: expected a row from 0 to {first - 1}, got {row}")


def row_of_key(path: Path, column: str, key: str) -> int:
    """The first row whose `column`, written as text, is `key`. Raises InputError where there is none."""
    pa, pc = require("pyarrow", "table"), require("pyarrow.compute", "table")
    first = 0
    with open_parquet(path) as file:
        if column not in file.schema_arrow.names:
            raise InputError(f"{path}: expected a column {column!r}, got {', '.join(file.schema_arrow.names)}")
        for batch in file.iter_batches(columns=[column]):
            place = pc.index(batch.column(0).cast(pa.string()), key).as_py()
            if place >= 0:
                return first + int(place)
            first += len(batch)
    raise InputError(f"{path}: expected {column} {key}, got no such request among {first}")


def _spread(scores: Floats) -> list[int]:
    order = np.argsort(-scores, kind="stable").tolist()
    return order if len(order) <= 3 else [order[0], order[len(order) // 2], order[-1]]


def _text_column(items: Any, catalogue: Path) -> str:
    pa = require("pyarrow", "table")
    texts: list[str] = [f.name for f in items.schema if pa.types.is_string(f.type) or pa.types.is_large_string(f.type)]
    texts = [name for name in texts if not name.startswith("candidate.")] or texts
    if not texts:
        raise InputError(f"{catalogue}: expected a column of names, got {', '.join(items.column_names)}")
    return texts[0]


def _described(entry: dict[str, Any]) -> str:
    parts = ["+".join(map(_written, v)) if isinstance(v, list) else _written(v) for v in entry.values()]
    return " ".join(part for part in parts if part)


def _written(value: Any) -> str:
    return f"{value:.7g}" if isinstance(value, float) else str(value)  # seven digits: what a float32 holds
