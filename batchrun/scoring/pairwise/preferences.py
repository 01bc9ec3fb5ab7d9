"""Preferences: which of two answers a judge prefers over many rows, and how much their order and length decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from batchrun.probability import sign_tail
from batchrun.scoring.statistics import Estimate, estimate

__all__ = ["JudgedPair", "Preferences", "preferences"]


class JudgedPair(NamedTuple):
    """Two answers to one row, judged in both orders.

    Attributes:
        key: the row's id; the epochs of a row share it.
        as_shown: verdict with the first answer shown first: 0 if it is better, 1 if the second one is, 0.5 for a tie.
        swapped: verdict with the second answer shown first, on the same scale.
        lengths: characters of the first and of the second answer.
    """

    key: str
    as_shown: float
    swapped: float
    lengths: tuple[int, int]

    @property
    def value(self) -> float:
        """1 if the second answer is better in both orders, 0 if the first one is, else 0.5."""
        if self.as_shown > 0.5 and self.swapped > 0.5:
            return 1.0
        return 0.0 if self.as_shown < 0.5 and self.swapped < 0.5 else 0.5

    @property
    def flips(self) -> bool:
        """Whether each order has another winner."""
        return (self.as_shown - 0.5) * (self.swapped - 0.5) < 0


@dataclass(frozen=True, slots=True)
class Preferences:
    """The preferences of a judge over the pairs of two tables.

    Attributes:
        wins, ties, losses: pairs in which the second answer is better, neither or the first one. A winner wins in both
            orders, as in Zheng et al. 2023 (https://arxiv.org/abs/2306.05685); all other pairs are ties.
        win_rate: share of wins, with ties as a half; its interval takes the epochs of a row as one cluster.
        p_value: of the sign test of wins and losses, without ties; None without any.
        flipped: share of pairs in which each order has another winner: 0 for a judge that the order does not move.
        shown_first: share of the verdicts with a winner in which the answer that was shown first wins: 0.5 for such a
            judge.
        longer: share of wins and losses in which the longer answer wins, without answers of equal length.
        better, worse: keys of the rows that the second answer wins, or loses.
    """

    wins: int
    ties: int
    losses: int
    win_rate: Estimate
    p_value: float | None
    flipped: Estimate
    shown_first: Estimate
    longer: Estimate
    better: Sequence[str]
    worse: Sequence[str]


def preferences(pairs: Sequence[JudgedPair]) -> Preferences:
    """Return the preferences over pairs that were judged in both orders."""
    keys = [pair.key for pair in pairs]
    clusters = keys if len(set(keys)) < len(keys) else None
    values = [pair.value for pair in pairs]
    wins, losses = values.count(1.0), values.count(0.0)
    decided = [pair for pair in pairs if pair.value != 0.5 and pair.lengths[0] != pair.lengths[1]]
    # Both verdicts on one pair are about the same answers: they are a cluster.
    shown_first = [
        (float(first), place)
        for place, pair in enumerate(pairs)
        for verdict, first in ((pair.as_shown, pair.as_shown < 0.5), (pair.swapped, pair.swapped > 0.5))
        if verdict != 0.5
    ]
    return Preferences(
        wins=wins,
        ties=len(values) - wins - losses,
        losses=losses,
        win_rate=_estimate(values, clusters),
        p_value=min(1.0, 2 * sign_tail(min(wins, losses), wins + losses)) if wins + losses else None,
        flipped=_estimate([float(pair.flips) for pair in pairs], clusters),
        shown_first=_estimate([value for value, _ in shown_first], [str(place) for _, place in shown_first]),
        longer=_estimate([float((pair.lengths[1] > pair.lengths[0]) == (pair.value == 1)) for pair in decided], None),
        better=[pair.key for pair in pairs if pair.value == 1],
        worse=[pair.key for pair in pairs if pair.value == 0],
    )


def _estimate(values: Sequence[float], clusters: Sequence[str] | None) -> Estimate:
    return estimate(np.asarray(values, dtype=np.float64), clusters)
