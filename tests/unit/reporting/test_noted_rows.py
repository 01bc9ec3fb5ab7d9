"""Notes of people, found on the rows of a page."""

from __future__ import annotations

from pathlib import Path

from batchrun.batch.row_notes import RowNote, RowNotes, answer_hash
from batchrun.reporting.noted_rows import NotedRows, note_facts
from batchrun.reporting.rows import ReportRow, pending_cells


def row(key: str, answer: str | None, batch_key: str | None = None) -> ReportRow:
    return ReportRow(key, {}, {**pending_cells(), "response": answer}, batch_key=batch_key)


def test_notes_are_found_by_the_key_in_the_batch() -> None:
    """A row that moved keeps its note, a changed answer makes it one about an earlier answer, and lost notes are counted."""
    notes = RowNotes(
        [
            RowNote(0, "q1|epoch=2", "right", answer_hash=answer_hash("4")),
            RowNote(1, "q2", "wrong", "hm", answer_hash("5")),
            RowNote(2, "q3", "right"),
        ]
    )
    rows = [row("q0", "1", "q0"), row("q1", "4", "q1"), row("q1", "4", "q1|epoch=2"), row("q2", "6", "q2")]
    facts = note_facts(notes, rows)
    assert (facts["listed"], facts["lost"]) == ([(2, "right", "", False), (3, "wrong", "hm", True)], 1)


def test_a_change_of_the_file_is_seen(tmp_path: Path) -> None:
    """What another program wrote appears with the next look; what cannot be read is named, and the last notes stay."""
    path, rows = tmp_path / "a.csv.notes.csv", [row("q1", "4"), row("q2", "5")]
    noted = NotedRows(path)
    noted.look(rows, 1)
    assert noted.facts == {"version": 0, "listed": [], "lost": 0, "problem": None}
    noted.save(rows, 1, "right", "")
    noted.look(rows, 1)
    noted.look(rows, 1)
    kept = [(1, "right", "", False)]
    assert noted.facts == {"version": 1, "listed": kept, "lost": 0, "problem": None}
    path.write_text("row_index,row_key,rating,comment\n1,q2,fine,\n")
    noted.look(rows, 1)
    assert (noted.facts["version"], noted.facts["listed"]) == (2, kept)
    assert "line 2: rating is 'fine'" in (noted.facts["problem"] or "")
    noted.look(rows, 2)
    assert noted.facts["problem"] is not None
    path.unlink()
    noted.look(rows, 2)
    assert noted.facts == {"version": 3, "listed": [], "lost": 0, "problem": None}
