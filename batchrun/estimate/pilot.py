"""A pilot: runs a random sample of a table's rows, and estimates the whole table from them.

The sample runs as a part of the batch, with the same journal. Its answers are answers of the batch, so no row is paid
for twice when the rest follows.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TypedDict

from batchrun.batch.plan import Plan
from batchrun.batch.progress import BatchView, Watch
from batchrun.batch.results import prompts_of
from batchrun.batch.run import run_batch
from batchrun.batch.run_summary import Summary, kinds_text, refused_text, stop_text
from batchrun.clock import WallClock, utc_now
from batchrun.estimate.sample import Total, TotalFacts, sample_positions, total_of
from batchrun.estimate.time_needed import Bound, TimeNeeded, time_needed, time_of_waves, time_text
from batchrun.interrupts import Interrupts
from batchrun.job.environment import Environment
from batchrun.journal import Journal
from batchrun.prompts.templates import PromptError
from batchrun.records import Outcome, Row
from batchrun.tables import PartOfSource, Source
from batchrun.token_usage import Usage
from batchrun.wording import FREE, dollars, over_budget_lines, rows_text

__all__ = ["Pilot", "PilotFacts", "PilotSample", "pilot_facts", "pilot_lines", "run_pilot"]


@dataclass(frozen=True, slots=True)
class PilotSample(PartOfSource):
    """A `Source` with the rows of a table at some positions; in all else it is the table."""

    source: Source
    positions: frozenset[int]

    def rows(self) -> Iterator[Row]:
        """Yield the rows at the positions, in the table's order."""
        last = max(self.positions, default=-1)
        for row in self.source.rows():
            if row.row_index in self.positions:
                yield row
            if row.row_index >= last:
                return


@dataclass(frozen=True, slots=True)
class Pilot:
    """The result of a pilot.

    Attributes:
        summary: of the run of the sample.
        rows: rows of the whole table, or those that --where, --sample and --limit select.
        sampled: rows in the sample.
        without_usage: rows of the sample that were sent and whose usage the service did not report; the totals leave
            them out.
        prompt_tokens, completion_tokens: totals over the whole table, None if no usage is known.
        cost_usd: US dollars over the whole table, None if the price of a sampled row is unknown.
        spent_usd: US dollars of the sample.
        budget_usd: the limit of --budget, None without one.
        time: time for the other rows, None if no row of the sample was sent.
    """

    summary: Summary
    rows: int
    sampled: int
    without_usage: int
    prompt_tokens: Total | None
    completion_tokens: Total | None
    cost_usd: Total | None
    spent_usd: float | None
    budget_usd: float | None
    time: TimeNeeded | None

    @property
    def exit_code(self) -> int:
        """0 if every row of the sample completed; that of the stop, if there was one; else 3."""
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
    """Run `size` random rows of a plan and estimate the whole. No output is written; the other rows stay pending.

    The same table gives the same rows, so that a pilot that was stopped, or is made larger, resumes.

    Args:
        watch, interrupts, leave: as for `run_batch`.

    Raises:
        BatchrunError: as for `run_batch`.
    """
    positions = sample_positions(plan.rows_to_ask, size, plan.source.fingerprint())
    if plan.selection is not None:
        selected = plan.selection.positions()
        positions = frozenset(selected[position] for position in positions)
    sampled = replace(plan, source=PilotSample(plan.source, positions), whole=plan.source, write_output=False)

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
        usage = _usage_of_sample(sampled, journal)
    return _estimate(plan, summary, len(positions), usage)


@dataclass(slots=True)
class _SampleUsage:
    """Usage, cost and duration of the sampled rows, one number per row that has one.

    Mutable state: all fields; `add` fills them.

    Attributes:
        without_usage: rows that were sent and whose usage the service did not report.
        unpriced: rows with usage and without a price.
    """

    prompt_tokens: list[float] = field(default_factory=list)
    completion_tokens: list[float] = field(default_factory=list)
    costs_usd: list[float] = field(default_factory=list)
    durations_s: list[float] = field(default_factory=list)
    without_usage: int = 0
    unpriced: int = 0

    def add(self, outcome: Outcome) -> None:
        """Count a row that has ended."""
        usage, cost_usd = outcome.usage, outcome.cost_usd
        if outcome.attempts == 0:
            # A row whose prompt cannot be made, or whose answer is in a cache, is part of the table and uses nothing.
            usage, cost_usd = Usage(0, 0), 0.0
        else:
            self.durations_s.append(outcome.duration_s)
        if usage.prompt_tokens is None or usage.completion_tokens is None:
            self.without_usage += 1
            return
        self.prompt_tokens.append(usage.prompt_tokens)
        self.completion_tokens.append(usage.completion_tokens)
        if cost_usd is None:
            self.unpriced += 1
        else:
            self.costs_usd.append(cost_usd)


def _usage_of_sample(sampled: Plan, journal: Journal) -> _SampleUsage:
    found = _SampleUsage()
    for row_key, _, prompt in prompts_of(sampled.source, sampled.prompter):
        outcome = journal.outcome(row_key)
        if outcome is not None and (isinstance(prompt, PromptError) or outcome[1] == prompt.fingerprint):
            found.add(outcome[0])
    return found


def _estimate(plan: Plan, summary: Summary, sampled: int, usage: _SampleUsage) -> Pilot:
    """Estimate the whole table, or its selected rows, from the sample."""
    rows = plan.rows_to_ask
    read, written = total_of(usage.prompt_tokens, rows), total_of(usage.completion_tokens, rows)
    is_priced = bool(usage.costs_usd) and not usage.unpriced
    time = None
    if usage.durations_s:
        left = rows - sampled
        share = left / rows
        tokens = share * (read.estimate + written.estimate) if read is not None and written is not None else 0.0
        requests = left * summary.statistics.limits.requests / max(1, len(usage.durations_s))
        time = time_of_waves(plan.job) if plan.job.batch_api else None
        time = time or time_needed(left, max(left, requests), tokens, statistics.fmean(usage.durations_s), plan.job)
    return Pilot(
        summary=summary,
        rows=rows,
        sampled=sampled,
        without_usage=usage.without_usage,
        prompt_tokens=read,
        completion_tokens=written,
        cost_usd=total_of(usage.costs_usd, rows) if is_priced else None,
        spent_usd=sum(usage.costs_usd) if is_priced else None,
        budget_usd=plan.job.budget,
        time=time,
    )


# -- the result ---------------------------------------------------------------------------------------------


class PilotFacts(TypedDict):
    """A pilot, as `run --pilot --json` prints it. Totals are over the whole table; times are in seconds, None if
    unknown."""

    event: str
    rows: int
    sampled: int
    completed: int
    incomplete: int
    failed: int
    failures: dict[str, int]
    not_answered_by_tutor: int
    untold: int
    prompt_tokens: TotalFacts | None
    completion_tokens: TotalFacts | None
    cost_usd: TotalFacts | None
    spent_usd: float | None
    time_s: float | None
    ruled_by: Bound | None
    latency_s: float | None
    stop: str | None
    exit_code: int


def pilot_facts(pilot: Pilot) -> PilotFacts:
    """Return a pilot for machines."""
    totals, time = pilot.summary.totals, pilot.time
    return {
        "event": "pilot",
        "rows": pilot.rows,
        "sampled": pilot.sampled,
        "completed": totals.by_status["completed"],
        "incomplete": totals.by_status["incomplete"],
        "failed": totals.failed,
        "failures": dict(totals.failures.most_common()),
        "not_answered_by_tutor": totals.refused,
        "untold": pilot.without_usage,
        "prompt_tokens": _total_facts(pilot.prompt_tokens),
        "completion_tokens": _total_facts(pilot.completion_tokens),
        "cost_usd": _total_facts(pilot.cost_usd),
        "spent_usd": pilot.spent_usd,
        "time_s": round(time.seconds, 1) if time is not None else None,
        "ruled_by": time.bound if time is not None else None,
        "latency_s": round(time.latency_s, 3) if time is not None else None,
        "stop": pilot.summary.stop.reason if pilot.summary.stop is not None else None,
        "exit_code": pilot.exit_code,
    }


def _total_facts(total: Total | None) -> TotalFacts | None:
    return total.facts() if total is not None else None


def pilot_lines(pilot: Pilot) -> list[str]:
    """Return a pilot for people."""
    totals = pilot.summary.totals
    parts = [f"pilot: {pilot.sampled:,} of {rows_text(pilot.rows)}", f"{totals.by_status['completed']:,} completed"]
    parts += [
        f"{number:,} {word}"
        for number, word in (
            (totals.by_status["incomplete"], "incomplete"),
            (totals.failed, "failed"),
            (totals.by_status["in_flight"] + totals.by_status["pending"], "unanswered"),
            (pilot.without_usage, "without usage, left out of the totals"),
        )
        if number
    ]
    lines = [" · ".join(parts)]
    if totals.refused:
        lines.append(refused_text(totals.refused, pilot.sampled))
    if totals.failures:
        lines.append(f"failed rows: {kinds_text(totals.failures)}")
    if pilot.summary.stop is not None:
        lines.append(stop_text(pilot.summary.stop))
    lines += pilot.summary.notices
    if pilot.summary.is_submitted:
        return lines
    lines += _table_lines(pilot)
    if pilot.rows > pilot.sampled:
        lines.append("run the same command without --pilot for the rest; no row is paid for twice")
    return lines


def _table_lines(pilot: Pilot) -> Iterator[str]:
    """Yield the estimates for the whole table."""
    yield (
        f"all {rows_text(pilot.rows)}: {_range(pilot.prompt_tokens, _whole)} tokens in, "
        f"{_range(pilot.completion_tokens, _whole)} out"
    )
    if pilot.cost_usd is not None and pilot.spent_usd is not None:
        yield f"cost: {_range(pilot.cost_usd, dollars)}; {dollars(pilot.spent_usd)} of it already spent"
        left_usd = pilot.budget_usd - pilot.spent_usd if pilot.budget_usd is not None else None
        yield from over_budget_lines(pilot.cost_usd.estimate - pilot.spent_usd, left_usd)
    else:
        yield f"cost: {FREE}, the embedded server answers" if pilot.summary.embedded else "cost: unknown"
    if pilot.time is not None and pilot.rows > pilot.sampled:
        yield f"time for the other {rows_text(pilot.rows - pilot.sampled)}: {time_text(pilot.time, 'measured')}"


def _whole(number: float) -> str:
    return f"{number:,.0f}"


def _range(total: Total | None, shown: Callable[[float], str]) -> str:
    if total is None:
        return "unknown"
    if total.low is None or total.high is None:
        return f"about {shown(total.estimate)} (a single row gives no interval)"
    if total.low == total.high:
        return shown(total.estimate)
    return f"about {shown(total.estimate)} (95 %: {shown(total.low)} to {shown(total.high)})"
