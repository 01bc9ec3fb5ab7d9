"""The rows of a live page outside of memory, and those that it shows."""

from __future__ import annotations

import pytest

from batchrun.reporting.live_rows import LiveRows, ShownRows
from batchrun.reporting.rows import ReportRow, pending_cells


def row(key: str, answer: str | None = None) -> ReportRow:
    return ReportRow(key, {}, {**pending_cells(), "response": answer}, batch_key=f"key {key}")


def test_replaced_rows_are_read_in_order() -> None:
    """A replaced row has the place of the earlier one, by position and in a pass; the others stay."""
    rows = LiveRows()
    for number in range(600):
        rows.append(row(str(number)), f"print {number}")
    rows.replace(7, row("7", "yes"), "print 7")
    expected = [row(str(number), "yes" if number == 7 else None) for number in range(600)]
    assert list(rows) == expected
    assert (rows[7], rows[-1], rows[6:9]) == (expected[7], expected[-1], expected[6:9])
    assert (rows.fingerprint(7), rows.fingerprint(8)) == ("print 7", "print 8")
    rows.clusters = [3] * 600
    assert rows[7].cluster == 3


@pytest.mark.parametrize(
    ("urgent", "most", "shown"),
    [
        ([0, 0, 1, 0, 1], 3, [0, 2, 4]),
        ([0, 1, 1, 1], 2, [1, 2]),
        ([0, 1], 5, [0, 1]),
        ([0, 1], 0, []),
        ([], 3, []),
    ],
)
def test_rows_that_need_attention_are_shown_first(urgent: list[int], most: int, shown: list[int]) -> None:
    """Of more rows than the page shows, those that need attention and the first of the others are chosen."""
    found = ShownRows(bytearray(urgent), most)
    assert (list(found.positions()), len(found)) == (shown, len(shown))


def test_a_row_that_needs_attention_takes_the_last_place() -> None:
    """It takes the place of the last other one; without such a row it stays away, and so does one that needs none."""
    shown = ShownRows(bytearray(5), 2)
    assert shown.change(3, is_urgent=False) == []
    assert shown.change(4, is_urgent=True) == [1, 4]
    assert shown.change(4, is_urgent=True) == [4]
    assert shown.change(0, is_urgent=True) == [0]
    assert shown.change(2, is_urgent=True) == []
    assert list(shown.positions()) == [0, 4]
