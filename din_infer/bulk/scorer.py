"""The one function that scores an Arrow table: on this machine, in Ray's workers and in Spark's."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from din_infer.arrays import Int64Array
from din_infer.batch import encode
from din_infer.bulk.catalogue import Catalogue
from din_infer.bulk.checks import check_types, find_bad_rows, good_rows
from din_infer.bulk.counts import Counts, Meter, Tell
from din_infer.bulk.job import Job
from din_infer.errors import InputError
from din_infer.model import load
from din_infer.schema import Schema
from din_infer.tables import columns_of, list_array

LISTS_WEIGHTS = 1 << 25  # pairs of a candidate and a behaviour in a call, so that progress is heard of
CATALOGUE_BEHAVIOURS = 1 << 19  # the same with a catalogue, of which a call has a share
CATALOGUE_RESULTS = 1 << 20  # items that are kept at a time, at some 250 bytes each
REASON = "reason"  # the column that says why a request was rejected


class Scored(NamedTuple):
    """The good requests' scores, and the others: `rejects` maps their rows to reasons."""

    table: pa.Table
    rejects: dict[int, str]
    counts: Counts


class Scorer:
    """A job's model, loaded. One thread at a time may use it, since ids that the model does not know are counted."""

    def __init__(self, job: Job, threads: int | None = None) -> None:
        """Raises as `din_infer.load` does, and for a catalogue as `Catalogue` does."""
        self.job = job
        self.model = load(job.model, threads=threads)
        schema = self.model.schema
        self.catalogue = None if job.catalogue is None else Catalogue(Path(job.catalogue), schema, job.exclude_seen)
        self._added = {"score", *(() if self.catalogue is None else self.catalogue.items.column_names)}
        items = self.catalogue is not None  # which take the place of the requests' own candidates
        self._dropped = (
            ("candidate", *schema.histories) if items else tuple(schema.histories),
            (schema.label,) if items else (),
        )
        self._groups = [g for g in schema.groups() if g != "candidate" or self.catalogue is None]

    def __call__(self, table: pa.Table, tell: Tell = lambda more: None) -> Scored:
        """Scores a table of requests, one per row.

        The result has its columns without the histories', in the same order, and `score`, a list<float32> beside the
        candidates. With a catalogue the candidates' and the label's columns go too, and each of the catalogue's comes
        as a list of the chosen items'. `tell` hears every few seconds what was done. Raises InputError for requests
        that do not fit, unless the job rejects them.
        """
        try:
            return self._score(table, {}, tell)
        except InputError as error:
            check_types(table.schema, self.model.schema, self._groups)
            self._check(table.slice(0, 0))  # of what is wrong with every row, no row is told
            bad = find_bad_rows(table, self._check)
            if not bad:
                raise
            if self.job.on_error == "fail":
                raise BadRowError(*next(iter(bad.items()))) from error
        return self._score(table.take(good_rows(len(table), bad)), bad, tell)

    def cut(self, table: pa.Table) -> Iterator[tuple[int, pa.Table]]:
        """The table in slices whose results fit memory, each with the place of its first row."""
        rows = max(1, len(table))
        if self.catalogue is not None:
            rows = min(rows, max(1, CATALOGUE_RESULTS // max(1, min(self.job.top_k, len(self.catalogue)))))
        for first in range(0, max(1, len(table)), rows):
            yield first, table.slice(first, rows)

    def output_schema(self, requests: pa.Schema) -> pa.Schema:
        """The result's schema. Raises InputError for columns missing, of a wrong type, or that scoring adds."""
        check_types(requests, self.model.schema, self._groups)
        self._check_added(requests)
        return self(requests.empty_table()).table.schema

    def with_reasons(self, table: pa.Table) -> pa.Table:
        """The result with a row for each request, rejected ones too, and a last column `reason`, null for the others.

        A rejected request keeps its own columns; what scoring adds is null. Raises InputError for a table that has a
        column `reason`, and as a call does.
        """
        if REASON in table.column_names:
            raise InputError(f"{REASON}: expected no such column among the requests', which the reasons need, got one")
        scored, rejects, _ = self(table)
        places = np.zeros(len(table), np.int64)
        good = good_rows(len(table), rejects)
        places[good] = np.arange(len(good))
        rejected = np.isin(np.arange(len(table)), list(rejects))
        spread = scored.take(pa.array(places, mask=rejected))
        for index, name in enumerate(scored.column_names):
            if name not in self._added:
                spread = spread.set_column(index, scored.schema.field(name), table.column(name))
        reasons = [rejects.get(row) for row in range(len(table))]
        return spread.append_column(REASON, pa.array(reasons, pa.string()))

    def _check_added(self, requests: pa.Schema) -> None:
        given = _without(requests.empty_table(), self.model.schema, *self._dropped).column_names
        for name in given:
            if name in self._added:
                whose = "results" if self.catalogue is None or name == "score" else "catalogue's items"
                raise InputError(f"{name}: expected no such column of the requests, as the {whose} have it, got one")

    def _check(self, table: pa.Table) -> None:
        columns = columns_of(table, self.model.schema, self._groups)
        encode(self.model.schema, columns, None if self.catalogue is None else self.catalogue.columns(0, 0))

    def _score(self, table: pa.Table, rejects: dict[int, str], tell: Tell) -> Scored:
        columns = columns_of(table, self.model.schema, self._groups)
        calls = self._calls(columns, len(table))
        if len(calls) > 1:
            self._check(table)  # all of it, before anything is told
        meter = Meter(self.model, tell)
        if rejects:
            meter.add(Counts(rejected=len(rejects)))
        score = self._score_lists if self.catalogue is None else self._rank
        added = pa.concat_tables(
            [score({name: column[a:b] for name, column in columns.items()}, b - a, meter) for a, b in calls]
        )
        result = _without(table, self.model.schema, *self._dropped)
        for name in added.column_names:
            result = result.append_column(name, added.column(name))
        return Scored(result, rejects, meter.total)

    def _calls(self, columns: dict[str, Any], requests: int) -> list[tuple[int, int]]:
        """Requests that are scored together, some seconds of work."""
        work, limit = 1 + self._behaviours(columns, requests), CATALOGUE_BEHAVIOURS
        if self.catalogue is None:
            work, limit = work * self._candidates(columns).lengths, LISTS_WEIGHTS
        group = np.cumsum(work) // limit
        edges = [0, *(np.flatnonzero(np.diff(group)) + 1).tolist(), requests]
        return list(itertools.pairwise(edges))

    def _behaviours(self, columns: dict[str, Any], requests: int) -> Int64Array:
        """How many each request has, in all histories."""
        histories = self.model.schema.histories.items()
        lengths = (columns[f"{name}.{next(iter(history.features))}"].lengths for name, history in histories)
        return sum(lengths, np.zeros(requests, np.int64))

    def _score_lists(self, columns: dict[str, Any], requests: int, meter: Meter) -> pa.Table:
        """The scores of each request's own candidates."""
        before = self.model.unknown_ids
        scores = self.model.score(columns, plan="auto")
        unknown = {name: count - before.get(name, 0) for name, count in self.model.unknown_ids.items()}
        meter.step(requests, len(scores), unknown)
        return pa.table({"score": list_array(scores, self._candidates(columns).offsets)})

    def _rank(self, columns: dict[str, Any], requests: int, meter: Meter) -> pa.Table:
        """The best of the catalogue's items, and their scores."""
        assert self.catalogue is not None
        behaviours = int(self._behaviours(columns, requests).sum())
        return self.catalogue.lists(
            self.catalogue.rank(self.model, columns, requests, behaviours, self.job.top_k, meter)
        )

    def _candidates(self, columns: dict[str, Any]) -> Any:
        return columns[f"candidate.{next(iter(self.model.schema.candidate))}"]


class BadRowError(InputError):
    """A request does not fit the model; `row` is its place in the table, from 0."""

    def __init__(self, row: int, reason: str) -> None:
        super().__init__(row, reason)  # what an unpickled copy is made of
        self.row, self.reason = row, reason

    def __str__(self) -> str:
        return f"row {self.row}: {self.reason}"


def score_batches(batches: Iterable[pa.RecordBatch], job: Job, threads: int | None = 1) -> Iterator[pa.RecordBatch]:
    """Scores record batches one by one, as Spark's `mapInArrow` calls a function in its workers.

        job = Job("/shared/model.onnx", on_error="reject")
        schema = batches_schema(to_arrow_schema(frame.schema), job)  # from pyspark.sql.pandas.types
        score = functools.partial(score_batches, job=job)
        frame.select(struct("*").alias("request")).mapInArrow(score, from_arrow_schema(schema))

    A batch of one struct column stands for its fields: mapInArrow takes no columns whose names have dots. A worker
    loads the model once. With `on_error="reject"` every request comes out again, in its order, with a column `reason`
    that is null where it was scored; with `on_error="fail"` the first that does not fit raises InputError.
    """
    scorer = _scorer(job, threads)
    for batch in batches:
        if batch.num_columns == 1 and pa.types.is_struct(batch.schema.field(0).type):
            batch = pa.RecordBatch.from_struct_array(batch.column(0))
        for first, table in scorer.cut(pa.Table.from_batches([batch])):
            try:
                yield from _with_reasons_of(job, scorer, table).to_batches()
            except BadRowError as error:
                raise BadRowError(first + error.row, error.reason) from error


def batches_schema(requests: pa.Schema, job: Job) -> pa.Schema:
    """The schema of what `score_batches` yields. Raises InputError as `Scorer.output_schema` does."""
    scorer = Scorer(job, 1)
    scorer.output_schema(requests)
    return _with_reasons_of(job, scorer, requests.empty_table()).schema


def _with_reasons_of(job: Job, scorer: Scorer, table: pa.Table) -> pa.Table:
    return scorer.with_reasons(table) if job.on_error == "reject" else scorer(table).table


@functools.lru_cache(1)
def _scorer(job: Job, threads: int | None) -> Scorer:
    return Scorer(job, threads)


def _without(table: pa.Table, schema: Schema, groups: Collection[str], names: Collection[str]) -> pa.Table:
    dropped = {*names, *(column.name for column in schema.columns() if column.group in groups)}
    return table.drop_columns([name for name in table.column_names if name in dropped])
