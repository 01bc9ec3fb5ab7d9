"""Counts how often a batch has asked the same, without keeping every row in memory."""

from __future__ import annotations

import sqlite3

__all__ = ["Occurrences"]


class Occurrences:
    """The number of times that each key was counted; in a temporary file of SQLite, which ends with the process.

    Mutable state: the counts.

    Examples:
        >>> seen = Occurrences()
        >>> seen.count(b"a"), seen.count(b"b"), seen.count(b"a")
        (1, 1, 2)
        >>> seen.close()
    """

    def __init__(self) -> None:
        self._connection = sqlite3.connect("", isolation_level=None)
        self._connection.execute("PRAGMA journal_mode=OFF")
        self._connection.execute("PRAGMA synchronous=OFF")
        self._connection.execute("CREATE TABLE seen (key BLOB PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID")

    def count(self, key: bytes) -> int:
        """Count a key; return how often it was counted so far, this time included."""
        found = self._connection.execute(
            "INSERT INTO seen VALUES (?, 1) ON CONFLICT DO UPDATE SET number = number + 1 RETURNING number", (key,)
        )
        return int(found.fetchall()[0][0])

    def close(self) -> None:
        """Forget all counts."""
        self._connection.close()
