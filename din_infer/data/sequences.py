"""Each user's events in order: the next one is to be told from random items (DIN, arXiv 1706.06978, section 6.1).

With a user's events b_1, ..., b_n, the first k predict b_(k+1): k = 1, ..., n - 2 trains, k = n - 1 tests. Each target
meets random items of the whole catalogue that the user never has. The paper validates on nothing; here the last
training target of one user in ten, chosen by the seed, is `valid`.

Events of one time are taken in the file's order, as the authors' code does: Amazon's times are days, so "strictly
before", which `data log` keeps to, would cut the histories short.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from din_infer.data import logjoin
from din_infer.data.asof import Visible
from din_infer.data.draft import Carried, draft_schema
from din_infer.data.log import Progress
from din_infer.data.logjoin import ITEM, Grouped, Names
from din_infer.data.negatives import Pool
from din_infer.data.ragged import Ints
from din_infer.data.requests import SCHEMA_FILE, RequestsWriter, dates_of
from din_infer.data.splits import PARTS
from din_infer.errors import DataError

PIECE = 1_000_000  # events held at a time, unless one user has more
VALID_USERS = 0.1
NAMES = Names("request_id", "user_id", "timestamp", "label", "item_id")


@dataclass(frozen=True)
class Options:
    """`negatives` random items for each target; the latest `max_history` behaviours of a history."""

    negatives: int = 1
    seed: int = 0
    max_history: int = 100

    def __post_init__(self) -> None:
        for name, least in (("negatives", 1), ("seed", 0), ("max_history", 1)):
            if getattr(self, name) < least:
                raise DataError(f"{name.replace('_', '-')}: expected at least {least}, got {getattr(self, name)}")


def write_sequences(
    out: Path, events: Path, dataset: str, options: Options, progress: Progress = lambda done, total: None
) -> list[dict[str, Any]]:
    """Writes train, valid, test and items .parquet and schema.yaml into `out`; returns the facts of each split.

    `events` is Parquet with `user`, `item`, `time` and the item's features as `item.<name>`.
    """
    frame = pl.scan_parquet(events)
    catalogue = _catalogue(frame)
    counts = [dict.fromkeys(("requests", "candidates", "positives", "behaviours"), 0) for _ in PARTS]
    times: list[list[int]] = [[] for _ in PARTS]
    writers: list[RequestsWriter] = []
    keys = 0
    with ExitStack() as stack:
        for piece, done, total in _pieces(frame, options.seed):
            for part, table in _tables(piece, catalogue, options, keys):
                if not writers:
                    paths = [out / f"{name}.parquet" for name in PARTS]
                    writers += [stack.enter_context(RequestsWriter(path, table.schema)) for path in paths]
                writers[part].write(table)
                labels = table["label"].combine_chunks().flatten().to_numpy()
                behaviours = len(table["history.item_id"].combine_chunks().flatten())
                made = (len(table), len(labels), labels.sum(), behaviours)
                for name, count in zip(counts[part], made, strict=True):
                    counts[part][name] += int(count)
                ends = pc.min_max(table["timestamp"]).as_py().values()
                times[part] = [min(*times[part], *ends), max(*times[part], *ends)]
                keys += len(table)
            progress(done, total)
        made_by = {"dataset": dataset, "protocol": "last of each user", "split": "user", "seed": options.seed}
        made_by |= {"sampled_negatives": options.negatives, "negative_by": "uniform"}
        facts = [{**made_by, **counts[p], "dates": dates_of(times[p]), "part": name} for p, name in enumerate(PARTS)]
        if not all(f["requests"] for f in facts):
            empty = next(f["part"] for f in facts if not f["requests"])
            raise DataError(
                f"{dataset}: expected enough users with three events or more for each split, {empty} is empty"
            )
        for writer, fact in zip(writers, facts, strict=True):
            writer.close(fact)
    pq.write_table(
        pa.table(logjoin.candidate_columns(catalogue, NAMES.item)), out / "items.parquet", compression="zstd"
    )
    carried = Carried(key=NAMES.key, group=NAMES.user, time=NAMES.time, label=NAMES.label)
    schema = draft_schema(out / "train.parquet", carried, max_length=options.max_history)
    (out / SCHEMA_FILE).write_text(schema.text, encoding="utf-8")
    return facts


def _tables(
    events: pl.DataFrame, catalogue: pl.DataFrame, options: Options, first_key: int
) -> Iterator[tuple[int, pa.Table]]:
    """The requests of some users, whose events are in order, each table after the number of its split."""
    place, count = _places(events)
    targets = np.flatnonzero(place > 0)
    last, before = place[targets] == count[targets] - 1, place[targets] == count[targets] - 2
    validates = events["validates"].to_numpy()[targets]
    parts: Ints = np.where(last, 2, np.where(before & validates, 1, 0))
    visible = Visible(begin=targets - place[targets], end=targets, same=targets + 1)
    requests = events[targets].select("user", at="time").with_columns(length=pl.lit(1, pl.Int64))
    features = [name for name in events.columns if name.startswith(ITEM)]
    candidates = events[targets].select("item", *features).with_columns(label=pl.lit(1, pl.Int64))
    everything: Ints = np.arange(catalogue.height)
    pools = [Pool(everything, np.cumsum(np.ones(len(everything))))] * len(PARTS)
    grouped = logjoin.add_negatives(
        Grouped(requests, candidates), events, parts, pools, catalogue, options.negatives, options.seed
    )
    for part in range(len(PARTS)):
        chosen = np.flatnonzero(parts == part)
        for table in logjoin.part_tables(grouped, events, visible, chosen, first_key, NAMES, options.max_history):
            yield part, table


def _places(events: pl.DataFrame) -> tuple[Ints, Ints]:
    """Each event's place among its user's, from 0, and how many those are."""
    numbered = events.select(
        place=pl.int_range(pl.len(), dtype=pl.Int64).over("user"), count=pl.len().cast(pl.Int64).over("user")
    )
    return numbered["place"].to_numpy(), numbered["count"].to_numpy()


def _pieces(frame: pl.LazyFrame, seed: int) -> Iterator[tuple[pl.DataFrame, int, int]]:
    """Events of ascending ranges of users, in order, the events done with this piece, and all events.

    The column `validates` says whether the event's user is of those whose last training target is `valid`.
    """
    users = frame.group_by("user").agg(rows=pl.len().cast(pl.Int64)).collect(engine="streaming").sort("user")
    drawn = np.random.default_rng(seed).random(users.height)
    users = users.with_columns(validates=pl.Series(drawn < VALID_USERS, dtype=pl.Boolean))
    rows = np.cumsum(users["rows"].to_numpy())
    piece = (rows - 1) // PIECE
    for number in np.unique(piece):
        members = np.flatnonzero(piece == number)
        first, last = (pl.lit(users["user"][int(m)]) for m in (members[0], members[-1]))
        chosen = frame.with_row_index("line").filter(pl.col("user").is_between(first, last))
        events = chosen.collect(engine="streaming").join(users.select("user", "validates"), on="user")
        events = events.sort("user", "time", "line").drop("line")
        yield events, int(rows[members[-1]]), int(rows[-1])


def _catalogue(frame: pl.LazyFrame) -> pl.DataFrame:
    """Each item once, ascending, with its features and `number`."""
    features = [name for name in frame.collect_schema() if name.startswith(ITEM)]
    items = frame.group_by("item").agg(pl.col(name).first() for name in features)
    ordered = items.collect(engine="streaming").sort("item")
    return ordered.with_row_index("number").with_columns(pl.col("number").cast(pl.Int64))
