"""Figures of a batch's rows, counted in one pass; the results are JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from batchrun.batch.totals import Totals
from batchrun.journal.live import CoolDown
from batchrun.reporting.distributions import Distributions
from batchrun.reporting.page_facts import ErrorFacts, HeadlineFacts, SessionFacts, TableFigures
from batchrun.reporting.rows import WITHOUT_ANSWER, ReportRow
from batchrun.reporting.sessions import SessionMoments

__all__ = ["ErrorCounts", "HeadlineCounts", "RowFigures", "error_types"]


class RowFigures:
    """All figures of rows, which are added one by one. Of each row only numbers are kept.

    Mutable state: the counts and numbers of its parts.
    """

    def __init__(self) -> None:
        self._headline = HeadlineCounts()
        self._distributions = Distributions()
        self._moments = SessionMoments()
        self._errors = ErrorCounts()

    def add(self, row: ReportRow) -> None:
        """Count a row."""
        self._headline.add(row)
        self._distributions.add(row)
        self._moments.add(row)
        self._errors.add(row)

    def facts(self, cool_downs: Sequence[CoolDown] | None = None) -> TableFigures:
        """Return all figures of the rows.

        Args:
            cool_downs: oldest first; None if they were not recorded.
        """
        of_rows = self._moments.sessions(cool_downs)
        return {
            "headline": self._headline.facts(of_rows),
            "distributions": self._distributions.facts(),
            "sittings": of_rows,
            "errors": self._errors.facts(),
        }


class HeadlineCounts:
    """Rows by status, tokens and cost.

    Mutable state: all counts.
    """

    def __init__(self) -> None:
        self._rows = 0
        self._totals = Totals()
        self._tokens_known = False
        self._cached_tokens = self._reasoning_tokens = 0
        self._models: Counter[str] = Counter()

    def add(self, row: ReportRow) -> None:
        """Count a row."""
        cells = row.cells
        self._rows += 1
        self._totals.add(cells)
        self._tokens_known = self._tokens_known or cells["total_tokens"] is not None
        self._cached_tokens += cells["cached_tokens"] or 0
        self._reasoning_tokens += cells["reasoning_tokens"] or 0
        if cells["model"]:
            self._models[cells["model"]] += 1

    def facts(self, of_rows: Sequence[SessionFacts]) -> HeadlineFacts:
        """Return rows by status, tokens, cost and time.

        Args:
            of_rows: the rows' sessions.
        """
        totals = self._totals
        return {
            "rows": self._rows - totals.by_status["skipped"],
            "by_status": dict(totals.by_status),
            "failed": totals.failed,
            "prompt_tokens": totals.prompt_tokens,
            "completion_tokens": totals.completion_tokens,
            "tokens_known": self._tokens_known,
            "cached_tokens": self._cached_tokens,
            "reasoning_tokens": self._reasoning_tokens,
            "cost_usd": totals.cost_usd,
            "unpriced": totals.unpriced,
            "models": dict(self._models.most_common()),
            "busy_s": sum(each["ended_s"] - each["started_s"] for each in of_rows) if of_rows else None,
            "started_at": _iso(of_rows[0]["started_s"]) if of_rows else None,
            "ended_at": _iso(of_rows[-1]["ended_s"]) if of_rows else None,
        }


def _iso(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="seconds")


class ErrorCounts:
    """Each type of error with its counts and an example.

    Mutable state: all counts, and the first error of each type.
    """

    def __init__(self) -> None:
        self._ended: Counter[str] = Counter()
        self._cut_short: Counter[str] = Counter()
        self._met: Counter[str] = Counter()
        self._example: dict[str, str] = {}
        self._has_attempts = False

    def add(self, row: ReportRow) -> None:
        """Count a row."""
        cells, example = row.cells, self._example
        if cells["status"] in WITHOUT_ANSWER:
            kind = cells["error_type"] or cells["status"]
            self._ended[kind] += 1
            example[kind] = example.get(kind) or cells["error"] or ""
        elif cells["status"] == "incomplete":
            kind = cells["error_type"] or "incomplete"
            self._cut_short[kind] += 1
            example[kind] = example.get(kind) or cells["error"] or ""
        for each in row.attempts:
            self._has_attempts = True
            if each.fault_type is not None:
                self._met[each.fault_type] += 1
                example[each.fault_type] = example.get(each.fault_type) or each.fault or ""

    def facts(self) -> list[ErrorFacts]:
        """Return the types, the most frequent first."""
        ended, cut_short, met = self._ended, self._cut_short, self._met
        kinds = sorted({*ended, *cut_short, *met}, key=lambda kind: (-ended[kind], -cut_short[kind], -met[kind], kind))
        return [
            {
                "error_type": kind,
                "rows": ended[kind],
                "cut_short": cut_short[kind],
                "tries": met[kind] if self._has_attempts else None,
                "example": self._example[kind][:500],
            }
            for kind in kinds
        ]


def error_types(rows: Iterable[ReportRow]) -> list[ErrorFacts]:
    """Return the types of errors of the rows, as `ErrorCounts.facts`."""
    counted = ErrorCounts()
    for row in rows:
        counted.add(row)
    return counted.facts()
