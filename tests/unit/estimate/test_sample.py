"""A sample of rows, and the interval around its estimate."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.estimate.sample import sample_positions, total_of


@given(st.integers(0, 300), st.integers(1, 400), st.text(max_size=5))
def test_a_sample_is_of_different_rows_of_the_table(rows: int, size: int, seed: str) -> None:
    """There are as many positions as requested, or all of them, none twice and none outside."""
    chosen = sample_positions(rows, size, seed)
    assert len(chosen) == min(rows, size)
    assert chosen <= set(range(rows))


@given(st.integers(1, 200), st.integers(1, 100), st.integers(1, 100), st.text(max_size=5))
def test_a_larger_sample_holds_the_smaller_one(rows: int, size: int, more: int, seed: str) -> None:
    """A larger second pilot contains the rows of the first, and the same pilot has the same rows."""
    assert sample_positions(rows, size, seed) <= sample_positions(rows, size + more, seed)
    assert sample_positions(rows, size, seed) == sample_positions(rows, size, seed)


def test_every_row_is_as_likely() -> None:
    """Over 4,000 seeds each of 10 rows is in a sample of 3 about 1,200 times (six standard deviations allowed)."""
    counts = Counter(position for seed in range(4_000) for position in sample_positions(10, 3, str(seed)))
    assert set(counts) == set(range(10))
    assert all(abs(count - 1_200) < 6 * (4_000 * 0.3 * 0.7) ** 0.5 for count in counts.values())


def test_a_total_by_hand() -> None:
    """N·x̄ ± t·N·√((1 - n/N)·s²/n) for 10, 20, 30 out of 12 rows."""
    total = total_of([10, 20, 30], 12)
    assert total is not None
    half = 4.30265273 * 12 * (0.75 * 100 / 3) ** 0.5
    assert total.estimate == 240
    assert total.high == pytest.approx(240 + half)
    assert total.low == 60  # 240 - half is less than what the three rows add up to


def test_the_whole_table_leaves_nothing_to_guess() -> None:
    """A sample of every row is the exact total."""
    total = total_of([1, 2, 4], 3)
    assert total is not None
    assert (total.low, total.estimate, total.high) == (7, 7, 7)


def test_one_row_gives_no_interval() -> None:
    """A single row has no spread, so there is no interval."""
    total = total_of([5], 10)
    assert total is not None
    assert (total.low, total.estimate, total.high) == (None, 50, None)


def test_nothing_gives_nothing() -> None:
    """Without rows there is no total."""
    assert total_of([], 10) is None


def test_the_interval_covers_what_it_says() -> None:
    """Of 2,000 samples of 15 out of 60 rows, 95 % (and at least 92 %) have the true total in their interval."""
    source = random.Random(7)
    table = [source.gauss(500, 100) for _ in range(60)]
    held = 0
    for seed in range(2_000):
        total = total_of([table[position] for position in sample_positions(60, 15, str(seed))], 60)
        assert total is not None
        assert total.low is not None
        assert total.high is not None
        held += total.low <= sum(table) <= total.high
    assert 0.92 <= held / 2_000 <= 0.98
