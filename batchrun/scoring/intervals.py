"""Two-sided 95 % intervals of means, over arrays: of right and wrong rows, of any scores, and of rows in clusters.

All functions are pure; nothing is drawn at random. tests/benchmarks/coverage.py measures how often the intervals
contain the true mean, and docs/reference/statistics.md has its table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from batchrun.probability import student_quantile
from batchrun.scoring.pieces import Pieces

__all__ = [
    "CONFIDENCE",
    "Floats",
    "Spread",
    "adjusted_wald",
    "caution",
    "influence_interval",
    "score_interval",
    "spread",
    "wilson",
]

Floats: TypeAlias = npt.NDArray[np.float64]

CONFIDENCE: Final = 0.95
_TAIL: Final = (1 - CONFIDENCE) / 2
_Z: Final = NormalDist().inv_cdf(1 - _TAIL)
_NO_SPREAD: Final = 1e-12
_FEW: Final = 10


@dataclass(frozen=True, slots=True)
class Spread:
    """How uncertain the mean of some values is, given the units that are independent: rows, or clusters of rows.

    Attributes:
        units: number of units, G.
        even_units: number of equally large units with the same use, n² / Σn_g² for units of n_g rows (Kish 1965,
            Survey Sampling); G if all are equally large.
        error: standard error of the mean; 0 if the units do not vary, None for a single unit.
        freedom: degrees of freedom of `error`: `even_units` - 1, which is G - 1 for equally large units; at least 1.
        tail_freedom: the same for the side of the long tail; see `score_interval`.
        skewness: Σu³ / (Σu²)^1.5 of the units' deviations u: above 0 if the long tail is above the mean.
    """

    units: int
    even_units: float
    error: float | None
    freedom: float = 1.0
    tail_freedom: float = 1.0
    skewness: float = 0.0


def spread(values: Floats | Pieces, clusters: Sequence[str] | None = None) -> Spread:
    """Return the spread of the mean of one or more values.

    SE² = G/(G-1) · Σ_g u_g² / n² with u_g = Σ_{i∈g} (x_i - x̄): the cluster-robust standard error, as in Miller 2024,
    "Adding Error Bars to Evals", https://arxiv.org/abs/2411.00640, with the usual correction for few clusters; the
    same as statsmodels' OLS on a constant with cov_type="cluster". For single rows it is the usual standard error.

    Args:
        values: scores, or differences of scores.
        clusters: the cluster of each value; None if each row is a unit.
    """
    values = values if isinstance(values, Pieces) else Pieces.of(values)
    n = len(values)
    mean = values.sums(lambda some: some)[0] / n
    deviations = values.map(lambda some: some - mean)
    units, even_units = n, float(n)
    if clusters is not None:
        _, group = np.unique(np.asarray(clusters, dtype=object).astype(str), return_inverse=True)
        sizes = np.bincount(group).astype(np.float64)
        deviations = Pieces.of(np.bincount(group, weights=deviations.array))
        units, even_units = len(sizes), n**2 / float(np.sum(sizes**2))
    [square] = deviations.sums(lambda some: some**2)
    if units == 1:
        return Spread(units, even_units, None)
    error = (units / (units - 1) * square) ** 0.5 / n
    if error <= _NO_SPREAD:
        return Spread(units, even_units, 0.0)
    fourth, third = deviations.sums(lambda some: some**4, lambda some: some**3)
    kurtosis = units * fourth / square**2
    freedom = max(1.0, even_units - 1)
    tail_freedom = max(1.0, min(freedom, units / max(kurtosis - 1, _NO_SPREAD)))
    return Spread(units, even_units, error, freedom, tail_freedom, third / square**1.5)


def wilson(mean: float, n: float, quantile: float = _Z) -> tuple[float, float]:
    """Return Wilson's interval (1927, https://doi.org/10.2307/2276774) of a share of n rows.

    Args:
        mean: the share, from 0 to 1. At 0 and 1 that end of the interval is exact.
        n: number of rows, which may be an effective one.
        quantile: the quantile of the normal distribution, or of Student's t.
    """
    square = quantile**2
    centre = (mean * n + square / 2) / (n + square)
    reach = quantile / (n + square) * (mean * (1 - mean) * n + square / 4) ** 0.5
    return max(0.0, centre - reach) if mean > 0 else 0.0, min(1.0, centre + reach) if mean < 1 else 1.0


def score_interval(mean: float, found: Spread) -> tuple[float, float]:
    """Return Wilson's interval with the effective number of rows and quantiles of Student's t.

    - The effective number of rows is the one at which right and wrong rows would have the standard error that was
      found: x̄(1-x̄) / SE² (Kish 1965). The quantile is that of t with G - 1 degrees of freedom (Korn and Graubard
      1998, Survey Methodology 24), or fewer if the clusters are not equally large.
    - A mean misses the truth most often where a long tail was not seen, such as the one wrong cluster in fifty. The
      end on that side takes fewer degrees of freedom, G / (κ - 1) with the units' kurtosis κ: half of those that give
      a χ² the variance of SE² (Satterthwaite 1946), since few units show less kurtosis than there is. It is not
      further away than Wilson's end for the units as rows: no scores from 0 to 1 vary more than right and wrong ones.
    - If nothing varies, or there is one unit, the spread is unknown: it is Wilson's interval for the units as rows.

    Args:
        mean: of values from 0 to 1.
        found: their spread.
    """
    if not found.error:
        return wilson(mean, found.units)
    effective = mean * (1 - mean) / found.error**2
    low, high = wilson(mean, effective, student_quantile(_TAIL, found.freedom))
    tail_low, tail_high = wilson(mean, effective, student_quantile(_TAIL, found.tail_freedom))
    last_low, last_high = wilson(mean, min(effective, found.even_units))
    if found.skewness <= _NO_SPREAD:
        low = min(low, max(tail_low, last_low))
    if found.skewness >= -_NO_SPREAD:
        high = max(high, min(tail_high, last_high))
    return low, high


def influence_interval(
    figure: float, influences: Floats, clusters: Sequence[str] | None = None, units: int | None = None
) -> tuple[float, float]:
    """Return `score_interval` of a figure from 0 to 1 whose standard error is that of its rows' influences.

    Args:
        figure: such as a weighted agreement, or a corrected mean.
        influences: how much each row moves the figure, times the number of rows; their mean is 0.
        clusters: the cluster of each row; None if rows are independent.
        units: number of independent units if it is smaller than that of the rows or clusters, such as that of the
            labelled ones; None for all. With a single one, nothing is known: 0 and 1.
    """
    found = spread(influences, clusters)
    units = found.units if units is None else units
    if units < 2:
        return 0.0, 1.0
    found = replace(
        found, units=units, even_units=min(found.even_units, units), freedom=min(found.freedom, units - 1.0)
    )
    if figure * (1 - figure) < _NO_SPREAD:  # no share at an end has the spread of the influences
        found = replace(found, error=0.0)
    low, high = score_interval(figure, found)
    return min(figure, low), max(figure, high)


def adjusted_wald(mean: float, mean_square: float, n: int) -> tuple[float, float]:
    """Return the interval of a mean difference of scores, within -1 and 1, after one pseudo-row for each direction.

    Bonett and Price 2012 (Journal of Educational and Behavioral Statistics 37): Wald's interval with the rows -1 and 1
    added to the differences.

    Args:
        mean: mean of n differences.
        mean_square: mean of their squares.
        n: number of rows.
    """
    centre = mean * n / (n + 2)
    variance = (mean_square * n + 2) / (n + 2) - centre**2
    reach = _Z * (variance / (n + 2)) ** 0.5
    return max(-1.0, centre - reach), min(1.0, centre + reach)


def caution(found: Spread, clustered: bool) -> str | None:
    """Return why an interval from a spread is not exact, or wider than one may expect; None if it is as good as 95 %.

    The coverage that tests/benchmarks/coverage.py measures is within 92 and 98 % from 10 units on, unless a few of
    the clusters have most of the rows.

    Args:
        found: the spread.
        clustered: whether the units are clusters.
    """
    units, kind = found.units, "clusters" if clustered else "rows"
    if not found.error:
        which = f"a single {kind[:-1]}" if units == 1 else f"the {units:,} {kind} do not vary: each"
        return f"{which} counts as one right or wrong row"
    if units < _FEW:
        return f"few {kind}: the interval may be too narrow or too wide"
    if found.even_units < max(_FEW, units / 2):
        return "a few large clusters decide: the interval may be too narrow or too wide"
    return None
