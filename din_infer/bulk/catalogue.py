"""Every request against every item of a catalogue, the best kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from din_infer import topk
from din_infer.arrays import Array, Int64Array
from din_infer.bulk.checks import check_types
from din_infer.bulk.counts import Meter
from din_infer.errors import InputError
from din_infer.jagged import Jagged
from din_infer.model import Model
from din_infer.parquet import open_parquet
from din_infer.schema import Schema
from din_infer.tables import columns_of, list_array

PAIRS = 1 << 22  # scored in a call, at some 30 bytes each for the score, its key and their sorting
WEIGHTS = 1 << 26  # pairs of an item and a behaviour in a call, at most, some seconds of work

Columns = Mapping[str, Any]


class Ranked(NamedTuple):
    """Each request's best items, best first, as one list of places in the catalogue and scores, with its lengths."""

    places: Int64Array
    scores: npt.NDArray[np.float32]
    lengths: Int64Array


class Catalogue:
    """Items read from a Parquet file, one per row: the schema's candidate columns and whatever else is carried."""

    def __init__(self, path: Path, schema: Schema, exclude_seen: str | None = None) -> None:
        """Raises DataError for a file that cannot be read, InputError for items that do not fit `schema`."""
        with open_parquet(path) as file:
            self.items = file.read()
        if len(self.items) > topk.MAX_ITEMS:
            raise InputError(f"{path}: expected at most {topk.MAX_ITEMS} items, got {len(self.items)}")
        check_types(self.items.schema, schema, ("candidate",))
        columns = columns_of(self.items, schema, ("candidate",))
        self._columns = {name: _one_each(name, column) for name, column in columns.items()}
        self._seen = None if exclude_seen is None else _Seen(exclude_seen, schema, self._columns)

    def __len__(self) -> int:
        return len(self.items)

    def rank(self, model: Model, columns: Columns, requests: int, behaviours: int, k: int, meter: Meter) -> Ranked:
        """The `k` best items for each of `requests`, whose columns other than the candidates' are `columns`.

        Higher scores first, of equal scores the item listed first, NaN last. Memory: `PAIRS` pairs at a time. `meter`
        hears of requests as their share of the items is done.
        """
        best = np.empty((requests, 0), np.uint64)
        told = 0
        seen: _Pairs | None = None
        for first, last in self._chunks(requests, behaviours):
            before = model.unknown_ids
            scores = model.score(columns, plan="auto", catalogue=self.columns(first, last))
            unknown = {}
            for name, count in model.unknown_ids.items():
                new = count - before.get(name, 0)
                if name.startswith("candidate."):  # an item's ids are looked up once for all requests
                    unknown[name] = new * requests
                elif first == 0:  # a request's own ids once for each chunk
                    unknown[name] = new
            keys = topk.make_keys(scores.reshape(requests, last - first), first)
            if self._seen is not None:
                seen = seen or self._seen.pairs(columns, requests)  # after the model has checked them
                rows, places = seen.within(first, last)
                keys[rows, places - first] = topk.NONE
            best = topk.merge(best, keys, k)
            done = requests if last == len(self) else requests * last // len(self)
            meter.step(done - told, requests * (last - first), unknown)
            told = done
        return Ranked(*topk.decode(best))

    def columns(self, first: int, last: int) -> Columns:
        """The candidate columns of items `first` to `last`, as `Model.score` takes a catalogue."""
        return {name: column[first:last] for name, column in self._columns.items()}

    def lists(self, ranked: Ranked) -> pa.Table:
        """The items' columns as lists, one per request, with `score` behind them."""
        offsets = Jagged.from_lengths(ranked.scores, ranked.lengths).offsets
        chosen = self.items.take(pa.array(ranked.places)).combine_chunks()
        lists = {name: list_array(_whole(chosen.column(name)), offsets) for name in chosen.column_names}
        return pa.table({**lists, "score": list_array(ranked.scores, offsets)})

    def _chunks(self, requests: int, behaviours: int) -> Iterator[tuple[int, int]]:
        size = max(1, min(PAIRS // max(1, requests), WEIGHTS // max(1, behaviours)))
        for first in range(0, max(1, len(self)), size):  # an empty one too, so that requests are checked
            yield first, min(first + size, len(self))


class _Pairs(NamedTuple):
    """Requests and the places of items that they have seen, by ascending place; some more than once."""

    requests: Int64Array
    places: Int64Array

    def within(self, first: int, last: int) -> tuple[Int64Array, Int64Array]:
        start, end = np.searchsorted(self.places, [first, last])
        return self.requests[start:end], self.places[start:end]


class _Seen:
    """Finds the catalogue's items in histories, by one feature."""

    def __init__(self, feature: str, schema: Schema, columns: Columns) -> None:
        spec = schema.candidate.get(feature)
        self._histories = [f"{name}.{feature}" for name, h in schema.histories.items() if feature in h.features]
        if spec is None or spec.table is None or spec.many or not self._histories:
            raise InputError(
                "exclude_seen: expected a feature of candidates and of a history, an id with one value,"
                f" got {feature!r}; candidates have {', '.join(schema.candidate)}"
            )
        self._type = pa.string() if schema.tables[spec.table].dtype == "string" else pa.int64()
        ids = _arrow_ids(columns[f"candidate.{feature}"], self._type).dictionary_encode()
        codes = ids.indices.to_numpy()
        self._ids = ids.dictionary
        self._places = np.argsort(codes, kind="stable")  # of each distinct id, one id after another
        self._counts = np.bincount(codes, minlength=len(self._ids))
        self._starts = np.cumsum(self._counts) - self._counts

    def pairs(self, columns: Columns, requests: int) -> _Pairs:
        rows, places = [], []
        for name in self._histories:
            history = columns[name]
            found = pc.index_in(_arrow_ids(history.values, self._type), value_set=self._ids)
            codes, known = found.fill_null(0).to_numpy(), found.is_valid().to_numpy(zero_copy_only=False)
            owner = np.repeat(np.arange(requests), history.lengths)[known]
            starts, counts = self._starts[codes[known]], self._counts[codes[known]]
            within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
            rows.append(np.repeat(owner, counts))
            places.append(self._places[np.repeat(starts, counts) + within])
        all_places = np.concatenate(places)
        order = np.argsort(all_places, kind="stable")
        return _Pairs(np.concatenate(rows)[order], all_places[order])


def _one_each(name: str, column: Array | Jagged) -> Array | Jagged:
    """One value per item, out of a column that `columns_of` read as one candidate per row."""
    if not isinstance(column, Jagged) or (column.lengths != 1).any():
        raise InputError(f"{name}: expected a catalogue with one item per row, got lists of items")
    return column.values


def _arrow_ids(values: Any, type_: pa.DataType) -> pa.Array:
    return pa.array(values).cast(type_, safe=False)  # ids past int64 do not come here


def _whole(column: pa.ChunkedArray) -> pa.Array:
    whole = column.combine_chunks()
    if isinstance(whole, pa.ChunkedArray):
        raise InputError(f"expected a batch's chosen items to fit one Arrow array, got {whole.num_chunks} chunks")
    return whole
