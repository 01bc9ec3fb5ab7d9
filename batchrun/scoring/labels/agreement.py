"""The agreement of scores with hand labels: the share of equal ones, Cohen's kappa, and the confusion table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from batchrun.scoring.intervals import influence_interval
from batchrun.scoring.statistics import Estimate, Floats, estimate

__all__ = ["Agreement", "agreement"]

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
    (Psychological Bulletin 72): that of the rows' influences. The interval is that of 1 - D with this error, see
    `batchrun.scoring.intervals.influence_interval`: at κ = 1 it has a width too. It ends at -1, below which there is
    no κ.

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
    low, high = influence_interval(1 - found, influence, clusters)
    least = max(-1.0, 1 - (1 - low) / chance)
    return Agreement(same, 1 - found / chance, least, 1 - (1 - high) / chance, is_weighted, confusion)


def _mean_distance(scores: Floats, labels: Floats) -> float:
    """Return the mean of (score - label)² over all pairs of a score and a label."""
    return float((scores.mean() - labels.mean()) ** 2 + scores.var() + labels.var())
