"""Rows that a comparison needs, and differences that its rows show, against scipy's distributions and simulations."""

from __future__ import annotations

import numpy as np
import pytest
import scipy

from batchrun.scoring import power
from batchrun.scoring.intervals import Floats
from batchrun.scoring.pieces import Pieces
from batchrun.scoring.power import flip_power, needs, rows_for_flips, rows_for_mean, size_for_flips
from batchrun.scoring.statistics import difference


def scipys_flip_power(rows: int, flipping: float, size: float) -> float:
    """Return the power as a plain sum over flips and flips upwards, with scipy's test of each."""
    found = 0.0
    for flips in range(rows + 1):
        up = np.arange(flips + 1)
        rejects = np.minimum(1, 2 * scipy.stats.binom.cdf(np.minimum(up, flips - up), flips, 0.5)) <= 0.05
        chances = scipy.stats.binom.pmf(up, flips, (flipping + size) / (2 * flipping))
        found += scipy.stats.binom.pmf(flips, rows, flipping) * float(chances[rejects].sum())
    return found


@pytest.mark.parametrize(
    ("rows", "flipping", "size"),
    [
        (5, 1, 1),
        (6, 1, 1),
        (12, 1, 0.9),
        (30, 0.5, 0.5),
        (50, 0.3, 0.2),
        (200, 0.2, 0.01),
        (300, 0.9, 0.15),
        (9, 0.1, 0.1),
    ],
)
def test_the_power_of_mcnemars_test_is_the_sum(rows: int, flipping: float, size: float) -> None:
    """The power is that of every possible table, weighted by its probability."""
    assert flip_power(rows, flipping, size) == pytest.approx(scipys_flip_power(rows, flipping, size), rel=1e-9)


@pytest.mark.parametrize(
    ("flipping", "size", "rows"),
    [
        (0.25, 0.05, 817),
        (0.3, 0.1, 249),
        (0.1, 0.1, 78),
        (0.5, 0.3, 46),
        (1, 0.5, 35),
        (0.95, 0.3, 87),
        (0, 0.05, 157),
        (1, 1, 6),
        (1, 0.31, 88),
    ],
)
def test_rows_needed_have_the_power(flipping: float, size: float, rows: int) -> None:
    """The number is the smallest from which on every number of rows has a power of 80 %."""
    assert rows_for_flips(flipping, size) == rows
    share = max(flipping, size)
    assert flip_power(rows - 1, share, size) < 0.8
    assert min(flip_power(more, share, size) for more in range(rows, rows + 30)) >= 0.8


def test_a_simulation_has_the_power() -> None:
    """With the rows needed, a true difference of 10 points is significant in 80 % of 4,000 simulated tables."""
    rows = rows_for_flips(0.3, 0.1)
    tables = np.random.default_rng(16).multinomial(rows, [0.2, 0.1, 0.7], 4_000)
    p_values = 2 * scipy.stats.binom.cdf(tables[:, :2].min(axis=1), tables[:, :2].sum(axis=1), 0.5)
    assert float(np.mean(p_values <= 0.05)) == pytest.approx(0.8, abs=0.015)


@pytest.mark.parametrize(("flipping", "size"), [(0.3, 0.037), (0.1, 0.0125), (0.9, 0.1), (0.05, 0.005)])
def test_many_flips_are_approximated_closely(monkeypatch: pytest.MonkeyPatch, flipping: float, size: float) -> None:
    """Above 500 flips, the number of rows is that of the exact power within 0.5 %."""
    monkeypatch.setattr(power, "_EXACT_UP_TO_FLIPS", 0)
    approximate = rows_for_flips(flipping, size)
    monkeypatch.setattr(power, "_EXACT_UP_TO_FLIPS", 10**6)
    assert approximate == pytest.approx(rows_for_flips(flipping, size), rel=0.005)


@pytest.mark.parametrize(("rows", "flipping"), [(6, 0), (6, 0.5), (50, 0), (100, 0.2), (400, 0.6), (9_000, 0.4)])
def test_the_detectable_difference_has_the_power(rows: int, flipping: float) -> None:
    """The rows at hand show the difference with a power of 80 %, and a slightly smaller one with less."""
    size = size_for_flips(rows, flipping)
    assert size is not None
    assert flip_power(rows, max(flipping, size), size) >= 0.7999
    assert flip_power(rows, max(flipping, size - 0.0005), size - 0.0005) < 0.8


def test_five_rows_show_nothing() -> None:
    """Fewer than six rows are never significant, however they flip."""
    assert size_for_flips(5, 0.5) is None


@pytest.mark.parametrize(("deviation", "size"), [(0.4, 0.02), (0.4, 0.1), (0.3, 0.2), (0.5, 0.5)])
def test_rows_for_a_mean_are_the_t_tests(deviation: float, size: float) -> None:
    """The number is the smallest for which scipy's noncentral t gives the paired t-test a power of 80 %, within one
    row."""

    def has_power(rows: int) -> bool:
        limit = scipy.stats.t.isf(0.025, rows - 1)
        return bool(scipy.stats.nct.sf(limit, rows - 1, size / deviation * rows**0.5) >= 0.8)

    rows = rows_for_mean(deviation, size)
    assert has_power(rows + 1)
    assert not has_power(rows - 2)


def test_the_interval_of_the_rows_covers() -> None:
    """The interval of the deviation, which that of the rows is made of, has the true one in about 95 % of tables."""
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(400):
        change = rng.uniform(-0.5, 0.5, 60) * rng.choice([0.2, 1], 60)
        factors = power._spread(change)
        assert factors is not None
        deviation = float(np.std(change, ddof=1))
        true = (0.52 / 12) ** 0.5
        covered += factors[0] * deviation <= true <= factors[1] * deviation
    assert 0.92 <= covered / 400 <= 0.98


def pairs_of(rows: int, seed: int = 1) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    return rng.uniform(0, 1, rows), rng.uniform(0, 1, rows)


def test_needs_of_flips() -> None:
    """For scores of 0 and 1 the rows are those of the share of flips, and of the ends of Wilson's interval for it."""
    a = np.asarray([1.0] * 50 + [0.0] * 50)
    b = np.asarray([0.0] * 8 + [1.0] * 64 + [0.0] * 28)
    found = needs(Pieces.of(np.stack([a, b])), difference(a, b), None, [0.1])
    wilson = scipy.stats.binomtest(30, 100).proportion_ci(method="wilson")
    expected = tuple(rows_for_flips(share, 0.1) for share in (0.3, wilson.low, wilson.high))
    assert (found.rows[0.1].rows, found.rows[0.1].low, found.rows[0.1].high) == expected
    assert found.detectable == size_for_flips(100, 0.3)


def test_needs_of_other_scores() -> None:
    """For other scores the rows are those of the t-test, and the detectable difference needs the rows at hand."""
    a, b = pairs_of(40)
    found = needs(Pieces.of(np.stack([a, b])), difference(a, b), None, [0.1])
    deviation = float(np.std(b - a, ddof=1))
    needed = found.rows[0.1]
    assert needed.rows == rows_for_mean(deviation, 0.1)
    assert needed.low is not None
    assert needed.high is not None
    assert needed.low < needed.rows < needed.high
    assert found.detectable is not None
    assert rows_for_mean(deviation, found.detectable * 0.999999) == 41
    assert rows_for_mean(deviation, found.detectable * 1.000001) == 40


def test_needs_of_clusters() -> None:
    """Rows that repeat each other in clusters of four are needed four times as often."""
    a, b = pairs_of(40)
    alone = needs(Pieces.of(np.stack([a, b])), difference(a, b), None, [0.1])
    clusters = [f"c{place // 4}" for place in range(160)]
    four_a, four_b = np.repeat(a, 4), np.repeat(b, 4)
    together = needs(Pieces.of(np.stack([four_a, four_b])), difference(four_a, four_b, clusters), clusters, [0.1])
    assert together.rows[0.1].rows == pytest.approx(4 * alone.rows[0.1].rows, abs=4)
    assert together.rows[0.1].high == pytest.approx(4 * (alone.rows[0.1].high or 0), abs=4)
    assert together.detectable == pytest.approx(alone.detectable)


@pytest.mark.parametrize("change", [[], [0.25], [0.25, 0.25, 0.25]])
def test_unknown_variation_needs_unknown_rows(change: list[float]) -> None:
    """Without pairs, and if all differ by the same, nothing is claimed."""
    a = np.full(len(change), 0.5)
    b = a + np.asarray(change)
    found = needs(Pieces.of(np.stack([a, b])), difference(a, b), None, [0.1])
    assert (found.rows, found.detectable) == ({}, None)


def test_very_few_scores_show_nothing() -> None:
    """Four scores have no interval for the rows; two show no difference up to 1."""
    a, b = pairs_of(4)
    found = needs(Pieces.of(np.stack([a, b])), difference(a, b), None, [0.1])
    assert (found.rows[0.1].low, found.rows[0.1].high) == (None, None)
    assert needs(Pieces.of(np.stack([a[:2], b[:2]])), difference(a[:2], b[:2]), None, [0.1]).detectable is None
