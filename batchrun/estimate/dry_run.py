"""Estimates the tokens, dollars and time of a batch without sending or writing anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import TypedDict

from batchrun.batch.assembly import price_list
from batchrun.batch.cached_answers import CacheReader, is_continued
from batchrun.batch.left_shards import take_in
from batchrun.batch.plan import Plan
from batchrun.batch.ray_cluster import stored_notice
from batchrun.batch.results import prompts_of
from batchrun.batch.row_numbers import RowNumbers
from batchrun.batch.work import (
    count_changed_rows,
    oldest_valid_answer,
    paid_twice_notice,
    refused_before,
    remaining_task,
    with_finished_runs,
)
from batchrun.cache import AnswerFile, check_answer_file
from batchrun.clock import WallClock, utc_now
from batchrun.engine import RowTask
from batchrun.engine.fallback import asked_of
from batchrun.estimate.time_needed import Bound, TimeNeeded, time_needed, time_of_waves, time_text
from batchrun.estimate.token_guess import TokenGuess
from batchrun.job.batch_api_rules import waves_notice
from batchrun.journal import Journal, RowHistory
from batchrun.journal.open import objection
from batchrun.pricing import MatchedPrice, PriceFacts, no_price_text
from batchrun.prompts.combinations import combinations_notice
from batchrun.prompts.templates import PromptError
from batchrun.records import Attempt, Prompt, Row
from batchrun.wording import FREE, dollars, over_budget_lines, rows_text

__all__ = ["DryRun", "DryRunFacts", "check_lines", "dry_run", "dry_run_facts", "dry_run_lines"]

FIRST_TOKEN_S = 1.0
TOKENS_PER_S = 50.0
EMBEDDED_ROW_S = 0.005
"""The tutor answers at once. The time is this machine's own work, which concurrency does not speed up."""
MAX_EXAMPLES = 5


@dataclass(slots=True)
class DryRun:
    """What a batch would do.

    Mutable state: all counts and lists; `dry_run` fills them.

    Attributes:
        rows: rows of the input, times the combinations, without the skipped ones.
        skipped: rows that --where, --sample and --limit leave out.
        to_ask: rows that would be sent.
        runs: runs that would answer those rows.
        prices: model → price, None if it is unknown. The model is None if the assistant decides it.
        to_replace: of those, rows with an answer to another prompt or with other settings.
        finished_before: rows with a valid outcome in the journal.
        asked_alike: rows that would get the answer of another row (--dedupe).
        from_cache: rows that would get the answer of another batch (--cache).
        at_service: rows whose only request is at the service's Batch API.
        unaskable: error_type → rows whose prompt cannot be made.
        examples: the first of those rows, one line each.
        problems: what would stop the batch before its first row, one line each.
        prompt_tokens, completion_tokens: of the rows to send.
        cost: US dollars of the rows to send, None if a price is unknown.
        left_usd: US dollars of --budget that do not count as spent, None without one.
        fallback_model: the model to ask where the first one gives no answer; None for no other.
        fallback_price: its price, None if it is unknown.
        fallback_cost: US dollars in addition to `cost`, if it were asked about every row.
        rule: how tokens were estimated, for people.
        answered_by: model, service and protocol, for people.
        place: the service, for people.
        notices: further lines for people.
    """

    rows: int
    skipped: int
    embedded: bool
    answered_by: str
    place: str
    key_missing: bool
    notices: tuple[str, ...]
    rule: str
    prices: Mapping[str | None, MatchedPrice | None]
    left_usd: float | None
    to_ask: int = 0
    to_replace: int = 0
    finished_before: int = 0
    asked_alike: int = 0
    from_cache: int = 0
    at_service: int = 0
    runs: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: Decimal | None = None
    fallback_model: str | None = None
    fallback_price: MatchedPrice | None = None
    fallback_cost: Decimal = Decimal(0)
    time: TimeNeeded = field(default=TimeNeeded(0.0, "latency", 0.0))
    unaskable: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def unpriced(self) -> list[str | None]:
        """The models without a price; None for that of the assistant."""
        return [model for model, price in self.prices.items() if price is None]

    @property
    def exit_code(self) -> int:
        """2 if there is a problem or a row whose prompt cannot be made, else 0."""
        return 2 if self.problems or self.unaskable else 0

    def count_unaskable(self, row: Row, error: PromptError) -> None:
        """Count a row whose prompt cannot be made."""
        self.unaskable[error.error_type] += 1
        if len(self.examples) < MAX_EXAMPLES:
            self.examples.append(f"{row.numbered}: {error.error_type}: {error}")

    def count_task(self, prompt: Prompt, guess: TokenGuess) -> None:
        """Count a row that would be sent, with its runs."""
        self.to_ask += 1
        for run in guess.runs(prompt):
            self.runs += 1
            self.prompt_tokens += run.prompt_tokens or 0
            self.completion_tokens += run.completion_tokens or 0
            is_fallback = prompt.model is not None and prompt.model == self.fallback_model
            price = self.fallback_price if is_fallback else self.prices[prompt.model]
            if price is not None and self.cost is not None:
                self.cost += price.cost(run) or 0
            if self.fallback_price is not None and not is_fallback:
                self.fallback_cost += self.fallback_price.cost(run) or 0


def dry_run(plan: Plan, *, clock: WallClock = utc_now, count: Callable[[str], float] | None = None) -> DryRun:
    """Render every prompt of a plan and estimate what its rows would take.

    Args:
        count: returns the tokens of a text; None estimates them from its length.

    Raises:
        InputError: the job's price table is invalid.
        OutputError: there is a journal that cannot be read.
    """
    guess = TokenGuess(plan.job, count)
    prices = price_list(plan, clock)
    estimate = DryRun(
        rows=plan.rows_to_ask,
        skipped=plan.rows - plan.rows_to_ask,
        embedded=plan.destination.is_embedded,
        answered_by=plan.answered_by(),
        place=plan.place,
        key_missing=plan.destination.missing_key is not None,
        notices=_notices(plan),
        rule=guess.rule,
        prices={model: prices.matched(model) for model in plan.models},
        left_usd=plan.job.budget,
        fallback_model=plan.job.fallback_model,
        fallback_price=prices.matched(plan.job.fallback_model),
    )
    if not estimate.unpriced:
        estimate.cost = Decimal(0)
    elif plan.job.budget is not None and not plan.is_tutored:
        estimate.problems.append(f"--budget: {no_price_text(estimate.unpriced[0], estimate.place)}")
    if plan.job.budget is not None and (fallback := plan.job.fallback_model) and estimate.fallback_price is None:
        estimate.problems.append(f"--budget: {no_price_text(fallback, estimate.place)}")
    _count_rows(plan, clock, guess, estimate)
    if estimate.to_ask:
        estimate.notices = (*estimate.notices, *waves_notice(plan.job))
    estimate.time = _time(estimate, guess, plan)
    return estimate


def _notices(plan: Plan) -> tuple[str, ...]:
    missing = plan.destination.missing_key
    no_key = f"no API key is set: batchrun run would stop with exit code 2: {missing}" if missing else ""
    combinations = combinations_notice(plan.rows_to_ask // len(plan.combinations), plan.settings)
    return tuple(filter(None, (combinations, plan.destination.why_embedded, *plan.about_input, *plan.notices, no_key)))


def _count_rows(plan: Plan, clock: WallClock, guess: TokenGuess, estimate: DryRun) -> None:
    """Count each row as what a run would do with it now, given the journal."""
    with ExitStack() as stack:
        journal = _journal(plan, stack, estimate)
        if journal is not None and estimate.left_usd is not None:
            estimate.left_usd -= journal.spent_usd() + journal.spending.unknown_usd()
        stale_before = oldest_valid_answer(plan.job, clock)
        cache = _cache(plan, stack, stale_before)
        sent: set[str] = set()
        for row_key, row, prompt in prompts_of(plan.asked, plan.prompter):
            if isinstance(prompt, PromptError):
                estimate.count_unaskable(row, prompt)
                continue
            history = journal.history(row_key) if journal is not None else None
            task: RowTask | None = RowTask(prompt)
            if history is not None:
                task = remaining_task(prompt, history, retry_failed=plan.job.retry_failed, stale_before=stale_before)
                if cache is not None and task is not None and plan.has_several_runs:
                    assert journal is not None
                    task = with_finished_runs(task, history, journal, has_max_age=stale_before is not None)
            if task is None and history is not None and _is_for_fallback(plan, journal, prompt, history):
                assert plan.job.fallback_model is not None
                estimate.count_task(asked_of(prompt, plan.job.fallback_model), guess)
            elif task is None:
                estimate.finished_before += 1
                if cache is not None:
                    cache.key_of(prompt)  # the rows that ask the same are counted
            elif task.last is not None and _is_at_service(plan, task.last, journal):
                estimate.at_service += 1
            elif prompt.fingerprint in sent:
                estimate.asked_alike += 1
            elif cache is not None and _is_cached(task, cache):
                estimate.from_cache += 1
            else:
                estimate.count_task(prompt, guess)
                if history is not None and history.answered and history.fingerprint != prompt.fingerprint:
                    estimate.to_replace += 1
            if plan.job.dedupe and prompt.thread_id is None:
                sent.add(prompt.fingerprint)


def _is_at_service(plan: Plan, last: Attempt, journal: Journal | None) -> bool:
    """Return whether a run would only wait for the row's answer from the Batch API."""
    if journal is None or plan.has_several_runs or last.run_ended:
        return False
    return journal.service_batches.line_state(last.run_id) == "open"


def _is_for_fallback(plan: Plan, journal: Journal | None, prompt: Prompt, history: RowHistory) -> bool:
    """Return whether a run would ask only the fallback model about a row that has an outcome."""
    return journal is not None and refused_before(prompt, history, journal, plan.job) is not None


def _cache(plan: Plan, stack: ExitStack, stale_before: datetime | None) -> CacheReader | None:
    """Return the cache in which a run would look rows up; None without one."""
    if plan.cache is None or not check_answer_file(plan.cache.file):
        return None
    file = AnswerFile(plan.cache.file, read_only=True)
    stack.callback(file.close)
    numbers = RowNumbers(plan, plan.cache.keys)
    stack.callback(numbers.close)
    return CacheReader(plan.cache, file, numbers.next, stale_before)


def _is_cached(task: RowTask, cache: CacheReader) -> bool:
    """Return whether a run would take the row's answer from the cache."""
    key = cache.key_of(task.prompt)
    return key is not None and not is_continued(task) and cache.find(key) is not None


def _journal(plan: Plan, stack: ExitStack, estimate: DryRun) -> Journal | None:
    """Return the journal that a run would resume from, None without one; add the problem if a run would refuse it."""
    if plan.job.fresh:
        return None
    if not plan.paths.journal.exists():
        if notice := stored_notice(plan):
            estimate.notices = (*estimate.notices, notice)
        return None
    take_in(plan.paths)
    journal = stack.enter_context(Journal(plan.paths.journal, read_only=True))
    refusal = objection(
        journal,
        journal.read_manifest(),
        plan.manifest(),
        partial(count_changed_rows, plan),
        accept_changes=plan.job.accept_changes,
    )
    if refusal is not None:
        estimate.problems.append(f"{plan.paths.journal} {refusal}")
    if refusal is None and (twice := paid_twice_notice(plan, journal)):
        estimate.notices = (*estimate.notices, twice)
    return journal


def _time(estimate: DryRun, guess: TokenGuess, plan: Plan) -> TimeNeeded:
    if plan.job.batch_api and estimate.to_ask and not plan.destination.is_embedded:
        return time_of_waves(plan.job)
    if plan.destination.is_embedded:
        return TimeNeeded(estimate.to_ask * EMBEDDED_ROW_S, "this machine", EMBEDDED_ROW_S)
    runs_per_row = estimate.runs / max(1, estimate.to_ask)
    latency_s = runs_per_row * (FIRST_TOKEN_S + guess.completion_tokens / TOKENS_PER_S)
    # --conversation creates the conversation of each row with a request of its own.
    requests = estimate.runs + (estimate.to_ask if plan.job.conversation else 0)
    tokens = estimate.prompt_tokens + estimate.completion_tokens
    return time_needed(estimate.to_ask, requests, tokens, latency_s, plan.job)


# -- the result ---------------------------------------------------------------------------------------------


class DryRunFacts(TypedDict):
    """A dry run, as `run --dry-run --json` prints it. Times are in seconds."""

    event: str
    rows: int
    skipped: int
    to_ask: int
    to_replace: int
    finished_before: int
    asked_alike: int
    from_cache: int
    at_service: int
    unaskable: dict[str, int]
    examples: list[str]
    problems: list[str]
    answered_by: str
    key_missing: bool
    notices: list[str]
    models: list[str]
    prices: list[PriceFacts]
    prompt_tokens: int
    completion_tokens: int
    tokens_by: str
    cost_usd: float | None
    fallback_cost_usd: float | None
    time_s: float
    ruled_by: Bound
    latency_s: float
    exit_code: int


def dry_run_facts(estimate: DryRun) -> DryRunFacts:
    """Return a dry run for machines."""
    return {
        "event": "dry_run",
        "rows": estimate.rows,
        "skipped": estimate.skipped,
        "to_ask": estimate.to_ask,
        "to_replace": estimate.to_replace,
        "finished_before": estimate.finished_before,
        "asked_alike": estimate.asked_alike,
        "from_cache": estimate.from_cache,
        "at_service": estimate.at_service,
        "unaskable": dict(estimate.unaskable.most_common()),
        "examples": estimate.examples,
        "problems": estimate.problems,
        "answered_by": estimate.answered_by,
        "key_missing": estimate.key_missing,
        "notices": list(estimate.notices),
        "models": [model for model in estimate.prices if model is not None],
        "prices": [price.facts() for price in estimate.prices.values() if price is not None],
        "prompt_tokens": estimate.prompt_tokens,
        "completion_tokens": estimate.completion_tokens,
        "tokens_by": estimate.rule,
        "cost_usd": float(estimate.cost) if estimate.cost is not None else None,
        "fallback_cost_usd": float(estimate.fallback_cost) if estimate.fallback_price is not None else None,
        "time_s": round(estimate.time.seconds, 1),
        "ruled_by": estimate.time.bound,
        "latency_s": round(estimate.time.latency_s, 3),
        "exit_code": estimate.exit_code,
    }


def dry_run_lines(estimate: DryRun) -> list[str]:
    """Return a dry run for people."""
    lines = [
        f"{rows_text(estimate.rows)} · {_work_text(estimate)}",
        *_replaced_lines(estimate),
        *_unaskable_lines(estimate, MAX_EXAMPLES),
        f"answered by: {estimate.answered_by}",
        f"tokens: about {estimate.prompt_tokens:,} in, {estimate.completion_tokens:,} out ({estimate.rule})",
        f"cost: {_cost_text(estimate)}",
        f"time: {time_text(estimate.time, 'assumed')}",
    ]
    problems = (f"problem: {problem}" for problem in estimate.problems)
    return [*lines, *_known_lines(estimate), *problems, "nothing was sent or written"]


def check_lines(estimate: DryRun, rows: str, output: str) -> list[str]:
    """Return what a run of a job file would do, for people; `DryRun.problems` are left to the caller.

    Args:
        rows: the rows and their table.
        output: path of the output.
    """
    return [
        f"{rows} · {_work_text(estimate)}",
        *_replaced_lines(estimate),
        *_unaskable_lines(estimate, 1),
        f"answered by: {estimate.answered_by}",
        f"output: {output}",
        f"cost: {_cost_text(estimate)}",
        f"time: {time_text(estimate.time, 'assumed')}",
        *_known_lines(estimate),
    ]


def _work_text(estimate: DryRun) -> str:
    """Return how many rows would be sent, and why not the others."""
    numbers = (
        (estimate.finished_before, "from an earlier run"),
        (estimate.asked_alike, "duplicates of other rows"),
        (estimate.from_cache, "in the cache"),
        (estimate.at_service, "at the service's Batch API"),
        (estimate.unaskable.total(), "cannot be sent"),
        (estimate.skipped, "skipped"),
    )
    return " · ".join((f"{estimate.to_ask:,} to send", *(f"{number:,} {words}" for number, words in numbers if number)))


def _unaskable_lines(estimate: DryRun, most: int) -> list[str]:
    """Return the first rows whose prompt cannot be made, each with its reason."""
    shown = estimate.examples[:most]
    more = estimate.unaskable.total() - len(shown)
    return [*(f"  {example}" for example in shown), *([f"  and {more:,} more"] if more else [])]


def _known_lines(estimate: DryRun) -> list[str]:
    """Return what else is known before the start."""
    lines = []
    fallback = estimate.fallback_model
    if estimate.fallback_price is not None:
        lines.append(
            f"up to {dollars(float(estimate.fallback_cost))} more if the fallback model {fallback} is asked about "
            f"every row ({estimate.fallback_price.line()})"
        )
    elif fallback is not None and not estimate.embedded:
        lines.append(f"the cost of the fallback model is unknown: {no_price_text(fallback, estimate.place)}")
    return [*lines, *over_budget_lines(estimate.cost, estimate.left_usd), *estimate.notices]


def _replaced_lines(estimate: DryRun) -> list[str]:
    """Return what a run does with rows that have an answer to another prompt; nothing if there are none."""
    if not estimate.to_replace:
        return []
    have = "has an answer" if estimate.to_replace == 1 else "have answers"
    effect = "does not start: see the problem below" if estimate.problems else "asks again and replaces the answers"
    return [f"{rows_text(estimate.to_replace)} already {have} to another prompt or with other settings; a run {effect}"]


def _cost_text(estimate: DryRun) -> str:
    """Return the cost of the rows to send, or the reason for which it is unknown."""
    if estimate.cost is not None:
        lines = "; ".join(price.line() for price in estimate.prices.values() if price is not None)
        return f"about {dollars(float(estimate.cost))} ({lines})"
    if estimate.embedded:
        return f"{FREE}, the embedded server answers"
    if not estimate.to_ask:
        return f"{dollars(0)}, no row would be sent"
    return f"unknown: {'; '.join(no_price_text(model, estimate.place) for model in estimate.unpriced)}"
