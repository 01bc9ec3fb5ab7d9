"""Rows of a report outside of memory."""

from __future__ import annotations

from dataclasses import replace

from batchrun.journal.live import RecordedAttempt
from batchrun.reporting.rows import ReportRow, pending_cells
from batchrun.reporting.stored_rows import RowRecord, StoredRows

ATTEMPT = RecordedAttempt("b", 1, "2026-11-23T12:00:00+00:00", "fp", "thread", "run", False, "timeout", "too slow")
ROW = ReportRow("k", {"id": "k"}, pending_cells(), scores={"a": 0.5}, reads={"a": "x"}, compared={"a": ("x", "y")})
RECORD = RowRecord("b", "question", (("user", "question"),), (), [ATTEMPT], None)


def test_a_row_is_read_as_it_was_stored() -> None:
    """A row comes back with what its journal, a comparison and its cluster add, in order and by position."""
    rows = StoredRows()
    rows.append(ROW, None)
    rows.append(ROW, RECORD)
    rows.before, rows.clusters = {1: {"response": "no"}}, [0, 3]
    first, second = replace(ROW, cluster=0, attempts=[]), replace(ROW, cluster=3, before={"response": "no"})
    asked = replace(second, batch_key="b", prompt="question", messages=(("user", "question"),), attempts=[ATTEMPT])
    expected = [first, asked]
    assert list(rows) == [rows[0], rows[-1]] == rows[:] == expected
    rows.has_records, rows.labelled = False, {"b"}
    assert rows[1] == replace(second, attempts=[], compared={})
