"""A part of the journal: some of its tables, read and written through its one connection."""

from __future__ import annotations

from batchrun.journal.database import Database

__all__ = ["JournalPart"]


class JournalPart:
    """Some tables of the journal. Methods raise OutputError if the journal cannot be used."""

    def __init__(self, database: Database) -> None:
        self._write = database.write
        self._read = database.all
        self._transaction = database.transaction
