"""MovieLens 100K as requests. Harper and Konstan, The MovieLens Datasets, ACM TiiS 5(4), 2015.

What a request sees: the items that its user liked (rating >= 4) strictly before it, or all that it rated, each with its
rating. Ratings of the same second are not seen, for three in four of them come in groups that MovieLens stamped with
one second, and their order is not known.

What leaks, and what does not:

- `--split user` holds out the end of each user's own time line. The model is fitted on ratings that other users gave
  later than a test request, as it never would be in service. Users are seen, moments are not.
- `--split global` cuts all time lines at one moment, so nothing of the test's time is fitted: most test users are new,
  and their history is what they liked before the request, after the cut too.
- Negatives (`next-item`) are drawn uniformly from the items that the user had not rated by then, which tells nothing
  of the future: some are rated, even liked, later. Neither positives nor negatives are in the history.
- Vocabularies and dense statistics come from the training split. A negative there may be an item that was first rated
  later. Only the median that stands in for two missing years is taken over the whole catalogue.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import yaml

from din_infer.data import atomic, sources
from din_infer.data.protocols import HISTORIES, PROTOCOLS, Events, Ratings, build_events, ratings_of, sample_negatives
from din_infer.data.ragged import lists_of, positions_of
from din_infer.data.requests import SCHEMA_FILE, write_requests
from din_infer.data.splits import PARTS, split_in_time
from din_infer.errors import DataError

SPLITS = ("user", "global")


@dataclass(frozen=True)
class Options:
    """How requests are made. For `next-item`, `negatives` per positive in train and valid, `test_negatives` in test."""

    protocol: str = "next-item"
    history: str = "liked"
    split: str = "user"
    seed: int = 0
    negatives: int = 4
    test_negatives: int = 99
    max_history: int = 200

    def __post_init__(self) -> None:
        for name, choices in (("protocol", PROTOCOLS), ("history", HISTORIES), ("split", SPLITS)):
            if getattr(self, name) not in choices:
                raise DataError(f"{name}: expected {' | '.join(choices)}, got {getattr(self, name)!r}")
        for name, least in (("seed", 0), ("negatives", 1), ("test_negatives", 1), ("max_history", 1)):
            if getattr(self, name) < least:
                raise DataError(f"{name}: expected at least {least}, got {getattr(self, name)}")


def usual_history(protocol: str) -> str:
    """What a protocol's history holds unless somebody says otherwise: DESIGN.md has what either is worth."""
    return "rated" if protocol == "rating" else "liked"


def write_ml_100k(out: Path, source: Path | None, options: Options) -> list[dict[str, Any]]:
    """Writes train, valid, test and items .parquet and schema.yaml into `out`; returns the facts of each split.

    Raises DataError for a source that is missing or damaged.
    """
    files = sources.read_atomic_files(source)
    items = atomic.read_items(files["item"], f"{sources.NAME}.item")
    ratings = ratings_of(atomic.read_events(files["inter"], f"{sources.NAME}.inter"), items)
    if options.history == "rated":
        _check_whole(ratings)
    events = build_events(ratings, options.protocol, options.history)
    parts = split_in_time(events.owner if options.split == "user" else np.zeros_like(events.owner), events.time)
    out.mkdir(parents=True, exist_ok=True)
    all_facts = []
    for part, name in enumerate(PARTS):
        table = _part_table(events, ratings, items, np.flatnonzero(parts == part), part, options)
        facts = {**_facts(table, options), "part": name}
        write_requests(table, out / f"{name}.parquet", facts)
        all_facts.append(facts)
    catalogue = items.select("title", pl.col("item_id", "genre", "release_year").name.prefix("candidate."))
    catalogue.write_parquet(out / "items.parquet")
    text = yaml.safe_dump(schema(options), sort_keys=False, default_flow_style=None, width=120)
    (out / SCHEMA_FILE).write_text(text, encoding="utf-8")
    return all_facts


def _check_whole(ratings: Ratings) -> None:
    """As features of behaviours ratings are ids."""
    broken = ratings.rating[ratings.rating % 1 != 0]
    if len(broken):
        raise DataError(f"{sources.NAME}.inter: expected whole ratings for --history rated, got {broken[0]}")


def schema(options: Options) -> dict[str, Any]:
    """The content of schema.yaml."""
    rated = options.history == "rated"
    return {
        "version": 1,
        "request": {"key": "request_id", "group": "user_id", "time": "timestamp"},
        "label": "label",
        "tables": {
            "item": {"dim": 16, "ids": "vocabulary"},
            "genre": {"dim": 16, "ids": "vocabulary", "dtype": "string"},
            **({"rating": {"dim": 8, "ids": "vocabulary"}} if rated else {}),
        },
        "candidate": {
            "item_id": {"table": "item"},
            "genre": {"table": "genre", "many": "mean"},
            "release_year": {"dense": "standardise"},
        },
        "histories": {
            "history": {
                "features": {"item_id": None, "genre": None, **({"rating": {"table": "rating"}} if rated else {})},
                "order": "oldest_first",
                "max_length": options.max_history,
                "keep": "latest",
            }
        },
    }


def _part_table(
    events: Events, ratings: Ratings, items: pl.DataFrame, chosen: npt.NDArray[np.int64], part: int, options: Options
) -> pa.Table:
    """The requests numbered `chosen`, candidates by ascending item so that their order tells nothing."""
    lengths = np.diff(events.offsets)[chosen]
    own = positions_of(events.offsets[chosen], lengths)
    candidate, label = events.item[own], events.label[own]
    if options.protocol == "next-item":
        count = options.test_negatives if PARTS[part] == "test" else options.negatives
        negatives = sample_negatives(ratings, events, chosen, count, len(items), (options.seed, part))
        rows = np.concatenate([candidate[:, None], negatives], axis=1)
        order = np.argsort(rows, axis=1)
        candidate = np.take_along_axis(rows, order, axis=1).ravel()
        label = (order == 0).astype(np.int64).ravel()
        lengths = np.full(len(chosen), count + 1)
    begin = np.maximum(events.begin[chosen], events.end[chosen] - options.max_history)
    history_lengths = events.end[chosen] - begin
    behaviours = events.behaviours[positions_of(begin, history_lengths)]
    history = ratings.item[behaviours]
    catalogue = {name: items[name].to_arrow() for name in ("item_id", "release_year")}
    catalogue["genre"] = items["genre"].to_arrow().cast(pa.list_(pa.string()))
    stars = lists_of(pa.array(ratings.rating[behaviours].astype(np.int64)), history_lengths)
    return pa.table(
        {
            "request_id": chosen,
            "user_id": ratings.users[events.owner[chosen]],
            "timestamp": events.time[chosen],
            "history.item_id": lists_of(catalogue["item_id"].take(pa.array(history)), history_lengths),
            "history.genre": lists_of(catalogue["genre"].take(pa.array(history)), history_lengths),
            **({"history.rating": stars} if options.history == "rated" else {}),
            "candidate.item_id": lists_of(catalogue["item_id"].take(pa.array(candidate)), lengths),
            "candidate.genre": lists_of(catalogue["genre"].take(pa.array(candidate)), lengths),
            "candidate.release_year": lists_of(catalogue["release_year"].take(pa.array(candidate)), lengths),
            "label": lists_of(pa.array(label.astype(np.int8)), lengths),
        }
    )


def _facts(table: pa.Table, options: Options) -> dict[str, Any]:
    times = table["timestamp"].to_numpy()
    dates = (
        [datetime.fromtimestamp(int(t), UTC).date().isoformat() for t in (times.min(), times.max())]
        if len(times)
        else []
    )
    labels = table["label"].combine_chunks().flatten().to_numpy()
    negatives = int((labels == 0).sum() // max(len(table), 1)) if options.protocol == "next-item" else None
    return {
        "dataset": "MovieLens 100K",
        "protocol": options.protocol,
        "history": options.history,
        "split": options.split,
        "seed": options.seed,
        "requests": len(table),
        "candidates": len(labels),
        "positives": int(labels.sum()),
        "sampled_negatives": negatives,
        "behaviours": len(table["history.item_id"].combine_chunks().flatten()),
        "dates": dates,
    }
