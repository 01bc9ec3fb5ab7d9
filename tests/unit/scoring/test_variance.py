"""The variance between and within repeated rows: scipy's analysis of variance, and what more requests would bring."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy

from batchrun.scoring.variance import variance_split


def test_the_split_is_scipys_analysis_of_variance() -> None:
    """F of scipy.stats.f_oneway is 1 + m₀ σ_b² / σ_w², with rows of 2 to 5 epochs."""
    rng = np.random.default_rng(1)
    groups = [rng.normal(rng.normal(0.5, 0.2), 0.1, epochs) for epochs in (2, 3, 5, 4, 2)]
    rows = [row for row, group in enumerate(groups) for _ in group]
    found = variance_split(np.concatenate(groups), rows)
    assert found is not None
    even = (16 - (4 + 9 + 25 + 16 + 4) / 16) / 4
    assert 1 + even * found.between / found.within == pytest.approx(scipy.stats.f_oneway(*groups).statistic, rel=1e-9)
    assert found.within == pytest.approx(sum(((each - each.mean()) ** 2).sum() for each in groups) / 11, rel=1e-9)


def test_the_split_finds_the_parts_that_were_drawn() -> None:
    """Of 4,000 rows with 3 epochs, whose chances have a variance of 1/20, 1/20 is between rows and 1/5 within them."""
    rng = np.random.default_rng(2)
    chances = rng.beta(2, 2, 4_000)  # variance 1/20, mean 1/2
    values = (rng.random((4_000, 3)) < chances[:, None]).astype(np.float64)
    found = variance_split(values.ravel(), np.repeat(np.arange(4_000), 3).tolist())
    assert found is not None
    assert found.between == pytest.approx(0.05, abs=0.005)
    assert found.within == pytest.approx(0.2, abs=0.005)
    assert found.share_between == pytest.approx(0.2, abs=0.02)


def test_more_requests_narrow_the_interval_by_these_shares() -> None:
    """The shares follow from SE² = σ_b²/G + σ_w²/(G m): with a fourth epoch, and with a third more rows."""
    values = np.asarray([1, 1, 1, 0, 0, 1, 0, 0, 0, 1, 1, 0], dtype=np.float64)
    found = variance_split(values, [row for row in "abcd" for _ in range(3)])
    assert found is not None

    def error(rows: float, epochs: int) -> float:
        return math.sqrt(found.between / rows + found.within / (rows * epochs))

    assert found.another_epoch == pytest.approx(1 - error(4, 4) / error(4, 3), rel=1e-12)
    assert found.more_rows == pytest.approx(1 - error(4 * 4 / 3, 3) / error(4, 3), rel=1e-12)


def test_rows_that_differ_less_than_their_epochs_have_no_variance_of_their_own() -> None:
    """The estimate of a variance is never below 0: all of it is then within rows."""
    found = variance_split(np.asarray([0.0, 1.0, 1.0, 0.0]), ["a", "a", "b", "b"])
    assert found is not None
    assert (found.between, found.share_between) == (0, 0)
    assert found.another_epoch == pytest.approx(found.more_rows)


@pytest.mark.parametrize(("values", "rows"), [([], ""), ([0, 1], "aa"), ([0, 1], "ab"), ([1, 1, 1, 1], "aabb")])
def test_without_repetitions_or_variance_there_is_no_split(values: list[float], rows: str) -> None:
    """One row, rows that are not repeated, and equal scores have no split, rather than one of 0 and 0."""
    assert variance_split(np.asarray(values, dtype=np.float64), rows) is None
