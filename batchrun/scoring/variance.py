"""The variance of scores over repeated rows, split: how much rows differ, and how much the epochs of one row do."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from batchrun.scoring.intervals import Floats

__all__ = ["VarianceSplit", "variance_split"]


@dataclass(frozen=True, slots=True)
class VarianceSplit:
    """The variance of a score in two parts, and what more requests would do to the interval of the mean.

    Attributes:
        between: variance of the rows' expected scores, σ_b².
        within: variance of the scores of one row over its epochs, σ_w².
        another_epoch: share by which the standard error falls if each row has one more epoch.
        more_rows: share by which it falls if as many requests are spent on new rows, with as many epochs as now.
    """

    between: float
    within: float
    another_epoch: float
    more_rows: float

    @property
    def share_between(self) -> float:
        """Share of the variance that is between rows, from 0 to 1: the intraclass correlation."""
        return self.between / (self.between + self.within)


def variance_split(values: Floats, rows: Sequence[Hashable]) -> VarianceSplit | None:
    """Return the variance between and within rows; None with fewer than two rows, without repetitions, or if all
    scores are equal.

    The estimates of the analysis of variance (Searle, Casella and McCulloch 1992, Variance Components, 3.6): σ_w² is
    the mean square within rows, and σ_b² = (MS_b - σ_w²) / m₀ with m₀ = (N - Σm_i²/N) / (G-1), but at least 0, for N
    scores, m_i of row i, and G rows. SE² = σ_b² Σm_i²/N² + σ_w²/N.

    Args:
        values: scores.
        rows: the row of each score; a row occurs once for each of its epochs.
    """
    places: dict[Hashable, int] = {}
    row = np.asarray([places.setdefault(each, len(places)) for each in rows], dtype=np.int64)
    n, count = len(values), len(places)
    if count < 2 or n == count or np.ptp(values) == 0:
        return None
    epochs = np.bincount(row).astype(np.float64)
    means = np.bincount(row, weights=values) / epochs
    within = float(np.sum((values - means[row]) ** 2)) / (n - count)
    uneven = float(np.sum(epochs**2)) / n
    mean_square = float(np.sum(epochs * (means - values.mean()) ** 2)) / (count - 1)
    between = max(0.0, (mean_square - within) * (count - 1) / (n - uneven))
    now = between * uneven / n + within / n
    each_more = epochs + 1
    later = between * float(np.sum(each_more**2)) / (n + count) ** 2 + within / (n + count)
    return VarianceSplit(between, within, 1 - (later / now) ** 0.5, 1 - (n / (n + count)) ** 0.5)
