"""What a batch will take, before it is run: tokens, dollars, time.

`dry_run` sends nothing and writes nothing; `batchrun.estimate.pilot` asks a sample of the rows first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from typing import Any

from batchrun.batch.assembly import price_list
from batchrun.batch.plan import Plan
from batchrun.batch.results import prompts_of
from batchrun.batch.work import count_changed_rows, oldest_valid_answer, remaining_task
from batchrun.clock import WallClock, utc_now
from batchrun.estimate.time_needed import TimeNeeded, time_needed, time_text
from batchrun.estimate.token_guess import TokenGuess
from batchrun.journal import Journal
from batchrun.journal.open import objection
from batchrun.pricing import MatchedPrice
from batchrun.prompts.templates import PromptError
from batchrun.records import Prompt, Row
from batchrun.wording import FREE, dollars, rows_text

__all__ = ["DryRun", "cost_text", "dry_run", "dry_run_facts", "dry_run_lines"]

FIRST_TOKEN_S = 1.0
TOKENS_PER_S = 50.0
EMBEDDED_ROW_S = 0.005
"""The tutor answers at once: what takes time is this machine's work, which concurrency does not speed up."""
EXAMPLES = 5


# -- time ---------------------------------------------------------------------------------------------------


# -- tokens from text ---------------------------------------------------------------------------------------


# -- a dry run ----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class DryRun:
    """What a batch would do; filled by `dry_run`.

    Attributes:
        rows: of the input.
        to_ask: rows that would be sent; `runs`: the runs that would answer them.
        prices: model → its price, None where it is not known; the model is None where the assistant decides it.
        finished_before: rows whose answer in the journal still holds.
        asked_alike: rows that get the answer of another row (--dedupe).
        unaskable: error_type → rows that cannot be asked.
        examples: the first few of those, one line each.
        problems: what would stop the batch before its first row, one line each.
        prompt_tokens, completion_tokens: of the rows to ask.
        cost: US dollars of those, None where a price is not known.
        rule: how tokens were estimated.
        answered_by: model, service and protocol, in words.
        notices: what else to know, one line each.
    """

    rows: int
    embedded: bool
    answered_by: str
    key_missing: bool
    notices: tuple[str, ...]
    rule: str
    prices: Mapping[str | None, MatchedPrice | None]
    budget_usd: float | None
    to_ask: int = 0
    finished_before: int = 0
    asked_alike: int = 0
    runs: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: Decimal | None = None
    time: TimeNeeded = field(default=TimeNeeded(0.0, "latency", 0.0))
    unaskable: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def unpriced(self) -> list[str]:
        """The models without a price, as people call them."""
        return [model or "the assistant" for model, price in self.prices.items() if price is None]

    @property
    def exit_code(self) -> int:
        """2 if something is wrong, else 0."""
        return 2 if self.problems or self.unaskable else 0


def dry_run(plan: Plan, *, clock: WallClock = utc_now, count: Callable[[str], float] | None = None) -> DryRun:
    """Render every prompt of a plan and reckon what asking it would take.

    Args:
        count: tokens of a text; None estimates them from its length.

    Raises:
        InputError: the job's table of prices is wrong.
        OutputError: there is a journal, and it cannot be read.
    """
    guess = TokenGuess(plan.job, count)
    prices = price_list(plan, clock)
    models = dict.fromkeys(variant.model for variant in plan.variants)
    found = DryRun(
        rows=plan.rows,
        embedded=plan.destination.is_embedded,
        answered_by=plan.answered_by(),
        key_missing=plan.destination.missing_key is not None,
        notices=_notices(plan),
        rule=guess.line,
        prices={model: prices.matched(model) for model in models},
        budget_usd=plan.job.budget,
    )
    if not found.unpriced:
        found.cost = Decimal(0)
    elif plan.job.budget is not None:
        found.problems.append(f"--budget: the price of {found.unpriced[0]} is unknown")
    with ExitStack() as stack:
        journal = _journal_of(plan, stack, found)
        stale_before = oldest_valid_answer(plan.job, clock)
        asked: set[str] = set()
        for row_key, row, prompt in prompts_of(plan.source, plan.prompter):
            if isinstance(prompt, PromptError):
                _count_unaskable(found, row, prompt)
                continue
            history = journal.history(row_key) if journal is not None else None
            if history is not None and not remaining_task(
                prompt, history, retry_failed=plan.job.retry_failed, stale_before=stale_before
            ):
                found.finished_before += 1
            elif prompt.fingerprint in asked:
                found.asked_alike += 1
            else:
                _count_row(found, prompt, guess)
            if plan.job.dedupe and prompt.thread_id is None:
                asked.add(prompt.fingerprint)
    found.time = _time_of(found, guess, plan)
    return found


def _notices(plan: Plan) -> tuple[str, ...]:
    missing = plan.destination.missing_key
    no_key = f"no API key is set: batchrun run would stop with exit code 2: {missing}" if missing else ""
    return tuple(filter(None, (plan.destination.why_embedded, *plan.notices, no_key)))


def _time_of(found: DryRun, guess: TokenGuess, plan: Plan) -> TimeNeeded:
    if plan.destination.is_embedded:
        return TimeNeeded(found.to_ask * EMBEDDED_ROW_S, "this machine", EMBEDDED_ROW_S)
    runs_a_row = found.runs / max(1, found.to_ask)
    latency_s = runs_a_row * (FIRST_TOKEN_S + guess.completion_tokens / TOKENS_PER_S)
    requests = found.runs + (found.to_ask if plan.job.conversation else 0)
    return time_needed(found.to_ask, requests, found.prompt_tokens + found.completion_tokens, latency_s, plan.job)


def _journal_of(plan: Plan, stack: ExitStack, found: DryRun) -> Journal | None:
    """The journal that a run would continue, if there is one; notes why it would not."""
    if plan.job.fresh or not plan.paths.journal.exists():
        return None
    journal = stack.enter_context(Journal(plan.paths.journal, read_only=True))
    stored, wanted = journal.read_manifest(), plan.manifest()
    refusal = objection(
        journal, stored, wanted, partial(count_changed_rows, plan), accept_changes=plan.job.accept_changes
    )
    if refusal is not None:
        found.problems.append(f"{plan.paths.journal} {refusal}")
    return journal


def _count_unaskable(found: DryRun, row: Row, error: PromptError) -> None:
    found.unaskable[error.error_type] += 1
    if len(found.examples) < EXAMPLES:
        where = f" (line {row.line})" if row.line is not None else ""
        found.examples.append(f"row {row.row_index}{where}: {error.error_type}: {error}")


def _count_row(found: DryRun, prompt: Prompt, guess: TokenGuess) -> None:
    found.to_ask += 1
    for run in guess.runs(prompt):
        found.runs += 1
        found.prompt_tokens += run.prompt_tokens or 0
        found.completion_tokens += run.completion_tokens or 0
        price = found.prices[prompt.model]
        if price is not None and found.cost is not None:
            found.cost += price.cost(run) or 0


def dry_run_facts(found: DryRun) -> dict[str, Any]:
    """A dry run for machines."""
    return {
        "event": "dry_run",
        "rows": found.rows,
        "to_ask": found.to_ask,
        "finished_before": found.finished_before,
        "asked_alike": found.asked_alike,
        "unaskable": dict(found.unaskable.most_common()),
        "examples": found.examples,
        "problems": found.problems,
        "answered_by": found.answered_by,
        "key_missing": found.key_missing,
        "notices": list(found.notices),
        "models": [model for model in found.prices if model is not None],
        "prices": [price.facts() for price in found.prices.values() if price is not None],
        "prompt_tokens": found.prompt_tokens,
        "completion_tokens": found.completion_tokens,
        "tokens_by": found.rule,
        "cost_usd": float(found.cost) if found.cost is not None else None,
        "time_s": round(found.time.seconds, 1),
        "ruled_by": found.time.bound,
        "latency_s": round(found.time.latency_s, 3),
        "exit_code": found.exit_code,
    }


def dry_run_lines(found: DryRun) -> list[str]:
    """A dry run for people."""
    unaskable = found.unaskable.total()
    parts = [rows_text(found.rows), f"{found.to_ask:,} to ask"]
    parts += [f"{found.finished_before:,} answered before"] if found.finished_before else []
    parts += [f"{found.asked_alike:,} asked once with another row"] if found.asked_alike else []
    parts += [f"{unaskable:,} cannot be asked"] if unaskable else []
    more = [f"  and {unaskable - len(found.examples):,} more"] if unaskable > len(found.examples) else []
    lines = [
        " · ".join(parts),
        *(f"  {example}" for example in found.examples),
        *more,
        f"answered by: {found.answered_by}",
        f"tokens: about {found.prompt_tokens:,} in, {found.completion_tokens:,} out ({found.rule})",
        f"cost: {cost_text(found)}",
        f"time: {time_text(found.time)}, assumed",
    ]
    if found.cost is not None and found.budget_usd is not None and found.cost > found.budget_usd:
        lines.append(f"that is more than --budget {found.budget_usd:g}: the batch would stop on the way")
    lines += found.notices
    return [*lines, *(f"wrong: {problem}" for problem in found.problems), "nothing was sent, nothing was written"]


def cost_text(found: DryRun) -> str:
    """What the rows to ask will cost, or why that is not known."""
    if found.cost is not None:
        lines = "; ".join(price.line() for price in found.prices.values() if price is not None)
        return f"about {dollars(float(found.cost))} ({lines})"
    if found.embedded:
        return f"{FREE}, the embedded server answers"
    return f"unknown: no price is known for {', '.join(found.unpriced)} there; the job file's [prices] can say it"
