"""Competitors that do the same work: outputs compared first, then timed in turns."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from din_infer.errors import DINError

# Peers' worker threads spin for some milliseconds after their work; they would slow whoever comes next.
SETTLE_SECONDS = 0.02


class DifferentOutputsError(DINError):
    """A competitor does not compute what it is compared with, so its time says nothing."""


@dataclass(frozen=True)
class Competitor:
    """One way to do the work. `run` does all of it once and returns the outputs.

    `versus` names the competitor that computes the same from the same weights, whose outputs these have to equal and
    whose time this one's is divided by; None for that competitor itself.
    """

    name: str
    run: Callable[[], npt.NDArray[np.float32]]
    versus: str | None = None


@dataclass(frozen=True)
class Measurement:
    """Seconds per run, one number a round, and the largest difference to the outputs of `versus`.

    `peaks` has what `peak` gave around each of the samples; it is empty where there was none.
    """

    name: str
    seconds: tuple[float, ...]
    versus: str | None
    max_difference: float
    peaks: tuple[float, ...] = ()

    @property
    def median(self) -> float:
        return float(np.median(self.seconds))

    @property
    def spread(self) -> tuple[float, float]:
        """10th and 90th percentile."""
        low, high = np.percentile(self.seconds, [10, 90])
        return float(low), float(high)

    def to_dict(self) -> dict[str, Any]:
        p10, p90 = self.spread
        return {
            "name": self.name,
            "versus": self.versus,
            "median_s": self.median,
            "p10_s": p10,
            "p90_s": p90,
            "rounds": len(self.seconds),
            "max_difference": self.max_difference,
        }


def compare(competitors: Sequence[Competitor], tolerance: float, *, relative: bool = False) -> dict[str, float]:
    """Largest difference of each competitor's outputs to those of its `versus`, 0 for those without.

    With `relative`, in units of the largest magnitude among the outputs of `versus`.

    Raises DifferentOutputsError where a difference is above `tolerance` or not a number, or shapes differ.
    """
    bases = {c.name: c.run() for c in competitors if c.versus is None}
    differences = {}
    for competitor in competitors:
        if competitor.versus is None:
            differences[competitor.name] = 0.0
            continue
        expected, got = bases[competitor.versus], competitor.run()
        if expected.shape != got.shape:
            raise DifferentOutputsError(
                f"{competitor.name}: expected outputs of shape {expected.shape}, got {got.shape}"
            )
        difference = float(np.max(np.abs(got.astype(np.float64) - expected), initial=0.0))
        if relative:
            difference /= float(np.max(np.abs(expected), initial=np.finfo(np.float32).tiny))
        if not difference <= tolerance:
            raise DifferentOutputsError(
                f"{competitor.name}: expected the outputs of {competitor.versus} within {tolerance:g},"
                f" got a difference of {difference:g}; nothing was timed"
            )
        differences[competitor.name] = difference
    return differences


def measure(
    competitors: Sequence[Competitor],
    *,
    tolerance: float,
    relative: bool = False,
    rounds: int = 15,
    budget: float = 10.0,
    min_rounds: int = 3,
    min_sample: float = 0.005,
    clock: Callable[[], float] = time.perf_counter,
    peak: Callable[[], float] | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> list[Measurement]:
    """Compares, then times the competitors in turns, so that a slow minute of the machine is everyone's.

    A competitor that has used `budget` seconds sits out after `min_rounds` rounds. Runs shorter than `min_sample`
    seconds are repeated within one sample. `clock` tells seconds; `time.process_time` those that all threads computed,
    for machines on which others work. `peak` is called before each sample and after the last; a sample keeps the mean
    of the two calls around it.

    Raises DifferentOutputsError, before anything is timed, as `compare` does.
    """
    progress("comparing outputs")
    differences = compare(competitors, tolerance, relative=relative)
    samples: dict[str, list[float]] = {c.name: [] for c in competitors}
    looks: list[tuple[str, float]] = []
    spent = dict.fromkeys(samples, 0.0)
    repeats = {c.name: math.ceil(min_sample / _seconds(c, 1, clock)) for c in competitors}
    for turn in range(rounds):
        start = turn % len(competitors)
        for competitor in (*competitors[start:], *competitors[:start]):
            name = competitor.name
            if turn >= min_rounds and spent[name] > budget:
                continue
            progress(f"round {turn + 1}/{rounds}: {name}")
            time.sleep(SETTLE_SECONDS)
            if peak:
                looks.append((name, peak()))
            if not samples[name] or samples[name][-1] < 10 * min_sample:
                competitor.run()  # caches and threads as they are in steady use; long runs do not notice
            seconds = _seconds(competitor, repeats[name], clock)
            samples[name].append(seconds)
            spent[name] += seconds * repeats[name]
    peaks: dict[str, list[float]] = {c.name: [] for c in competitors}
    if peak:
        time.sleep(SETTLE_SECONDS)
        looks.append(("", peak()))
        for (name, before), (_, after) in pairwise(looks):
            peaks[name].append((before + after) / 2)
    return [
        Measurement(c.name, tuple(samples[c.name]), c.versus, differences[c.name], tuple(peaks[c.name]))
        for c in competitors
    ]


def _seconds(competitor: Competitor, repeats: int, clock: Callable[[], float]) -> float:
    start = clock()
    for _ in range(repeats):
        competitor.run()
    return (clock() - start) / repeats
