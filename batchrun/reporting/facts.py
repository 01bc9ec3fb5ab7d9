"""Figures of a batch's rows: pure functions of the rows, whose results are JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from batchrun.batch.totals import Totals
from batchrun.journal.live import CoolDown
from batchrun.reporting.distributions import distributions
from batchrun.reporting.page_facts import ErrorFacts, HeadlineFacts, SessionFacts, TableFigures
from batchrun.reporting.rows import WITHOUT_ANSWER, ReportRow
from batchrun.reporting.sessions import sessions

__all__ = ["error_types", "figures", "headline"]


def figures(rows: Sequence[ReportRow], cool_downs: Sequence[CoolDown] | None = None) -> TableFigures:
    """Return all figures of the rows.

    Args:
        cool_downs: oldest first; None if they were not recorded.
    """
    of_rows = sessions(rows, cool_downs)
    return {
        "headline": headline(rows, of_rows),
        "distributions": distributions(rows),
        "sittings": of_rows,
        "errors": error_types(rows),
    }


def headline(rows: Sequence[ReportRow], of_rows: Sequence[SessionFacts]) -> HeadlineFacts:
    """Return rows by status, tokens, cost and time.

    Args:
        of_rows: the rows' sessions.
    """
    totals = Totals()
    for row in rows:
        totals.add(row.cells)
    return {
        "rows": len(rows) - totals.by_status["skipped"],
        "by_status": dict(totals.by_status),
        "failed": totals.failed,
        "prompt_tokens": totals.prompt_tokens,
        "completion_tokens": totals.completion_tokens,
        "tokens_known": any(row.cells["total_tokens"] is not None for row in rows),
        "cached_tokens": sum(row.cells["cached_tokens"] or 0 for row in rows),
        "reasoning_tokens": sum(row.cells["reasoning_tokens"] or 0 for row in rows),
        "cost_usd": totals.cost_usd,
        "unpriced": totals.unpriced,
        "models": dict(Counter(row.cells["model"] for row in rows if row.cells["model"]).most_common()),
        "busy_s": sum(each["ended_s"] - each["started_s"] for each in of_rows) if of_rows else None,
        "started_at": _iso(of_rows[0]["started_s"]) if of_rows else None,
        "ended_at": _iso(of_rows[-1]["ended_s"]) if of_rows else None,
    }


def _iso(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="seconds")


def error_types(rows: Sequence[ReportRow]) -> list[ErrorFacts]:
    """Return each type of error with its counts and an example, the most frequent first."""
    ended: Counter[str] = Counter()
    cut_short: Counter[str] = Counter()
    met: Counter[str] = Counter()
    example: dict[str, str] = {}
    for row in rows:
        cells = row.cells
        if cells["status"] in WITHOUT_ANSWER:
            kind = cells["error_type"] or cells["status"]
            ended[kind] += 1
            example[kind] = example.get(kind) or cells["error"] or ""
        elif cells["status"] == "incomplete":
            kind = cells["error_type"] or "incomplete"
            cut_short[kind] += 1
            example[kind] = example.get(kind) or cells["error"] or ""
        for each in row.attempts:
            if each.fault_type is not None:
                met[each.fault_type] += 1
                example[each.fault_type] = example.get(each.fault_type) or each.fault or ""
    has_attempts = any(row.attempts for row in rows)
    kinds = sorted({*ended, *cut_short, *met}, key=lambda kind: (-ended[kind], -cut_short[kind], -met[kind], kind))
    return [
        {
            "error_type": kind,
            "rows": ended[kind],
            "cut_short": cut_short[kind],
            "tries": met[kind] if has_attempts else None,
            "example": example[kind][:500],
        }
        for kind in kinds
    ]
