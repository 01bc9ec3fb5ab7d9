"""What a batch looks like to the person who waits for it: a live display on a terminal, lines elsewhere."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TextIO, TypeAlias

import anyio

from batchrun.clock import utc_now
from batchrun.wording import FREE, dollars, duration, rows_text, shown_path, visible_line

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from batchrun.batch.cleanup import CleanupSummary
    from batchrun.batch.run import BatchView, Summary
    from batchrun.engine import EngineStatistics

__all__ = [
    "Progress",
    "cost_text",
    "progress_facts",
    "refused_text",
    "summary_facts",
    "summary_line",
    "summary_lines",
    "watch_cleanup",
    "watch_lines",
    "watch_terminal",
]

Tell: TypeAlias = Callable[[str], None]
"""Shows one line."""

LINE_EVERY_S = 30.0
FRAME_EVERY_S = 0.25
RATE_WINDOW_S = 30.0
FAILURES_EXPLAINED = 20
"""Failed rows up to which the summary says why, by the first of each kind: of more, the first says little."""
REASON_CHARS = 300


@dataclass(slots=True)
class Progress:
    """Turns snapshots into rates.

    All state: (seconds, rows ended) of the snapshots of the last half minute, and when the first was taken.
    """

    rows: int
    _started_s: float = field(default_factory=time.monotonic)
    _window: deque[tuple[float, int]] = field(default_factory=deque)

    def take(self, statistics: EngineStatistics, now_s: float) -> dict[str, Any]:
        """The snapshot as facts: see `progress_facts`."""
        ended = statistics.completed + statistics.incomplete + statistics.failed
        window = self._window
        window.append((now_s, ended))
        while len(window) > 2 and now_s - window[0][0] > RATE_WINDOW_S:
            window.popleft()
        spent_s = now_s - window[0][0]
        rate = (ended - window[0][1]) / spent_s if spent_s > 0 else 0.0
        return progress_facts(self.rows, statistics, elapsed_s=now_s - self._started_s, rows_per_s=rate, now_s=now_s)


def progress_facts(
    rows: int, statistics: EngineStatistics, *, elapsed_s: float, rows_per_s: float, now_s: float
) -> dict[str, Any]:
    """What lines, displays and machines are told of a running batch. Times in seconds, None for not known."""
    ended = statistics.completed + statistics.incomplete + statistics.failed
    done = ended + statistics.finished_before + statistics.asked_alike
    limits = statistics.limits
    return {
        "rows": rows,
        "done": done,
        "completed": statistics.completed,
        "incomplete": statistics.incomplete,
        "failed": statistics.failed,
        "finished_before": statistics.finished_before,
        "asked_alike": statistics.asked_alike,
        "tool_calls": statistics.tool_calls,
        "tool_errors": statistics.tool_errors,
        "in_flight": statistics.in_flight,
        "retrying": statistics.retrying,
        "waiting_for": "cool-down" if limits.cool_down_s > 0 else limits.waiting_for,
        "cool_down_s": round(limits.cool_down_s, 1),
        "slots": limits.capacity,
        "one_at_a_time": limits.one_at_a_time,
        "unavailable_s": None if limits.away_s is None else round(limits.away_s, 1),
        "stopping": statistics.stopping,
        "faults": statistics.faults,
        "created_again": statistics.created_again,
        "requests": limits.requests,
        "prompt_tokens": statistics.prompt_tokens,
        "completion_tokens": statistics.completion_tokens,
        "cost_usd": statistics.cost_usd,
        "rows_per_s": round(rows_per_s, 2),
        "elapsed_s": round(elapsed_s, 1),
        "left_s": round((rows - done) / rows_per_s, 1) if rows_per_s > 0 else None,
        "oldest": [
            {"row": key, "in_flight_s": round(now_s - since_s, 1), "doing": doing}
            for key, since_s, doing in statistics.oldest
        ],
    }


# -- on a terminal ------------------------------------------------------------------------------------------


async def watch_terminal(view: BatchView, console: Console, ready: Callable[[], bool]) -> None:
    """Draw the batch in place, four times a second, until cancelled.

    Args:
        ready: whether the terminal takes something now; a frame that it does not take is left out.
    """
    from rich.live import Live

    progress = Progress(view.rows)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            facts = progress.take(view.statistics(), anyio.current_time())
            if ready():
                if facts["stopping"] is not None:
                    console.show_cursor()  # a second Ctrl-C ends the process before anything could do it
                live.update(_panel(facts, embedded=view.embedded), refresh=True)
            await anyio.sleep(FRAME_EVERY_S)


def _panel(facts: dict[str, Any], *, embedded: bool) -> RenderableType:
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    share = facts["done"] / facts["rows"] if facts["rows"] else 1.0
    top = Table.grid(padding=(0, 1))
    top.add_row(
        ProgressBar(total=facts["rows"], completed=facts["done"], width=36),
        f"{facts['done']:,}/{facts['rows']:,}",
        f"{share:.0%}",
        f"[dim]{duration(facts['left_s'])} left[/dim]" if facts["left_s"] is not None else "",
    )
    counts, spending = visible_line(_counts(facts)), visible_line(_spending(facts, embedded=embedded))
    return Group(top, Text(f"  {counts}"), Text(f"  {spending}", style="dim"))


# -- elsewhere ----------------------------------------------------------------------------------------------


async def watch_lines(view: BatchView, tell: Tell, *, as_json: bool, every_s: float = LINE_EVERY_S) -> None:
    """Tell a line every `every_s` seconds until cancelled: for logs, or as JSON for machines."""
    progress = Progress(view.rows)
    progress.take(view.statistics(), anyio.current_time())
    while True:
        await anyio.sleep(every_s)
        facts = progress.take(view.statistics(), anyio.current_time())
        if as_json:
            line = json.dumps({"event": "progress", **facts})
        else:
            line = (
                f"{facts['done']:,}/{facts['rows']:,} · {_counts(facts)} · {_spending(facts, embedded=view.embedded)}"
            )
        tell(line)


async def watch_cleanup(terminal: TextIO, tell: Tell, summary: CleanupSummary) -> None:
    """Show how far a cleanup is until cancelled: one line that is written over on a terminal, lines elsewhere.

    Args:
        terminal: takes the line and what moves the cursor, where it is a terminal; elsewhere `tell` gets the lines.
    """
    from batchrun.batch.cleanup import progress_line

    if not terminal.isatty():
        while True:
            await anyio.sleep(LINE_EVERY_S)
            tell(progress_line(summary))
    try:
        while True:
            await anyio.sleep(FRAME_EVERY_S)
            terminal.write(f"{visible_line(progress_line(summary))}\x1b[K\r")
    finally:
        terminal.write("\x1b[K")


def _counts(facts: dict[str, Any]) -> str:
    parts = [f"{facts['completed'] + facts['finished_before'] + facts['asked_alike']:,} done"]
    if facts["incomplete"]:
        parts.append(f"{facts['incomplete']:,} incomplete")
    parts.append(f"{facts['failed']:,} failed")
    parts.append(f"{facts['in_flight']:,} in flight")
    if facts["retrying"]:
        parts.append(f"{facts['retrying']:,} to be tried again")
    if facts["stopping"] is not None:
        parts.append(f"stopping ({facts['stopping']}); a second signal leaves at once")
    waiting = facts["waiting_for"]
    if facts["unavailable_s"] is not None:
        since = (utc_now() - timedelta(seconds=facts["unavailable_s"])).astimezone()
        parts.append(f"service unavailable since {since:%H:%M}, retrying")
    elif waiting == "cool-down":
        parts.append(f"cooling down for {facts['cool_down_s']:g} s")
    elif waiting == "slots":
        parts.append(f"all {facts['slots']:,} slots taken")
    elif waiting is not None:
        parts.append(f"waiting for the limit of {waiting} a minute")
    if facts["one_at_a_time"]:
        parts.append("one row at a time, since the service breaks off replies that overlap")
    parts += [
        f"row {row['row']} in flight for {duration(row['in_flight_s'])}: {row['doing']}"
        for row in facts["oldest"]
        if row["in_flight_s"] >= LINE_EVERY_S
    ]
    return " · ".join(parts)


def _spending(facts: dict[str, Any], *, embedded: bool) -> str:
    answered = facts["completed"] + facts["incomplete"]
    parts = [
        f"{facts['rows_per_s']:g} rows/s",
        f"{facts['prompt_tokens']:,} tokens in, {facts['completion_tokens']:,} out",
        cost_text(facts["cost_usd"], unpriced=answered if facts["cost_usd"] is None else 0, embedded=embedded),
        f"{duration(facts['elapsed_s'])} so far",
    ]
    return " · ".join(part for part in parts if part)


# -- at the end ---------------------------------------------------------------------------------------------


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
        spent = [_this_run(summary), f"all runs: {', '.join(filter(None, spent))}"]
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


def _this_run(summary: Summary) -> str:
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


def cost_text(cost_usd: float | None, *, unpriced: int, embedded: bool) -> str:
    """What is not known is said, so that nobody takes it for nothing; answers of the embedded server are free.

    Args:
        cost_usd: None where no row's cost is known.
        unpriced: rows of unknown cost.
    """
    if cost_usd is None and embedded:
        return FREE
    if cost_usd is None:
        return "cost unknown" if unpriced else ""
    known = dollars(cost_usd)
    return f"{known}, unknown for {unpriced:,} of the rows" if unpriced else known
