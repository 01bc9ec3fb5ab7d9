"""How a batch ended: its summary, as facts for machines and as lines for people."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchrun.batch.totals import Totals
from batchrun.engine import EngineStatistics, Stop
from batchrun.wording import cost_text, duration, rows_text, shown_path

__all__ = ["Summary", "refused_text", "summary_facts", "summary_line", "summary_lines"]


@dataclass(frozen=True, slots=True)
class Summary:
    """How a batch ended.

    Attributes:
        output: None where no output was written, since nothing is known about any row.
        rows: input rows in all.
        totals: over all rows of the input, what earlier runs found out included.
        statistics: of this run.
        elapsed_s: seconds that this run took.
        stop: why it ended before the last row, None if it did not.
        embedded: the batch brought its own server, which costs nothing.
    """

    output: Path | None
    rows: int
    totals: Totals
    statistics: EngineStatistics
    elapsed_s: float
    stop: Stop | None
    embedded: bool

    @property
    def exit_code(self) -> int:
        """0 if every row completed; what the stop says; else 3."""
        if self.stop is not None:
            return self.stop.exit_code
        return 0 if self.totals.by_status["completed"] == self.rows else 3


FAILURES_EXPLAINED = 20
"""Failed rows up to which the summary says why, by the first of each kind: of more, the first says little."""


REASON_CHARS = 300


def summary_facts(summary: Summary) -> dict[str, Any]:
    """The summary for machines."""
    totals, statistics = summary.totals, summary.statistics
    return {
        "event": "summary",
        "output": str(summary.output) if summary.output else None,
        "rows": summary.rows,
        "completed": totals.by_status["completed"],
        "incomplete": totals.by_status["incomplete"],
        "failed": totals.failed,
        "failures": dict(totals.failures.most_common()),
        "incompletes": dict(totals.incompletes.most_common()),
        "in_flight": totals.by_status["in_flight"],
        "pending": totals.by_status["pending"],
        "not_answered_by_tutor": totals.refused,
        "finished_before": statistics.finished_before,
        "asked_alike": statistics.asked_alike,
        "tool_calls": statistics.tool_calls,
        "tool_errors": statistics.tool_errors,
        "faults": statistics.faults,
        "created_again": statistics.created_again,
        "not_deleted": statistics.not_deleted,
        "requests": statistics.limits.requests,
        "prompt_tokens": totals.prompt_tokens,
        "completion_tokens": totals.completion_tokens,
        "cost_usd": totals.cost_usd,
        "unpriced": _unpriced(summary),
        "this_run": {
            "asked": statistics.completed + statistics.incomplete + statistics.failed,
            "completed": statistics.completed,
            "incomplete": statistics.incomplete,
            "failed": statistics.failed,
            "prompt_tokens": statistics.prompt_tokens,
            "completion_tokens": statistics.completion_tokens,
            "cost_usd": statistics.cost_usd,
        },
        "embedded": summary.embedded,
        "elapsed_s": round(summary.elapsed_s, 3),
        "stop": summary.stop.reason if summary.stop else None,
        "exit_code": summary.exit_code,
    }


def summary_line(summary: Summary) -> str:
    """The summary in one line."""
    stopped = f" · stopped: {summary.stop.reason}" if summary.stop is not None else ""
    return summary_lines(summary)[0] + stopped


def summary_lines(summary: Summary) -> list[str]:
    """The summary for people: one line, and one for each thing to know or do."""
    totals, statistics = summary.totals, summary.statistics
    left = totals.by_status["in_flight"] + totals.by_status["pending"]
    parts = [rows_text(summary.rows), f"{totals.by_status['completed']:,} completed"]
    parts += [
        f"{number:,} {word}"
        for number, word in (
            (totals.by_status["incomplete"], "incomplete"),
            (totals.failed, "failed"),
            (totals.by_status["in_flight"], "in flight"),
            (totals.by_status["pending"], "not asked"),
            (statistics.finished_before, "from an earlier run"),
            (statistics.asked_alike, "asked once with another row"),
        )
        if number
    ]
    cost = cost_text(totals.cost_usd, unpriced=_unpriced(summary), embedded=summary.embedded)
    spent = [f"{totals.prompt_tokens:,} tokens in, {totals.completion_tokens:,} out", cost]
    if statistics.finished_before:
        spent = [_this_run_text(summary), f"all runs: {', '.join(filter(None, spent))}"]
    parts += [*spent, duration(summary.elapsed_s)]
    lines = [" · ".join(part for part in parts if part)]
    if summary.stop is not None:
        lines.append(f"stopped: {summary.stop.reason}")
    if totals.incompletes:
        kinds = ", ".join(f"{number:,} × {kind}" for kind, number in totals.incompletes.most_common())
        lines.append(f"incomplete rows: {kinds}")
    if totals.failures:
        listed = ", ".join(f"{number:,} × {kind}" for kind, number in totals.failures.most_common())
        lines.append(f"failed rows: {listed}; --retry-failed asks them again")
        if totals.failed <= FAILURES_EXPLAINED:
            lines += [f"  {kind}: {_short(totals.reasons[kind])}" for kind, _ in totals.failures.most_common()]
    if totals.refused:
        lines.append(refused_text(totals.refused, summary.rows))
    if statistics.tool_calls:
        failed = f", {statistics.tool_errors:,} of them with an error" if statistics.tool_errors else ""
        lines.append(f"functions called: {statistics.tool_calls:,}{failed}")
    if statistics.created_again:
        was = "request was" if statistics.created_again == 1 else "requests were"
        lines.append(
            f"{statistics.created_again:,} {was} sent again whose first answer was never seen: "
            "a service that ignores Idempotency-Key may have run them twice"
        )
    if statistics.limits.one_at_a_time:
        lines.append("the service broke off replies that overlapped, so the rows were asked one at a time")
    if statistics.not_deleted:
        lines.append(
            f"{statistics.not_deleted:,} threads, conversations or responses are not deleted yet: "
            "batchrun cleanup deletes them"
        )
    if left:
        lines.append("run the same command again to finish the rest")
    if summary.output is not None:
        lines.append(f"written: {shown_path(summary.output)}")
    return lines


def refused_text(refused: int, rows: int) -> str:
    """How many rows the embedded tutor could not answer."""
    return f"{refused:,} of {rows:,} could not be answered by the tutor"


def _this_run_text(summary: Summary) -> str:
    """What this run asked and spent, apart from what earlier runs left in the table."""
    now = summary.statistics
    asked = now.completed + now.incomplete + now.failed
    if not asked:
        return "this run: nothing asked"
    cost = cost_text(now.cost_usd, unpriced=asked if now.cost_usd is None else 0, embedded=summary.embedded)
    parts = [f"this run: {asked:,} asked", f"{now.prompt_tokens:,} tokens in, {now.completion_tokens:,} out", cost]
    return ", ".join(filter(None, parts))


def _short(text: str) -> str:
    """One line that fits on a few of a terminal."""
    line = " ".join(text.split())
    return line if len(line) <= REASON_CHARS else f"{line[:REASON_CHARS].rstrip()}…"


def _unpriced(summary: Summary) -> int:
    """Rows whose cost is not known and may be more than nothing."""
    totals = summary.totals
    if summary.embedded:
        return 0
    if totals.cost_usd is None:
        return max(totals.unpriced, totals.by_status["completed"] + totals.by_status["incomplete"])
    return totals.unpriced
