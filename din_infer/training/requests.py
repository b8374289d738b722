"""Requests as the model reads them: table rows and dense values in jagged tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from din_infer.batch import encode
from din_infer.schema import History, Schema
from din_infer.training.vocabulary import Vocabulary, rows_of


@dataclass(frozen=True)
class Values:
    """A column's n values: table rows int64 [n] or dense float32 [n]; with `offsets` [n+1] each value is a list."""

    values: Tensor
    offsets: Tensor | None = None

    def take(self, positions: Tensor) -> Values:
        if self.offsets is None:
            return Values(self.values[positions])
        inner, offsets = take_ranges(self.offsets, positions)
        return Values(self.values[inner], offsets)


@dataclass(frozen=True)
class Requests:
    """`count` requests. `offsets["candidate"]` and `offsets[<history>]` [count + 1] cut their columns into requests."""

    count: int
    offsets: Mapping[str, Tensor]
    columns: Mapping[str, Values]

    def select(self, requests: Tensor) -> Requests:
        """The requests of these numbers, int64 [b], in their order."""
        taken = {group: take_ranges(offsets, requests) for group, offsets in self.offsets.items()}
        columns = {
            name: values.take(taken[group][0] if (group := name.partition(".")[0]) in taken else requests)
            for name, values in self.columns.items()
        }
        return Requests(len(requests), {group: offsets for group, (_, offsets) in taken.items()}, columns)

    def lengths(self, group: str) -> Tensor:
        """Number of candidates, or of a history's behaviours, of each request: int64 [count]."""
        return self.offsets[group].diff()


def take_ranges(offsets: Tensor, ranges: Tensor) -> tuple[Tensor, Tensor]:
    """All positions inside the chosen ranges of `offsets`, and the offsets [len(ranges) + 1] of the result."""
    starts = offsets[ranges]
    lengths = offsets[ranges + 1] - starts
    new = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    total = int(new[-1])
    shift = torch.repeat_interleave(starts - new[:-1], lengths, output_size=total)
    return torch.arange(total) + shift, new


def prepare(schema: Schema, vocabularies: Mapping[str, Vocabulary], columns: Mapping[str, Any]) -> Requests:
    """Looks raw ids up and cuts histories to `max_length`.

    `columns` is what `din_infer.batch.encode` takes, that of `Model.score`. Raises InputError where they do not fit.
    """
    encoded, count = encode(schema, columns)
    offsets: dict[str, Tensor] = {}
    ready: dict[str, Values] = {}
    for column in schema.columns():
        values, *levels = encoded[column.name]
        inner = torch.from_numpy(levels.pop()) if column.spec.many else None
        table = column.spec.table
        rows = values if table is None else rows_of(schema.tables[table], vocabularies.get(table), (values,))
        ready[column.name] = Values(torch.tensor(rows), inner)
        if levels:
            offsets[column.group] = torch.from_numpy(levels[0])
    for name, history in schema.histories.items():
        if history.max_length is not None:
            kept, offsets[name] = _kept_behaviours(offsets[name], history, history.max_length)
            ready.update({f"{name}.{f}": ready[f"{name}.{f}"].take(kept) for f in history.features})
    return Requests(count, offsets, ready)


def _kept_behaviours(offsets: Tensor, history: History, most: int) -> tuple[Tensor, Tensor]:
    starts, ends = offsets[:-1], offsets[1:]
    if (history.keep == "latest") == (history.order == "oldest_first"):
        starts = torch.maximum(starts, ends - most)
    else:
        ends = torch.minimum(ends, starts + most)
    bounds = torch.stack([starts, ends], dim=1).flatten()  # range 2 r is request r's, ranges between are the rest
    return take_ranges(bounds, 2 * torch.arange(len(starts)))
