"""Negatives drawn from a catalogue, uniformly or by popularity, without those that a user has taken."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from din_infer.data.ragged import Ints
from din_infer.errors import DataError

NEGATIVE_BY = ("uniform", "popularity")
ROUNDS = 50  # of drawing again what was taken, before the choice is made from what is left


@dataclass(frozen=True)
class Pool:
    """The items [M] that can be drawn, as ascending numbers; `ends` [M] sums their chances up, to any total."""

    items: Ints
    ends: npt.NDArray[np.float64]

    def draw(self, generator: np.random.Generator, count: int) -> Ints:
        at = np.searchsorted(self.ends, generator.random(count) * self.ends[-1], side="right")
        drawn: Ints = self.items[np.minimum(at, len(self.items) - 1)]
        return drawn


def sample_for_user(user: int | str, pool: Pool, taken: Ints, counts: Ints, seed: tuple[int, ...]) -> Ints:
    """counts[r] different items for each request r of one user, none of them in `taken`: int64 [sum(counts)].

    They are drawn one after the other without replacement. The generator is the user's own, seeded by `seed` and the
    user's id, so that neither the order of the input nor other users matter. Raises DataError where too little is left.
    """
    generator = np.random.default_rng((*seed, _number_of(user)))
    left = len(pool.items) - int(_within(np.unique(taken), pool.items).sum())
    most = int(counts.max(initial=0))
    if left < most:
        raise DataError(f"user {user}: expected {most} items to draw negatives from, got {left}")
    request = np.repeat(np.arange(len(counts)), counts)
    drawn = pool.draw(generator, len(request))
    for _ in range(ROUNDS):
        bad = _not_allowed(request, drawn, taken)
        if not bad.any():
            return drawn
        drawn[bad] = pool.draw(generator, int(bad.sum()))
    chances = np.where(np.isin(pool.items, taken), 0.0, np.diff(pool.ends, prepend=0.0))
    for r in np.unique(request[_not_allowed(request, drawn, taken)]):
        drawn[request == r] = generator.choice(pool.items, counts[r], replace=False, p=chances / chances.sum())
    return drawn


def _within(values: Ints, ascending: Ints) -> npt.NDArray[np.bool_]:
    """As np.isin, in time that hardly depends on the second array."""
    at = np.minimum(np.searchsorted(ascending, values), len(ascending) - 1)
    within: npt.NDArray[np.bool_] = ascending[at] == values
    return within


def _not_allowed(request: Ints, drawn: Ints, taken: Ints) -> npt.NDArray[np.bool_]:
    """What is taken, and what the same request has drawn before."""
    span = int(drawn.max(initial=0)) + 1
    again = np.ones(len(drawn), np.bool_)
    again[np.unique(request * span + drawn, return_index=True)[1]] = False
    not_allowed: npt.NDArray[np.bool_] = again | np.isin(drawn, taken)
    return not_allowed


def _number_of(user: int | str) -> int:
    return int.from_bytes(hashlib.blake2b(repr(user).encode(), digest_size=8).digest(), "little")
