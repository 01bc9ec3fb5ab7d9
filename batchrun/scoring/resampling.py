"""The bootstrap interval of a mean, and the permutation test of paired differences, over arrays.

Both draw the same random numbers as scipy's `bootstrap` and `permutation_test` would, from one seed, so that their
figures are scipy's; unit tests compare them. scipy itself is not needed.
"""

from __future__ import annotations

from itertools import product
from statistics import NormalDist
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["MAX_RESAMPLES", "bootstrap", "permutation_p"]

MAX_RESAMPLES: Final = 9_999

_SEED: Final = 20_250_101
_MAX_DRAWS: Final = 20_000_000
_BATCH_CELLS: Final = 1_000_000
_BCA_UP_TO: Final = 1_000
_EQUAL: Final = 100 * float(np.finfo(np.float64).eps)
"""Relative difference up to which the means of two permutations count as equal."""

_Floats = npt.NDArray[np.float64]


def bootstrap(values: _Floats, confidence: float, resamples: int) -> tuple[float, float]:
    """Return the ends of the interval of the mean: BCa up to 1,000 values, percentile above, or if BCa has no answer.

    Args:
        values: at least two, not all equal.
        confidence: such as 0.95.
        resamples: maximum number of resamples; many values get fewer.
    """
    n = len(values)
    resamples = min(resamples, max(200, _MAX_DRAWS // n))
    batch = max(1, _BATCH_CELLS // n)
    rng = np.random.default_rng(_SEED)
    means = np.concatenate(
        [
            values[rng.integers(0, n, (min(batch, resamples - first), n))].mean(axis=-1)
            for first in range(0, resamples, batch)
        ]
    )
    tail = (1 - confidence) / 2
    ends = _bca_levels(values, means, tail) if n <= _BCA_UP_TO else None
    low, high = np.quantile(means, ends or (tail, 1 - tail)).tolist()
    return low, high


def _bca_levels(values: _Floats, means: _Floats, tail: float) -> tuple[float, float] | None:
    """Return the quantiles of the resampled means that are the ends of the BCa interval; None if it has no answer.

    Efron and Tibshirani 1993, An Introduction to the Bootstrap, equations 14.10, 14.14 and 14.15; half of the means
    that are equal to the mean of the values count as below it. For a mean, the acceleration of the jackknife is
    Σd³ / 6(Σd²)^(3/2) with the deviations d.
    """
    mean = values.mean()
    below = (np.count_nonzero(means < mean) + np.count_nonzero(means <= mean)) / (2 * len(means))
    if not 0 < below < 1:
        return None
    normal = NormalDist()
    bias = normal.inv_cdf(below)
    deviations = values - mean
    acceleration = float(np.sum(deviations**3)) / 6 / float(np.sum(deviations**2)) ** 1.5

    def level(z: float) -> float:
        return normal.cdf(bias + (bias + z) / (1 - acceleration * (bias + z)))

    z = normal.inv_cdf(1 - tail)
    return level(-z), level(z)


def permutation_p(change: _Floats) -> float:
    """Return the two-sided p-value of the permutation test that swaps pairs, which changes the signs of differences.

    It is exact if there are at most 9,999 permutations. Otherwise 9,999 are drawn, and the observed one counts too
    (Phipson and Smyth 2010, https://arxiv.org/abs/1603.05766).

    Args:
        change: differences of the pairs.
    """
    # Swapping equal scores changes nothing. With fewer pairs, the test is exact more often.
    apart = change[change != 0]
    n = len(apart)
    if n < 2:
        return 1.0
    if 2**n <= MAX_RESAMPLES:
        means = (np.asarray(list(product((1.0, -1.0), repeat=n))) * apart).mean(axis=-1)
        observed_too = 0
    else:
        means = _swapped_means(apart)
        observed_too = 1
    observed = float(apart.mean())
    slack = abs(_EQUAL * observed)
    fewest = min(np.count_nonzero(means <= observed + slack), np.count_nonzero(means >= observed - slack))
    return min(1.0, 2 * (int(fewest) + observed_too) / (len(means) + observed_too))


def _swapped_means(apart: _Floats) -> _Floats:
    n = len(apart)
    rng = np.random.default_rng(_SEED)
    batch = min(MAX_RESAMPLES, max(1, _BATCH_CELLS // n))
    pairs = np.tile(np.arange(2), (batch, n, 1))
    means = []
    for first in range(0, MAX_RESAMPLES, batch):
        swapped = rng.permuted(pairs, axis=-1)[: min(batch, MAX_RESAMPLES - first), :, 0]
        means.append(np.where(swapped == 1, -apart, apart).mean(axis=-1))
    return np.concatenate(means)
