"""Rows that ask what another row asks already: the other is asked, and they get its answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["Duplicates"]

_COPIED = (
    "fingerprint, status, response, error_type, error, thread_id, run_id, model, prompt_tokens, completion_tokens, "
    "total_tokens, cached_tokens, reasoning_tokens, raw_usage, cost_usd, attempts, duration_s, completed_at, extras"
)
_FREE = {
    "prompt_tokens": "0",
    "completion_tokens": "0",
    "total_tokens": "0",
    "cached_tokens": "0",
    "reasoning_tokens": "0",
    "raw_usage": "NULL",
    "cost_usd": "CASE WHEN o.cost_usd IS NULL THEN NULL ELSE 0.0 END",
    "attempts": "0",
    "duration_s": "0.0",
}
"""What an answer takes that another row has paid for."""


class Duplicates:
    """The table `duplicates`, through the journal's own connection.

    Which row is the first to ask something is kept beside the journal, in a table that goes with the process.
    Methods raise OutputError where the journal cannot be used.
    """

    def __init__(
        self, write: Callable[[str, tuple[Any, ...]], None], read: Callable[[str, tuple[Any, ...]], list[Any]]
    ) -> None:
        self._write = write
        self._read = read

    def begin(self) -> None:
        """No row was looked at yet."""
        self._write("CREATE TEMP TABLE IF NOT EXISTS firsts (fingerprint TEXT PRIMARY KEY, row_key TEXT NOT NULL)", ())
        self._write("DELETE FROM firsts", ())
        self._write("DELETE FROM duplicates", ())

    def is_first(self, row_key: str, fingerprint: str) -> bool:
        """Whether no row before asked the same; else the row is kept as that one's duplicate."""
        first = self._read("SELECT row_key FROM firsts WHERE fingerprint = ?", (fingerprint,))
        if not first:
            self._write("INSERT INTO firsts VALUES (?, ?)", (fingerprint, row_key))
            return True
        self._write("INSERT OR REPLACE INTO duplicates VALUES (?, ?, ?)", (row_key, fingerprint, first[0][0]))
        return False

    def share(self) -> None:
        """Give every duplicate the outcome of the row that was asked, as far as that has ended."""
        self._write("BEGIN IMMEDIATE", ())
        ended = (
            "FROM duplicates AS d JOIN outcomes AS o ON o.row_key = d.first_key AND o.fingerprint = d.fingerprint "
            # A row that was asked itself, in an earlier run, keeps its answer.
            "WHERE NOT EXISTS (SELECT 1 FROM outcomes AS own WHERE own.row_key = d.row_key "
            "AND own.fingerprint = d.fingerprint AND own.attempts > 0 AND own.status IN ('completed', 'incomplete'))"
        )
        self._write(
            "INSERT INTO superseded SELECT * FROM outcomes "
            f"WHERE attempts > 0 AND row_key IN (SELECT d.row_key {ended})",
            (),
        )
        self._write(f"DELETE FROM outcomes WHERE row_key IN (SELECT d.row_key {ended})", ())
        values = ", ".join(_FREE.get(name, f"o.{name}") for name in _COPIED.split(", "))
        self._write(f"INSERT INTO outcomes (row_key, {_COPIED}) SELECT d.row_key, {values} {ended}", ())
        self._write("COMMIT", ())
