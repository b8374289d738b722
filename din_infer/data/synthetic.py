"""Requests with a known optimum, of any size, in which only the behaviours of the candidate's own interest matter.

Every item has one latent interest, a category (several categories make up an interest) and a quality. Popularity is
Zipf's. Every user has several interests; a history's length is log-normal, its items are the user's. With n the
behaviours in the history that have the candidate's interest,

    P(click) = sigmoid(-2.5 + log2(1 + n) + quality),    quality ~ N(0, 0.3),

a function of what a model sees. So `bayes_probability`, a column outside the schema, is the best that any model can do,
and its AUC the highest to be expected. A sum over the whole history has to tell n for all interests at once, in few
numbers; a DIN has to weigh one behaviour against one candidate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from din_infer.data.asof import visible_events
from din_infer.data.negatives import Pool
from din_infer.data.ragged import Ints, lists_of, positions_of
from din_infer.data.requests import SCHEMA_FILE, RequestsWriter, dates_of
from din_infer.data.splits import PARTS, TEST_SHARE, VALID_SHARE, parts_at
from din_infer.errors import DataError

USERS_AT_ONCE = 2048  # a piece has a generator of its own, so this number is part of what the seed means
START, SPAN = 1_700_000_000, 30 * 86_400  # requests are spread over 30 days, behaviours over the 30 before as well
INTERCEPT, QUALITY = -2.5, 0.3
PER_USER = (2, 5)  # interests, at least and at most
MEDIAN_HISTORY, SPREAD = 30.0, 0.9  # of the log-normal number of a user's behaviours
CATEGORIES = 3  # per interest
ZIPF = 1.05
OWN = 0.5  # share of candidates that are of the user's interests
BINS = 1 << 14  # of the probabilities, for the Bayes AUC

Progress = Callable[[int], object]  # users done


@dataclass(frozen=True)
class Options:
    """Sizes. The number of requests is met exactly; the splits have their shares of it in the mean."""

    requests: int = 50_000
    users: int = 5_000
    items: int = 2_000
    candidates: int = 5
    interests: int = 40
    max_history: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"requests": 1, "users": 1, "items": 1, "candidates": 1, "interests": 5, "max_history": 1, "seed": 0}
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                raise DataError(f"{name.replace('_', '-')}: expected at least {smallest}, got {getattr(self, name)}")
        if self.items < self.interests:
            raise DataError(f"items: expected at least one per interest, {self.interests}, got {self.items}")


@dataclass(frozen=True)
class Catalogue:
    """I items: `interest`, `category` and `quality` [I]; `by_interest[c]` draws items of interest c by popularity."""

    interest: Ints
    category: Ints
    quality: npt.NDArray[np.float64]
    popular: Pool
    by_interest: list[Pool]

    @classmethod
    def make(cls, options: Options) -> Catalogue:
        generator = np.random.default_rng((options.seed, 0))
        interest = generator.permutation(np.arange(options.items) % options.interests)
        category = interest * CATEGORIES + generator.integers(0, CATEGORIES, options.items)
        names = generator.permutation(options.interests * CATEGORIES)  # a category's number tells no interest
        weight = (1.0 + generator.permutation(options.items)) ** -ZIPF
        pools = []
        for c in range(options.interests):
            members = np.flatnonzero(interest == c)
            pools.append(Pool(members, np.cumsum(weight[members])))
        quality = generator.normal(0.0, QUALITY, options.items)
        everything = Pool(np.arange(options.items), np.cumsum(weight))
        return cls(interest, names[category], quality, everything, pools)

    def draw(self, interests: Ints, generator: np.random.Generator) -> Ints:
        """An item of each of these interests."""
        items = np.empty(len(interests), np.int64)
        for c in np.unique(interests):
            of_it = interests == c
            items[of_it] = self.by_interest[c].draw(generator, int(of_it.sum()))
        return items


class Optimum:
    """AUC and log loss of the generating probabilities, from their histogram: exact to 1/BINS."""

    def __init__(self) -> None:
        self.counts = np.zeros((2, BINS), np.int64)
        self.loss = 0.0

    def add(self, labels: npt.NDArray[np.int8], probabilities: npt.NDArray[np.float64]) -> None:
        bins = np.minimum((probabilities * BINS).astype(np.int64), BINS - 1)
        for label in (0, 1):
            self.counts[label] += np.bincount(bins[labels == label], minlength=BINS)
        self.loss -= float(np.log(np.where(labels == 1, probabilities, 1.0 - probabilities)).sum())

    def metrics(self) -> dict[str, float | None]:
        """`auc` and `log_loss`; None where they are not defined."""
        negatives, positives = self.counts.astype(np.float64)
        pairs = negatives.sum() * positives.sum()
        below = np.cumsum(negatives) - negatives / 2
        total = int(self.counts.sum())
        return {
            "auc": float((positives * below).sum() / pairs) if pairs else None,
            "log_loss": self.loss / total if total else None,
        }


def write_synthetic(out: Path, options: Options, progress: Progress = lambda done: None) -> list[dict[str, Any]]:
    """Writes train, valid, test and items .parquet and schema.yaml into `out`; returns the facts of each split."""
    out.mkdir(parents=True, exist_ok=True)
    catalogue = Catalogue.make(options)
    optima = [Optimum() for _ in PARTS]
    counts = [dict.fromkeys(("requests", "candidates", "positives", "behaviours"), 0) for _ in PARTS]
    times: list[list[int]] = [[] for _ in PARTS]
    writers: list[RequestsWriter] = []
    with ExitStack() as stack:
        for piece in _pieces(catalogue, options):
            for part in range(len(PARTS)):
                chosen = np.flatnonzero(piece.parts == part)
                table = piece.table(chosen, catalogue)
                if len(writers) == part:
                    writer = RequestsWriter(out / f"{PARTS[part]}.parquet", table.schema)
                    writers.append(stack.enter_context(writer))
                writers[part].write(table)
                optima[part].add(piece.label[chosen].ravel(), piece.probability[chosen].ravel())
                made = (len(chosen), piece.label[chosen].size, piece.label[chosen].sum(), piece.lengths[chosen].sum())
                for name, count in zip(counts[part], made, strict=True):
                    counts[part][name] += int(count)
                times[part] += [int(m) for at in (piece.time[chosen],) if len(at) for m in (at.min(), at.max())]
            progress(piece.last_user + 1)
        made_by = {"dataset": "synthetic", "protocol": "known optimum", "split": "global", "seed": options.seed}
        splits = [
            {
                **made_by,
                **counts[p],
                "sampled_negatives": None,
                "bayes": optima[p].metrics(),
                "dates": dates_of(times[p]),
            }
            for p in range(len(PARTS))
        ]
        splits = [{**facts, "part": name} for facts, name in zip(splits, PARTS, strict=True)]
        for writer, facts in zip(writers, splits, strict=True):
            writer.close(facts)
    items = {
        "candidate.item_id": np.arange(options.items),
        "candidate.category": catalogue.category,
        "interest": catalogue.interest,
        "quality": catalogue.quality,
    }
    pq.write_table(pa.table(items), out / "items.parquet", compression="zstd")
    text = yaml.safe_dump(schema(options.max_history), sort_keys=False, default_flow_style=None, width=120)
    (out / SCHEMA_FILE).write_text(text, encoding="utf-8")
    return splits


def schema(max_history: int) -> dict[str, Any]:
    """The content of schema.yaml."""
    history = {"features": {"item_id": None, "category": None}, "order": "oldest_first", "max_length": max_history}
    return {
        "version": 1,
        "request": {"key": "request_id", "group": "user_id", "time": "timestamp"},
        "label": "label",
        "tables": {
            "item": {"dim": 8, "ids": "vocabulary", "min_count": 2},
            "category": {"dim": 8, "ids": "vocabulary"},
        },
        "candidate": {"item_id": {"table": "item"}, "category": {"table": "category"}},
        "histories": {"history": history},
    }


@dataclass(frozen=True)
class _Piece:
    """R requests of some users: N candidates each, and the histories `behaviour[begin[r] : begin[r] + lengths[r]]`."""

    last_user: int
    first_key: int
    user: Ints
    time: Ints
    parts: Ints
    behaviour: Ints
    begin: Ints
    lengths: Ints
    candidate: Ints
    probability: npt.NDArray[np.float64]
    label: npt.NDArray[np.int8]

    def table(self, chosen: Ints, catalogue: Catalogue) -> pa.Table:
        history = self.behaviour[positions_of(self.begin[chosen], self.lengths[chosen])]
        candidate = self.candidate[chosen].ravel()
        each = np.full(len(chosen), self.candidate.shape[1])
        return pa.table(
            {
                "request_id": chosen + self.first_key,
                "user_id": self.user[chosen],
                "timestamp": self.time[chosen],
                "history.item_id": lists_of(history, self.lengths[chosen]),
                "history.category": lists_of(catalogue.category[history], self.lengths[chosen]),
                "candidate.item_id": lists_of(candidate, each),
                "candidate.category": lists_of(catalogue.category[candidate], each),
                "label": lists_of(self.label[chosen].ravel(), each),
                "bayes_probability": lists_of(self.probability[chosen].ravel(), each),
            }
        )


def _pieces(catalogue: Catalogue, options: Options) -> Iterator[_Piece]:
    keys = 0
    for first in range(0, options.users, USERS_AT_ONCE):
        users = np.arange(first, min(first + USERS_AT_ONCE, options.users))
        share, rest = divmod(options.requests, options.users)
        counts = share + (users < rest)
        piece = _piece(users, counts.astype(np.int64), keys, catalogue, options)
        yield piece
        keys += len(piece.user)


def _piece(users: Ints, counts: Ints, first_key: int, catalogue: Catalogue, options: Options) -> _Piece:
    generator = np.random.default_rng((options.seed, 1, int(users[0])))
    likes = generator.permuted(np.tile(np.arange(options.interests), (len(users), 1)), axis=1)[:, : PER_USER[1]]
    several = generator.integers(PER_USER[0], PER_USER[1] + 1, len(users))
    behaviours = np.ceil(generator.lognormal(np.log(MEDIAN_HISTORY), SPREAD, len(users))).astype(np.int64) - 1
    owner = np.repeat(np.arange(len(users)), behaviours)
    when = generator.integers(START - SPAN, START + SPAN, len(owner))
    behaviour = catalogue.draw(_interests_of(owner, likes, several, generator), generator)
    order = np.lexsort((when, owner))
    behaviour, when = behaviour[order], when[order]

    asks = np.repeat(np.arange(len(users)), counts)
    time = generator.integers(START, START + SPAN, len(asks))
    order = np.lexsort((time, asks))
    time = time[order]
    visible = visible_events(owner, when, asks, time)
    begin = np.maximum(visible.begin, visible.end - options.max_history)
    lengths = visible.end - begin
    asked = np.repeat(asks, options.candidates)
    own = generator.random(len(asked)) < OWN
    candidate = catalogue.popular.draw(generator, len(asked))
    candidate[own] = catalogue.draw(_interests_of(asked[own], likes, several, generator), generator)
    candidate = candidate.reshape(-1, options.candidates)
    probability = _click_probability(catalogue, behaviour, begin, lengths, candidate)
    return _Piece(
        last_user=int(users[-1]),
        first_key=first_key,
        user=users[asks],
        time=time,
        parts=parts_at(time, _cuts()),
        behaviour=behaviour,
        begin=begin,
        lengths=lengths,
        candidate=candidate,
        probability=probability,
        label=(generator.random(probability.shape) < probability).astype(np.int8),
    )


def _interests_of(owner: Ints, likes: Ints, several: Ints, generator: np.random.Generator) -> Ints:
    """One of the owner's interests, the first ones more often."""
    at = (generator.random(len(owner)) ** 1.5 * several[owner]).astype(np.int64)
    interests: Ints = likes[owner, at]
    return interests


def _click_probability(
    catalogue: Catalogue, behaviour: Ints, begin: Ints, lengths: Ints, candidate: Ints
) -> npt.NDArray[np.float64]:
    """[R, N] from behaviours and candidates [R, N], as the module says."""
    interests = len(catalogue.by_interest)
    request = np.repeat(np.arange(len(lengths)), lengths)
    seen = catalogue.interest[behaviour[positions_of(begin, lengths)]]
    counts = np.bincount(request * interests + seen, minlength=len(lengths) * interests).reshape(-1, interests)
    same = np.take_along_axis(counts, catalogue.interest[candidate], axis=1)
    logit = INTERCEPT + np.log2(1.0 + same) + catalogue.quality[candidate]
    probability: npt.NDArray[np.float64] = 1.0 / (1.0 + np.exp(-logit))
    return probability


def _cuts() -> tuple[int, int]:
    test = (1 - TEST_SHARE) * SPAN
    return START + int((1 - VALID_SHARE) * test), START + int(test)
