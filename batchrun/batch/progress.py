"""How far a running batch is: its snapshots as facts for machines and as lines for people."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeAlias, TypedDict

from batchrun.batch.service_batch_text import NewsFacts, ServiceBatchFacts, service_batch_facts
from batchrun.clock import utc_now
from batchrun.engine import EngineStatistics
from batchrun.journal.service_batches import ServiceBatch
from batchrun.wording import cost_text, duration

__all__ = [
    "BatchView",
    "FlightFacts",
    "Progress",
    "ProgressFacts",
    "Watch",
    "counts_text",
    "progress_facts",
    "spending_text",
]

RATE_WINDOW_S = 30.0
LINE_EVERY_S = 30.0
"""Interval of progress lines. A row that is in flight for longer is named in them."""


@dataclass(frozen=True, slots=True)
class BatchView:
    """A running batch, as a display sees it.

    Attributes:
        rows: rows that this run asks, times the combinations.
        statistics: takes a snapshot.
        embedded: the batch runs its own server, which costs nothing.
        open_batches: returns the batches at the service's Batch API whose results are still to come.
        news: what has happened to them, oldest first; a display takes it from there. None without --batch-api.
    """

    rows: int
    output: Path
    statistics: Callable[[], EngineStatistics]
    embedded: bool
    open_batches: Callable[[], Sequence[ServiceBatch]] = tuple
    news: deque[NewsFacts] | None = None

    def service_batches(self) -> list[ServiceBatchFacts]:
        """Return the open batches at the service for machines."""
        return [service_batch_facts(batch) for batch in self.open_batches()]


Watch: TypeAlias = Callable[[BatchView], Coroutine[Any, Any, None]]
"""A progress display: a task that runs beside the batch and is cancelled at its end."""


class FlightFacts(TypedDict):
    """A row in flight. `doing` is text for people."""

    row: str
    in_flight_s: float
    doing: str


class ProgressFacts(TypedDict):
    """A snapshot of a running batch, as `run --json` prints it.

    Times are in seconds. Counts, tokens and cost are those of this run, except for `rows` and `done`, which also count
    `finished_before`. None means unknown.
    """

    rows: int
    done: int
    completed: int
    incomplete: int
    failed: int
    finished_before: int
    asked_alike: int
    from_cache: int
    tool_calls: int
    tool_errors: int
    in_flight: int
    retrying: int
    waiting_for: str | None
    cool_down_s: float
    slots: int
    one_at_a_time: bool
    unavailable_s: float | None
    stopping: str | None
    faults: int
    created_again: int
    requests: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    rows_per_s: float
    elapsed_s: float
    left_s: float | None
    oldest: list[FlightFacts]
    service_batches: list[ServiceBatchFacts]


@dataclass(slots=True)
class Progress:
    """Computes rates from snapshots.

    Mutable state: `_window`, the (loop time in seconds, rows ended) of the snapshots of the last `RATE_WINDOW_S`.
    """

    rows: int
    _started_s: float = field(default_factory=time.monotonic)
    _window: deque[tuple[float, int]] = field(default_factory=deque)

    def take(
        self, statistics: EngineStatistics, now_s: float, batches: Sequence[ServiceBatchFacts] = ()
    ) -> ProgressFacts:
        """Return the snapshot as facts, with the rate of the last seconds.

        Args:
            batches: at the service's Batch API.
        """
        ended = _ended(statistics)
        window = self._window
        window.append((now_s, ended))
        while len(window) > 2 and now_s - window[0][0] > RATE_WINDOW_S:
            window.popleft()
        spent_s = now_s - window[0][0]
        rate = (ended - window[0][1]) / spent_s if spent_s > 0 else 0.0
        elapsed_s = max(0.0, now_s - self._started_s)  # the loop's clock may be a millisecond behind
        return progress_facts(self.rows, statistics, elapsed_s=elapsed_s, rows_per_s=rate, now_s=now_s, batches=batches)


def _ended(statistics: EngineStatistics) -> int:
    return statistics.completed + statistics.incomplete + statistics.failed


def progress_facts(
    rows: int,
    statistics: EngineStatistics,
    *,
    elapsed_s: float,
    rows_per_s: float,
    now_s: float,
    batches: Sequence[ServiceBatchFacts] = (),
) -> ProgressFacts:
    """Return a snapshot of a running batch as facts.

    Args:
        rows: rows of the batch.
        elapsed_s: seconds since the start.
        now_s: loop time in seconds.
        batches: at the service's Batch API.
    """
    done = _ended(statistics) + statistics.finished_before + statistics.asked_alike + statistics.from_cache
    limits = statistics.limits
    return {
        "rows": rows,
        "done": done,
        "completed": statistics.completed,
        "incomplete": statistics.incomplete,
        "failed": statistics.failed,
        "finished_before": statistics.finished_before,
        "asked_alike": statistics.asked_alike,
        "from_cache": statistics.from_cache,
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
        # The Batch API answers all rows of a wave at once: their rate shows nothing about the rest.
        "left_s": round((rows - done) / rows_per_s, 1) if rows_per_s > 0 and not batches else None,
        "oldest": [
            {"row": key, "in_flight_s": round(now_s - since_s, 1), "doing": doing}
            for key, since_s, doing in statistics.oldest
        ],
        "service_batches": list(batches),
    }


def counts_text(facts: ProgressFacts) -> str:
    """Return the rows by their state, and the reason for which no row starts."""
    unasked = facts["finished_before"] + facts["asked_alike"] + facts["from_cache"]
    parts = [f"{facts['completed'] + unasked:,} done"]
    if facts["incomplete"]:
        parts.append(f"{facts['incomplete']:,} incomplete")
    parts.append(f"{facts['failed']:,} failed")
    parts.append(f"{facts['in_flight']:,} in flight")
    if facts["retrying"]:
        parts.append(f"{facts['retrying']:,} waiting for a retry")
    if facts["stopping"] is not None:
        parts.append(f"stopping ({facts['stopping']}); a second signal quits at once")
    waiting = _waiting_text(facts)
    if waiting is not None:
        parts.append(waiting)
    if facts["one_at_a_time"]:
        parts.append("one row at a time, because the service breaks off overlapping replies")
    parts += [
        f"row {row['row']} in flight for {duration(row['in_flight_s'])}: {row['doing']}"
        for row in facts["oldest"]
        if row["in_flight_s"] >= LINE_EVERY_S
    ]
    return " · ".join(parts)


def _waiting_text(facts: ProgressFacts) -> str | None:
    """Return the reason for which no row starts, None if rows start."""
    if facts["unavailable_s"] is not None:
        since = (utc_now() - timedelta(seconds=facts["unavailable_s"])).astimezone()
        return f"service unavailable since {since:%H:%M}, retrying"
    match facts["waiting_for"]:
        case None:
            return None
        case "cool-down":
            return f"cooling down for {facts['cool_down_s']:g} s"
        case "slots":
            return f"all {facts['slots']:,} slots in use"
        case limited:
            return f"waiting for the limit of {limited} per minute"


def spending_text(facts: ProgressFacts, *, embedded: bool) -> str:
    """Return the rate, the tokens, the cost and the time of this run; a line says so if there were earlier ones."""
    answered = facts["completed"] + facts["incomplete"]
    parts = [
        f"{'this run: ' if facts['finished_before'] else ''}{facts['rows_per_s']:g} rows/s",
        f"{facts['prompt_tokens']:,} tokens in, {facts['completion_tokens']:,} out",
        cost_text(facts["cost_usd"], unpriced=answered if facts["cost_usd"] is None else 0, embedded=embedded),
        f"{duration(facts['elapsed_s'])} elapsed",
    ]
    return " · ".join(part for part in parts if part)
