"""The ids of attempts: those that came with an outcome are written with it only, which spares a second write."""

from __future__ import annotations

__all__ = ["USAGE_SINCE", "attempts_with_ids", "ids_to_attempts"]

_SINCE = 7
"""The first version of the journal with the column `own_ids`."""

USAGE_SINCE = 8
"""The first version of the journal with the column `usage` of attempts."""

_WITH_IDS = (
    "(SELECT a.row_key, number, generation, idempotency_key, a.fingerprint, started_at, "
    "CASE WHEN own_ids THEN o.thread_id ELSE a.thread_id END AS thread_id, "
    "CASE WHEN own_ids THEN o.run_id ELSE a.run_id END AS run_id, run_ended, fault_type, fault, turn, unseen{usage} "
    "FROM attempts AS a LEFT JOIN outcomes AS o ON o.row_key = a.row_key AND o.attempts = a.number) AS attempts"
)


def attempts_with_ids(version: int) -> str:
    """Return what a query reads in place of the table `attempts` to get the ids of every attempt.

    Args:
        version: the version of the journal's tables.
    """
    usage = ", usage" if version >= USAGE_SINCE else ""
    return _WITH_IDS.format(usage=usage) if version >= _SINCE else "attempts"


def ids_to_attempts(rows: str) -> str:
    """Return the statement that moves ids from outcomes to their attempts, before other outcomes replace these.

    Args:
        rows: the rows, as a condition on `row_key`.
    """
    return (
        "UPDATE attempts SET (thread_id, run_id) = "
        "(SELECT o.thread_id, o.run_id FROM outcomes AS o WHERE o.row_key = attempts.row_key) "
        f"WHERE {rows} AND EXISTS (SELECT 1 FROM outcomes AS o WHERE o.row_key = attempts.row_key "
        "AND o.attempts = attempts.number AND o.own_ids)"
    )
