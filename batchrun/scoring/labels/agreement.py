"""The agreement of scores with hand labels: the share of equal ones, Cohen's kappa, and the confusion table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from batchrun.probability import student_quantile
from batchrun.scoring.statistics import Estimate, Floats, estimate

__all__ = ["Agreement", "agreement", "effective_interval"]

_TAIL: Final = 0.025
_NO_SPREAD: Final = 1e-12
_MAX_CATEGORIES: Final = 10


@dataclass(frozen=True, slots=True)
class Agreement:
    """The agreement of scores with labels.

    Attributes:
        equal: share of rows whose score is the label, with its interval.
        kappa: Cohen's kappa, with quadratic weights: 1 for equal values, 0 for the agreement of chance. None if it is
            undefined: all scores and all labels are one value.
        low, high: ends of its 95 % interval; None if there is none.
        is_weighted: whether a value other than 0 and 1 occurs, so that the weights matter.
        confusion: (label, score) → rows; empty if there are more than 10 different values.
    """

    equal: Estimate
    kappa: float | None
    low: float | None
    high: float | None
    is_weighted: bool
    confusion: Mapping[tuple[float, float], int]

    @property
    def categories(self) -> list[float]:
        """The values that occur, ascending; empty without a confusion table."""
        return sorted({value for pair in self.confusion for value in pair})


def agreement(scores: Floats, labels: Floats, clusters: Sequence[str] | None = None) -> Agreement:
    """Return the agreement of one or more scores from 0 to 1 with the labels of the same rows.

    κ = 1 - D / E, where D is the mean of (score - label)² over the rows and E its mean over all pairs of a score and a
    label: Cohen 1968 (Psychological Bulletin 70) with quadratic weights, which for 0 and 1 is the unweighted κ of Cohen
    1960 (Educational and Psychological Measurement 20). Its standard error is that of Fleiss, Cohen and Everitt 1969
    (Psychological Bulletin 72): that of the rows' influences. The interval is Wilson's for 1 - D with the number of
    rows at which a share would have this error, and a quantile of t: at κ = 1 it has a width too.

    Args:
        clusters: the cluster of each row; None if rows are independent.
    """
    distance = (scores - labels) ** 2
    found, chance = float(distance.mean()), _mean_distance(scores, labels)
    same = estimate((distance < _NO_SPREAD).astype(np.float64), clusters)
    is_weighted = bool(((scores * (1 - scores) > _NO_SPREAD) | (labels * (1 - labels) > _NO_SPREAD)).any())
    pairs = Counter(zip(labels.round(6).tolist(), scores.round(6).tolist(), strict=True))
    few = len({value for pair in pairs for value in pair}) <= _MAX_CATEGORIES
    confusion = dict(pairs) if few else {}
    if chance < _NO_SPREAD:
        return Agreement(same, None, None, None, is_weighted, confusion)
    by_score = (scores - labels.mean()) ** 2 + labels.var()
    by_label = (labels - scores.mean()) ** 2 + scores.var()
    # Of 1 - D/E, times E: how much each row moves the weighted agreement 1 - D.
    influence = found / chance * (by_score + by_label - 2 * chance) - (distance - found)
    low, high = effective_interval(1 - found, influence, clusters)
    return Agreement(same, 1 - found / chance, 1 - (1 - low) / chance, 1 - (1 - high) / chance, is_weighted, confusion)


def _mean_distance(scores: Floats, labels: Floats) -> float:
    """Return the mean of (score - label)² over all pairs of a score and a label."""
    return float((scores.mean() - labels.mean()) ** 2 + scores.var() + labels.var())


def effective_interval(
    mean: float, influence: Floats, clusters: Sequence[str] | None, units: int | None = None
) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a figure from 0 to 1 whose standard error is that of its rows' influences.

    The number of rows is the effective one, m(1 - m) / SE² (Kish 1965, Survey Sampling), and the quantile that of t
    with G - 1 degrees of freedom (Korn and Graubard 1998, Survey Methodology 24).

    Args:
        mean: the figure, m.
        influence: how much each row moves the figure, times the number of rows; their mean is 0.
        clusters: the cluster of each row; None if rows are independent.
        units: the number of independent units, G; None for that of the clusters or rows.
    """
    sums: Floats = influence
    if clusters is not None:
        _, group = np.unique(np.asarray(clusters, dtype=object).astype(str), return_inverse=True)
        sums = np.bincount(group, weights=influence).astype(np.float64)
    count, units = len(sums), len(sums) if units is None else units
    if units < 2:
        return 0.0, 1.0
    square = count / (count - 1) * float(np.sum(sums**2)) / len(influence) ** 2
    vague = mean * (1 - mean) < _NO_SPREAD or square < _NO_SPREAD**2
    rows = units if vague else mean * (1 - mean) / square
    quantile = student_quantile(_TAIL, units - 1)
    centre = (mean * rows + quantile**2 / 2) / (rows + quantile**2)
    reach = quantile / (rows + quantile**2) * (max(0.0, mean * (1 - mean)) * rows + quantile**2 / 4) ** 0.5
    return max(0.0, min(mean, centre - reach)), min(1.0, max(mean, centre + reach))
