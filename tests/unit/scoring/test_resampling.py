"""The bootstrap and the permutation test: the same numbers as scipy's, with the same seed."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from scipy import stats

from batchrun.scoring.resampling import bootstrap, permutation_p
from batchrun.scoring.statistics import Floats

SEED = 20_250_101


@pytest.mark.parametrize(("n", "method"), [(2, "BCa"), (9, "BCa"), (80, "BCa"), (1_000, "BCa"), (1_001, "percentile")])
def test_the_bootstrap_is_scipys(n: int, method: Literal["BCa", "percentile"]) -> None:
    """The interval equals scipy's to 12 digits: BCa up to 1,000 values, percentile above."""
    values = np.random.default_rng(n).beta(5, 2, n)
    wanted = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=9_999,
        batch=1_000_000 // n,
        method=method,
        rng=np.random.default_rng(SEED),
    ).confidence_interval
    assert bootstrap(values, 0.95, 9_999) == pytest.approx((wanted.low, wanted.high), rel=1e-12)


def test_many_values_get_fewer_resamples() -> None:
    """100,000 values are resampled 200 times, as scipy would."""
    values = np.random.default_rng(2).beta(5, 2, 100_000)
    wanted = stats.bootstrap(
        (values,), np.mean, n_resamples=200, batch=10, method="percentile", rng=np.random.default_rng(SEED)
    ).confidence_interval
    assert bootstrap(values, 0.95, 9_999) == pytest.approx((wanted.low, wanted.high), rel=1e-12)


def test_if_bca_has_no_answer_the_percentiles_are_taken() -> None:
    """If every resampled mean is on one side of the mean, as a single one is, the interval is still a number."""
    values = np.asarray([0.1, 0.2, 0.7])
    low, high = bootstrap(values, 0.95, 1)
    assert low == high
    assert low != values.mean()


def scipys(change: Floats) -> float:
    """Return the p-value of scipy's test on the pairs (0, change)."""
    tested = stats.permutation_test(
        (np.zeros(len(change)), change),
        lambda one, other, axis: np.mean(other - one, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=9_999,
        batch=max(1, 1_000_000 // len(change)),
        rng=np.random.default_rng(SEED),
    )
    return float(tested.pvalue)


@pytest.mark.parametrize("n", [2, 3, 8, 13, 14, 60, 1_500])
@pytest.mark.parametrize("shift", [0.0, 0.05, 0.6])
def test_the_permutation_test_is_scipys(n: int, shift: float) -> None:
    """The p-value equals scipy's: exact up to 13 pairs that differ, drawn with the same seed above."""
    change = np.random.default_rng(n).normal(shift, 0.3, n)
    assert permutation_p(change) == pytest.approx(scipys(change), rel=1e-12)


def test_equal_pairs_change_nothing() -> None:
    """Pairs with the same score do not enter the test; with one other pair or none, p is 1."""
    change = np.asarray([0.1, 0.0, 0.2, 0.0, 0.3])
    assert permutation_p(change) == permutation_p(change[change != 0]) == 2 / 8
    assert permutation_p(np.asarray([0.0, 0.5])) == permutation_p(np.zeros(3)) == 1.0
