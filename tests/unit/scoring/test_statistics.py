"""Intervals and tests: equal to those of other packages on the same data, and correct as often as they claim.

Figures with statsmodels in their names were computed with its version 0.15.0, by the call in the docstring.
"""

from __future__ import annotations

from functools import cache
from itertools import combinations

import numpy as np
import pytest
import scipy

from batchrun.scoring.intervals import Floats, wilson
from batchrun.scoring.statistics import (
    Difference,
    Estimate,
    difference,
    estimate,
    holm,
    pass_at_k,
    pass_hat_k,
)

SETS = 1_000


def bools(right: int, n: int) -> Floats:
    return np.repeat([1.0, 0.0], [right, n - right])


@cache
def accuracy(right: int, n: int) -> Estimate:
    """Return the estimate for that many correct rows, computed once: many of the 1,000 sets are equal."""
    return estimate(bools(right, n))


@cache
def change(better: int, worse: int, n: int) -> Difference:
    """Return the difference if that many of n rows flipped in each direction and the others are correct in both
    tables."""
    ways = (better, worse, n - better - worse)
    return difference(np.repeat([0.0, 1.0, 1.0], ways), np.repeat([1.0, 0.0, 1.0], ways))


def test_wilson_is_statsmodels() -> None:
    """proportion_confint(404, 500, method="wilson")."""
    found = estimate(bools(404, 500))
    assert (found.low, found.high) == pytest.approx((0.771179624871567, 0.8401237814041169))
    assert (found.n, found.mean, found.method) == (500, 0.808, "wilson")


@pytest.mark.parametrize(("right", "n"), [(0, 1), (1, 1), (0, 7), (3, 7), (7, 7), (81_234, 100_000), (1, 1_000_000)])
def test_wilson_is_scipys(right: int, n: int) -> None:
    """The formula that is written out equals scipy.stats, at the ends too."""
    wanted = scipy.stats.binomtest(right, n).proportion_ci(0.95, "wilson")
    found = estimate(bools(right, n))
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), rel=1e-12)
    assert found.standard_error == (pytest.approx(scipy.stats.sem(bools(right, n))) if n > 1 else None)


@pytest.mark.parametrize(("better", "worse"), [(1, 0), (1, 1), (3, 1), (12, 25), (5_000, 5_200), (40_000, 40_000)])
def test_mcnemar_is_scipys(better: int, worse: int) -> None:
    """The p-value equals scipy.stats' binomial test of the rows that flipped, in both directions."""
    wanted = pytest.approx(scipy.stats.binomtest(better, better + worse).pvalue, rel=1e-9)  # as exact as scipy's
    assert change(better, worse, better + worse).p_value == wanted
    assert change(worse, better, better + worse).p_value == wanted


def test_the_clustered_error_is_statsmodels() -> None:
    """OLS(x, ones).fit(cov_type="cluster", cov_kwds={"groups": g}, use_t=True): bse."""
    found = estimate(np.asarray([1, 1, 0, 1, 0, 0, 1, 1, 1, 0.5, 0, 1]), list("aaabbbccddde"))
    assert found.standard_error == pytest.approx(0.11876827, abs=1e-8)
    assert found.clusters == 5


def test_clusters_of_one_row_are_the_usual_error() -> None:
    """With every row its own cluster, the standard error and the interval are those of independent rows."""
    values = np.random.default_rng(3).random(50)
    found, rows = estimate(values, [str(index) for index in range(50)]), estimate(values)
    assert found.standard_error == rows.standard_error == pytest.approx(scipy.stats.sem(values))
    assert (found.low, found.high) == (rows.low, rows.high)


def test_without_values_there_is_no_figure() -> None:
    """No values have no mean and no interval, alone, in clusters and as a difference."""
    none = np.asarray([], dtype=np.float64)
    assert estimate(none) == estimate(none, []) == Estimate(0)
    assert difference(none, none) == Difference(Estimate(0), None, "none", None)
    assert Estimate(0).method == "none"


@pytest.mark.parametrize("value", [-0.1, 1.1, np.nan])
def test_only_scores_have_an_interval(value: float) -> None:
    """A value that is not from 0 to 1 is refused: the interval of scores would be wrong for it."""
    with pytest.raises(ValueError, match="from 0 to 1"):
        estimate(np.asarray([0.5, value]))


@pytest.mark.parametrize(("score", "n"), [(0.5, 1), (0.5, 3), (0.0, 2), (1.0, 40)])
def test_equal_scores_have_the_widest_interval(score: float, n: int) -> None:
    """If nothing varies, the interval is Wilson's for as many right and wrong rows, which vary the most, and says so."""
    found, wanted = estimate(np.full(n, score)), wilson(score, n)
    assert (found.low, found.high) == wanted
    assert found.standard_error == (None if n == 1 else 0)
    clustered = estimate(np.full(3 * n, score), [str(index // 3) for index in range(3 * n)])
    assert (clustered.low, clustered.high) == wanted
    assert clustered.note == (
        f"the {n} clusters do not vary: each counts as one right or wrong row"
        if n > 1
        else "a single cluster counts as one right or wrong row"
    )


def test_all_right_is_not_certain() -> None:
    """50 correct rows of 50 have an interval with a lower end, and 100 of 100 in 20 clusters have the one of 20 rows."""
    found = estimate(bools(50, 50))
    assert found.high == 1
    assert found.low == pytest.approx(0.9286524)  # statsmodels: proportion_confint(50, 50, method="wilson")
    clustered = estimate(bools(100, 100), [str(index // 5) for index in range(100)])
    assert (clustered.low, clustered.high) == (accuracy(20, 20).low, 1)


@pytest.mark.parametrize(
    ("sizes", "note"),
    [
        ([3] * 9, "few clusters: the interval may be too narrow or too wide"),
        ([3] * 10, None),
        ([60] + [3] * 30, "a few large clusters decide: the interval may be too narrow or too wide"),
        ([6] + [3] * 30, None),
    ],
)
def test_an_interval_says_where_it_is_not_exact(sizes: list[int], note: str | None) -> None:
    """Few clusters, and clusters of which a few have most of the rows, are named beside the interval."""
    clusters = np.repeat(np.arange(len(sizes)), sizes).astype(str).tolist()
    values = np.asarray([index % 2 for index in range(len(clusters))], dtype=np.float64)
    assert estimate(values, clusters).note == note
    assert difference(values, 1 - values, clusters).estimate.note == note


def test_few_rows_are_named() -> None:
    """Fewer than 10 scores other than 0 and 1 have a note; of right and wrong rows Wilson's interval needs none."""
    values = np.linspace(0.1, 0.9, 10)
    assert estimate(values).note is None
    assert estimate(values[1:]).note == "few rows: the interval may be too narrow or too wide"
    assert estimate(bools(1, 2)).note is None


def coverage(truth: float, intervals: list[tuple[float | None, float | None]]) -> float:
    """Return the share of intervals that contain the true value."""
    return sum(low is not None and high is not None and low <= truth <= high for low, high in intervals) / len(
        intervals
    )


def test_coverage_of_the_interval_of_accuracy() -> None:
    """Of 1,000 sets of 200 rows with a true accuracy of 85 %, 93 to 97 % of the intervals contain it."""
    rng = np.random.default_rng(11)
    found = [accuracy(int((rng.random(200) < 0.85).sum()), 200) for _ in range(SETS)]
    assert 0.93 <= coverage(0.85, [(each.low, each.high) for each in found]) <= 0.97


def test_coverage_of_the_interval_of_a_mean() -> None:
    """The same holds for 1,000 sets of 100 fractions with a true mean of 5/7."""
    rng = np.random.default_rng(12)
    found = [estimate(rng.beta(5, 2, 100)) for _ in range(SETS)]
    assert 0.93 <= coverage(5 / 7, [(each.low, each.high) for each in found]) <= 0.97


def test_coverage_of_the_clustered_interval() -> None:
    """The same holds for 1,000 sets of 40 clusters of 5 dependent rows, where an interval for independent rows would
    be too narrow."""
    rng = np.random.default_rng(13)
    clusters = [str(index // 5) for index in range(200)]
    honest, naive = [], []
    for _ in range(SETS):
        chance = np.repeat(rng.beta(3, 1, 40), 5)  # mean 3/4
        values = (rng.random(200) < chance).astype(np.float64)
        honest.append(estimate(values, clusters))
        naive.append(accuracy(int(values.sum()), 200))
    assert 0.93 <= coverage(0.75, [(each.low, each.high) for each in honest]) <= 0.97
    assert coverage(0.75, [(each.low, each.high) for each in naive]) < 0.93


def test_coverage_of_the_interval_of_a_difference() -> None:
    """The same holds for the paired difference of two accuracies, 5 points apart, on 200 rows."""
    rng = np.random.default_rng(14)
    found = []
    for _ in range(SETS):
        a = rng.random(200) < 0.8
        flips = rng.random(200)
        b = np.where(a, flips >= 0.05, flips < 0.45)  # 0.8 * 0.95 + 0.2 * 0.45 = 0.85
        found.append(change(int((~a & b).sum()), int((a & ~b).sum()), 200).estimate)
    assert 0.93 <= coverage(0.05, [(each.low, each.high) for each in found]) <= 0.97


def test_mcnemar_is_statsmodels() -> None:
    """mcnemar([[50, 17], [6, 27]], exact=True)."""
    a = np.repeat([1.0, 1.0, 0.0, 0.0], [50, 17, 6, 27])
    b = np.repeat([1.0, 0.0, 1.0, 0.0], [50, 17, 6, 27])
    found = difference(a, b)
    assert found.p_value == pytest.approx(0.03468966484069824)
    assert found.test == "mcnemar"
    assert found.estimate.mean == pytest.approx(-0.11)


def test_the_interval_of_a_difference_is_bonett_and_prices() -> None:
    """5 rows up and 14 down of 100 give the interval of their formula, computed by hand."""
    found = change(5, 14, 100).estimate
    up, down = 6 / 102, 15 / 102
    reach = 1.959963985 * np.sqrt((up + down - (up - down) ** 2) / 102)
    assert (found.low, found.high) == pytest.approx((up - down - reach, up - down + reach))


def test_without_flips_the_difference_is_not_certain() -> None:
    """Two tables with the same scores differ by 0, with an interval around it and p = 1."""
    found = difference(bools(8, 10), bools(8, 10))
    assert (found.estimate.mean, found.p_value) == (0, 1)
    assert found.estimate.low is not None
    assert found.estimate.low < 0


def test_the_permutation_test_is_exact_for_few_pairs() -> None:
    """With 6 changed pairs of one sign, 2 of 64 permutations are as extreme."""
    a = np.asarray([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.9])
    b = a + np.asarray([0.1, 0.15, 0.1, 0.2, 0.1, 0.3, 0])
    found = difference(a, b)
    assert (found.test, found.p_value) == ("permutation", 2 / 64)


def test_many_pairs_are_scipys_t_test() -> None:
    """Above 2,000 pairs the test is scipy's ttest_rel."""
    rng = np.random.default_rng(5)
    a = rng.random(2_500)
    b = np.clip(a + rng.normal(0, 0.1, 2_500), 0, 1)
    assert difference(a, b).p_value == pytest.approx(scipy.stats.ttest_rel(b, a).pvalue, rel=1e-12)


@pytest.mark.parametrize(("n", "test"), [(2_000, "permutation"), (2_001, "paired t")])
def test_from_2001_pairs_on_the_test_is_students(n: int, test: str) -> None:
    """Up to 2,000 pairs the test is exact; of these, only the pairs that differ enter it."""
    change = np.zeros(n)
    change[:5] = [0.5, 0.25, 0.5, 0.75, 0.25]
    found = difference(np.full(n, 0.25), 0.25 + change)
    assert found.test == test
    assert (found.p_value == 2 / 32) == (test == "permutation")


def test_many_pairs_with_one_difference_are_tested() -> None:
    """If all of many pairs differ by the same, Student's t has no spread to use: their permutations are tested."""
    a = np.full(2_500, 0.25)
    assert difference(a, a + 0.25).p_value == 2 / 10_000
    assert difference(a, a).p_value == 1


def test_the_test_of_clusters_is_students() -> None:
    """The p-value of clusters is that of t = mean / SE with G - 1 degrees of freedom, on both sides of 0."""
    a, b = np.random.default_rng(6).beta(5, 2, (2, 60))
    clusters = [str(index // 5) for index in range(60)]
    found = difference(a, b, clusters)
    sums = (b - a).reshape(12, 5).mean(axis=1)
    assert (found.test, found.estimate.clusters) == ("clustered t", 12)
    assert found.p_value == pytest.approx(scipy.stats.ttest_1samp(sums, 0).pvalue, rel=1e-9)
    assert found.estimate.standard_error == pytest.approx(scipy.stats.sem(sums), rel=1e-9)
    mirrored = difference(b, a, clusters)
    assert mirrored.p_value == found.p_value
    assert mirrored.estimate.low == pytest.approx(-(found.estimate.high or 0))


def test_the_interval_of_scores_is_that_of_a_mean_on_a_wider_scale() -> None:
    """A difference d of scores has the interval of the score (1 + d) / 2, stretched to -1 and 1."""
    a, b = np.random.default_rng(7).beta(5, 2, (2, 30))
    found, score = difference(a, b).estimate, estimate((1 + b - a) / 2)
    assert (found.method, found.n) == ("wilson-t", 30)
    assert found.mean == pytest.approx((b - a).mean())
    assert (found.low, found.high) == pytest.approx((2 * (score.low or 0) - 1, 2 * (score.high or 0) - 1), rel=1e-9)
    assert found.standard_error == pytest.approx(scipy.stats.sem(b - a), rel=1e-9)
    assert difference(a, b).deviation == pytest.approx(np.std(b - a, ddof=1), rel=1e-12)


@pytest.mark.parametrize("clustered", [False, True])
def test_a_difference_that_does_not_vary_is_not_certain(clustered: bool) -> None:
    """6 pairs, or clusters of pairs, that all gain 0.25 have Bonett and Price's interval, and 2 of 64 permutations."""
    a = np.full(12 if clustered else 6, 0.25)
    found = difference(a, a + 0.25, [str(index // 2) for index in range(12)] if clustered else None)
    more = np.asarray([0.25] * 6 + [1, -1])
    reach = scipy.stats.norm.ppf(0.975) * more.std() / 8**0.5
    assert (found.estimate.low, found.estimate.high) == pytest.approx((more.mean() - reach, more.mean() + reach))
    assert (found.test, found.p_value) == ("permutation", 2 / 64)
    assert found.estimate.method == ("clustered" if clustered else "bonett-price")
    assert found.estimate.standard_error == 0


def test_a_single_cluster_has_no_test() -> None:
    """The difference of one cluster has an interval, the widest, and no p-value."""
    found = difference(np.asarray([0.0, 0.5]), np.asarray([0.5, 0.5]), ["a", "a"])
    assert (found.test, found.p_value, found.estimate.standard_error) == ("none", None, None)
    assert found.estimate.note == "a single cluster counts as one right or wrong row"
    assert found.estimate.low is not None


@pytest.mark.parametrize("method", ["clustered", "wilson-t"])
def test_figures_of_the_same_table_are_equal(method: str) -> None:
    """Nothing is random: the same values give the same interval and the same p-value."""
    a, b = np.random.default_rng(4).beta(5, 2, (2, 80))
    clusters = list("abcdefgh" * 10) if method == "clustered" else None
    assert estimate(a, clusters) == estimate(a, clusters)
    assert estimate(a, clusters).method == method
    assert difference(a, b, clusters) == difference(a, b, clusters)


def test_false_alarms_are_as_rare_as_the_level_says() -> None:
    """Of 1,000 pairs of equally good tables, about 5 % at most have a p-value below 0.05."""
    rng = np.random.default_rng(15)
    alarms = 0
    for _ in range(SETS):
        a, b = (rng.random(200) < 0.8, rng.random(200) < 0.8)
        p_value = change(int((~a & b).sum()), int((a & ~b).sum()), 200).p_value
        assert p_value is not None
        alarms += p_value < 0.05
    assert alarms <= 60


@pytest.mark.parametrize(("right", "epochs", "k"), [(0, 5, 3), (1, 5, 3), (3, 5, 2), (5, 5, 5), (2, 6, 4)])
def test_pass_at_k_counts_the_draws(right: int, epochs: int, k: int) -> None:
    """Both estimators are shares of all ways to draw k epochs."""
    draws = [sum(draw) for draw in combinations([1] * right + [0] * (epochs - right), k)]
    c, n = np.asarray([right], dtype=np.int64), np.asarray([epochs], dtype=np.int64)
    assert pass_at_k(c, n, k)[0] == pytest.approx(sum(hits > 0 for hits in draws) / len(draws))
    assert pass_hat_k(c, n, k)[0] == pytest.approx(sum(hits == k for hits in draws) / len(draws))


def test_pass_at_k_is_the_hypergeometric_distribution() -> None:
    """The same holds for many epochs: no binomial coefficient overflows."""
    right = np.asarray([0, 1, 700, 1_999, 2_000], dtype=np.int64)
    epochs = np.full(5, 2_000, dtype=np.int64)
    for k in (1, 2, 1_300, 2_000):
        assert pass_at_k(right, epochs, k) == pytest.approx(scipy.stats.hypergeom.sf(0, epochs, right, k), abs=1e-10)
        assert pass_hat_k(right, epochs, k) == pytest.approx(scipy.stats.hypergeom.pmf(k, epochs, right, k), abs=1e-10)


def test_holm_is_statsmodels() -> None:
    """multipletests([.01, .04, .03, .005], method="holm")."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
