"""Waves of the Batch API: a pass over the rows, what it asks is submitted and collected, and the next pass.

Each pass is an ordinary run of the engine over the rows that have something to do. Whatever happens to a service batch
is in the journal, so a process that ends here at any moment is continued by the same command.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Container, Iterator, Sequence
from datetime import datetime
from typing import Final, TypeAlias

import anyio

from batchrun.batch.plan import Plan
from batchrun.batch.results import prompts_of
from batchrun.batch.run_summary import SUBMITTED
from batchrun.batch.service_batch_tally import ServiceBatchTally, done_text
from batchrun.batch.work import due_work
from batchrun.clock import WallClock
from batchrun.engine import Engine, RowTask, RowWork, SkippedRow, Stop
from batchrun.errors import BatchRefused, ServiceFault, TransientFault, unwrapped
from batchrun.job.batch_api_rules import batch_deadline_s
from batchrun.journal import Journal
from batchrun.journal.service_batches import ServiceBatch
from batchrun.prompts.templates import PromptError
from batchrun.services.batch_api.desk import Desk
from batchrun.wording import counted, local_time

__all__ = ["Unchanged", "Waves", "Work", "open_text"]

log = logging.getLogger("batchrun")

CANCEL_AGAIN_S: Final = 60.0
"""Seconds after which a cancellation without effect is requested again."""
CANCELLING: Final = "cancelling"
_GIVEN_UP = "batch_deadline_passed"
"""Entry of the manifest: numbers of the service batches that --batch-deadline has cancelled."""

Work: TypeAlias = Callable[[bool], Iterator[RowWork]]
"""Begins a pass over all rows; True: they were looked up in the cache before."""
Unchanged: TypeAlias = Callable[[Iterator[RowWork]], Iterator[RowWork]]
"""Yields work until the input changes."""


class Waves:
    """Runs the rows of a batch in waves.

    Mutable state: `_given_up`, the numbers of service batches whose deadline has passed, and `_asked_s`, the loop time
    at which this process asked to cancel them; `ordinary`, the engine that asked their rows in the ordinary way last,
    None before.
    """

    def __init__(
        self,
        plan: Plan,
        journal: Journal,
        engine: Engine,
        desk: Desk,
        clock: WallClock,
        make_ordinary: Callable[[], Engine],
        ended: Container[str],
        tally: ServiceBatchTally,
    ) -> None:
        """
        Args:
            engine: its service defers every request to the desk.
            make_ordinary: returns an engine for rows to ask in the ordinary way.
            ended: keys of the rows that have ended in this run, if a budget may leave rows to a later pass.
            tally: what this run has done at the service.
        """
        self._plan = plan
        self._journal = journal
        self._engine = engine
        self._desk = desk
        self._clock = clock
        self._make_ordinary = make_ordinary
        self._ended = ended
        self._tally = tally
        self._deadline_s = batch_deadline_s(plan.job)
        self._given_up: set[int] = set(journal.read_manifest().get(_GIVEN_UP, []))
        self._asked_s: dict[int, float] = {}
        self.ordinary: Engine | None = None

    async def run(self, work: Work, while_unchanged: Unchanged, pass_while_unchanged: Unchanged) -> None:
        """Run all rows; return when none is left, after a stop, or with --no-wait when everything is submitted.

        Args:
            work: begins a pass over all rows.
            while_unchanged: ends the sending of rows when the input changes.
            pass_while_unchanged: ends a pass when the input changes.
        """
        try:
            with unwrapped():
                await self._run(work, while_unchanged, pass_while_unchanged)
        except ServiceFault as fault:
            exit_code = fault.exit_code if isinstance(fault, BatchRefused) else BatchRefused.exit_code
            self._engine.request_stop(Stop(str(fault), exit_code), 0.0)

    async def _run(self, work: Work, while_unchanged: Unchanged, pass_while_unchanged: Unchanged) -> None:
        engine, desk = self._engine, self._desk
        await self._unless_stopped(self._take_in_earlier)
        self._hold_money()
        pending = pass_while_unchanged(self._for_pass(work(False)))
        while not self._is_stopped():
            await engine.run(pending)
            rows_left = engine.reservations.rows_left
            self._journal.look_back()
            await self._ask_given_up(while_unchanged)
            desk.tidy()
            if engine.stop_after_pass is not None:
                engine.request_stop(engine.stop_after_pass, 0.0)
            if not self._is_stopped():
                await self._unless_stopped(desk.submit, grace_s=self._plan.job.grace)
            if self._is_stopped():
                return
            if (engine.rows_deferred and desk.open()) or desk.due:  # else only rows of other runs are at the service
                if self._plan.job.no_wait:
                    engine.request_stop(Stop(self._state_text(rows_left=rows_left), SUBMITTED), 0.0)
                    return
                await self._unless_stopped(self._watch)
            elif not rows_left:
                return
            if rows_left:
                pending = pass_while_unchanged(self._for_pass(work(True), again=True))
            else:
                due = self._journal.service_batches.due_rows() - self._unanswered()
                pending = pass_while_unchanged(due_work(self._plan, self._journal, self._clock, due))

    def _state_text(self, *, rows_left: bool) -> str:
        """Return what this run has done, what is missing and why, and what to do."""
        held = (
            f"{counted(self._desk.waiting, 'request')} wait until the service takes more" if self._desk.waiting else ""
        )
        budget = f"--budget {self._plan.job.budget or 0:g}"
        left = f"other rows are pending, since the money of {budget} is reserved for those at the service"
        at_service = open_text(self._desk.open())
        parts = (f"this run {done_text(self._tally.facts(0))}", at_service, held, left if rows_left else "")
        return "; ".join(filter(None, (*parts, "run the same command again to collect the answers")))

    def _is_stopped(self) -> bool:
        return self._engine.stop is not None

    async def _take_in_earlier(self) -> None:
        """Complete what an earlier process began, and collect what has ended meanwhile."""
        await self._desk.submit()
        await self._desk.watch(once=True)
        await self._cancel_late()

    def _hold_money(self) -> None:
        """Reserve money for the rows that an earlier process deferred."""
        if self._plan.job.budget is None:
            return
        deferred = self._journal.deferred_rows.untaken()
        for row_key, _, prompt in prompts_of(self._plan.asked, self._plan.prompter) if deferred else ():
            if row_key in deferred and not isinstance(prompt, PromptError):
                self._engine.reservations.hold(row_key, prompt.chars)

    def _for_pass(self, work: Iterator[RowWork], *, again: bool = False) -> Iterator[RowWork]:
        """Yield the work of a pass over all rows, without the rows to ask in the ordinary way.

        Args:
            again: rows without a task were counted by an earlier pass, and rows that have ended in this run are not
                asked once more (--retry-failed, --max-age).
        """
        ordinary = self._unanswered()
        for item in work:
            if isinstance(item, RowTask) and item.prompt.row_key not in ordinary:
                if not (again and item.prompt.row_key in self._ended):
                    yield item
            elif not again:
                yield SkippedRow.DEFERRED if isinstance(item, RowTask) else item

    # -- waiting --------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Wait until a service batch has ended, or its deadline has passed."""
        await self._desk.watch(until_s=self._next_deadline_s())
        await self._cancel_late()

    async def _unless_stopped(self, act: Callable[[], Awaitable[object]], *, grace_s: float = 0.0) -> None:
        """Do something at the service; end it so many seconds after the batch is asked to stop."""
        async with anyio.create_task_group() as beside:
            with anyio.CancelScope() as scope:

                async def end() -> None:
                    await self._engine.stopped()
                    scope.deadline = anyio.current_time() + grace_s

                beside.start_soon(end)
                await act()
            beside.cancel_scope.cancel()

    # -- the deadline ---------------------------------------------------------------------------------------

    def _next_deadline_s(self) -> float | None:
        """Return the loop time at which a service batch has to be cancelled next; None if there is none."""
        if self._deadline_s is None:
            return None
        now, now_s = self._clock(), anyio.current_time()
        times = [
            self._asked_s[batch.number] + CANCEL_AGAIN_S
            if batch.number in self._asked_s
            else now_s + max(0.0, self._deadline_s - _age_s(batch, now))
            for batch in self._desk.open()
            if batch.created_at is not None and batch.status != CANCELLING
        ]
        return min(times, default=None)

    async def _cancel_late(self) -> None:
        """Cancel the service batches whose deadline has passed."""
        if self._deadline_s is None:
            return
        for batch in self._desk.open():
            if (
                batch.created_at is None
                or batch.status == CANCELLING
                or _age_s(batch, self._clock()) < self._deadline_s
            ):
                continue
            if anyio.current_time() - self._asked_s.get(batch.number, -math.inf) < CANCEL_AGAIN_S:
                continue
            self._given_up.add(batch.number)
            self._journal.write_manifest({_GIVEN_UP: sorted(self._given_up)})
            self._asked_s[batch.number] = anyio.current_time()
            log.info("%s: cancelled after %s (--batch-deadline)", batch.batch_id, self._plan.job.batch_deadline)
            try:
                await self._desk.cancel(batch)
            except TransientFault as fault:
                log.warning("%s: could not be cancelled: %s", batch.batch_id, fault)

    def _unanswered(self) -> set[str]:
        """Return the keys of the rows to ask in the ordinary way."""
        return self._journal.deferred_rows.unanswered(self._given_up) if self._given_up else set()

    async def _ask_given_up(self, while_unchanged: Unchanged) -> None:
        """Ask the rows in the ordinary way that had no answer when the deadline of their service batch passed."""
        rows = self._unanswered()
        if not rows or self._engine.stop is not None:
            return
        self.ordinary = ordinary = self._make_ordinary()
        async with anyio.create_task_group() as beside:

            async def stop() -> None:
                await self._engine.stopped()
                assert self._engine.stop is not None
                ordinary.request_stop(self._engine.stop, self._plan.job.grace)

            beside.start_soon(stop)
            await ordinary.run(while_unchanged(due_work(self._plan, self._journal, self._clock, rows)))
            beside.cancel_scope.cancel()
        if ordinary.stop is not None:
            self._engine.request_stop(ordinary.stop, 0.0)


def open_text(batches: Sequence[ServiceBatch]) -> str:
    """Return what is at the service, and since when; "" if nothing is."""
    if not batches:
        return ""
    since = min(datetime.fromisoformat(batch.created_at or batch.since) for batch in batches)
    requests = counted(sum(batch.lines for batch in batches), "request")
    return f"{requests} in {counted(len(batches), 'batch')} at the service since {local_time(since)}"


def _age_s(batch: ServiceBatch, now: datetime) -> float:
    return (now - datetime.fromisoformat(batch.created_at or batch.since)).total_seconds()
