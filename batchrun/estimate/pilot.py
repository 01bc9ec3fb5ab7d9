"""A pilot: a random sample of a table's rows is asked first, and the whole table reckoned from it.

The sample runs as the batch itself, through the same journal, so that its answers are answers of the batch: nothing is
paid for twice when the rest follows.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from batchrun.batch.plan import Plan
from batchrun.batch.progress import BatchView, Watch
from batchrun.batch.results import prompts_of
from batchrun.batch.run import run_batch
from batchrun.batch.run_summary import Summary, refused_text
from batchrun.clock import WallClock, utc_now
from batchrun.estimate.sample import Total, sample_positions, total_of
from batchrun.estimate.time_needed import TimeNeeded, time_needed, time_text
from batchrun.interrupts import Interrupts
from batchrun.job.environment import Environment
from batchrun.journal import Journal
from batchrun.prompts.templates import PromptError
from batchrun.records import Outcome, Row, Usage
from batchrun.tables import Source
from batchrun.wording import FREE, dollars, rows_text

__all__ = ["Pilot", "PilotSample", "pilot_facts", "pilot_lines", "run_pilot"]


@dataclass(frozen=True, slots=True)
class PilotSample:
    """A table's rows at some positions: a `Source` that is the table in all else."""

    source: Source
    positions: frozenset[int]

    @property
    def name(self) -> str:
        """The table's."""
        return self.source.name

    @property
    def columns(self) -> tuple[str, ...]:
        """The table's."""
        return self.source.columns

    def rows(self) -> Iterator[Row]:
        """The rows at the positions, in the table's order."""
        last = max(self.positions, default=-1)
        for row in self.source.rows():
            if row.row_index in self.positions:
                yield row
            if row.row_index >= last:
                return

    def fingerprint(self) -> str:
        """The table's: the batch is the same one."""
        return self.source.fingerprint()


@dataclass(frozen=True, slots=True)
class Pilot:
    """What a pilot found out.

    Attributes:
        summary: of the sample's run.
        rows: of the whole table.
        sampled: rows in the sample.
        untold: of those, rows that were asked and whose usage the service did not tell; the totals leave them out.
        prompt_tokens, completion_tokens: over the whole table, None where no usage is known.
        cost_usd: likewise, None where the price of a sampled row is not known.
        spent_usd: what the sample's answers cost.
        time: for the rows that are left, None where no row of the sample has an answer.
    """

    summary: Summary
    rows: int
    sampled: int
    untold: int
    prompt_tokens: Total | None
    completion_tokens: Total | None
    cost_usd: Total | None
    spent_usd: float | None
    time: TimeNeeded | None

    @property
    def exit_code(self) -> int:
        """0 if every row of the sample completed; what a stop says; else 3."""
        if self.summary.stop is not None:
            return self.summary.stop.exit_code
        return 0 if self.summary.totals.by_status["completed"] == self.sampled else 3


async def run_pilot(
    plan: Plan,
    environment: Environment,
    size: int,
    *,
    watch: Watch | None = None,
    interrupts: Interrupts | None = None,
    leave: Callable[[int], None] | None = None,
    clock: WallClock = utc_now,
) -> Pilot:
    """Ask `size` random rows of a plan and reckon the whole. The output is not written; the other rows stay pending.

    The same table gives the same rows, so that a pilot that was stopped, or is made larger, goes on where it was.

    Raises:
        BatchrunError: as `run_batch`.
    """
    positions = sample_positions(plan.rows, size, plan.source.fingerprint())
    sampled = replace(plan, source=PilotSample(plan.source, positions), write_output=False)

    async def watch_sample(view: BatchView) -> None:
        assert watch is not None
        await watch(replace(view, rows=len(positions)))

    summary = await run_batch(
        sampled,
        environment,
        watch=watch_sample if watch is not None else None,
        interrupts=interrupts,
        leave=leave,
        clock=clock,
    )
    with Journal(plan.paths.journal, read_only=True) as journal:
        seen = _observed(sampled, journal)
    return _reckoned(plan, summary, len(positions), seen)


@dataclass(slots=True)
class _Observed:
    """What the sampled rows took, one number a row that told it."""

    prompt_tokens: list[float] = field(default_factory=list)
    completion_tokens: list[float] = field(default_factory=list)
    costs_usd: list[float] = field(default_factory=list)
    durations_s: list[float] = field(default_factory=list)
    untold: int = 0
    unpriced: int = 0

    def add(self, outcome: Outcome) -> None:
        """Take in a row that has ended."""
        usage, cost_usd = outcome.usage, outcome.cost_usd
        if outcome.attempts == 0:
            # A row that cannot be asked is part of the table, and takes nothing.
            usage, cost_usd = Usage(0, 0), 0.0
        else:
            self.durations_s.append(outcome.duration_s)
        if usage.prompt_tokens is None or usage.completion_tokens is None:
            self.untold += 1
            return
        self.prompt_tokens.append(usage.prompt_tokens)
        self.completion_tokens.append(usage.completion_tokens)
        if cost_usd is None:
            self.unpriced += 1
        else:
            self.costs_usd.append(cost_usd)


def _observed(sampled: Plan, journal: Journal) -> _Observed:
    seen = _Observed()
    for row_key, _, prompt in prompts_of(sampled.source, sampled.prompter):
        found = journal.outcome(row_key)
        if found is not None and (isinstance(prompt, PromptError) or found[1] == prompt.fingerprint):
            seen.add(found[0])
    return seen


def _reckoned(plan: Plan, summary: Summary, sampled: int, seen: _Observed) -> Pilot:
    read, written = total_of(seen.prompt_tokens, plan.rows), total_of(seen.completion_tokens, plan.rows)
    priced = bool(seen.costs_usd) and not seen.unpriced
    time = None
    if seen.durations_s:
        left = plan.rows - sampled
        share = left / plan.rows
        tokens = share * (read.estimate + written.estimate) if read is not None and written is not None else 0.0
        requests = left * summary.statistics.limits.requests / max(1, len(seen.durations_s))
        time = time_needed(left, max(left, requests), tokens, statistics.fmean(seen.durations_s), plan.job)
    return Pilot(
        summary=summary,
        rows=plan.rows,
        sampled=sampled,
        untold=seen.untold,
        prompt_tokens=read,
        completion_tokens=written,
        cost_usd=total_of(seen.costs_usd, plan.rows) if priced else None,
        spent_usd=sum(seen.costs_usd) if priced else None,
        time=time,
    )


def pilot_facts(pilot: Pilot) -> dict[str, Any]:
    """A pilot for machines."""
    totals = pilot.summary.totals
    return {
        "event": "pilot",
        "rows": pilot.rows,
        "sampled": pilot.sampled,
        "completed": totals.by_status["completed"],
        "incomplete": totals.by_status["incomplete"],
        "failed": totals.failed,
        "failures": dict(totals.failures.most_common()),
        "not_answered_by_tutor": totals.refused,
        "untold": pilot.untold,
        **{
            name: total.facts() if total is not None else None
            for name, total in (
                ("prompt_tokens", pilot.prompt_tokens),
                ("completion_tokens", pilot.completion_tokens),
                ("cost_usd", pilot.cost_usd),
            )
        },
        "spent_usd": pilot.spent_usd,
        "time_s": round(pilot.time.seconds, 1) if pilot.time is not None else None,
        "ruled_by": pilot.time.bound if pilot.time is not None else None,
        "latency_s": round(pilot.time.latency_s, 3) if pilot.time is not None else None,
        "stop": pilot.summary.stop.reason if pilot.summary.stop is not None else None,
        "exit_code": pilot.exit_code,
    }


def pilot_lines(pilot: Pilot) -> list[str]:
    """A pilot for people."""
    totals = pilot.summary.totals
    parts = [f"pilot: {pilot.sampled:,} of {rows_text(pilot.rows)}", f"{totals.by_status['completed']:,} completed"]
    parts += [
        f"{number:,} {word}"
        for number, word in (
            (totals.by_status["incomplete"], "incomplete"),
            (totals.failed, "failed"),
            (totals.by_status["in_flight"] + totals.by_status["pending"], "not answered"),
            (pilot.untold, "without a word on usage, left out"),
        )
        if number
    ]
    lines = [" · ".join(parts)]
    if totals.refused:
        lines.append(refused_text(totals.refused, pilot.sampled))
    if totals.failures:
        listed = ", ".join(f"{number:,} × {kind}" for kind, number in totals.failures.most_common())
        lines.append(f"failed rows: {listed}")
    if pilot.summary.stop is not None:
        lines.append(f"stopped: {pilot.summary.stop.reason}")
    lines.append(
        f"all {rows_text(pilot.rows)}: {_range(pilot.prompt_tokens, _whole)} tokens in, "
        f"{_range(pilot.completion_tokens, _whole)} out"
    )
    if pilot.cost_usd is not None and pilot.spent_usd is not None:
        lines.append(f"cost: {_range(pilot.cost_usd, dollars)}, of which {dollars(pilot.spent_usd)} is spent")
    else:
        lines.append(f"cost: {FREE}, the embedded server answers" if pilot.summary.embedded else "cost: unknown")
    if pilot.time is not None and pilot.rows > pilot.sampled:
        lines.append(f"time for the other {rows_text(pilot.rows - pilot.sampled)}: {time_text(pilot.time)}, measured")
    if pilot.rows > pilot.sampled:
        lines.append("the same command without --pilot asks the rest; nothing is paid for twice")
    return lines


def _whole(number: float) -> str:
    return f"{number:,.0f}"


def _range(total: Total | None, shown: Callable[[float], str]) -> str:
    if total is None:
        return "unknown"
    if total.low is None or total.high is None:
        return f"about {shown(total.estimate)} (one row gives no interval)"
    if total.low == total.high:
        return shown(total.estimate)
    return f"about {shown(total.estimate)} (95 %: {shown(total.low)} to {shown(total.high)})"
