"""Stages 1 to 3 together: what is left to ask of each row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from batchrun.batch.plan import Plan
from batchrun.batch.results import UNASKED, prompts_of
from batchrun.clock import WallClock
from batchrun.engine import RowTask, RowWork, SkippedRow
from batchrun.job.option_values import seconds_of
from batchrun.job.options import Job
from batchrun.journal import Journal, RowHistory
from batchrun.prompts.templates import PromptError
from batchrun.records import Failed, Prompt

__all__ = ["continued", "count_strange", "oldest_that_holds", "rejoined", "work_of"]


def work_of(plan: Plan, journal: Journal, clock: WallClock) -> Iterator[RowWork]:
    """Stages 1 to 3: each row becomes something to ask, something that failed, or nothing to do."""
    job = plan.job
    stale_before = oldest_that_holds(job, clock)
    if job.dedupe:
        journal.duplicates.begin(stale_before)
    for row_key, _, prompt in prompts_of(plan.source, plan.prompter):
        history = journal.history(row_key)
        if isinstance(prompt, PromptError):
            if history is not None and history.status == "failed" and history.fingerprint == UNASKED:
                yield SkippedRow.FINISHED_BEFORE
            else:
                yield Failed(row_key, prompt.error_type, str(prompt), 0, 0.0, clock())
        elif job.dedupe and prompt.thread_id is None and not journal.duplicates.is_first(row_key, prompt.fingerprint):
            yield SkippedRow.DUPLICATE
        elif history is None:
            yield RowTask(prompt)
        else:
            ask = continued(prompt, history, retry_failed=job.retry_failed, stale_before=stale_before)
            if ask is None:
                yield SkippedRow.FINISHED_BEFORE
            else:
                stale = stale_before is not None
                yield rejoined(ask, history, journal, stale=stale) if plan.several_runs else ask


def count_strange(plan: Plan, journal: Journal) -> int:
    """Answered rows of the input whose prompt has another fingerprint than the one that was answered; all answers,
    where no row of the input is known at all."""
    strange = known = 0
    for row_key, _, prompt in prompts_of(plan.source, plan.prompter):
        history = journal.history(row_key)
        if history is not None:
            known += 1
            fingerprint = UNASKED if isinstance(prompt, PromptError) else prompt.fingerprint
            strange += history.answered and history.fingerprint != fingerprint
    counts = journal.counts()
    return strange if known else counts.completed + counts.incomplete


def rejoined(ask: RowTask, history: RowHistory, journal: Journal, *, stale: bool) -> RowTask:
    """With the runs that ended already, but for those of turns that are to be asked again.

    Args:
        stale: answers can be too old.
    """
    row_key, fingerprint = ask.prompt.row_key, ask.prompt.fingerprint
    ours = history.fingerprint == fingerprint
    redo_from_turn = None
    if ours and not history.has_open_attempt:
        if history.answered:
            redo_from_turn = 1
        elif history.last is not None and history.last.run_ended:
            redo_from_turn = journal.last_turn(row_key)  # else nothing says that the same request would fail again
    elif stale and not ours and history.last_fingerprint != fingerprint:
        redo_from_turn = 1  # the row asked this before it asked something else: nobody knows when
    ends = journal.exchanges.of_row(row_key, fingerprint)
    return replace(
        ask,
        ends=ends if redo_from_turn is None else [end for end in ends if end.turn < redo_from_turn],
        outputs=journal.exchanges.outputs_of_row(row_key, fingerprint, redo_from_turn),
        redo_from_turn=redo_from_turn,
        billed=history.attempts if ours else 0,
    )


def oldest_that_holds(job: Job, clock: WallClock) -> datetime | None:
    """The moment before which answers are too old, None where none is."""
    return None if job.max_age is None else clock() - timedelta(seconds=seconds_of(job.max_age, "max-age"))


def continued(
    prompt: Prompt, history: RowHistory, *, retry_failed: bool, stale_before: datetime | None
) -> RowTask | None:
    """What is left to do for a row that an earlier run has dealt with."""
    ended = history.fingerprint == prompt.fingerprint
    stale = stale_before is not None and history.completed_at is not None and history.completed_at < stale_before
    if ended and history.answered and not stale:
        return None
    if history.has_open_attempt and history.last_fingerprint == prompt.fingerprint:
        return RowTask(prompt, history.last)
    if ended and not history.answered:
        return RowTask(prompt, history.last) if retry_failed else None
    # Another question now, or an answer that is too old: whatever ran before is of no use.
    return RowTask(prompt, replace(history.last, run_ended=True) if history.last else None)
