"""What an experiment found: metrics of each variant over the seeds, and its gains over the base variant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from din_infer.experiment.bootstrap import Floats, Resamples, interval
from din_infer.experiment.runs import Run
from din_infer.experiment.spec import Options
from din_infer.training.loop import Split

METRICS = ("auc", "gauc", "log_loss", "pcoc")
GAINS = ("auc", "gauc")


@dataclass(frozen=True)
class Spread:
    """Over the seeds; `std` is the sample's standard deviation, None for one seed."""

    mean: float
    std: float | None
    values: list[float]

    @classmethod
    def of(cls, values: Sequence[float | None]) -> Spread | None:
        known = [v for v in values if v is not None]
        if not known or len(known) < len(values):
            return None
        std = float(np.std(known, ddof=1)) if len(known) > 1 else None
        return cls(float(np.mean(known)), std, known)


@dataclass(frozen=True)
class Gain:
    """A metric minus the base variant's with the same seed: its spread over the seeds, the 95% interval of its mean in
    a paired bootstrap over users, and how many seeds gain."""

    spread: Spread
    low: float
    high: float
    seeds_above: int


@dataclass(frozen=True)
class Summary:
    """One variant. `relative` is RelaImpr = ((AUC - 0.5) / (AUC_base - 0.5) - 1) * 100, in percent (DIN, eq. 12).

    `gap_closed` is (AUC - AUC_base) / (AUC_best - AUC_base) * 100 where the data's best possible AUC is known.
    """

    variant: str
    options: Options
    chosen: Options
    tried: list[tuple[Options, float]]
    metrics: dict[str, Spread | None]
    relative: Spread | None
    gap_closed: Spread | None
    gains: dict[str, Gain]
    epochs: Spread

    def to_dict(self) -> dict[str, Any]:
        """JSON."""
        return asdict(self)


class Comparison:
    """Summaries against the base variant's runs, on the same resamples of the test split's users."""

    def __init__(self, base: Sequence[Run], test: Split, resamples: int) -> None:
        owner = np.repeat(np.arange(test.requests.count), test.requests.lengths("candidate").numpy())
        self.labels = test.labels.numpy()
        self.resamples = Resamples.draw(owner if test.groups is None else test.groups, resamples)
        self.metrics = [m for m in GAINS if m != "gauc" or test.groups is not None]
        self.base = base
        self.optimum: float | None = (test.facts.get("bayes") or {}).get("auc")
        self.of_base = {m: [self._resampled(m, run.probabilities) for run in base] for m in self.metrics}

    def summary(
        self, variant: str, options: Options, runs: Sequence[Run], chosen: Options, tried: list[tuple[Options, float]]
    ) -> Summary:
        spreads = {m: Spread.of([run.metrics["test"][m] for run in runs]) for m in METRICS}
        gains, relative, gap_closed = {}, None, None
        if runs[0].variant != self.base[0].variant:
            gains = {m: gain for m in self.metrics if (gain := self._gain(m, runs)) is not None}
            pairs = [(r.metrics["test"]["auc"], b.metrics["test"]["auc"]) for r, b in zip(runs, self.base, strict=True)]
            relative = Spread.of([_relative(auc, base) for auc, base in pairs])
            gap_closed = Spread.of([_gap_closed(auc, base, self.optimum) for auc, base in pairs])
        epochs = Spread.of([run.best_epoch for run in runs])
        assert epochs is not None, "every run has a best epoch"
        return Summary(variant, options, chosen, tried, spreads, relative, gap_closed, gains, epochs)

    def _gain(self, metric: str, runs: Sequence[Run]) -> Gain | None:
        values = [(r.metrics["test"][metric], b.metrics["test"][metric]) for r, b in zip(runs, self.base, strict=True)]
        spread = Spread.of([None if a is None or b is None else a - b for a, b in values])
        if spread is None:
            return None
        resampled = [self._resampled(metric, run.probabilities) for run in runs]
        differences: Floats = np.mean(resampled, axis=0) - np.mean(self.of_base[metric], axis=0)
        return Gain(spread, *interval(differences), sum(v > 0 for v in spread.values))

    def _resampled(self, metric: str, probabilities: npt.NDArray[np.float32]) -> Floats:
        measure: Callable[..., Floats] = getattr(self.resamples, metric)
        return measure(self.labels, probabilities)


def _relative(auc: float | None, base: float | None) -> float | None:
    return None if auc is None or base is None or base == 0.5 else ((auc - 0.5) / (base - 0.5) - 1) * 100


def _gap_closed(auc: float | None, base: float | None, optimum: float | None) -> float | None:
    if auc is None or base is None or optimum is None or optimum <= base:
        return None
    return (auc - base) / (optimum - base) * 100
