"""Totals over all rows of a journal."""

from __future__ import annotations

from batchrun.journal.database import Database
from batchrun.journal.row_cells import MAY_BE_RUNNING
from batchrun.journal.row_history import Counts

__all__ = ["counts_after", "counts_of", "failures_of", "last_moment", "spent_usd"]


def counts_of(database: Database, waiting: int) -> Counts:
    """Return totals over all rows.

    Args:
        waiting: rows whose last attempt is a request for the Batch API that was not sent.
    """
    by_status: dict[str, int] = dict(database.all("SELECT status, count(*) FROM outcomes GROUP BY status"))
    prompt_tokens, completion_tokens, cost_usd, unpriced = database.one(
        "SELECT total(prompt_tokens), total(completion_tokens), sum(cost_usd), total(cost_usd IS NULL AND "
        "(total_tokens IS NOT NULL OR status IN ('completed', 'incomplete'))) FROM outcomes"
    )
    in_flight = database.one(
        f"SELECT count(*) FROM attempts WHERE {MAY_BE_RUNNING} "
        "AND number = (SELECT max(number) FROM attempts AS same WHERE same.row_key = attempts.row_key) "
        "AND NOT EXISTS (SELECT 1 FROM outcomes WHERE outcomes.row_key = attempts.row_key)"
    )[0]
    completed, incomplete = by_status.pop("completed", 0), by_status.pop("incomplete", 0)
    return Counts(
        completed=completed,
        incomplete=incomplete,
        failed=sum(by_status.values()),
        in_flight=in_flight - waiting,
        # Not sum(), which fails if the sum does not fit into an integer of SQLite.
        prompt_tokens=int(prompt_tokens),
        completion_tokens=int(completion_tokens),
        cost_usd=cost_usd,
        unpriced=int(unpriced),
    )


def counts_after(database: Database, mark: int) -> Counts:
    """Return totals over the outcomes that were recorded after another one.

    Args:
        mark: the row id of that other one, as in `Journal.last_outcome`.
    """
    rows, completed, incomplete, prompt_tokens, completion_tokens, cost_usd = database.one(
        "SELECT count(*), total(status = 'completed'), total(status = 'incomplete'), total(prompt_tokens), "
        "total(completion_tokens), sum(cost_usd) FROM outcomes WHERE rowid > ?",
        (mark,),
    )
    return Counts(
        completed=int(completed),
        incomplete=int(incomplete),
        failed=rows - int(completed) - int(incomplete),
        prompt_tokens=int(prompt_tokens),
        completion_tokens=int(completion_tokens),
        cost_usd=cost_usd,
    )


def failures_of(database: Database) -> dict[str, int]:
    """Return error_type → number of failed rows, the most frequent first."""
    return dict(
        database.all(
            "SELECT error_type, count(*) AS number FROM outcomes "
            "WHERE status NOT IN ('completed', 'incomplete') GROUP BY error_type ORDER BY number DESC, error_type"
        )
    )


def last_moment(database: Database) -> str | None:
    """Return when the last row ended or the last attempt began, whichever is later; None if nothing was sent."""
    ends = (
        database.one("SELECT max(completed_at) FROM outcomes")[0],
        database.one("SELECT max(started_at) FROM attempts")[0],
    )
    return max((each for each in ends if each is not None), default=None)


def spent_usd(database: Database) -> float:
    """Return the known cost of all outcomes in US dollars, including superseded ones."""
    spent = database.one(
        "SELECT (SELECT coalesce(sum(cost_usd), 0) FROM outcomes) + (SELECT coalesce(sum(cost_usd), 0) FROM superseded)"
    )
    return float(spent[0])
