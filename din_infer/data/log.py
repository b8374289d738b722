"""Requests from a log of impressions and a log of events.

A request sees the events of its user with a strictly earlier time: at the request's own time, what came first is not
known. All time lines are cut at the same two moments, so nothing of the test's time is fitted. Users are taken piece by
piece, so memory grows with the numbers of users and items and not with the logs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from din_infer.data import logjoin
from din_infer.data.draft import Carried, draft_schema
from din_infer.data.leakage import Leakage
from din_infer.data.logcuts import find_cuts
from din_infer.data.logfiles import Wanted, clean, common_type, height, kind_of_time, open_log, typed
from din_infer.data.logjoin import CONTEXT, EVENT, ITEM, USER, Names
from din_infer.data.negatives import NEGATIVE_BY, Pool
from din_infer.data.ragged import Ints
from din_infer.data.requests import SCHEMA_FILE, RequestsWriter, dates_of
from din_infer.data.splits import PARTS, parts_at
from din_infer.errors import DataError

PIECE = 1_000_000  # impressions and events held at a time, unless one user has more

Progress = Callable[[int, int], object]  # (impressions and events done, in all)


@dataclass(frozen=True)
class Options:
    """Column names and what to make of them.

    Only named features are used, for a column that nobody named may tell the label. Item features that the events have
    too are also the history's, and event features are its alone. With `negatives`, impressions are positives and this
    many items per positive are drawn.
    """

    user: str = "user_id"
    item: str = "item_id"
    time: str = "timestamp"
    label: str = "label"
    request: str | None = None
    user_features: tuple[str, ...] = ()
    context_features: tuple[str, ...] = ()
    item_features: tuple[str, ...] = ()
    event_features: tuple[str, ...] = ()
    negatives: int | None = None
    negative_by: str = "uniform"
    seed: int = 0
    max_history: int = 200

    def __post_init__(self) -> None:
        if self.negative_by not in NEGATIVE_BY:
            raise DataError(f"negative-by: expected {' | '.join(NEGATIVE_BY)}, got {self.negative_by!r}")
        least = {"negatives": 1, "seed": 0, "max_history": 1}
        for name, smallest in least.items():
            value = getattr(self, name)
            if value is not None and value < smallest:
                raise DataError(f"{name.replace('_', '-')}: expected at least {smallest}, got {value}")
        self._check_roles()
        history = (self.item, *self.item_features, *self.event_features)
        for features in (history, self.user_features, self.context_features):
            for name in features:
                if "." in name or name == "lengths" or not name:
                    raise DataError(f"expected names without a dot, not `lengths`, as features, got {name!r}")
                if features.count(name) > 1:
                    raise DataError(f"expected each feature once in its group, got {name!r} again")

    def _check_roles(self) -> None:
        shown = (*self.user_features, *self.context_features, *self.item_features)
        roles = {"time": self.time, "request": self.request, "label": self.label}
        for role, column in roles.items():
            if column in (shown if role == "label" else (*shown, *self.event_features)):
                raise DataError(f"expected features other than the label, time and request, got {column!r}, the {role}")

    def names(self) -> Names:
        return Names(self.request or "request_id", self.user, self.time, self.label, self.item)


@dataclass(frozen=True)
class Summary:
    """What was written: the facts of each split, the counts of leakage.WHAT, and columns that were not used."""

    splits: list[dict[str, Any]]
    leakage: dict[str, int]
    columns_left_out: dict[str, list[str]]


def write_log(
    out: Path,
    impressions: Path,
    events: Path,
    options: Options,
    progress: Progress = lambda done, total: None,
    dataset: str | None = None,
) -> Summary:
    """Writes train, valid, test and items .parquet and schema.yaml into `out`; `dataset` is their name in the facts.

    Raises DataError for files, columns or values that do not fit, with the line.
    """
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".log", dir=out) as folder:
        log, left_out = _prepare(impressions, events, options, Path(folder), dataset or str(impressions))
        leakage = Leakage()
        splits = log.write(out, leakage, {"dataset": dataset or impressions.name, **_made_by(options)}, progress)
    items = pa.table(logjoin.candidate_columns(log.catalogue, options.item))
    pq.write_table(items, out / "items.parquet", compression="zstd")
    names = options.names()
    carried = Carried(key=names.key, group=names.user, time=names.time, label=names.label)
    schema = draft_schema(out / "train.parquet", carried, max_length=options.max_history)
    (out / SCHEMA_FILE).write_text(schema.text, encoding="utf-8")
    return Summary(splits, leakage.report(), left_out)


@dataclass(frozen=True)
class _Log:
    impressions: pl.LazyFrame
    events: pl.LazyFrame
    catalogue: pl.DataFrame
    cuts: tuple[int, int]
    options: Options

    def write(self, out: Path, leakage: Leakage, facts: dict[str, Any], progress: Progress) -> list[dict[str, Any]]:
        """The splits' files; returns their facts."""
        pools = [self._pool(part) for part in range(len(PARTS))] if self.options.negatives else []
        changing = int(self.catalogue["changing"].sum())
        leakage.add_counts({"items_with_changing_features": changing, "events": height(self.events)})
        counts = [dict.fromkeys(("requests", "candidates", "positives", "behaviours"), 0) for _ in PARTS]
        times: list[list[int]] = [[] for _ in PARTS]
        writers: list[RequestsWriter] = []
        keys = 0
        with ExitStack() as stack:
            for impressions, events, done, total in self._pieces(leakage):
                for part, table in self._tables(impressions, events, pools, leakage, keys):
                    if not writers:
                        paths = [out / f"{name}.parquet" for name in PARTS]
                        writers += [stack.enter_context(RequestsWriter(path, table.schema)) for path in paths]
                    writers[part].write(table)
                    for name, count in self._counts(table).items():
                        counts[part][name] += count
                    moments = table[self.options.time]
                    times[part] += [m for at in (pa.compute.min(moments), pa.compute.max(moments)) if (m := at.as_py())]
                    keys += len(table)
                progress(done, total)
            splits = [
                {**facts, **counts[part], "dates": dates_of(times[part]), "part": name}
                for part, name in enumerate(PARTS)
            ]
            for writer, split in zip(writers, splits, strict=True):
                writer.close(split)
        return splits

    def _tables(
        self, impressions: pl.DataFrame, events: pl.DataFrame, pools: list[Pool], leakage: Leakage, first_key: int
    ) -> Iterator[tuple[int, pa.Table]]:
        """One piece's requests, split by split, each table after the number of its split."""
        options = self.options
        grouped, counts = logjoin.group_impressions(impressions)
        ordered = logjoin.order_events(events)
        parts = parts_at(grouped.requests["at"].to_numpy(), self.cuts)
        if options.negatives:
            grouped = logjoin.add_negatives(
                grouped, ordered, parts, pools, self.catalogue, options.negatives, options.seed
            )
        visible = logjoin.histories_of(grouped, ordered)
        leakage.add_counts({**counts, "duplicate_events": events.height - ordered.height})
        leakage.add(grouped, ordered, visible, parts, options.max_history)
        for part in range(len(PARTS)):
            chosen, names = np.flatnonzero(parts == part), options.names()
            for table in logjoin.part_tables(grouped, ordered, visible, chosen, first_key, names, options.max_history):
                yield part, table

    def _counts(self, table: pa.Table) -> dict[str, int]:
        labels = table[self.options.label].combine_chunks()
        history = table[f"history.{self.options.item}"].combine_chunks()
        return {
            "requests": len(table),
            "candidates": len(labels.flatten()),
            "positives": int(pa.compute.sum(labels.flatten()).as_py() or 0),
            "behaviours": len(history.flatten()),
        }

    def _pieces(self, leakage: Leakage) -> Iterator[tuple[pl.DataFrame, pl.DataFrame, int, int]]:
        """Impressions and events of ascending ranges of users, the rows done with this piece, and all rows."""
        sizes = [
            frame.group_by("user").agg(pl.len().cast(pl.Int64).alias("rows")).collect(engine="streaming")
            for frame in (self.impressions, self.events)
        ]
        users = sizes[0].join(sizes[1], on="user", how="left", suffix=" events").fill_null(0).sort("user")
        strangers = height(self.events) - int(users["rows events"].sum())
        leakage.add_counts({"events_of_users_without_requests": strangers})
        rows = np.cumsum((users["rows"] + users["rows events"]).to_numpy())
        piece = (rows - 1) // PIECE
        for number in np.unique(piece):
            members = np.flatnonzero(piece == number)
            chosen = users["user"][members]
            in_range = pl.col("user").is_between(pl.lit(chosen[0]), pl.lit(chosen[-1]))
            impressions, events = (
                frame.filter(in_range).collect(engine="streaming") for frame in (self.impressions, self.events)
            )
            yield (
                impressions,
                events.join(chosen.to_frame(), on="user", how="semi"),
                int(rows[members[-1]]),
                int(rows[-1]),
            )

    def _pool(self, part: int) -> Pool:
        """Items that were an impression by the end of the part, so that a new item may be positive or negative."""
        seen = sum((self.catalogue[f"impressions {p}"] for p in range(part + 1)), start=pl.Series([0]))
        counts = seen.to_numpy().astype(np.float64)
        items: Ints = np.flatnonzero(counts)
        chances = counts[items] if self.options.negative_by == "popularity" else np.ones(len(items))
        return Pool(items, np.cumsum(chances))


def _prepare(
    impressions: Path, events: Path, options: Options, folder: Path, where: str
) -> tuple[_Log, dict[str, list[str]]]:
    """Both logs, typed alike, in `folder`, and the names of columns that were not asked for."""
    logs = {"impressions": open_log(impressions), "events": open_log(events)}
    shown, seen = _wanted(options, set(logs["impressions"].columns), set(logs["events"].columns))
    types = {"impressions": typed(logs["impressions"], shown), "events": typed(logs["events"], seen)}
    if types["impressions"]["time"] != types["events"]["time"]:
        kinds = [kind_of_time(types[name]["time"]) for name in types]
        raise DataError(f"{events}: expected {kinds[0]} in {options.time!r}, as {impressions.name} has, got {kinds[1]}")
    for name in (set(types["impressions"]) & set(types["events"])) - {"time"}:
        try:
            common = common_type(types["impressions"][name], types["events"][name])
        except DataError as error:
            raise DataError(f"{impressions}, {events}, {name.partition('.')[2]}: {error}") from None
        types["impressions"][name] = types["events"][name] = common
    frames = {}
    for name, wanted in (("impressions", shown), ("events", seen)):
        clean(logs[name], wanted, types[name]).sink_parquet(folder / f"{name}.parquet")
        frames[name] = pl.scan_parquet(folder / f"{name}.parquet")
    if "label" not in types["impressions"]:
        frames["impressions"] = frames["impressions"].with_columns(label=pl.lit(1, pl.Int64))
    if options.negatives:
        _refuse_negatives(frames["impressions"], where, options.label)
    held = 4 * PIECE  # two or three columns alone
    cuts = find_cuts(frames["impressions"], where, held, folder / "times.parquet")
    left_out = {
        name: [c for c in log.columns if c not in {w.source for w in wanted}]
        for (name, log), wanted in zip(logs.items(), (shown, seen), strict=True)
    }
    catalogue = _catalogue(frames["impressions"], cuts)
    return _Log(frames["impressions"], frames["events"], catalogue, cuts, options), left_out


def _wanted(options: Options, shown: set[str], seen: set[str]) -> tuple[list[Wanted], list[Wanted]]:
    common = [
        Wanted(options.user, "user", "id"),
        Wanted(options.item, "item", "id"),
        Wanted(options.time, "time", "time"),
    ]
    items = [Wanted(name, ITEM + name, "feature") for name in options.item_features]
    impressions = [*common, *items]
    impressions += [Wanted(name, USER + name, "feature") for name in options.user_features]
    impressions += [Wanted(name, CONTEXT + name, "feature") for name in options.context_features]
    if options.request:
        impressions.append(Wanted(options.request, "request", "id"))
    if options.label in shown or not options.negatives:
        impressions.append(Wanted(options.label, "label", "label"))
    events = [*common, *(item for item in items if item.source in seen)]
    return impressions, [*events, *(Wanted(name, EVENT + name, "feature") for name in options.event_features)]


def _refuse_negatives(impressions: pl.LazyFrame, where: str, label: str) -> None:
    zeros = int(impressions.select((pl.col("label") == 0).sum()).collect(engine="streaming").item())
    if zeros:
        raise DataError(
            f"{where}: expected impressions with 1 in {label!r} alone to draw negatives for, got {zeros} with 0"
        )


def _catalogue(impressions: pl.LazyFrame, cuts: tuple[int, int]) -> pl.DataFrame:
    """Each item once, ascending: `number`, its latest features, whether they change, and impressions by split."""
    features = [name for name in impressions.collect_schema() if name.startswith(ITEM)]
    part = pl.when(pl.col("time") >= cuts[1]).then(2).when(pl.col("time") >= cuts[0]).then(1).otherwise(0)
    items = impressions.group_by("item").agg(
        pl.col("time").max().alias("time"),
        *((part == p).sum().cast(pl.Int64).alias(f"impressions {p}") for p in range(3)),
    )
    catalogue = items.collect(engine="streaming")
    values = impressions.select("item", *features).unique()
    changing = values.group_by("item").agg((pl.len() > 1).alias("changing")).collect(engine="streaming")
    latest = impressions.join(catalogue.lazy().select("item", "time"), on=["item", "time"], how="semi")
    last = latest.select("item", *features).unique().collect(engine="streaming").sort("item", *features)
    last = last.unique("item", keep="first", maintain_order=True)
    joined = catalogue.drop("time").join(changing, on="item").join(last, on="item").sort("item")
    return joined.with_row_index("number").with_columns(pl.col("number").cast(pl.Int64))


def _made_by(options: Options) -> dict[str, Any]:
    return {
        "protocol": "log with sampled negatives" if options.negatives else "log",
        "split": "global",
        "seed": options.seed,
        "sampled_negatives": options.negatives,
        "negative_by": options.negative_by if options.negatives else None,
    }
