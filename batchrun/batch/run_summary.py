"""How a batch ended: its summary as facts for machines and as lines for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from batchrun.batch.cached_answers import CacheReport
from batchrun.batch.row_models import fallback_lines, model_lines
from batchrun.batch.service_batch_tally import TallyFacts, tally_lines
from batchrun.batch.service_batch_text import ServiceBatchFacts
from batchrun.batch.totals import Totals
from batchrun.engine import BUDGET_REACHED, EngineStatistics, Stop
from batchrun.errors import BatchRefused
from batchrun.journal import ModelFacts
from batchrun.shell_hint import command
from batchrun.wording import clipped, cost_text, duration, rows_text, shown_output, shown_path

__all__ = [
    "SUBMITTED",
    "RunFacts",
    "Summary",
    "SummaryFacts",
    "kinds_text",
    "refused_text",
    "stop_text",
    "summary_facts",
    "summary_line",
    "summary_lines",
    "warning_lines",
]

FAILURES_EXPLAINED = 20
"""Up to this number of failed rows, the summary shows the first error of each type. Among more rows, the first is no
longer typical."""
REASON_CHARS = 300
SUBMITTED = 8
"""Exit code of a batch that has submitted its requests to the Batch API and does not wait."""


@dataclass(frozen=True, slots=True)
class Summary:
    """How a batch ended.

    Attributes:
        output: None if no output was written, since the journal knows no row.
        put_to: the URL or path to which the output was put; None if it stays where it was written.
        rows: rows of the input, times the combinations, without those that are skipped.
        totals: over all rows, with the outcomes of earlier runs.
        statistics: of this run.
        elapsed_s: duration of this run in seconds.
        stop: why the batch ended before its last row, None if it did not.
        embedded: the batch ran its own server, which costs nothing.
        kept: rows that this run left out and that keep the answer of an earlier one.
        models: the rows that each model answered.
        fallbacks: how the first model ended → rows that the fallback model was asked.
        cache: what could not be done with the cache; None without one.
        notices: lines about the service: models that it shuts down, options that it does not apply.
        service_batches: batches at the service's Batch API whose results are still to come.
        batch_api: what this run has done there; None without --batch-api.
    """

    output: Path | None
    rows: int
    totals: Totals
    statistics: EngineStatistics
    elapsed_s: float
    stop: Stop | None
    embedded: bool
    notices: tuple[str, ...] = ()
    kept: int = 0
    put_to: str | None = None
    cache: CacheReport | None = None
    models: Mapping[str, ModelFacts] = field(default_factory=dict)
    fallbacks: Mapping[str, int] = field(default_factory=dict)
    service_batches: tuple[ServiceBatchFacts, ...] = ()
    batch_api: TallyFacts | None = None

    @property
    def finished_before(self) -> int:
        """Rows that an earlier run finished, and whose outcome holds. A run that stops has not read all of them."""
        met = self.statistics.finished_before + self.kept
        if self.stop is None:
            return met
        ended = sum(self.totals.by_status[status] for status in ("completed", "incomplete")) + self.totals.failed
        return max(met, ended - self.rows_sent - self.statistics.asked_alike - self.statistics.from_cache)

    @property
    def exit_code(self) -> int:
        """0 if every row completed; that of the stop, if there was one; else 3."""
        if self.stop is not None:
            return self.stop.exit_code
        return 0 if self.totals.by_status["completed"] == self.rows else 3

    @property
    def is_submitted(self) -> bool:
        """Whether the batch does not wait for the answers to what it has submitted (--no-wait)."""
        return self.stop is not None and self.stop.exit_code == SUBMITTED

    @property
    def rows_sent(self) -> int:
        """Rows that ended in this run."""
        return self.statistics.completed + self.statistics.incomplete + self.statistics.failed

    @property
    def unpriced(self) -> int:
        """Rows whose cost is unknown and may be more than nothing."""
        totals = self.totals
        if self.embedded:
            return 0
        if totals.cost_usd is None:
            return max(totals.unpriced, totals.by_status["completed"] + totals.by_status["incomplete"])
        return totals.unpriced


class RunFacts(TypedDict):
    """Rows, tokens and US dollars of a single run of a batch."""

    asked: int
    completed: int
    incomplete: int
    failed: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None


class SummaryFacts(TypedDict):
    """The summary, as `run --json` prints it.

    Rows, tokens and cost include earlier runs, except for those of `this_run`. None means unknown.
    """

    event: str
    output: str | None
    put_to: str | None
    rows: int
    completed: int
    incomplete: int
    failed: int
    failures: dict[str, int]
    incompletes: dict[str, int]
    in_flight: int
    pending: int
    skipped: int
    not_answered_by_tutor: int
    finished_before: int
    asked_alike: int
    from_cache: int
    not_cached: dict[str, int]
    not_stored: int
    cache_problem: str | None
    tool_calls: int
    tool_errors: int
    faults: int
    created_again: int
    not_deleted: int
    requests: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    unpriced: int
    models: Mapping[str, ModelFacts]
    fallbacks: Mapping[str, int]
    this_run: RunFacts
    embedded: bool
    elapsed_s: float
    notices: list[str]
    service_batches: list[ServiceBatchFacts]
    batch_api: TallyFacts | None
    stop: str | None
    exit_code: int


def summary_facts(summary: Summary) -> SummaryFacts:
    """Return the summary for machines."""
    totals, statistics, cache = summary.totals, summary.statistics, summary.cache
    return {
        "event": "summary",
        "output": str(summary.output) if summary.output else None,
        "put_to": summary.put_to,
        "rows": summary.rows,
        "completed": totals.by_status["completed"],
        "incomplete": totals.by_status["incomplete"],
        "failed": totals.failed,
        "failures": dict(totals.failures.most_common()),
        "incompletes": dict(totals.incompletes.most_common()),
        "in_flight": totals.by_status["in_flight"],
        "pending": totals.by_status["pending"],
        "skipped": totals.by_status["skipped"],
        "not_answered_by_tutor": totals.refused,
        "finished_before": summary.finished_before,
        "asked_alike": statistics.asked_alike,
        "from_cache": statistics.from_cache,
        "not_cached": dict(cache.passed_over.most_common()) if cache is not None else {},
        "not_stored": cache.not_stored if cache is not None else 0,
        "cache_problem": cache.problem if cache is not None else None,
        "tool_calls": statistics.tool_calls,
        "tool_errors": statistics.tool_errors,
        "faults": statistics.faults,
        "created_again": statistics.created_again,
        "not_deleted": statistics.not_deleted,
        "requests": statistics.limits.requests,
        "prompt_tokens": totals.prompt_tokens,
        "completion_tokens": totals.completion_tokens,
        "cost_usd": totals.cost_usd,
        "unpriced": summary.unpriced,
        "models": summary.models,
        "fallbacks": summary.fallbacks,
        "this_run": {
            "asked": summary.rows_sent,
            "completed": statistics.completed,
            "incomplete": statistics.incomplete,
            "failed": statistics.failed,
            "prompt_tokens": statistics.prompt_tokens,
            "completion_tokens": statistics.completion_tokens,
            "cost_usd": statistics.cost_usd,
        },
        "embedded": summary.embedded,
        "elapsed_s": round(summary.elapsed_s, 3),
        "notices": list(summary.notices),
        "service_batches": list(summary.service_batches),
        "batch_api": summary.batch_api,
        "stop": summary.stop.reason if summary.stop else None,
        "exit_code": summary.exit_code,
    }


def summary_line(summary: Summary) -> str:
    """Return the summary as a single line."""
    stopped = f" · {stop_text(summary.stop)}" if summary.stop is not None else ""
    return _counts_line(summary) + stopped + "".join(f" · {notice}" for notice in summary.notices)


def summary_lines(summary: Summary) -> list[str]:
    """Return the summary for people: one line of counts, and one line for each thing to know or to do."""
    return [
        _counts_line(summary),
        *model_lines(summary.models, embedded=summary.embedded),
        *fallback_lines(summary.fallbacks),
        *_outcome_lines(summary),
        *_service_lines(summary),
        *_cache_lines(summary),
        *_next_lines(summary),
    ]


def warning_lines(summary: Summary) -> list[str]:
    """Return a line for each way in which the answers are not complete, for objects that should be deleted and are not,
    and for each notice about the service. There is no line if all is as the caller wants it."""
    lines: list[str] = []
    for line in _outcome_lines(summary):
        if line.startswith("  "):
            lines[-1] += f"\n{line}"  # the first error of a kind belongs to the line of failed rows
        else:
            lines.append(line)
    lines += _cache_lines(summary)
    if not_deleted := _not_deleted_line(summary):
        lines.append(not_deleted)
    return [*lines, *summary.notices]


def stop_text(stop: Stop) -> str:
    """Return why the batch ended before its last row. With --no-wait it has done all that it could."""
    return f"{'answers are missing' if stop.exit_code == SUBMITTED else 'stopped'}: {stop.reason}"


def _counts_line(summary: Summary) -> str:
    totals, statistics = summary.totals, summary.statistics
    parts = [rows_text(summary.rows), f"{totals.by_status['completed']:,} completed"]
    parts += [
        f"{number:,} {word}"
        for number, word in (
            (totals.by_status["incomplete"], "incomplete"),
            (totals.failed, "failed"),
            (totals.by_status["in_flight"], "in flight"),
            (totals.by_status["pending"], "pending"),
            (totals.by_status["skipped"], "skipped"),
            (summary.finished_before, "from an earlier run"),
            (statistics.asked_alike, "duplicates of other rows"),
            (statistics.from_cache, "from the cache"),
        )
        if number
    ]
    cost = cost_text(totals.cost_usd, unpriced=summary.unpriced, embedded=summary.embedded)
    spent = [f"{totals.prompt_tokens:,} tokens in, {totals.completion_tokens:,} out", cost]
    if summary.finished_before:
        spent = [_this_run_text(summary), f"whole table: {', '.join(filter(None, spent))}"]
    return " · ".join(part for part in [*parts, *spent, duration(summary.elapsed_s)] if part)


def _this_run_text(summary: Summary) -> str:
    """Return the rows and the cost of this run, apart from those of earlier runs."""
    now, sent = summary.statistics, summary.rows_sent
    if not sent:
        return "this run: no answers yet" if summary.service_batches else "this run: nothing sent"
    is_unpriced = now.cost_usd is None and now.prompt_tokens + now.completed + now.incomplete > 0
    cost = cost_text(now.cost_usd, unpriced=sent if is_unpriced else 0, embedded=summary.embedded)
    parts = [f"this run: {rows_text(sent)}", f"{now.prompt_tokens:,} tokens in, {now.completion_tokens:,} out", cost]
    return ", ".join(filter(None, parts))


def _outcome_lines(summary: Summary) -> Iterator[str]:
    """Yield the reasons for which rows have no whole answer."""
    totals = summary.totals
    if summary.stop is not None:
        yield stop_text(summary.stop)
    if totals.incompletes:
        yield f"incomplete rows: {kinds_text(totals.incompletes)}"
    if totals.failures:
        yield f"failed rows: {kinds_text(totals.failures)}; --retry-failed retries them"
        if totals.failed <= FAILURES_EXPLAINED:
            yield from (f"  {kind}: {_short(totals.reasons[kind])}" for kind, _ in totals.failures.most_common())
    if totals.refused:
        yield refused_text(totals.refused, summary.rows)


def _service_lines(summary: Summary) -> Iterator[str]:
    """Yield what happened between batchrun, the service and the user's functions."""
    statistics = summary.statistics
    if summary.batch_api is not None:
        yield from tally_lines(summary.batch_api)
    if statistics.tool_calls:
        failed = f", {statistics.tool_errors:,} failed" if statistics.tool_errors else ""
        yield f"function calls: {statistics.tool_calls:,}{failed}"
    if statistics.created_again:
        again = statistics.created_again
        requests, them = ("request was", "it") if again == 1 else ("requests were", "them")
        yield (
            f"{again:,} {requests} sent again without a reply to the first one: a service that ignores "
            f"Idempotency-Key may have run {them} twice"
        )
    if statistics.limits.one_at_a_time:
        yield "the service broke off overlapping replies, so rows were sent one at a time"
    yield from summary.notices


def _cache_lines(summary: Summary) -> Iterator[str]:
    """Yield what the cache was not used for, and why."""
    cache = summary.cache
    if cache is None:
        return
    if cache.passed_over:
        yield f"--cache was not used for {rows_text(cache.passed_over.total())}: {kinds_text(cache.passed_over)}"
    if cache.problem is not None:
        left_out = f"; {cache.not_stored:,} answers are not in it" if cache.not_stored else ""
        yield f"--cache: {shown_path(cache.file)}: {cache.problem}{left_out}; the journal has every answer"


def _not_deleted_line(summary: Summary) -> str:
    left = summary.statistics.not_deleted
    if not left:
        return ""
    cleanup = command("cleanup", *([Path(shown_path(summary.output))] if summary.output is not None else []))
    return f"{left:,} threads, conversations or responses are not deleted yet: {cleanup} deletes them"


def _next_lines(summary: Summary) -> Iterator[str]:
    """Yield the remaining steps, and the path of the output."""
    if not_deleted := _not_deleted_line(summary):
        yield not_deleted
    open_rows = summary.totals.by_status["in_flight"] + summary.totals.by_status["pending"]
    if summary.service_batches and not summary.is_submitted:
        yield _kept_batches_text(summary)
    elif open_rows and (next_step := _resume_text(summary.stop)):
        yield next_step
    if skipped := summary.totals.by_status["skipped"]:
        verb = "is" if skipped == 1 else "are"
        yield f"{rows_text(skipped)} {verb} skipped: run without --where, --sample and --limit to answer them too"
    if formulas := summary.totals.formulas:
        begins = "1 answer begins" if formulas == 1 else f"{formulas:,} answers begin"
        yield f"{begins} with =, which a spreadsheet runs as a formula: --safe-csv or an .xlsx output keeps the text"
    if summary.output is not None:
        put = f"{summary.put_to}, and " if summary.put_to is not None else ""
        yield f"written: {put}{shown_output(summary.output)}"


def _resume_text(stop: Stop | None) -> str:
    """Return how to finish the rest; empty if the reason of the stop says it."""
    exit_code = stop.exit_code if stop is not None else None
    if exit_code in (BUDGET_REACHED, SUBMITTED):
        return ""
    if exit_code == BatchRefused.exit_code:
        return "solve this, and run the command again to finish the rest"
    return "run the same command again to finish the rest"


def _kept_batches_text(summary: Summary) -> str:
    """Return that service batches continue without this process, and what to do."""
    number = len(summary.service_batches)
    batches = "1 batch at the service continues" if number == 1 else f"{number:,} batches at the service continue"
    output = [Path(shown_path(summary.output))] if summary.output is not None else []
    return f"{batches}: run the same command again to collect the answers, or cancel with {command('cancel', *output)}"


def kinds_text(numbers: Mapping[str, int]) -> str:
    """Return `3 × timeout, 1 × http_500`, the most frequent first."""
    kinds = sorted(numbers.items(), key=lambda item: item[1], reverse=True)
    return ", ".join(f"{number:,} × {kind}" for kind, number in kinds)


def refused_text(refused: int, rows: int) -> str:
    """Return how many rows the embedded tutor could not answer."""
    return f"the tutor could not answer {refused:,} of {rows_text(rows)}"


def _short(text: str) -> str:
    """Return one line that takes a few lines of a terminal at most."""
    return clipped(" ".join(text.split()), REASON_CHARS)
