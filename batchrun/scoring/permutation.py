"""The permutation test of paired differences, over arrays.

It draws the same random numbers as scipy's `permutation_test` would, from one seed, so that its figures are scipy's;
unit tests compare them. scipy itself is not needed.
"""

from __future__ import annotations

from itertools import product
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["permutation_p"]

_MAX_PERMUTATIONS: Final = 9_999
_SEED: Final = 20_250_101
_BATCH_CELLS: Final = 1_000_000
_EQUAL: Final = 100 * float(np.finfo(np.float64).eps)
"""Relative difference up to which the means of two permutations count as equal."""

_Floats = npt.NDArray[np.float64]


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
    if 2**n <= _MAX_PERMUTATIONS:
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
    batch = min(_MAX_PERMUTATIONS, max(1, _BATCH_CELLS // n))
    pairs = np.tile(np.arange(2), (batch, n, 1))
    means = []
    for first in range(0, _MAX_PERMUTATIONS, batch):
        swapped = rng.permuted(pairs, axis=-1)[: min(batch, _MAX_PERMUTATIONS - first), :, 0]
        means.append(np.where(swapped == 1, -apart, apart).mean(axis=-1))
    return np.concatenate(means)
