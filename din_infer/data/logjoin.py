"""Requests of some users out of their impressions and events: grouping, as-of join, sampled negatives, Arrow tables.

Frames have the columns `user`, `item`, `time`, `label`, perhaps `request`, and features with the prefix of their group.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl
import pyarrow as pa

from din_infer.data.asof import Visible, visible_events
from din_infer.data.negatives import Pool, sample_for_user
from din_infer.data.ragged import Ints, lists_of, positions_of, runs_of

USER, CONTEXT, ITEM, EVENT = "user.", "context.", "item.", "event."
TABLE = 2_000_000  # behaviours and candidates of a table, unless one request has more


@dataclass(frozen=True)
class Grouped:
    """R requests by user, time and perhaps key, a row each in `requests`, with `length` rows of `candidates`."""

    requests: pl.DataFrame
    candidates: pl.DataFrame

    @property
    def lengths(self) -> Ints:
        lengths: Ints = self.requests["length"].to_numpy().astype(np.int64)
        return lengths

    @property
    def offsets(self) -> Ints:
        return np.append(0, np.cumsum(self.lengths))


@dataclass(frozen=True)
class Names:
    """Column names in the files of requests, without the group where a feature has one."""

    key: str
    user: str
    time: str
    label: str
    item: str


def group_impressions(impressions: pl.DataFrame) -> tuple[Grouped, dict[str, int]]:
    """Impressions of one request (`request`, otherwise of one user and time), its items ascending and each once.

    A request of several times has the earliest. An item is labelled 1 where any of its impressions is, and has the
    features of the earliest one: the one with label 1 may have been logged after the click, with what followed from it.
    Of a feature of the user or the context that is not the same in all rows of a request, the earliest row decides, and
    of rows of one time that of the first item. All of that is counted in the second result.
    """
    at = pl.col("time").min().over("request") if "request" in impressions.columns else pl.col("time")
    impressions = impressions.with_columns(at.alias("at"))
    key = ["user", "at", *(["request"] if "request" in impressions.columns else [])]
    features = sorted(name for name in impressions.columns if name.startswith((USER, CONTEXT, ITEM)))
    sides, own = ([n for n in features if n.startswith(ITEM) is of_items] for of_items in (False, True))
    ordered = impressions.sort(*key, "time", "item", *features)  # without the label: no feature may depend on it
    requests = ordered.group_by(key, maintain_order=True).agg(
        pl.col("item").n_unique().alias("length"),
        *(pl.col(name).first() for name in sides),
        _differs(sides).alias("conflict"),
        (pl.col("time").max() > pl.col("time").min()).alias("several times"),
    )
    items = ordered.group_by([*key, "item"], maintain_order=True).agg(
        pl.col("label").max(),
        *(pl.col(name).first() for name in own),
        (pl.col("label").n_unique() > 1).alias("both"),
        _differs(own).alias("conflict"),
    )
    counts = {
        "duplicate_impressions": ordered.height - items.height,
        "conflicting_item_features": int(items["conflict"].sum()),
        "conflicting_labels": int(items["both"].sum()),
        "requests_with_conflicting_features": int(requests["conflict"].sum()),
        "requests_of_several_times": int(requests["several times"].sum()),
    }
    candidates = items.sort(*key, "item").select("item", "label", *own)
    return Grouped(requests.drop("conflict", "several times"), candidates), counts


def _differs(columns: list[str]) -> pl.Expr:
    """Whether a group has rows that differ in these columns."""
    return pl.struct(columns).n_unique() > 1 if columns else pl.len() == 0


def order_events(events: pl.DataFrame) -> pl.DataFrame:
    """By user, time and all else, each once."""
    first = ["user", "time", "item"]
    return events.unique().sort(*first, *sorted(set(events.columns) - set(first)))


def histories_of(grouped: Grouped, events: pl.DataFrame) -> Visible:
    """What each request sees of the ordered events."""
    users = pl.concat([grouped.requests["user"], events["user"]]).rank("dense").to_numpy().astype(np.int64) - 1
    n = grouped.requests.height
    times = [frame.to_numpy().astype(np.int64) for frame in (events["time"], grouped.requests["at"])]
    return visible_events(users[n:], times[0], users[:n], times[1])


def add_negatives(
    grouped: Grouped, events: pl.DataFrame, parts: Ints, pools: list[Pool], catalogue: pl.DataFrame, k: int, seed: int
) -> Grouped:
    """`k` negatives for each positive, drawn from the part's pool, none that the user has in any event or impression.

    All candidates, positives as well, take their features from the catalogue, whose `number` is the row.
    """
    positives = _numbers(grouped.candidates, catalogue)
    owner = np.repeat(np.arange(grouped.requests.height), grouped.lengths)
    touched = pl.concat(
        [
            pl.DataFrame({"user": grouped.requests["user"][owner], "item": grouped.candidates["item"]}),
            events.select("user", "item"),
        ]
    ).unique()
    touched = touched.join(catalogue.select("item", "number"), on="item").sort("user", "number")
    taken = dict(touched.group_by("user", maintain_order=True).agg("number").iter_rows())
    requests, drawn = [], []
    for user, members in _by_user(grouped.requests["user"]):
        for part in np.unique(parts[members]):
            chosen = members[parts[members] == part]
            counts = k * grouped.lengths[chosen]
            drawn.append(sample_for_user(user, pools[part], np.array(taken[user]), counts, (seed, int(part))))
            requests.append(np.repeat(chosen, counts))
    number = np.concatenate([positives, *drawn])
    owner = np.concatenate([owner, *requests])
    order = np.lexsort((number, owner))
    label = np.repeat([1, 0], [len(positives), len(number) - len(positives)])[order]
    features = [name for name in grouped.candidates.columns if name.startswith(ITEM)]
    candidates = catalogue.select("item", *features)[number[order]].with_columns(label=pl.Series(label))
    lengths = pl.Series("length", np.bincount(owner, minlength=grouped.requests.height))
    return Grouped(grouped.requests.with_columns(lengths), candidates)


def part_tables(
    grouped: Grouped, events: pl.DataFrame, visible: Visible, chosen: Ints, first_key: int, names: Names, most: int
) -> Iterator[pa.Table]:
    """The requests numbered `chosen`, histories cut to the latest `most`, as the files have them, TABLE in each."""
    seen = np.minimum(visible.end - visible.begin, most)[chosen]
    for run in runs_of(seen + grouped.lengths[chosen], TABLE):
        yield _table(grouped, events, visible, chosen[run], first_key, names, most)


def _table(
    grouped: Grouped, events: pl.DataFrame, visible: Visible, chosen: Ints, first_key: int, names: Names, most: int
) -> pa.Table:
    requests = grouped.requests[chosen]
    lengths = grouped.lengths[chosen]
    candidates = grouped.candidates[positions_of(grouped.offsets[chosen], lengths)]
    begin = np.maximum(visible.begin[chosen], visible.end[chosen] - most)
    seen = visible.end[chosen] - begin
    history = events[positions_of(begin, seen)]
    columns = {
        names.key: _arrow(requests["request"]) if "request" in requests.columns else pa.array(chosen + first_key),
        names.user: _arrow(requests["user"]),
        names.time: _arrow(requests["at"]),
    }
    sides = (name for name in requests.columns if name.startswith((USER, CONTEXT)))
    columns |= {name: _arrow(requests[name]) for name in sides}
    columns[f"history.{names.item}"] = lists_of(_arrow(history["item"]), seen)
    for name in history.columns:
        if name.startswith((ITEM, EVENT)):
            columns[f"history.{name.partition('.')[2]}"] = lists_of(_arrow(history[name]), seen)
    columns |= candidate_columns(candidates, names.item, lengths)
    columns[names.label] = lists_of(_arrow(candidates["label"].cast(pl.Int8)), lengths)
    return pa.table(columns)


def candidate_columns(items: pl.DataFrame, item: str, lengths: Ints | None = None) -> dict[str, pa.Array]:
    """`candidate.*` columns of items, as lists of these lengths or one item per row."""
    columns = {f"candidate.{item}": _arrow(items["item"])}
    columns |= {
        f"candidate.{name.partition('.')[2]}": _arrow(items[name]) for name in items.columns if name.startswith(ITEM)
    }
    return columns if lengths is None else {name: lists_of(values, lengths) for name, values in columns.items()}


def _numbers(frame: pl.DataFrame, catalogue: pl.DataFrame) -> Ints:
    joined = frame.select("item").join(catalogue.select("item", "number"), on="item", how="left", maintain_order="left")
    numbers: Ints = joined["number"].to_numpy().astype(np.int64)
    return numbers


def _by_user(users: pl.Series) -> Iterator[tuple[int | str, Ints]]:
    """Each user with the numbers of its requests, which lie side by side."""
    starts = np.flatnonzero(np.diff(users.rle_id().to_numpy(), prepend=-1))
    for start, end in pairwise((*starts, len(users))):
        yield users[int(start)], np.arange(start, end)


def _arrow(series: pl.Series) -> pa.Array:
    return series.to_arrow(compat_level=pl.CompatLevel.oldest())
