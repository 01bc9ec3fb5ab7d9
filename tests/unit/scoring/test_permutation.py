"""The permutation test: the same numbers as scipy's, with the same seed."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import scipy

from batchrun.scoring.intervals import Floats
from batchrun.scoring.permutation import permutation_p

SEED = 20_250_101


def scipys(change: Floats) -> float:
    """Return the p-value of scipy's test on the pairs (0, change)."""
    tested = scipy.stats.permutation_test(
        (np.zeros(len(change)), change),
        lambda one, other, axis: np.mean(other - one, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=9_999,
        batch=max(1, 1_000_000 // len(change)),
        rng=np.random.default_rng(SEED),
    )
    return float(tested.pvalue)


@pytest.mark.parametrize(("n", "shift"), [*product([2, 3, 8, 13, 14, 60], [0.0, 0.05, 0.6]), (400, 0.05)])
def test_the_permutation_test_is_scipys(n: int, shift: float) -> None:
    """The p-value equals scipy's: exact up to 13 pairs that differ, drawn with the same seed above."""
    change = np.random.default_rng(n).normal(shift, 0.3, n)
    assert permutation_p(change) == pytest.approx(scipys(change), rel=1e-12)


def test_equal_pairs_change_nothing() -> None:
    """Pairs with the same score do not enter the test; with one other pair or none, p is 1."""
    change = np.asarray([0.1, 0.0, 0.2, 0.0, 0.3])
    assert permutation_p(change) == permutation_p(change[change != 0]) == 2 / 8
    assert permutation_p(np.asarray([0.0, 0.5])) == permutation_p(np.zeros(3)) == 1.0


def test_a_probability_is_at_most_1() -> None:
    """Pairs that cancel out are as far apart as possible in most permutations: twice the smaller tail is above 1."""
    assert permutation_p(np.asarray([0.1, -0.1])) == permutation_p(np.asarray([0.3, 0.1, -0.2, -0.2])) == 1.0
