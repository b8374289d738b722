"""Requests as the model reads them: table rows and dense values in jagged tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from din_infer.batch import Encoded
from din_infer.schema import History, Schema
from din_infer.tensors import moved

CPU = torch.device("cpu")
RowsOf = Callable[[str, Any], Any]  # a table's rows, int64 [n], of an encoded column's first entry


@dataclass(frozen=True)
class Values:
    """A column's n values: table rows int64 [n] or dense float32 [n]; with `offsets` [n+1] each value is a list."""

    values: Tensor
    offsets: Tensor | None = None

    def take(self, positions: Tensor) -> Values:
        """The values at these positions, int64 [m] on the same device."""
        if self.offsets is None:
            return Values(self.values[positions])
        inner, offsets = take_ranges(self.offsets, positions, self.values.device)
        return Values(self.values[inner], offsets)

    def to(self, device: torch.device) -> Values:
        return Values(moved(self.values, device), None if self.offsets is None else moved(self.offsets, device))


@dataclass(frozen=True)
class Requests:
    """`count` requests. `offsets["candidate"]` and `offsets[<history>]` [count + 1] cut their columns into requests.

    Columns are on one device, any, to be read there; `offsets` stay in main memory, where work is planned.
    """

    count: int
    offsets: Mapping[str, Tensor]
    columns: Mapping[str, Values]

    @property
    def device(self) -> torch.device:
        """Where the columns are."""
        return next(iter(self.columns.values())).values.device

    def select(self, requests: Tensor) -> Requests:
        """The requests of these numbers, int64 [b], in their order."""
        taken = {group: take_ranges(offsets, requests, self.device) for group, offsets in self.offsets.items()}
        places = requests.to(self.device)
        columns = {
            name: values.take(taken[group][0] if (group := name.partition(".")[0]) in taken else places)
            for name, values in self.columns.items()
        }
        return Requests(len(requests), {group: offsets for group, (_, offsets) in taken.items()}, columns)

    def to(self, device: torch.device) -> Requests:
        """The same with its columns on `device`."""
        return Requests(self.count, self.offsets, {name: values.to(device) for name, values in self.columns.items()})

    def lengths(self, group: str) -> Tensor:
        """Number of candidates, or of a history's behaviours, of each request: int64 [count]."""
        return self.offsets[group].diff()


def take_ranges(offsets: Tensor, ranges: Tensor, device: torch.device = CPU) -> tuple[Tensor, Tensor]:
    """All positions inside the chosen ranges of `offsets`, on `device`, and offsets [len(ranges) + 1] of the result.

    These are where `offsets` and `ranges` are.
    """
    starts = offsets[ranges]
    lengths = offsets[ranges + 1] - starts
    new = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    total = int(new[-1])
    shift = torch.repeat_interleave((starts - new[:-1]).to(device), lengths.to(device), output_size=total)
    return torch.arange(total, device=device) + shift, new


def chunk_requests(order: Tensor, sizes: Tensor, most: int) -> Iterator[Tensor]:
    """Cuts `order`, numbers of requests of sizes[r], into runs of at most `most` in sum, or of one request."""
    ends = sizes[order].cumsum(0)
    start, done = 0, 0
    while start < len(order):
        stop = max(int(torch.searchsorted(ends, done + most, right=True)), start + 1)
        yield order[start:stop]
        start, done = stop, int(ends[stop - 1])


def requests_of(
    schema: Schema, encoded: Mapping[str, Encoded], count: int, rows_of: RowsOf, device: torch.device = CPU
) -> Requests:
    """What `din_infer.batch.encode` gives, with raw ids looked up and histories cut to `max_length`, on `device`."""
    offsets: dict[str, Tensor] = {}
    ready: dict[str, Values] = {}
    for column in schema.columns():
        values, *levels = encoded[column.name]
        inner = _tensor(levels.pop(), device) if column.spec.many else None
        table = column.spec.table
        ready[column.name] = Values(_tensor(values if table is None else rows_of(table, values), device), inner)
        if levels:
            offsets[column.group] = _tensor(levels[0], CPU)
    for name, history in schema.histories.items():
        if history.max_length is not None and bool((offsets[name].diff() > history.max_length).any()):
            kept, offsets[name] = _kept_behaviours(offsets[name], history, history.max_length, device)
            ready.update({f"{name}.{f}": ready[f"{name}.{f}"].take(kept) for f in history.features})
    return Requests(count, offsets, ready)


def _tensor(source: Any, device: torch.device) -> Tensor:
    if isinstance(source, Tensor):
        return source.to(device)
    return torch.tensor(source, device=device)  # a copy: the user's array may be read-only


def _kept_behaviours(offsets: Tensor, history: History, most: int, device: torch.device) -> tuple[Tensor, Tensor]:
    starts, ends = offsets[:-1], offsets[1:]
    if history.keeps_tail:
        starts = torch.maximum(starts, ends - most)
    else:
        ends = torch.minimum(ends, starts + most)
    bounds = torch.stack([starts, ends], dim=1).flatten()  # range 2 r is request r's, ranges between are the rest
    return take_ranges(bounds, 2 * torch.arange(len(starts), device=CPU), device)
