"""Means with confidence intervals, paired differences with tests, and figures of repeated rows, over arrays.

All functions are pure. All intervals are two-sided at 95 %. Each formula names its source. Randomness is seeded: the
same table gives the same figures. Only numpy is needed; unit tests compare the figures with those of scipy and
statsmodels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from batchrun.probability import sign_tail, student_tail
from batchrun.scoring.intervals import (
    Floats,
    Spread,
    adjusted_wald,
    caution,
    score_interval,
    spread,
    wilson,
)
from batchrun.scoring.permutation import permutation_p
from batchrun.scoring.pieces import Pieces

__all__ = [
    "Difference",
    "Estimate",
    "Floats",
    "difference",
    "difference_of",
    "estimate",
    "holm",
    "pass_at_k",
    "pass_hat_k",
]

Method: TypeAlias = Literal["none", "wilson", "wilson-t", "clustered", "bonett-price"]
Test: TypeAlias = Literal["none", "mcnemar", "permutation", "paired t", "clustered t"]

_PERMUTATION_UP_TO: Final = 2_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean and its confidence interval.

    Attributes:
        n: number of values.
        mean: mean of the values; None without values.
        low, high: ends of the 95 % interval; None without values.
        standard_error: standard error of the mean; None for a single value or cluster.
        method: method of the interval.
        clusters: number of clusters; None if rows are taken as independent.
        note: why the interval is not exact, such as few clusters; None if its coverage is close to 95 %.
    """

    n: int
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    standard_error: float | None = None
    method: Method = "none"
    clusters: int | None = None
    note: str | None = None


def estimate(values: Floats | Pieces, clusters: Sequence[str] | None = None) -> Estimate:
    """Return the mean of scores from 0 to 1, with its interval.

    - Only 0 and 1: Wilson's interval.
    - Other values, and clusters (rows that are not independent, such as questions about one text): Wilson's interval
      with the effective number of rows, see `batchrun.scoring.intervals.score_interval`.

    Args:
        values: scores.
        clusters: the cluster of each value.

    Raises:
        ValueError: a value is not a number from 0 to 1.
    """
    values = values if isinstance(values, Pieces) else Pieces.of(values)
    n = len(values)
    if n == 0:
        return Estimate(0)
    if not values.all(lambda some: (some >= 0) & (some <= 1)):
        raise ValueError("expected scores from 0 to 1")
    mean, found = values.sums(lambda some: some)[0] / n, spread(values, clusters)
    if clusters is None and _is_binary(values):
        return Estimate(n, mean, *wilson(mean, n), found.error, "wilson")
    ends, note = score_interval(mean, found), caution(found, clusters is not None)
    if clusters is not None:
        return Estimate(n, mean, *ends, found.error, "clustered", found.units, note)
    return Estimate(n, mean, *ends, found.error, "wilson-t", note=note)


def _is_binary(values: Pieces) -> bool:
    return values.all(lambda some: (some == 0.0) | (some == 1.0))


# -- repeated rows ------------------------------------------------------------------------------------------


def pass_at_k(right: npt.NDArray[np.int64], epochs: npt.NDArray[np.int64], k: int) -> Floats:
    """Return pass@k of each row: the probability that at least one of k of its epochs, drawn at random, is correct.

    1 - C(n-c, k) / C(n, k) for c correct epochs of n, the unbiased estimator of Chen et al. 2021
    (https://arxiv.org/abs/2107.03374).

    Args:
        right: number of correct epochs of each row.
        epochs: number of epochs of each row, at least k.
        k: number of draws.
    """
    return 1.0 - pass_hat_k(epochs - right, epochs, k)


def pass_hat_k(right: npt.NDArray[np.int64], epochs: npt.NDArray[np.int64], k: int) -> Floats:
    """Return pass^k of each row: the probability that all k epochs, drawn at random, are correct, C(c, k) / C(n, k).

    Yao et al. 2024 (τ-bench), https://arxiv.org/abs/2406.12045. Arguments as for `pass_at_k`.
    """
    chance = np.ones(len(epochs))
    for drawn in range(k):
        chance *= np.maximum(right - drawn, 0) / (epochs - drawn)
    return chance


# -- two tables ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Difference:
    """The paired difference of B and A: how much better B is on the same rows.

    Attributes:
        estimate: mean of B's score minus A's; its interval is within -1 and 1.
        p_value: probability of a difference at least as large if neither were better; None without pairs.
        test: the test that gave the p-value.
        deviation: standard deviation of the rows' differences.
    """

    estimate: Estimate
    p_value: float | None
    test: Test
    deviation: float | None


def difference(a: Floats, b: Floats, clusters: Sequence[str] | None = None) -> Difference:
    """Return the paired difference, B minus A: that of `difference_of` the scores of both tables.

    Args:
        a: scores in the first table.
        b: scores of the same rows in the second table.
        clusters: the cluster of each pair.
    """
    return difference_of(Pieces.of(np.stack([a, b])), clusters)


def difference_of(pairs: Pieces, clusters: Sequence[str] | None = None) -> Difference:
    """Return the paired difference, B minus A.

    - Only 0 and 1: McNemar's exact test, which is the binomial test of the rows that flipped, and the interval of
      Bonett and Price 2012 (Journal of Educational and Behavioral Statistics 37): Wald's interval after one pseudo-row
      is added for each direction.
    - Other values: a permutation test that swaps pairs (exact for at most 9,999 permutations; above 2,000 pairs the
      paired t-test instead, unless they all differ by the same).
    - With clusters: the t-test with the cluster-robust standard error and G - 1 degrees of freedom; if the clusters
      all differ by the same, the permutation test that swaps whole clusters.
    - The interval of the last two is that of a mean of scores, see `batchrun.scoring.intervals.score_interval`, on the
      scale from -1 to 1; if nothing varies, Bonett and Price's for the pairs or clusters.

    Args:
        pairs: two rows of numbers, the scores in the first table and those in the second.
        clusters: the cluster of each pair.
    """
    n = len(pairs)
    if n == 0:
        return Difference(Estimate(0), None, "none", None)
    change = pairs.map(lambda both: both[1] - both[0])
    mean = change.sums(lambda some: some)[0] / n
    deviation = math.sqrt(change.sums(lambda some: (some - mean) ** 2)[0] / (n - 1)) if n > 1 else None
    found = spread(change.map(lambda some: (1 + some) / 2), clusters)
    error = None if found.error is None else 2 * found.error
    if clusters is None and _is_binary(pairs):
        better, worse = map(int, change.sums(lambda some: some > 0, lambda some: some < 0))
        ends = adjusted_wald(mean, (better + worse) / n, n)
        return Difference(
            Estimate(n, mean, *ends, error, "bonett-price"), _mcnemar(better, worse), "mcnemar", deviation
        )
    method: Method
    if found.error:
        low, high = score_interval((1 + mean) / 2, found)
        ends, method = (2 * low - 1, 2 * high - 1), "wilson-t"
    else:
        ends, method = adjusted_wald(mean, mean**2, found.units), "bonett-price"
    note = caution(found, clusters is not None)
    if clusters is not None:
        estimate = Estimate(n, mean, *ends, error, "clustered", found.units, note)
        return Difference(estimate, *_cluster_test(mean, found), deviation)
    estimate = Estimate(n, mean, *ends, error, method, note=note)
    if n > _PERMUTATION_UP_TO and error:
        return Difference(estimate, 2 * student_tail(abs(mean) / error, n - 1), "paired t", deviation)
    return Difference(estimate, permutation_p(change.array), "permutation", deviation)


def _cluster_test(mean: float, found: Spread) -> tuple[float | None, Test]:
    """Return the p-value of the differences of clusters, and the name of its test; none for a single cluster."""
    if found.error is None:
        return None, "none"
    if not found.error:
        return permutation_p(np.full(found.units, mean)), "permutation"
    return 2 * student_tail(abs(mean) / (2 * found.error), found.freedom), "clustered t"


def _mcnemar(better: int, worse: int) -> float:
    """Return the p-value of the binomial test with p = 1/2: twice the smaller tail, since it is symmetrical."""
    return min(1.0, 2 * sign_tail(min(better, worse), better + worse))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values corrected for their number (Holm 1979, https://www.jstor.org/stable/4615733)."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected
