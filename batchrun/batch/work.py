"""Stages 1 to 3: the work that is left for each row, decided from its prompt and its history in the journal."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Final, Literal, TypeAlias

from batchrun.batch.cached_answers import CachedAnswers
from batchrun.batch.plan import Plan
from batchrun.batch.results import UNASKED, prompt_of, prompts_of
from batchrun.clock import WallClock
from batchrun.engine import CachedRow, RowTask, RowWork, SkippedRow
from batchrun.engine.fallback import NO_ANSWER, first_end
from batchrun.errors import NEVER_TRIED
from batchrun.job.option_values import seconds_of
from batchrun.job.options import Job
from batchrun.journal import Journal, RowHistory, place_of
from batchrun.journal.histories import KEYS_AT_ONCE
from batchrun.prompts.templates import PromptError
from batchrun.records import Completed, Failed, Prompt, Row, RunEnd
from batchrun.wording import rows_text

__all__ = [
    "count_changed_rows",
    "due_work",
    "fallback_task",
    "oldest_valid_answer",
    "refused_before",
    "remaining_task",
    "rows_left",
    "with_finished_runs",
    "with_first_end",
    "work_of",
]


def work_of(plan: Plan, journal: Journal, clock: WallClock, cache: CachedAnswers | None = None) -> Iterator[RowWork]:
    """Yield one item per row to ask: a task, an answer from the cache, a failure before anything was sent, or why
    nothing is left."""
    job = plan.job
    stale_before = oldest_valid_answer(job, clock)
    may_fall_back = job.fallback_model is not None or journal.exchanges.has_fallbacks()
    if job.dedupe:
        journal.duplicates.begin(stale_before)
    keeps_answers = stale_before is None and not may_fall_back and not job.dedupe
    for row_key, prompt, history, deferred in _with_histories(
        plan, journal, keeps_answers=keeps_answers, needs_prompts=cache is not None
    ):
        if prompt is None:
            yield SkippedRow.FINISHED_BEFORE
        elif isinstance(prompt, PromptError):
            # The same failure is not recorded twice: an unchanged row counts as finished.
            if isinstance(history, RowHistory) and history.status == "failed" and history.fingerprint == UNASKED:
                yield SkippedRow.FINISHED_BEFORE
            else:
                yield Failed(row_key, prompt.error_type, str(prompt), 0, 0.0, clock())
        elif job.dedupe and prompt.thread_id is None and not journal.duplicates.is_first(row_key, prompt.fingerprint):
            yield SkippedRow.DUPLICATE
        else:
            task = None
            if history != "answered":
                task = _task(plan, journal, prompt, history, stale_before, may_fall_back=may_fall_back)
            left: RowWork = SkippedRow.FINISHED_BEFORE if task is None else task
            if cache is not None:
                left = cache.looked_up(left, prompt) if isinstance(left, RowTask | SkippedRow) else left
            yield deferred.work(left, clock) if deferred is not None and isinstance(left, RowTask) else left


def rows_left(
    plan: Plan, journal: Journal, work: Callable[[], Iterator[RowWork]], *, looks_up: bool
) -> Iterator[Row | CachedRow | SkippedRow]:
    """Yield each row to ask, its answer from the cache, or why nothing is left of it.

    In a new batch no prompt is made: the workers make them.

    Args:
        work: returns the work that is left, as `work_of`.
        looks_up: the batch uses a cache.
    """
    rows = plan.asked.rows()
    if not (journal.has_history or looks_up):
        yield from rows
        return
    for row, left in zip(rows, work(), strict=False):  # if the input changes, one may be shorter
        yield left if isinstance(left, CachedRow | SkippedRow) else row


def due_work(plan: Plan, journal: Journal, clock: WallClock, due: Container[str]) -> Iterator[RowTask]:
    """Yield the task of each row in `due`, which an earlier pass of this process deferred; many rows share a look-up,
    and the other rows cost next to nothing."""
    stale_before = oldest_valid_answer(plan.job, clock)
    may_fall_back = plan.job.fallback_model is not None or journal.exchanges.has_fallbacks()
    keyed = ((plan.prompter.row_key(row), row) for row in plan.asked.rows())
    wanted = (each for each in keyed if each[0] in due)
    while chunk := list(islice(wanted, KEYS_AT_ONCE)):
        histories = journal.histories.of([row_key for row_key, _ in chunk])
        deferred = _Deferred(journal, histories)
        for row_key, row in chunk:
            history = histories.get(row_key)
            if history is None:
                continue
            task = _task(plan, journal, plan.prompter.render(row), history, stale_before, may_fall_back=may_fall_back)
            work = deferred.work(task, clock) if task is not None else None
            if isinstance(work, RowTask):
                yield work


class _Deferred:
    """What some rows have behind them whose last request may be at the Batch API, looked up at once.

    Mutable state: `_pasts`, looked up when a row needs it; None before.
    """

    def __init__(self, journal: Journal, histories: Mapping[str, RowHistory]) -> None:
        """
        Args:
            histories: of at most `KEYS_AT_ONCE` rows.
        """
        self._journal = journal
        last = {row_key: history.last for row_key, history in histories.items() if history.last is not None}
        self._rows = [row_key for row_key, attempt in last.items() if not attempt.run_ended]
        self._states = journal.service_batches.line_states(last[row_key].run_id for row_key in self._rows)
        self._pasts: dict[str, tuple[int, datetime | None]] | None = None

    def work(self, task: RowTask, clock: WallClock) -> RowTask | SkippedRow:
        """Return the work that is left for a row."""
        last = task.last
        state = None if last is None or last.run_ended or last.run_id is None else self._states.get(last.run_id)
        if state is None:
            return task
        if state == "open":
            return SkippedRow.DEFERRED
        counted, began_at = self._past(task)
        waited_s = (clock() - began_at).total_seconds() if began_at is not None else 0.0
        return replace(task, is_deferred=True, counted=counted, waited_s=max(0.0, waited_s))

    def _past(self, task: RowTask) -> tuple[int, datetime | None]:
        rows = self._journal.deferred_rows
        if task.ends:
            return rows.past(task.prompt.row_key, max(end.attempt for end in task.ends), NEVER_TRIED)
        if self._pasts is None:
            self._pasts = rows.pasts(self._rows, NEVER_TRIED)
        return self._pasts.get(task.prompt.row_key, (0, None))


_Found: TypeAlias = tuple[str, Prompt | PromptError | None, RowHistory | Literal["answered"] | None, _Deferred | None]
"""The key, the prompt and the history of a row, and what it may have behind it at the Batch API."""
_ANSWERED: Final[_Found] = ("", None, "answered", None)
"""A row whose prompt has an answer, where nobody needs its key: one object, however many such rows there are."""


def _with_histories(plan: Plan, journal: Journal, *, keeps_answers: bool, needs_prompts: bool) -> Iterator[_Found]:
    """Yield the key, the prompt and the history of each row to ask; many rows share a look-up.

    Args:
        keeps_answers: a row whose prompt has an answer is finished, whatever else its history is: it gets "answered".
        needs_prompts: otherwise `_ANSWERED` may be yielded for a row that gets "answered".
    """
    prompter = plan.prompter
    if not journal.has_history:
        yield from ((row_key, prompt, None, None) for row_key, _, prompt in prompts_of(plan.asked, prompter))
        return
    rows = plan.asked.rows()
    while chunk := list(islice(rows, KEYS_AT_ONCE)):
        keys = list(map(prompter.row_key, chunk))
        answered = journal.histories.answered(keys) if keeps_answers else {}
        found: list[_Found] = []
        open_keys = []
        for row_key, row in zip(keys, chunk, strict=True):
            fingerprint = answered.get(row_key)
            if fingerprint is not None and not needs_prompts and prompter.plain_fingerprint(row) == fingerprint:
                found.append(_ANSWERED)
                continue
            prompt = prompt_of(row, prompter)
            if isinstance(prompt, Prompt) and prompt.fingerprint == fingerprint:
                found.append((row_key, prompt, "answered", None))
            else:
                open_keys.append(row_key)
                found.append((row_key, prompt, None, None))
        if open_keys:
            histories = journal.histories.of(open_keys)
            deferred = _Deferred(journal, histories)
            found = [
                each if each[2] is not None else (each[0], each[1], histories.get(each[0]), deferred) for each in found
            ]
        yield from found


def _task(
    plan: Plan,
    journal: Journal,
    prompt: Prompt,
    history: RowHistory | None,
    stale_before: datetime | None,
    *,
    may_fall_back: bool,
) -> RowTask | None:
    """Return the task that is left for a row; None if its outcome holds.

    Args:
        may_fall_back: a fallback model is given, or an earlier run had one.
    """
    job = plan.job
    if history is None:
        return RowTask(prompt)
    task = remaining_task(prompt, history, retry_failed=job.retry_failed, stale_before=stale_before)
    if task is None:
        return fallback_task(prompt, history, journal, job) if may_fall_back else None
    if plan.has_several_runs:
        task = with_finished_runs(task, history, journal, has_max_age=stale_before is not None)
    return with_first_end(task, history, journal, job.fallback_model) if may_fall_back else task


def count_changed_rows(plan: Plan, journal: Journal) -> int:
    """Return the number of answers that belong to another prompt than their row now has.

    If the journal knows none of the input's rows, that is every answer: the input is another table.
    """
    changed = known = 0
    for row_key, _, prompt in prompts_of(plan.source, plan.prompter):
        history = journal.history(row_key)
        if history is not None:
            known += 1
            fingerprint = UNASKED if isinstance(prompt, PromptError) else prompt.fingerprint
            changed += history.answered and history.fingerprint != fingerprint
    counts = journal.counts()
    return changed if known else counts.completed + counts.incomplete


def paid_twice_notice(plan: Plan, journal: Journal) -> str | None:
    """Return a line about rows that have a request at the Batch API, but for another prompt or other settings than
    now; None if there are none."""
    if not journal.service_batches.open(place_of(journal.read_manifest())):
        return None
    open_rows = 0
    for row_key, _, prompt in prompts_of(plan.source, plan.prompter):
        history = journal.history(row_key)
        if history is None or not history.has_open_attempt or history.last is None:
            continue
        fingerprint = UNASKED if isinstance(prompt, PromptError) else prompt.fingerprint
        is_open = journal.service_batches.line_state(history.last.run_id) == "open"
        open_rows += is_open and history.last_fingerprint != fingerprint
    if not open_rows:
        return None
    return (
        f"{rows_text(open_rows)} changed while at the service's Batch API: asked again, and both requests are paid for"
    )


def oldest_valid_answer(job: Job, clock: WallClock) -> datetime | None:
    """Return the time before which answers are too old (--max-age); None if answers do not expire."""
    return None if job.max_age is None else clock() - timedelta(seconds=seconds_of(job.max_age, "max-age"))


def remaining_task(
    prompt: Prompt, history: RowHistory, *, retry_failed: bool, stale_before: datetime | None
) -> RowTask | None:
    """Return the task that is left for a row which an earlier run has worked on; None if its outcome holds."""
    has_ended = history.fingerprint == prompt.fingerprint
    is_stale = stale_before is not None and history.completed_at is not None and history.completed_at < stale_before
    if has_ended and history.answered and not is_stale:
        return None
    if history.has_open_attempt and history.last_fingerprint == prompt.fingerprint:
        # Interrupted: its run is followed, or its request repeated under its key.
        return RowTask(prompt, history.last, spent=history.paid_after(0))
    if has_ended and not history.answered:
        return RowTask(prompt, history.last, spent=history.paid_after(0)) if retry_failed else None
    # The prompt has changed or the answer is too old: the last run must not be followed, only its number continued.
    last = replace(history.last, run_ended=True) if history.last else None
    return RowTask(prompt, last, spent=history.paid_after(0))


def with_first_end(task: RowTask, history: RowHistory, journal: Journal, fallback_model: str | None) -> RowTask:
    """Return the task with the end of the first model, if the fallback model is to be asked.

    The fallback model is asked again if it failed, and another one if the option changed. The row begins with its own
    model if there is no such option any more, or if its answer is too old.
    """
    row_key, fingerprint = task.prompt.row_key, task.prompt.fingerprint
    first = journal.exchanges.first_end(row_key, fingerprint)
    if first is None or task.last is None:
        return task
    spent = [*([first.reply.usage] if first.attempt > history.attempts else []), *history.paid_after(first.attempt)]
    is_stale = history.fingerprint == fingerprint and history.answered and not history.has_open_attempt
    if first.asked == fallback_model and not is_stale:
        return replace(task, first_end=first, spent=spent)
    # Another model than that of the last attempt: its run is not followed, and its turns are asked again.
    last = replace(task.last, run_ended=True)
    spent += [end.reply.usage for end in task.ends if end.attempt > history.attempts]
    task = replace(task, last=last, ends=(), outputs={}, redo_from_turn=1, spent=spent)
    if fallback_model is None or is_stale:
        journal.exchanges.begin_with_first_model(row_key, fingerprint, last.number + 1)
        return task
    first = replace(first, asked=fallback_model)
    journal.exchanges.set_first_end(row_key, fingerprint, first)
    return replace(task, first_end=first)


def refused_before(prompt: Prompt, history: RowHistory, journal: Journal, job: Job) -> RunEnd | None:
    """Return how a row ended that its model refused in an earlier run, if the fallback model has to answer it now: with
    --retry-failed, or because the batch ended before its answer. None for other rows."""
    model = job.fallback_model
    if model is None or history.status != "incomplete" or history.fingerprint != prompt.fingerprint:
        return None
    first = journal.exchanges.first_end(prompt.row_key, prompt.fingerprint)
    if first is not None:
        return replace(first, asked=model) if first.attempt == history.attempts else None
    outcome, _ = journal.outcome(prompt.row_key) or (None, "")
    if not job.retry_failed or not isinstance(outcome, Completed) or outcome.reason not in NO_ANSWER:
        return None
    return None if model in (prompt.model, outcome.model) else first_end(outcome, model, prompt.model)


def fallback_task(prompt: Prompt, history: RowHistory, journal: Journal, job: Job) -> RowTask | None:
    """Return the task that asks the fallback model about a row that its own model refused in an earlier run; None if
    there is nothing to ask. The earlier outcome keeps the cost of the refusal."""
    first = refused_before(prompt, history, journal, job)
    if first is None or history.last is None:
        return None
    before = journal.exchanges.first_end(prompt.row_key, prompt.fingerprint)
    if before is None:
        journal.exchanges.fall_back(prompt.row_key, prompt.fingerprint, first)
    elif before != first:
        journal.exchanges.set_first_end(prompt.row_key, prompt.fingerprint, first)
    if before != first or not history.has_open_attempt:
        return RowTask(prompt, replace(history.last, run_ended=True), first_end=first, redo_from_turn=1)
    ends = journal.exchanges.of_row(prompt.row_key, prompt.fingerprint)
    outputs = journal.exchanges.outputs_of_row(prompt.row_key, prompt.fingerprint)
    spent = history.paid_after(first.attempt)
    return RowTask(prompt, history.last, ends, outputs, first_end=first, spent=spent)


def with_finished_runs(task: RowTask, history: RowHistory, journal: Journal, *, has_max_age: bool) -> RowTask:
    """Return the task with the finished runs to reuse, leaving out turns to run again.

    Args:
        has_max_age: answers can be too old.
    """
    row_key, fingerprint = task.prompt.row_key, task.prompt.fingerprint
    is_same_prompt = history.fingerprint == fingerprint
    redo_from_turn = None
    if is_same_prompt and not history.has_open_attempt:
        if history.answered:
            redo_from_turn = 1  # the answer is too old, and so are the turns before it
        elif history.last is not None and history.last.run_ended:
            # The run of the last turn failed for good. If no run ended, the same request may succeed: repeat only that.
            redo_from_turn = journal.last_turn(row_key)
    elif has_max_age and not is_same_prompt and history.last_fingerprint != fingerprint:
        # The row had this prompt before it had another one: the journal does not know how old those runs are.
        redo_from_turn = 1
    ends = journal.exchanges.of_row(row_key, fingerprint)
    return replace(
        task,
        ends=ends if redo_from_turn is None else [end for end in ends if end.turn < redo_from_turn],
        outputs=journal.exchanges.outputs_of_row(row_key, fingerprint, redo_from_turn),
        redo_from_turn=redo_from_turn,
        billed=history.attempts if is_same_prompt else 0,
    )
