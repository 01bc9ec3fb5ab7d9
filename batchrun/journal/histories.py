"""The past of rows, looked up for many of them at once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from batchrun.journal.attempt_ids import USAGE_SINCE, attempts_with_ids
from batchrun.journal.database import Database
from batchrun.journal.part import JournalPart
from batchrun.journal.row_history import PaidAttempt, RowHistory
from batchrun.journal.row_records import attempt_of
from batchrun.token_usage import Usage

__all__ = ["KEYS_AT_ONCE", "Histories"]

KEYS_AT_ONCE: Final = 256
"""Most rows of one look-up: enough to share its cost, and few enough not to hold the event loop."""

_PLACES: Final = ":places"
"""Stands for the places of the keys in a statement."""
_SIZES: Final = (1, 16, KEYS_AT_ONCE)
"""Numbers of places: one row alone, few, or many. A few sizes only, so that SQLite prepares each statement once."""


class Histories(JournalPart):
    """What earlier runs of the batch left of its rows."""

    def __init__(self, database: Database, unseen: str) -> None:
        """
        Args:
            unseen: SQL expression for `Attempt.unseen`.
        """
        super().__init__(database)
        self._answered = _sized(
            "SELECT row_key, fingerprint FROM outcomes "
            f"WHERE row_key IN ({_PLACES}) AND status IN ('completed', 'incomplete')"
        )
        self._row_ids = _sized(f"SELECT row_key, rowid FROM outcomes WHERE row_key IN ({_PLACES})")
        self._outcomes = _sized(
            f"SELECT row_key, status, fingerprint, attempts, completed_at FROM outcomes WHERE row_key IN ({_PLACES})"
        )
        # Next to max(), SQLite takes the other columns from the row with the largest number.
        self._last = _sized(
            f"SELECT row_key, fingerprint, max(number), generation, idempotency_key, thread_id, run_id, run_ended, "
            f"{unseen}, {_paid_of(database.version)} FROM {attempts_with_ids(database.version)} "
            f"WHERE row_key IN ({_PLACES}) GROUP BY row_key"
        )

    def answered(self, row_keys: Sequence[str]) -> dict[str, str]:
        """Return row → fingerprint of the prompt that its answer belongs to, for the rows with an answer.

        Args:
            row_keys: at most `KEYS_AT_ONCE`.
        """
        return dict(self._read(*_bound(self._answered, row_keys)))

    def row_ids(self, row_keys: Sequence[str]) -> dict[str, int]:
        """Return row → row id of its outcome, for the rows that have one.

        Args:
            row_keys: at most `KEYS_AT_ONCE`.
        """
        return dict(self._read(*_bound(self._row_ids, row_keys)))

    def of(self, row_keys: Sequence[str]) -> dict[str, RowHistory]:
        """Return row → its history, for the rows that have one.

        Args:
            row_keys: at most `KEYS_AT_ONCE`.
        """
        outcomes = {row_key: outcome for row_key, *outcome in self._read(*_bound(self._outcomes, row_keys))}
        last = {row_key: attempt for row_key, *attempt in self._read(*_bound(self._last, row_keys))}
        return {
            row_key: _history(outcomes.get(row_key), last.get(row_key)) for row_key in outcomes.keys() | last.keys()
        }


def _sized(statement: str) -> dict[int, str]:
    """Return the statement for each number of keys."""
    return {size: statement.replace(_PLACES, ", ".join("?" * size)) for size in _SIZES}


def _bound(statements: Mapping[int, str], row_keys: Sequence[str]) -> tuple[str, tuple[str | None, ...]]:
    """Return the statement for these keys, and its values: the keys, and NULL for each place that is left."""
    size = next(each for each in _SIZES if each >= len(row_keys))
    return statements[size], (*row_keys, *(None,) * (size - len(row_keys)))


def _history(outcome: Sequence[Any] | None, last: Sequence[Any] | None) -> RowHistory:
    return RowHistory(
        status=outcome[0] if outcome else None,
        fingerprint=outcome[1] if outcome else None,
        last=attempt_of(tuple(last[1:-1])) if last else None,
        last_fingerprint=last[0] if last else None,
        completed_at=datetime.fromisoformat(outcome[3]) if outcome else None,
        attempts=outcome[2] if outcome else 0,
        has_open_attempt=last is not None and (outcome is None or last[1] > outcome[2]),
        paid=_paid(last[-1]) if last and last[-1] else (),
    )


def _paid_of(version: int) -> str:
    """Return the SQL expression for the numbers and the usages of a row's failed attempts; NULL for none."""
    if version < USAGE_SINCE:
        return "NULL"
    return "group_concat('[' || number || ', ' || usage || ']', ', ')"  # leaves out NULL


def _paid(text: str) -> tuple[PaidAttempt, ...]:
    return tuple(PaidAttempt(number, Usage(*usage)) for number, usage in json.loads(f"[{text}]"))
