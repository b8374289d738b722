"""From ratings to requests: which candidates a request has, and the history that it may see."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from din_infer.errors import DataError

LIKED = 4.0  # the rating from which on an item counts as liked
PROTOCOLS = ("next-item", "rating")
HISTORIES = ("liked", "rated")

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Ratings:
    """All ratings by user, time and item; `item` [n] indexes the catalogue, `owner` [n] the ascending user ids."""

    users: Ints
    owner: Ints
    item: Ints
    time: Ints
    rating: npt.NDArray[np.float64]

    @property
    def liked(self) -> npt.NDArray[np.bool_]:
        liked: npt.NDArray[np.bool_] = self.rating >= LIKED
        return liked


@dataclass(frozen=True)
class Events:
    """R requests before negatives are added, by user and time; candidates are `item[offsets[r]:offsets[r + 1]]`.

    The history of request r is `behaviours[begin[r]:end[r]]`, numbers of ratings: what its user liked, or rated,
    strictly before `time[r]`.
    """

    owner: Ints
    time: Ints
    offsets: Ints
    item: Ints
    label: Ints
    behaviours: Ints
    begin: Ints
    end: Ints


def ratings_of(events: pl.DataFrame, items: pl.DataFrame) -> Ratings:
    """Indexes the frames of `atomic`. Raises DataError for a rating whose item the catalogue lacks."""
    catalogue, item_ids = items["item_id"].to_numpy(), events["item_id"].to_numpy()
    item = np.searchsorted(catalogue, item_ids)
    known = np.append(catalogue, catalogue[-1])[item] == item_ids
    if not known.all():
        raise DataError(f"expected every rated item in the catalogue, got a rating of item {item_ids[~known][0]}")
    users, owner = np.unique(events["user_id"].to_numpy(), return_inverse=True)
    return Ratings(users, owner, item, events["timestamp"].to_numpy(), events["rating"].to_numpy())


def build_events(ratings: Ratings, protocol: str, history: str) -> Events:
    """Requests of one protocol, with histories of what was `liked` or of all that was `rated`.

    - `next-item`: one request for each liked item, which is its only candidate so far, with label 1;
    - `rating`: one request for each user and second, whose candidates are all that the user rated then, with label 1
      where liked. (Three ratings in four share user and second with another one.)
    """
    n = len(ratings.item)
    same = (np.diff(ratings.owner) == 0) & (np.diff(ratings.time) == 0)
    moment = np.maximum.accumulate(np.where(np.append(True, ~same), np.arange(n), 0))  # first rating of that second
    first_of_user = np.searchsorted(ratings.owner, ratings.owner)
    behaves = ratings.liked if history == "liked" else np.ones(n, np.bool_)
    before = np.append(0, np.cumsum(behaves))
    if protocol == "next-item":
        at = candidates = np.flatnonzero(ratings.liked)
        offsets = np.arange(len(at) + 1)
    else:
        at, candidates = np.flatnonzero(moment == np.arange(n)), np.arange(n)
        offsets = np.append(at, n)
    if len(at) == 0:
        raise DataError(f"expected ratings of {LIKED} or more, got none")
    return Events(
        owner=ratings.owner[at],
        time=ratings.time[at],
        offsets=offsets,
        item=ratings.item[candidates],
        label=ratings.liked[candidates].astype(np.int64),
        behaviours=np.flatnonzero(behaves),
        begin=before[first_of_user[at]],
        end=before[moment[at]],
    )


def sample_negatives(
    ratings: Ratings, events: Events, requests: Ints, count: int, catalogue: int, seed: tuple[int, ...]
) -> Ints:
    """`count` different items for each of `requests`, uniform over what its user had not rated by then: [R, count].

    What the user rates later may be drawn: leaving it out would tell the future, and would leave heavy users' negatives
    to the least popular items. What was rated in the request's own second is out, for its order is not known.

    Each user has a generator of its own, seeded by `seed` and the user's id, so that neither the order of the input
    nor other users matter. Raises DataError where a user has rated too much to leave `count` items.
    """
    if count > catalogue:
        raise DataError(f"expected at most as many negatives as the catalogue has items, {catalogue}, got {count}")
    negatives = np.empty((len(requests), count), np.int64)
    owner = events.owner[requests]
    rated_from = np.searchsorted(ratings.owner, np.arange(len(ratings.users) + 1))
    for user in np.unique(owner):
        rated = ratings.item[rated_from[user] : rated_from[user + 1]]
        times = ratings.time[rated_from[user] : rated_from[user + 1]]
        user_id = int(ratings.users[user])
        generator = np.random.default_rng((*seed, abs(user_id), int(user_id < 0)))
        for place in np.flatnonzero(owner == user):
            known = rated[: np.searchsorted(times, events.time[requests[place]], side="right")]
            unrated = np.setdiff1d(np.arange(catalogue), known)
            if len(unrated) < count:
                raise DataError(f"user {user_id}: expected {count} unrated items to draw from, got {len(unrated)}")
            negatives[place] = generator.choice(unrated, count, replace=False, shuffle=False)
    return negatives
