"""Sums over numbers that are made a piece at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from batchrun.scoring.intervals import Floats
from batchrun.scoring.pieces import PIECE, Pieces, pieces_of


def test_pieces_cover_all_rows() -> None:
    """Pieces follow each other without gaps up to the last row; there are none of no rows."""
    pieces = list(pieces_of(2 * PIECE + 1))
    assert [(each.start, each.stop) for each in pieces] == [(0, PIECE), (PIECE, 2 * PIECE), (2 * PIECE, 2 * PIECE + 1)]
    assert list(pieces_of(0)) == []


@pytest.mark.parametrize("count", [1, 7, 129, PIECE, PIECE + 1, 3 * PIECE + 77])
def test_sums_are_those_of_numpy(count: int) -> None:
    """Sums are those of numpy over one array to the last digit, in whatever lengths the numbers come."""
    values = np.random.default_rng(count).random(count)

    def in_odd_lengths() -> Iterator[Floats]:
        yield values[:0]
        for begin in range(0, count, 777):
            yield values[begin : begin + 777]

    expected = [float(values.sum()), float(np.sum((values - 0.3) ** 4))]
    for pieces in (Pieces.of(values), Pieces(count, in_odd_lengths)):
        assert pieces.sums(lambda some: some, lambda some: (some - 0.3) ** 4) == expected


def test_rows_of_numbers_stay_together() -> None:
    """Pieces of two rows of numbers have both rows; what a function makes of them can be read again."""
    pairs = Pieces.of(np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 5.0]]))
    change = pairs.map(lambda both: both[1] - both[0])
    assert (change.array.tolist(), change.sums(lambda some: some > 0), len(change)) == ([2.0, 0.0, 2.0], [2.0], 3)
    assert (change.all(lambda some: some >= 0), change.all(lambda some: some > 0)) == (True, False)
    nothing = Pieces.of(np.zeros(0))
    assert (nothing.sums(lambda some: some), nothing.array.tolist()) == ([0.0], [])
