"""The rows of a scored table, counted by group."""

from __future__ import annotations

import numpy as np
import pytest

from batchrun.scoring.compact import Coded, Numbers
from batchrun.scoring.pieces import PIECE
from batchrun.scoring.score_tally import RowKind, ScoreTally
from batchrun.scoring.scored_rows import IS_FAILED, IS_SCORED, IS_SKIPPED, CountedRows, members_of


@pytest.mark.parametrize("different", [3, 300])
def test_members_of_labels(different: int) -> None:
    """Labels come in order of first occurrence, each with its rows; labels that no row has any more are left out."""
    labels = Coded([f"label {number % different}" for number in range(700)])
    labels[0] = "new"
    found = {label: np.arange(700)[members].tolist() for label, members in members_of(labels)}
    assert list(found)[:3] == ["new", "label 1", "label 2"]
    assert found["label 1"] == list(range(1, 700, different))
    assert sorted(row for rows in found.values() for row in rows) == list(range(700))
    assert "gone" not in dict(members_of(Coded(["gone", "kept"])[1:]))


def test_rows_are_counted_across_pieces() -> None:
    """Numbers of rows, their first positions and their values are those of all pieces, for masks and for positions."""
    tally, count = ScoreTally(), 2 * PIECE + 10
    tally.values["exact"] = values = Numbers()
    kinds: list[RowKind] = ["failed" if number == PIECE + 5 else "answered" for number in range(count)]
    tally.kinds.extend(kinds)
    tally.cut_short.extend([False] * count)
    values.extend([None if kind == "failed" else float(number % 3 == 0) for number, kind in enumerate(kinds)])
    rows = CountedRows.of(tally, "exact", values, None, is_repeated=False)
    is_even = np.arange(count) % 2 == 0
    for members in (is_even, np.flatnonzero(is_even), ~is_even, np.flatnonzero(~is_even), None):
        places = np.arange(count)[slice(None) if members is None else members].tolist()
        counts = rows.counts(members)
        failed = [place for place in places if kinds[place] == "failed"]
        assert counts.number(IS_FAILED) == len(failed)
        assert counts.first(IS_FAILED) == (failed[0] if failed else count)
        assert (counts.number(IS_SKIPPED), counts.number(IS_SCORED)) == (0, len(places) - len(failed))
        scored = [place for place in places if kinds[place] != "failed"]
        assert rows.values(members, counts).array.tolist() == [values[place] for place in scored]
        assert (rows.positions(members), rows.positions(members, are_scored=True)) == (places, scored)
