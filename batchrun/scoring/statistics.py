"""Means with confidence intervals, paired differences with tests, and figures of repeated rows, over arrays.

All functions are pure. All intervals are two-sided at 95 %. Each formula names its source. Randomness is seeded: the
same table gives the same figures. Only numpy is needed; unit tests compare the figures with those of scipy and
statsmodels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from batchrun.probability import sign_tail, student_quantile, student_tail
from batchrun.scoring.resampling import MAX_RESAMPLES, bootstrap, permutation_p

__all__ = [
    "Difference",
    "Estimate",
    "difference",
    "estimate",
    "holm",
    "pairs_needed",
    "pass_at_k",
    "pass_hat_k",
]

Floats: TypeAlias = npt.NDArray[np.float64]
Method: TypeAlias = Literal["none", "wilson", "bootstrap", "clustered", "bonett-price"]

CONFIDENCE: Final = 0.95
POWER: Final = 0.8
_Z: Final = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
_Z_POWER: Final = NormalDist().inv_cdf(POWER)
_PERMUTATION_UP_TO: Final = 2_000
_NO_SPREAD: Final = 1e-12


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean and its confidence interval.

    Attributes:
        n: number of values.
        mean: mean of the values; None without values.
        low, high: ends of the 95 % interval. None without values, for a single value that is neither 0 nor 1, for
            equal values that are neither 0 nor 1, for a single cluster, and for clusters whose means do not vary.
        standard_error: standard error of the mean; None if it cannot be computed.
        method: method of the interval.
        clusters: number of clusters; None if rows are taken as independent.
    """

    n: int
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    standard_error: float | None = None
    method: Method = "none"
    clusters: int | None = None


def estimate(values: Floats, clusters: Sequence[str] | None = None, *, resamples: int = MAX_RESAMPLES) -> Estimate:
    """Return the mean of scores from 0 to 1, with its interval.

    - Only 0 and 1: Wilson's interval.
    - Other values: the bootstrap, BCa up to 1,000 values and percentile above. Above 2,000 values the number of
      resamples decreases, to 200 at 100,000 values.
    - With clusters (rows that are not independent, such as questions about one text): mean ± t·SE, within 0 and 1, with
      the cluster-robust standard error and G - 1 degrees of freedom for G clusters. See `_clustered_error`.

    Args:
        values: scores.
        clusters: the cluster of each value.
        resamples: maximum number of bootstrap resamples.
    """
    n = len(values)
    if n == 0:
        return Estimate(0)
    mean = float(np.mean(values))
    if clusters is not None:
        error, groups = _clustered_error(values, clusters)
        if error is None:
            return Estimate(n, mean, clusters=groups)
        reach = _reach(error, groups)
        return Estimate(n, mean, max(0.0, mean - reach), min(1.0, mean + reach), error, "clustered", groups)
    error = _standard_error(values)
    if _is_binary(values):
        return Estimate(n, mean, *_wilson(int(values.sum()), n), error, "wilson")
    ends = _bootstrap(values, resamples)
    return Estimate(n, mean, None, None, error) if ends is None else Estimate(n, mean, *ends, error, "bootstrap")


def _is_binary(values: Floats) -> bool:
    return bool(((values == 0.0) | (values == 1.0)).all())


def _standard_error(values: Floats) -> float | None:
    return float(np.std(values, ddof=1)) / len(values) ** 0.5 if len(values) > 1 else None


def _wilson(right: int, n: int) -> tuple[float, float]:
    """Return Wilson's interval (1927, https://doi.org/10.2307/2276774). It is exact at right = 0 and right = n."""
    centre = (right + _Z**2 / 2) / (n + _Z**2)
    reach = _Z / (n + _Z**2) * (right * (n - right) / n + _Z**2 / 4) ** 0.5
    return max(0.0, centre - reach) if right else 0.0, min(1.0, centre + reach) if right < n else 1.0


def _reach(error: float, groups: int) -> float:
    """Return half the width of an interval from a standard error over clusters."""
    return student_quantile((1 - CONFIDENCE) / 2, groups - 1) * error


def _bootstrap(values: Floats, resamples: int) -> tuple[float, float] | None:
    if len(values) < 2 or np.ptp(values) < _NO_SPREAD:
        return None
    return bootstrap(values, CONFIDENCE, resamples)


def _clustered_error(values: Floats, clusters: Sequence[str]) -> tuple[float | None, int]:
    """Return the cluster-robust standard error of the mean, and the number of clusters G.

    The error is None for a single cluster and for clusters whose means do not vary.

    SE² = G/(G-1) · Σ_g (Σ_{i∈g} (x_i - x̄))² / n², as in Miller 2024, "Adding Error Bars to Evals",
    https://arxiv.org/abs/2411.00640, with the usual correction for few clusters; the same as
    statsmodels' OLS on a constant with cov_type="cluster".
    """
    _, group = np.unique(np.asarray(clusters, dtype=object).astype(str), return_inverse=True)
    sums = np.bincount(group, weights=values - values.mean())
    groups = len(sums)
    if groups < 2:
        return None, groups
    variance = groups / (groups - 1) * float(np.sum(sums**2)) / len(values) ** 2
    error = float(np.sqrt(variance))
    return (error if error > _NO_SPREAD else None), groups


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
    test: Literal["none", "mcnemar", "permutation", "paired t", "clustered t"]
    deviation: float | None


def difference(a: Floats, b: Floats, clusters: Sequence[str] | None = None) -> Difference:
    """Return the paired difference, B minus A.

    - Only 0 and 1: McNemar's exact test, which is the binomial test of the rows that flipped, and the interval of
      Bonett and Price 2012 (Journal of Educational and Behavioral Statistics 37): Wald's interval after one pseudo-row
      is added for each direction.
    - Other values: a permutation test that swaps pairs (exact for at most 9,999 permutations; above 2,000 pairs the
      paired t-test instead, unless they all differ by the same), and the bootstrap interval of the differences.
    - With clusters: the cluster-robust standard error, G - 1 degrees of freedom.

    Args:
        a: scores in the first table.
        b: scores of the same rows in the second table.
        clusters: the cluster of each pair.
    """
    change = b - a
    n = len(change)
    if n == 0:
        return Difference(Estimate(0), None, "none", None)
    mean = float(change.mean())
    deviation = float(np.std(change, ddof=1)) if n > 1 else None
    if clusters is not None:
        error, groups = _clustered_error(change, clusters)
        if error is None:
            return Difference(Estimate(n, mean, clusters=groups), None, "none", deviation)
        reach = _reach(error, groups)
        p_value = 2 * student_tail(abs(mean) / error, groups - 1)
        estimate = Estimate(n, mean, max(-1.0, mean - reach), min(1.0, mean + reach), error, "clustered", groups)
        return Difference(estimate, p_value, "clustered t", deviation)
    error = _standard_error(change)
    if _is_binary(a) and _is_binary(b):
        better, worse = int((change > 0).sum()), int((change < 0).sum())
        estimate = Estimate(n, mean, *_bonett_price(better, worse, n), error, "bonett-price")
        return Difference(estimate, _mcnemar(better, worse), "mcnemar", deviation)
    ends = _bootstrap(change, MAX_RESAMPLES)
    estimate = Estimate(n, mean, None, None, error) if ends is None else Estimate(n, mean, *ends, error, "bootstrap")
    if n > _PERMUTATION_UP_TO and error:
        return Difference(estimate, 2 * student_tail(abs(mean) / error, n - 1), "paired t", deviation)
    return Difference(estimate, permutation_p(change), "permutation", deviation)


def _mcnemar(better: int, worse: int) -> float:
    """Return the p-value of the binomial test with p = 1/2: twice the smaller tail, since it is symmetrical."""
    return min(1.0, 2 * sign_tail(min(better, worse), better + worse))


def _bonett_price(better: int, worse: int, n: int) -> tuple[float, float]:
    up, down = (better + 1) / (n + 2), (worse + 1) / (n + 2)
    reach = _Z * ((up + down - (up - down) ** 2) / (n + 2)) ** 0.5
    return max(-1.0, up - down - reach), min(1.0, up - down + reach)


def pairs_needed(deviation: float, size: float) -> int:
    """Return the number of rows that detects a difference with a power of 80 % at a level of 5 %, two-sided.

    n = ((z_0.975 + z_0.8) · ω / δ)², where ω is the standard deviation of the rows' differences: the sample size of
    a paired z-test, Miller 2024 (https://arxiv.org/abs/2411.00640).

    Args:
        deviation: ω.
        size: δ, the difference to detect, above 0.
    """
    return max(1, int(np.ceil(((_Z + _Z_POWER) * deviation / size) ** 2)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values corrected for their number (Holm 1979, https://www.jstor.org/stable/4615733)."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected
