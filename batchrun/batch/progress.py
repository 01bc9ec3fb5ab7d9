"""How far a running batch is: its snapshots as facts for machines and as lines for people."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeAlias

from batchrun.clock import utc_now
from batchrun.engine import EngineStatistics
from batchrun.wording import cost_text, duration

__all__ = ["BatchView", "Progress", "Watch", "counts_text", "progress_facts", "spending_text"]


@dataclass(frozen=True, slots=True)
class BatchView:
    """A look at a batch that runs, for displays.

    Attributes:
        rows: input rows in all.
        statistics: takes a snapshot.
        embedded: the batch brings its own server, which costs nothing.
    """

    rows: int
    output: Path
    statistics: Callable[[], EngineStatistics]
    embedded: bool


Watch: TypeAlias = Callable[[BatchView], Coroutine[Any, Any, None]]
"""A task that runs beside the batch (a progress display); cancelled at its end."""


LINE_EVERY_S = 30.0


RATE_WINDOW_S = 30.0


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


def counts_text(facts: dict[str, Any]) -> str:
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


def spending_text(facts: dict[str, Any], *, embedded: bool) -> str:
    answered = facts["completed"] + facts["incomplete"]
    parts = [
        f"{facts['rows_per_s']:g} rows/s",
        f"{facts['prompt_tokens']:,} tokens in, {facts['completion_tokens']:,} out",
        cost_text(facts["cost_usd"], unpriced=answered if facts["cost_usd"] is None else 0, embedded=embedded),
        f"{duration(facts['elapsed_s'])} so far",
    ]
    return " · ".join(part for part in parts if part)
