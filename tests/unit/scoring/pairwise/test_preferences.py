"""Preferences of a judge over pairs of answers."""

from __future__ import annotations

import pytest

from batchrun.scoring.pairwise.preferences import JudgedPair, preferences


@pytest.mark.parametrize(
    ("as_shown", "swapped", "value", "flips"),
    [
        (1.0, 1.0, 1.0, False),
        (0.0, 0.0, 0.0, False),
        (0.5, 0.5, 0.5, False),
        (0.0, 1.0, 0.5, True),
        (1.0, 0.0, 0.5, True),
        (1.0, 0.5, 0.5, False),
        (0.6, 0.9, 1.0, False),
    ],
)
def test_a_winner_wins_in_both_orders(as_shown: float, swapped: float, value: float, flips: bool) -> None:
    """A pair is won in both orders or tied; it flips if each order has another winner."""
    pair = JudgedPair("a", as_shown, swapped, (1, 2))
    assert (pair.value, pair.flips) == (value, flips)


def test_a_judge_of_the_order_alone() -> None:
    """A judge that always takes the first answer flips every pair, and gives no winner."""
    found = preferences([JudgedPair(str(n), 0.0, 1.0, (1, 2)) for n in range(20)])
    assert (found.wins, found.ties, found.losses, found.p_value) == (0, 20, 0, None)
    assert (found.flipped.mean, found.shown_first.mean, found.win_rate.mean) == (1, 1, 0.5)
    assert found.longer.mean is None


def test_a_judge_of_the_length_alone() -> None:
    """A judge that takes the longer answer shows it; answers of equal length do not count."""
    lengths = [(1, 2)] * 8 + [(2, 1)] * 2 + [(3, 3)]
    verdicts = [1.0] * 8 + [0.0] * 2 + [1.0]
    pairs = [
        JudgedPair(str(n), verdict, verdict, length)
        for n, (verdict, length) in enumerate(zip(verdicts, lengths, strict=True))
    ]
    found = preferences(pairs)
    assert (found.longer.n, found.longer.mean) == (10, 1)
    assert (found.wins, found.losses) == (9, 2)
    assert found.p_value == pytest.approx(2 * (1 + 11 + 55) / 2**11)
    assert found.shown_first.mean == 0.5
    assert (found.better[-1], list(found.worse)) == ("10", ["8", "9"])


def test_epochs_of_a_row_are_one_cluster() -> None:
    """The interval of the win rate counts rows, not their epochs."""
    rows = [JudgedPair(str(n), float(n % 2), float(n % 2), (1, 1)) for n in range(20)]
    assert preferences(rows * 3).win_rate.clusters == 20
    assert preferences(rows).win_rate.clusters is None
