"""NotedRows: what people noted about the rows of a batch, as the page shows and changes it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from batchrun.batch.row_notes import Rating, RowNote, RowNotes, answer_hash
from batchrun.errors import InputError
from batchrun.reporting.live_rows import LiveRows
from batchrun.reporting.page_facts import NoteFacts
from batchrun.reporting.rows import ReportRow

__all__ = ["NotedRows", "note_facts"]


def note_facts(notes: RowNotes, rows: Sequence[ReportRow]) -> NoteFacts:
    """Return the notes on the rows of a page."""
    keys: Iterable[str] = rows.keys if isinstance(rows, LiveRows) else (_key(row) for row in rows)
    found = notes.matched(keys) if notes.listed else {}
    listed: list[tuple[int, str, str, bool]] = [
        (position, note.rating, note.comment, not note.is_about(rows[position].cells["response"]))
        for position, note in sorted(found.items())
    ]
    return {"version": 0, "listed": listed, "lost": len(notes.listed) - len(listed), "problem": None}


def _key(row: ReportRow) -> str:
    return row.key if row.batch_key is None else row.batch_key


class NotedRows:
    """The notes of a file that this process and others may change.

    Mutable state: the notes as of the last look, and their facts.

    Attributes:
        facts: the notes on the rows.
    """

    def __init__(self, path: Path) -> None:
        """
        Raises:
            InputError: the file cannot be read.
        """
        self._path = path
        self._file = self._identity()
        self._notes = RowNotes.read(path)
        self._seen: object = None
        self.facts = note_facts(RowNotes(), ())

    def look(self, rows: Sequence[ReportRow], rows_version: object) -> None:
        """Read the file if it has changed, and find the rows of its notes if these have changed.

        If the file cannot be read any more, the notes from before are kept, and the facts say why.

        Args:
            rows: all rows of the batch.
            rows_version: anything that differs if the rows differ.
        """
        file, problem = self._identity(), self.facts["problem"]
        if file != self._file:
            problem = None
            try:
                self._notes = RowNotes.read(self._path)
            except InputError as exc:
                problem = str(exc)
            self._file = file
        if (file, rows_version) == self._seen:
            return
        self._seen = (file, rows_version)
        version = self.facts["version"]
        facts: NoteFacts = {**note_facts(self._notes, rows), "version": version, "problem": problem}
        if facts != self.facts:
            self.facts = {**facts, "version": version + 1}

    def save(self, rows: Sequence[ReportRow], position: int, rating: Rating, comment: str) -> None:
        """Write the note on a row, next to those that the file has by now; an empty one is removed.

        Raises:
            InputError: the file cannot be read.
            OutputError: the file cannot be written.
        """
        row = rows[position]
        note = RowNote(position, _key(row), rating, comment, answer_hash(row.cells["response"]))
        RowNotes.read(self._path).with_note(note).write(self._path)

    def _identity(self) -> tuple[int, ...] | None:
        """Return what changes with the file; None if there is no file."""
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
