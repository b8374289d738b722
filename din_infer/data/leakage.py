"""What could tell a model the label, or make its test easier than service: counted while requests are made."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import polars as pl

from din_infer.data.asof import Visible
from din_infer.data.logjoin import Grouped
from din_infer.data.ragged import Ints, positions_of
from din_infer.data.splits import PARTS

WHAT = {
    "events": "events in the log",
    "duplicate_events": "events that say what another one says: left out",
    "events_of_users_without_requests": "events of users without impressions: left out",
    "events_at_request_time": "events at the very time of one of their user's requests: not seen by it",
    "events_carrying_the_label": "of those, events of an item with label 1 in that request",
    "positives": "candidates with label 1",
    "positives_seen_before": "of those, with an earlier event of user and item (rows logged twice, or repeats)",
    "negatives": "candidates with label 0",
    "negatives_seen_before": "of those, with an earlier event of user and item",
    "duplicate_impressions": "impressions of an item that its request had already: merged",
    "conflicting_item_features": "items with different features in one request: the earliest impression's count",
    "conflicting_labels": "items with both labels in one request: taken as 1",
    "requests_with_conflicting_features": "requests with different user or context features: the earliest count",
    "requests_of_several_times": "requests with rows of several times: the earliest counts",
    "requests_without_history": "requests that see no event",
    "items_with_changing_features": "items with different features in different impressions",
    "test_users": "users in test",
    "test_users_unseen": "of those, without a request in train",
    "test_items": "items among the candidates of test",
    "test_items_unseen": "of those, neither candidate nor in a history in train",
    "test_candidates": "candidates of test",
    "test_candidates_unseen": "of those, of an item unseen in train",
    "test_positives": "candidates of test with label 1",
    "test_positives_unseen": "of those, of an item unseen in train",
}


class Leakage:
    """Sums up piece after piece. A user's requests are all in one piece; items are kept, so memory grows with them."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._items: list[pl.DataFrame] = []

    def add_counts(self, counts: dict[str, int]) -> None:
        self.counts.update(counts)

    def add(self, grouped: Grouped, events: pl.DataFrame, visible: Visible, parts: Ints, most: int) -> None:
        """One piece: its requests with their parts, its ordered events, and what each request sees of them."""
        requests = grouped.requests.select("user", "at").with_columns(part=pl.Series(parts))
        owner = np.repeat(np.arange(len(parts)), grouped.lengths)
        candidates = requests[owner].with_columns(grouped.candidates["item"], grouped.candidates["label"])
        moments = requests.select("user", "at").unique()
        at_once = events.select("user", "item", "time").join(moments, left_on=["user", "time"], right_on=["user", "at"])
        positives = candidates.filter(pl.col("label") == 1)
        carrying = at_once.join(
            positives, left_on=["user", "time", "item"], right_on=["user", "at", "item"], how="semi"
        )
        first = events.group_by("user", "item").agg(pl.col("time").min().alias("first"))
        seen = candidates.join(first, on=["user", "item"], how="left").filter(pl.col("first") < pl.col("at"))
        users = requests.group_by("user").agg(train=(pl.col("part") == 0).any(), test=(pl.col("part") == 2).any())
        tested = users.filter("test")
        self.counts.update(
            events_at_request_time=at_once.height,
            events_carrying_the_label=carrying.height,
            positives=positives.height,
            positives_seen_before=int((seen["label"] == 1).sum()),
            negatives=candidates.height - positives.height,
            negatives_seen_before=int((seen["label"] == 0).sum()),
            requests_without_history=int((visible.end == visible.begin).sum()),
            test_users=tested.height,
            test_users_unseen=tested.height - int(tested["train"].sum()),
        )
        train = parts == PARTS.index("train")
        begin = visible.begin.clip(min=visible.end - most)[train]
        history = events["item"][positions_of(begin, visible.end[train] - begin)]
        self._add_items(candidates, history)

    def report(self) -> dict[str, Any]:
        """All counts of WHAT, in its order."""
        if self._items:
            items = self._items[0]
            tested, unseen = items.filter(pl.col("tests") > 0), items.filter((pl.col("tests") > 0) & ~pl.col("train"))
            self.counts.update(
                test_items=tested.height,
                test_items_unseen=unseen.height,
                test_candidates=int(tested["tests"].sum()),
                test_candidates_unseen=int(unseen["tests"].sum()),
                test_positives=int(tested["positives"].sum()),
                test_positives_unseen=int(unseen["positives"].sum()),
            )
            self._items = []
        return {name: self.counts[name] for name in WHAT}

    def _add_items(self, candidates: pl.DataFrame, history: pl.Series) -> None:
        in_test = pl.col("part") == PARTS.index("test")
        asked = candidates.group_by("item").agg(
            train=(pl.col("part") == PARTS.index("train")).any(),
            tests=in_test.sum().cast(pl.Int64),
            positives=(in_test & (pl.col("label") == 1)).sum().cast(pl.Int64),
        )
        none = pl.lit(0, pl.Int64)
        seen = history.unique().to_frame("item").select("item", train=True, tests=none, positives=none)
        merged = pl.concat([*self._items, asked, seen]).group_by("item")
        self._items = [merged.agg(pl.col("train").any(), pl.col("tests").sum(), pl.col("positives").sum())]
