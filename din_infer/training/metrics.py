"""Metrics of predictions on labelled candidates."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn.metrics import log_loss, roc_auc_score

from din_infer.errors import TrainingError

Floats = npt.NDArray[np.float32]
Groups = npt.NDArray[np.int64]
Areas = npt.NDArray[np.float64]


def evaluate(
    labels: Floats, probabilities: Floats, groups: Groups | None, negative_weight: float = 1.0
) -> dict[str, float | None]:
    """`auc`, `gauc`, `log_loss` and `pcoc` of N candidates; None where one is not defined, as AUC of one class alone.

    PCOC is the mean prediction divided by the mean label. `negative_weight` is what a negative counts in log loss and
    PCOC, for splits that sample negatives at other rates than training did. Raises TrainingError for probabilities that
    are not finite.
    """
    if not (finite := np.isfinite(probabilities)).all():
        raise TrainingError(
            f"expected finite probabilities, got {int((~finite).sum()):,} of {len(finite):,} that are not: the training"
            " diverged; lower its learning rate"
        )
    return {
        "auc": auc(labels, probabilities),
        "gauc": None if groups is None else gauc(labels, probabilities, groups),
        "log_loss": _log_loss(labels, probabilities, negative_weight),
        "pcoc": _pcoc(labels, probabilities, negative_weight),
    }


def auc(labels: Floats, probabilities: Floats) -> float | None:
    """Area under the ROC curve; None where all labels are the same."""
    if len(labels) == 0 or labels.min() == labels.max():
        return None
    return float(roc_auc_score(labels, probabilities))


def gauc(labels: Floats, probabilities: Floats, groups: Groups) -> float | None:
    """sum_u impressions_u AUC_u / sum_u impressions_u (DIN, section 6.2) over the groups u that have both classes."""
    areas, impressions = group_areas(labels, probabilities, groups)
    known = ~np.isnan(areas)
    return float(np.average(areas[known], weights=impressions[known])) if known.any() else None


def group_areas(labels: Floats, probabilities: Floats, groups: Groups) -> tuple[Areas, Groups]:
    """AUC of each group from 0 to the greatest [G], NaN without both classes, and its number of candidates [G].

    All at once, as (Mann and Whitney) the ranks of a group's P positives, less P (P - 1) / 2, count the negatives below
    them: scikit-learn takes a millisecond a group.
    """
    order = np.lexsort((probabilities, groups))
    group, score, positive = groups[order], probabilities[order], labels[order] == 1
    begins = np.flatnonzero(np.diff(group, prepend=-1) | (np.diff(score, prepend=np.nan) != 0))  # of equal scores
    lengths = np.diff(begins, append=len(order))
    ranks = np.repeat(begins + (lengths - 1) / 2, lengths)  # among all candidates, from 0
    impressions = np.bincount(group)
    positives = np.bincount(group, positive)
    before = np.cumsum(impressions) - impressions
    below = np.bincount(group, positive * ranks) - positives * before - positives * (positives - 1) / 2
    with np.errstate(invalid="ignore"):
        return below / (positives * (impressions - positives)), impressions


def _log_loss(labels: Floats, probabilities: Floats, negative_weight: float) -> float | None:
    if len(labels) == 0:
        return None
    weights = np.where(labels == 1, 1.0, negative_weight)
    return float(log_loss(labels, probabilities.astype(np.float64), sample_weight=weights, labels=[0, 1]))


def _pcoc(labels: Floats, probabilities: Floats, negative_weight: float) -> float | None:
    positives = float(labels.sum())
    weights = np.where(labels == 1, 1.0, negative_weight)
    return float(weights @ probabilities.astype(np.float64)) / positives if positives else None
