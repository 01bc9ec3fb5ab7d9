"""Intervals of means: the formulas against scipy and by hand, and how often they contain the true mean."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import pytest
import scipy

from batchrun.scoring.intervals import Floats, Spread, adjusted_wald, score_interval, spread, wilson

Z = NormalDist().inv_cdf(0.975)


def labels(sizes: list[int]) -> list[str]:
    return np.repeat(np.arange(len(sizes)), sizes).astype(str).tolist()


def shares(right: list[int], sizes: list[int]) -> tuple[Floats, list[str]]:
    """Return clusters of right and wrong rows."""
    rows = [([1.0] * good + [0.0] * (size - good)) for good, size in zip(right, sizes, strict=True)]
    return np.concatenate(rows), labels(sizes)


def test_the_spread_of_rows_is_scipys() -> None:
    """Error, kurtosis and skewness of rows are those of scipy.stats."""
    values = np.random.default_rng(1).beta(1, 9, 60)
    found = spread(values)
    assert (found.units, found.even_units, found.freedom) == (60, 60, 59)
    assert found.error == pytest.approx(scipy.stats.sem(values), rel=1e-12)
    kurtosis = scipy.stats.kurtosis(values, fisher=False)
    assert found.tail_freedom == pytest.approx(60 / (kurtosis - 1), rel=1e-12)
    assert found.skewness * 60**0.5 == pytest.approx(scipy.stats.skew(values), rel=1e-12)


def test_the_spread_of_clusters_is_that_of_their_sums() -> None:
    """The error is Miller's over the sums of clusters; unequal clusters are worth fewer equal ones."""
    values, clusters = shares([2, 3, 0, 1], [2, 4, 3, 1])
    deviations = np.asarray([2, 3, 0, 1]) - 0.6 * np.asarray([2, 4, 3, 1])
    found = spread(values, clusters)
    assert found.error == pytest.approx((4 / 3 * np.sum(deviations**2)) ** 0.5 / 10, rel=1e-12)
    assert (found.units, found.even_units, found.freedom) == (4, 100 / 30, 100 / 30 - 1)


@pytest.mark.parametrize(("values", "error"), [([0.3], None), ([0.1] * 7, 0.0), ([1.0, 1.0], 0.0)])
def test_what_does_not_vary_has_no_error(values: list[float], error: float | None) -> None:
    """A single value has no standard error; equal values have 0, whatever rounding makes of their mean."""
    assert spread(np.asarray(values)) == Spread(len(values), len(values), error)


def test_one_large_cluster_leaves_one_degree_of_freedom() -> None:
    """If nearly all rows are in one cluster, there are no fewer degrees of freedom than one."""
    values, clusters = shares([400, 1, 0], [600, 1, 1])
    found = spread(values, clusters)
    assert (found.freedom, found.tail_freedom) == (1, 1)


def test_wilson_takes_any_number_of_rows_and_any_quantile() -> None:
    """The interval is the set of shares whose z-test the mean does not fail: both ends solve (x̄-p)² = q² p(1-p) / n."""
    for mean, n, quantile in ((0.3, 17.5, 2.2), (0.0, 4.0, 1.96), (1.0, 0.5, 12.7)):
        low, high = wilson(mean, n, quantile)
        ends = {0.0: [high], 1.0: [low]}.get(mean, [low, high])
        for end in ends:
            assert (mean - end) ** 2 == pytest.approx(quantile**2 * end * (1 - end) / n, rel=1e-9)
    assert wilson(0.0, 9)[0] == 0
    assert wilson(1.0, 9)[1] == 1


def test_the_score_interval_is_wilsons_with_the_effective_rows() -> None:
    """On the side without a long tail it has the rows that fit the error, and t's quantile."""
    found = Spread(units=30, even_units=30, error=0.06, freedom=29, tail_freedom=4, skewness=0.5)
    low, high = score_interval(0.2, found)
    effective = 0.2 * 0.8 / 0.06**2
    assert low == pytest.approx(wilson(0.2, effective, scipy.stats.t.ppf(0.975, 29))[0], rel=1e-12)
    assert high == pytest.approx(
        min(wilson(0.2, effective, scipy.stats.t.ppf(0.975, 4))[1], wilson(0.2, 30)[1]), rel=1e-12
    )


def test_the_long_tail_is_bounded_by_units_as_rows() -> None:
    """One wrong row in 50 clusters of 20 has a lower end close to that of 49 of 50 rows, not of one degree of freedom."""
    values, clusters = shares([19] + [20] * 49, [20] * 50)
    low, high = score_interval(float(values.mean()), spread(values, clusters))
    assert low == pytest.approx(wilson(0.999, 50)[0], rel=1e-12)
    assert wilson(1.0, 50)[0] < low + 0.01
    assert high == pytest.approx(wilson(0.999, 999 * 49 / 50 / 0.98, scipy.stats.t.ppf(0.975, 49))[1], abs=1e-4)


@pytest.mark.parametrize("right", [[1, 4, 0, 0, 2, 0, 3, 0, 0, 0, 1, 0], [0, 5, 0, 5, 5, 0, 0, 5, 0, 5, 0, 5]])
def test_right_and_wrong_are_mirrored(right: list[int]) -> None:
    """The interval of the wrong rows is the mirror image of that of the right ones."""
    values, clusters = shares(right, [5] * 12)
    low, high = score_interval(float(values.mean()), spread(values, clusters))
    mirrored = score_interval(float(1 - values.mean()), spread(1 - values, clusters))
    assert mirrored == pytest.approx((1 - high, 1 - low), rel=1e-12)


def test_the_adjusted_interval_is_walds_of_two_more_rows() -> None:
    """Bonett and Price's interval is the mean of the differences and of 1 and -1, give or take z standard errors."""
    change = np.asarray([0.5, 0.0, -0.25, 1.0, 0.0])
    more = np.concatenate([change, [1, -1]])
    reach = Z * more.std() / 7**0.5
    wanted = (more.mean() - reach, more.mean() + reach)
    assert adjusted_wald(change.mean(), float(np.mean(change**2)), 5) == pytest.approx(wanted, rel=1e-12)
    assert adjusted_wald(1.0, 1.0, 2)[1] == 1
    assert adjusted_wald(-1.0, 1.0, 2)[0] == -1


def covered(right: npt.NDArray[np.int64], sizes: list[int], truth: float) -> float:
    """Return the share of tables, one a row of `right`, whose interval contains the true value."""
    hits = 0
    for each in right:
        values, clusters = shares(each.tolist(), sizes)
        low, high = score_interval(float(values.mean()), spread(values, clusters))
        hits += low <= truth <= high
    return hits / len(right)


@pytest.mark.parametrize("chance", [0.02, 0.5, 0.98])
@pytest.mark.parametrize("sizes", [[10] * 10, [20] * 50, [5] * 100, [2, 4, 6, 8, 30] * 10])
def test_coverage_in_clusters(sizes: list[int], chance: float) -> None:
    """Of 400 tables, 92 to 98 % of the intervals contain the true accuracy, near 0 and 1 too, with a margin of chance."""
    rng = np.random.default_rng(17)
    spread_of_chances = 0.7 / 0.3  # an intraclass correlation of 0.3
    chances = rng.beta(chance * spread_of_chances, (1 - chance) * spread_of_chances, (400, len(sizes)))
    assert 0.92 <= covered(rng.binomial(sizes, chances), sizes, chance) <= 0.99
