"""Resampled metrics against scikit-learn on the candidates that a resample really holds."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from din_infer.experiment import bootstrap
from din_infer.experiment.bootstrap import Resamples, interval
from din_infer.training.metrics import gauc


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("at_once", [1, 1 << 20])
def test_a_resample_is_its_groups_written_out(monkeypatch: pytest.MonkeyPatch, ties: bool, at_once: int) -> None:
    monkeypatch.setattr(bootstrap, "AT_ONCE", at_once)
    rng = np.random.default_rng(0)
    groups = rng.integers(10, 22, 200)
    labels = rng.integers(0, 2, 200).astype(np.float32)
    probabilities = (rng.integers(1, 6, 200) / 7 if ties else rng.random(200)).astype(np.float32)
    resamples = Resamples.draw(groups, 6)
    assert (resamples.times.sum(0) == len(np.unique(groups))).all()
    areas, by_group = resamples.auc(labels, probabilities), resamples.gauc(labels, probabilities)
    for r, times in enumerate(resamples.times.T):
        members = [np.flatnonzero(groups == g) for g in np.unique(groups)]
        drawn = [m for m, n in zip(members, times, strict=True) for _ in range(int(n))]
        rows, number = np.concatenate(drawn), np.repeat(np.arange(len(drawn)), [len(m) for m in drawn])
        assert areas[r] == pytest.approx(roc_auc_score(labels[rows], probabilities[rows]))
        assert by_group[r] == pytest.approx(gauc(labels[rows], probabilities[rows], number))


def test_groups_of_one_class_and_resamples_of_one_class() -> None:
    groups, labels = np.array([0, 0, 1, 2]), np.array([1, 0, 1, 1], np.float32)
    resamples = Resamples(groups, np.array([[1.0, 0.0], [1.0, 2.0], [1.0, 1.0]]))
    probabilities = np.array([0.8, 0.5, 0.1, 0.9], np.float32)
    assert resamples.auc(labels, probabilities)[0] == pytest.approx(2 / 3)
    assert resamples.gauc(labels, probabilities)[0] == 1.0
    assert np.isnan(resamples.auc(labels, probabilities)[1])
    assert np.isnan(resamples.gauc(labels, probabilities)[1])


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """100 users with a mean gain of 0.1: 95% intervals should hold it in some 95 of 100 data sets."""
    rng, held = np.random.default_rng(1), 0
    for _ in range(100):
        gains = rng.normal(0.1, 1.0, 100)
        times = Resamples.draw(np.arange(100), 200, seed=int(rng.integers(1 << 30))).times
        low, high = interval(gains @ times / 100)
        held += low <= 0.1 <= high
    assert 86 <= held <= 100
