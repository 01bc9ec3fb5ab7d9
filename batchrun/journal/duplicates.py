"""Rows that ask the same as another row: only the other is sent, and they get its answer."""

from __future__ import annotations

from datetime import datetime

from batchrun.journal.attempt_ids import ids_to_attempts
from batchrun.journal.part import JournalPart
from batchrun.journal.row_records import OUTCOME_COLUMNS, stamp

__all__ = ["Duplicates"]

_COPIED = OUTCOME_COLUMNS.removeprefix("row_key, ")
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
"""Usage and cost of an answer that another row has paid for."""

_ENDED = (
    "FROM duplicates AS d JOIN outcomes AS o ON o.row_key = d.first_key AND o.fingerprint = d.fingerprint "
    # A row that was sent itself, in an earlier run, keeps its answer.
    "WHERE NOT EXISTS (SELECT 1 FROM outcomes AS own WHERE own.row_key = d.row_key AND own.fingerprint = d.fingerprint "
    "AND own.attempts > 0 AND own.status IN ('completed', 'incomplete') AND own.completed_at >= :oldest) "
    "AND d.row_key = coalesce(:row_key, d.row_key)"
)
"""The duplicates that get an answer, each with its outcome."""

_SHARE = (
    ids_to_attempts(f"row_key IN (SELECT d.row_key {_ENDED})"),
    f"INSERT INTO superseded SELECT * FROM outcomes WHERE attempts > 0 AND row_key IN (SELECT d.row_key {_ENDED})",
    # Runs that a duplicate made itself are set aside too, and stay in the journal.
    "UPDATE exchanges SET fingerprint = fingerprint || '/own' WHERE attempt > 0 "
    f"AND (row_key, fingerprint) IN (SELECT d.row_key, d.fingerprint {_ENDED})",
    "INSERT OR REPLACE INTO exchanges (row_key, fingerprint, number, turn, attempt, asked, status, response, reason, "
    "thread_id, run_id, model, extras, calls, said) "
    "SELECT d.row_key, e.fingerprint, e.number, e.turn, 0, e.asked, e.status, e.response, e.reason, "
    "e.thread_id, e.run_id, e.model, e.extras, e.calls, e.said "
    + _ENDED.replace(
        "WHERE", "JOIN exchanges AS e ON e.row_key = o.row_key AND e.fingerprint = o.fingerprint WHERE", 1
    ),
    f"DELETE FROM outcomes WHERE row_key IN (SELECT d.row_key {_ENDED})",
    f"INSERT INTO outcomes (row_key, {_COPIED}) "
    f"SELECT d.row_key, {', '.join(_FREE.get(name, f'o.{name}') for name in _COPIED.split(', '))} {_ENDED}",
)


class Duplicates(JournalPart):
    """The table `duplicates`.

    Which row is the first with a fingerprint is kept in a temporary table, which ends with the process.

    Mutable state: `_oldest`, the moment before which answers are too old, as text.
    """

    _oldest = ""

    def begin(self, stale_before: datetime | None = None) -> None:
        """Start to look for duplicates. Rows that have an answer come before all others.

        Args:
            stale_before: answers before this moment are too old; None accepts all.
        """
        self._oldest = stamp(stale_before) if stale_before is not None else ""
        self._write("CREATE TEMP TABLE IF NOT EXISTS firsts (fingerprint TEXT PRIMARY KEY, row_key TEXT NOT NULL)", ())
        self._write("DELETE FROM firsts", ())
        self._write("DELETE FROM duplicates", ())
        self._write(
            "INSERT OR IGNORE INTO firsts SELECT fingerprint, row_key FROM outcomes "
            "WHERE status IN ('completed', 'incomplete') AND completed_at >= ?",
            (self._oldest,),
        )

    def is_first(self, row_key: str, fingerprint: str) -> bool:
        """Return whether the row has to be sent; if not, it is recorded as a duplicate of one that is or was."""
        first = self._read("SELECT row_key FROM firsts WHERE fingerprint = ?", (fingerprint,))
        if not first:
            self._write("INSERT INTO firsts VALUES (?, ?)", (fingerprint, row_key))
            return True
        if first[0][0] == row_key:
            return True
        self._write("INSERT OR REPLACE INTO duplicates VALUES (?, ?, ?)", (row_key, fingerprint, first[0][0]))
        # An existing answer is shared at once: its row may be about to ask something else.
        if self._read("SELECT 1 FROM outcomes WHERE row_key = ? AND fingerprint = ?", (first[0][0], fingerprint)):
            self.share(row_key)
        return False

    def share(self, row_key: str | None = None) -> None:
        """Give every duplicate, or this one, the outcome of the row that was sent, if that row has ended."""
        with self._transaction():
            for step in _SHARE:
                self._write(step, {"oldest": self._oldest, "row_key": row_key})
