"""Paired bootstrap over users (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13).

A resample draws as many groups as there are, with replacement, and every model is measured on the same resamples. A
group stays whole, because the candidates of one user are not independent of each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from din_infer.training.metrics import group_areas

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

AT_ONCE = 1 << 23  # numbers of a dense array that are held at a time


@dataclass(frozen=True)
class Resamples:
    """How often each of G groups is in each of R resamples, float64 [G, R]; candidates [N] are of `groups`, from 0."""

    groups: Ints
    times: Floats

    @classmethod
    def draw(cls, groups: Ints, count: int, seed: int = 0) -> Resamples:
        numbers = np.unique(groups, return_inverse=True)[1].astype(np.int64)
        size = int(numbers.max()) + 1
        generator = np.random.default_rng(seed)
        return cls(numbers, generator.multinomial(size, np.full(size, 1 / size), count).T.astype(np.float64))

    def auc(self, labels: npt.NDArray[np.float32], probabilities: npt.NDArray[np.float32]) -> Floats:
        """AUC of each resample [R], ties counted as half; NaN where it has one class alone.

        Only the order of positives and negatives matters, so a negative counts in one of 2 P + 1 slots, at or between
        the P different scores of positives.
        """
        positive = labels == 1
        scores = np.unique(probabilities[positive])
        place = 2 * np.searchsorted(scores, probabilities) + np.isin(probabilities, scores)
        slots = 2 * len(scores) + 1
        kinds = [self._by_slot(place[chosen], self.groups[chosen], slots) for chosen in (positive, ~positive)]
        resamples, found = self.times.shape[1], []
        step = max(1, AT_ONCE // slots)
        for first in range(0, resamples, step):
            positives, negatives = (kind @ self.times[:, first : first + step] for kind in kinds)
            below = np.cumsum(negatives, axis=0) - negatives / 2
            with np.errstate(invalid="ignore"):
                found.append((positives * below).sum(0) / (positives.sum(0) * negatives.sum(0)))
        return np.concatenate(found)

    def gauc(self, labels: npt.NDArray[np.float32], probabilities: npt.NDArray[np.float32]) -> Floats:
        """GAUC of each resample [R]; NaN where no group has both classes."""
        areas, impressions = group_areas(labels, probabilities, self.groups)
        weights = np.where(np.isnan(areas), 0, impressions)[:, None] * self.times
        with np.errstate(invalid="ignore"):
            found: Floats = np.nan_to_num(areas) @ weights / weights.sum(0)
        return found

    def _by_slot(self, place: Ints, groups: Ints, slots: int) -> csr_array:
        """How many candidates of each group lie in each slot, sparse [slots, G]; duplicates add up."""
        return csr_array((np.ones(len(place)), (place, groups)), shape=(slots, self.times.shape[0]))


def interval(values: Floats, level: float = 0.95) -> tuple[float, float]:
    """The percentile interval of a resampled statistic."""
    low, high = np.nanquantile(values, ((1 - level) / 2, (1 + level) / 2))
    return float(low), float(high)
