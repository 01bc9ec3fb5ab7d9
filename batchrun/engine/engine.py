"""The engine: the only task group of the hot path.

Rows are admitted in order; each is run by one task and ends by writing its outcome to the journal. `limits`
decides how many rows are in flight and when they send, `row` runs one row, `ended_rows` reports outcomes when they are
committed, and a service implements the protocol.
"""

from __future__ import annotations

import logging
import random
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import TypeAlias

import anyio
import anyio.abc
import anyio.lowlevel

from batchrun.clock import WallClock, loop_time, utc_now
from batchrun.engine.budget import Budget
from batchrun.engine.ended_rows import Callback, EndedRow, EndedRows
from batchrun.engine.limits import Lease, Limits
from batchrun.engine.pass_limits import ROWS_AT_ONCE
from batchrun.engine.plain_rows import PassWork, PlainRows
from batchrun.engine.refusals import Answers, Refusals, RefusedRow
from batchrun.engine.reservations import Reservations
from batchrun.engine.retry import GiveUp, RetryPolicy
from batchrun.engine.row import RowRun
from batchrun.engine.row_context import CachedRow, DialogueSettings, Price, RowContext, RowTask, RowWork, SkippedRow
from batchrun.engine.row_tasks import RowTasks
from batchrun.engine.service import Service
from batchrun.engine.stop import Stop
from batchrun.engine.tally import EngineStatistics, Flight, Tally
from batchrun.engine.thread_locks import ThreadLocks
from batchrun.engine.trace import row_trace
from batchrun.errors import BatchRefused, BatchrunError, RateLimited, ServiceFault, Shortage, Unavailable, unwrapped
from batchrun.journal import Carried, Journal
from batchrun.records import Completed, Failed, Outcome, Prompt
from batchrun.token_usage import Usage, sum_usage
from batchrun.wording import visible_line

__all__ = ["Engine", "Forget"]

FAILURES_CHECKED_AFTER = 20
SKIPPED_ROWS_A_TURN = 200
GRACE_AFTER_REFUSAL_S = 30.0
PREPARE_ATTEMPTS = 3
SAME_BUG = 3
"""Rows broken by the same line of code, after which the batch stops."""

log = logging.getLogger("batchrun.engine")


Forget: TypeAlias = Callable[[str], Awaitable[int]]
"""(row_key) → number of objects left at the service, after an attempt to delete the row's objects there."""


class Engine:
    """Runs rows through a service, under the limits, into the journal.

    If the service defers requests, `run` is called for each pass over the rows: rows whose reply comes later end their
    task without an outcome, and keep the money reserved for them. What would stop the batch then stops it after the
    pass, since the replies that are there are paid for.

    Mutable state: `_tally`; `stop`, set once; `_rows`, the cancel scope of all row tasks; `_admission`, the cancel
    scope of the loop that admits them, both of the current pass; `_ended`, the rows to report; `stop_after_pass`, what
    stops the batch after it; `_is_prepared`; `reservations`, the money of its rows; `_refusals`; `_bugs`, how often
    each line of code has broken a row.
    """

    def __init__(
        self,
        *,
        service: Service,
        journal: Journal,
        limits: Limits,
        policy: RetryPolicy,
        batch_id: str,
        keep_going: bool = False,
        price: Price | None = None,
        budget: Budget | None = None,
        in_flight_usd: Mapping[str, float] | None = None,
        clock: WallClock = utc_now,
        random_unit: Callable[[], float] = random.random,
        on_outcome: Callable[[Outcome], None] | None = None,
        forget: Forget | None = None,
        dialogue_settings: DialogueSettings | None = None,
        scrub: Callable[[str], str] = str,
        defers: bool = False,
        waits_for_files: bool = False,
        shares: Engine | None = None,
        answers: Answers | None = None,
    ) -> None:
        """
        Args:
            in_flight_usd: row → US dollars that the budget counts as spent for a row which an earlier run left in
                flight.
            forget: called for each row that was sent, when its outcome is in the journal and its slot is free again.
            dialogue_settings: settings for rows that need more than one run.
            scrub: removes the secrets from a text that is logged.
            defers: the service defers requests.
            waits_for_files: with `defers`: requests and replies may have files, which are waited for.
            shares: another engine of the same batch, with which it shares its counts and its budget.
            answers: of all engines that use the service in this process; None for a single one.
        """
        self.stop: Stop | None = None
        self._tally: Tally = Tally() if shares is None else shares._tally
        self.reservations: Reservations = (
            Reservations(budget, in_flight_usd or {}) if shares is None else shares.reservations
        )
        self._context = RowContext(
            service=service,
            journal=journal,
            limits=limits,
            policy=policy,
            batch_id=batch_id,
            price=price or (lambda _model, _usage: None),  # without a price list every price is unknown
            clock=clock,
            random_unit=random_unit,
            tally=self._tally,
            stopped=anyio.Event(),
            dialogue_settings=dialogue_settings or DialogueSettings(),
            reservations=self.reservations,
            locks=ThreadLocks().through,
            trace=row_trace(scrub),
            defers=defers,
        )
        self._defers = defers
        self.stop_after_pass: Stop | None = None
        self._is_prepared = False
        self._keep_going = keep_going
        self._on_outcome = Callback(on_outcome)
        self._forget = forget
        self._scrub = scrub
        self._service_failures = 0
        self._ended = EndedRows(journal, self._report, calls_users_code=on_outcome is not None)
        may_be_plain = defers and not waits_for_files and forget is None
        self._plain = PlainRows(self._context, self._ended) if may_be_plain else None
        self._refusals = Refusals(self._finish_refused, answers or Answers(), has_answers=journal.has_answers())
        self._bugs: Counter[tuple[str, int | None]] = Counter()
        self._rows = anyio.CancelScope()
        self._admission = anyio.CancelScope()

    async def run(self, work: Iterable[RowWork]) -> None:
        """Prepare the service and run every row of `work`; return when all have ended or are deferred, or after a stop.

        Raises:
            OutputError: the journal cannot be written. Nothing in it is lost.
        """
        journal = self._context.journal
        with unwrapped(), journal.grouped():
            try:
                with self._rows:
                    await self._run_rows(work)
                await self._refusals.decided(self._context.stopped)
                if self._refusals.names_all_rows:
                    self._give_up()
                self._refusals.finish()
            finally:
                journal.flush()
                self._ended.report_rest()
                self._tally.has_passed = True
        if self.stop is None:  # else the scopes of the next pass have to be cancelled too
            self._rows, self._admission = anyio.CancelScope(), anyio.CancelScope()

    async def _run_rows(self, work: Iterable[RowWork]) -> None:
        async with anyio.create_task_group() as beside:
            beside.start_soon(self._ended.keep_reporting)
            async with anyio.create_task_group() as tasks:
                with self._admission:
                    if await self.prepare():
                        if self._defers and self.reservations.budget is None:
                            stopped = self._context.stopped
                            pending = PassWork(iter(work), self._plain, asks=self._asks, stopped=stopped)
                            tasks.start_soon(self._run_in_turn, pending, tasks, ROWS_AT_ONCE)
                        else:
                            with closing(RowTasks(tasks)) as rows:
                                await self._admit_rows(work, rows)
            beside.cancel_scope.cancel()

    def request_stop(self, stop: Stop, grace_s: float) -> None:
        """Admit no more rows; rows in flight have `grace_s` seconds to end. The reason of the first call is kept.

        Rows that are still in flight then stay in the journal, and the next run of the batch continues them.
        """
        self._rows.deadline = min(self._rows.deadline, loop_time() + grace_s)
        if self.stop is None:
            log.info("the batch stops: %s", visible_line(self._scrub(stop.reason)))
            self.stop = stop
            self._context.stopped.set()
            self._context.limits.close()
            self._admission.cancel()

    async def stopped(self) -> None:
        """Wait until the batch is asked to stop."""
        await self._context.stopped.wait()

    @property
    def has_budget(self) -> bool:
        """Whether a budget can stop the batch: --budget was given, and answers cost something."""
        return self.reservations.budget is not None

    @property
    def rows_deferred(self) -> int:
        """Number of rows whose reply comes later."""
        return self._tally.deferred

    def statistics(self) -> EngineStatistics:
        """Return a snapshot for progress displays and tests."""
        return self._tally.snapshot(
            self._context.limits.statistics(), self.stop.reason if self.stop is not None else None
        )

    async def prepare(self) -> bool:
        """Prepare the service for the whole batch; return False and stop the batch if the service cannot be used.

        There is no deadline, since the upload of a thousand files takes minutes. Each request has its own time limit.
        """
        context, limits = self._context, self._context.limits
        spent = 0
        while not self._is_prepared:
            limits.health.sending(loop_time())
            try:
                await context.service.prepare()
                if limits.health.away:
                    limits.health.spoke()
                self._is_prepared = True
            except ServiceFault as fault:
                why = limits.failed(None, fault)
                ill = isinstance(fault, Unavailable | RateLimited | Shortage)
                spent += not ill
                decision = context.policy.decide(fault, max(spent, 1), context.random_unit(), ill=ill)
                if why is not None or isinstance(decision, GiveUp) or spent == PREPARE_ATTEMPTS:
                    reason = str(fault) if isinstance(fault, BatchRefused) else f"the service cannot be used: {fault}"
                    self.request_stop(Stop(why or reason, BatchRefused.exit_code), 0.0)
                    return False
                await anyio.sleep(max(decision.wait_s, limits.health.hold_s(loop_time())))
        return True

    async def _admit_rows(self, work: Iterable[RowWork], rows: RowTasks) -> None:
        self.reservations.rows_left = False
        for number, item in enumerate(work):
            if isinstance(item, RowTask):
                if self._refusals.in_doubt:
                    await self._refusals.resolved()
                if not (item.is_deferred or self._asks()):
                    continue
                reserved_usd = 0.0 if self.reservations.budget is None else await self._reserved(item)
                if reserved_usd is None:
                    if self.reservations.rows_left:
                        continue
                    self.request_stop(self.reservations.stop(item.prompt), GRACE_AFTER_REFUSAL_S)
                    return
                rows.start(self._row(item, await self._admitted(item), reserved_usd))
            else:
                self._without_request(item)
            if number % SKIPPED_ROWS_A_TURN == 0:
                await anyio.lowlevel.checkpoint()  # rows that never wait must not block the event loop

    async def _reserved(self, task: RowTask) -> float | None:
        """Return the money reserved for a row, as `Reservations.take`, when there is a slot for it. While it waits for
        a slot, it has no money: rows in flight may need that, and keep their slots until they get it."""
        limits = self._context.limits
        while True:
            if not limits.has_room():
                await limits.room()
            reserved_usd = await self.reservations.take(task.prompt, continues=task.continues)
            if reserved_usd is None or limits.has_room():
                return reserved_usd
            self.reservations.release(reserved_usd)

    async def _run_in_turn(self, work: PassWork, tasks: anyio.abc.TaskGroup, others: int) -> None:
        """Run rows of a pass one after the other: few of them wait, so that most need no task of their own.

        Args:
            work: shared with `others` more tasks, which begin while rows of this one wait.
        """
        while (item := await work.next()) is not None:
            if not isinstance(item, RowTask):
                self._without_request(item)
            elif item.is_deferred or self._asks():
                if others:
                    tasks.start_soon(self._run_in_turn, work, tasks, others - 1)
                    others = 0
                await self._row(item, await self._admitted(item), 0.0)

    async def _admitted(self, task: RowTask) -> Lease:
        """Wait for the limits, and count the row as one in flight."""
        if task.is_deferred:
            self._tally.continue_deferred()
        lease = await self._context.limits.admit(task.prompt.chars)
        self._tally.in_flight[task.prompt.row_key] = Flight(loop_time())
        return lease

    def _without_request(self, item: Failed | CachedRow | SkippedRow) -> None:
        """Record or count a row that is not sent."""
        if item is SkippedRow.FINISHED_BEFORE:
            self._tally.finished_before += 1
        elif item is SkippedRow.DUPLICATE:
            self._tally.asked_alike += 1
        elif item is SkippedRow.DEFERRED:
            self._tally.deferred += 1
        elif isinstance(item, CachedRow):
            self._context.journal.finish(item.outcome, item.fingerprint, ends=item.ends)
            self._ended.add(EndedRow(item.outcome, "cache"))
        else:
            self._context.journal.finish(item, fingerprint="")
            self._ended.add(EndedRow(item, "input"))

    async def _row(self, task: RowTask, lease: Lease, reserved_usd: float) -> None:
        row = RowRun(task, lease, self._context, reserved_usd)
        with lease:
            try:
                outcome = await row.outcome()
            except BatchRefused as refusal:
                self._stop_for(Stop(str(refusal), refusal.exit_code))
                outcome = None
            except BatchrunError:
                raise
            except Exception as bug:  # noqa: BLE001 - a bug in one row must not end the others
                outcome = self._broken(row, bug)
            finally:
                del self._tally.in_flight[task.prompt.row_key]
            if outcome is not None:
                lease.settle(row.usage.take_unsettled())
                if self.reservations.budget is not None:
                    self._settle(row, outcome, task.prompt)
                self._take(row, outcome, task.prompt.fingerprint, lease.sent_at_s)
        if row.is_deferred:
            self._tally.deferred += 1
            self.reservations.defer(task.prompt.row_key, row.reserved_usd)
        elif row.reserved_usd is None:
            self.request_stop(self.reservations.stop(task.prompt), GRACE_AFTER_REFUSAL_S)
        elif outcome is None:  # the batch stops, and other rows must not wait for its money
            self.reservations.release(row.reserved_usd, may_have_cost=row.attempts.may_have_cost)
        if outcome is not None and self._forget is not None:
            await self._context.journal.committed()
            left = await self._forget(task.prompt.row_key)
            self._tally.not_deleted += left  # in one step: `+= await` would read before other rows have counted

    def _asks(self) -> bool:
        return self.stop_after_pass is None  # else nothing more is asked, but replies that are there are taken

    def _stop_for(self, stop: Stop) -> None:
        """Stop the batch: at once, or after the pass."""
        if not self._defers:
            self.request_stop(stop, GRACE_AFTER_REFUSAL_S)
        elif self.stop_after_pass is None:
            self.stop_after_pass = stop

    def _settle(self, row: RowRun, outcome: Outcome, prompt: Prompt) -> None:
        """Count what a row has cost."""
        cost_usd, carried = outcome.cost_usd, self._carried(row.usage.charged, outcome)
        if carried is not None and cost_usd is not None:
            cost_usd -= carried.cost_usd or 0.0
        is_whole = row.usage.is_whole or self._defers
        if cost_usd is None and isinstance(outcome, Failed) and is_whole:
            self.reservations.release(row.reserved_usd)
        else:
            self.reservations.settle(row.reserved_usd, prompt, outcome.usage, cost_usd, is_whole=is_whole)

    def _finish_row(self, row: RowRun, outcome: Outcome, fingerprint: str) -> None:
        carried = self._carried(row.usage.charged, outcome)
        with_ids = row.attempts.has_unwritten_ids
        self._context.journal.finish(outcome, fingerprint, with_ids=with_ids, carried=carried)
        self._ended.add(EndedRow(outcome, "service", carried))

    def _broken(self, row: RowRun, bug: Exception) -> Failed:
        """Fail the row with a bug; stop the batch if the same line of code has broken several rows."""
        log.error("a row ended with a bug:\n%s", self._scrub("".join(traceback.format_exception(bug))))
        outcome = row.broken(bug)
        last = traceback.extract_tb(bug.__traceback__)[-1]
        self._bugs[last.filename, last.lineno] += 1
        if self._bugs[last.filename, last.lineno] == SAME_BUG:
            where = f"{last.filename}, line {last.lineno}"
            reason = f"{SAME_BUG} rows ended with the same internal error, the last: {outcome.error} ({where})"
            self.request_stop(Stop(self._scrub(reason), exit_code=1), GRACE_AFTER_REFUSAL_S)
        return replace(outcome, error=self._scrub(outcome.error))

    def _take(self, row: RowRun, outcome: Outcome, fingerprint: str, sent_at_s: float) -> None:
        """Record a row that ended. Hold a refused row back until it is known whether all other rows are refused too."""
        if row.refused is not None and isinstance(outcome, Failed) and not self._defers:
            if self.stop is None:  # else the stop may be due to such refusals, and the row runs again
                self._refusals.hold(RefusedRow(row, outcome, fingerprint, sent_at_s))
        else:
            self._finish_row(row, outcome, fingerprint)
            if isinstance(outcome, Completed):
                self._refusals.answers.came(sent_at_s)
        if self._refusals.in_doubt and not self._tally.in_flight:
            self._give_up()

    def _give_up(self) -> None:
        """Stop the batch for the rows that are held back: they are asked again by its next run."""
        self.request_stop(Stop(self._refusals.give_up(), BatchRefused.exit_code), GRACE_AFTER_REFUSAL_S)

    def _finish_refused(self, refused: RefusedRow) -> None:
        self._finish_row(refused.row, refused.outcome, refused.fingerprint)

    def _carried(self, usages: Sequence[Usage], outcome: Outcome) -> Carried | None:
        """Return the usage that the outcome shares with the row's earlier one, None if there is none."""
        if not usages:
            return None
        usage = sum_usage(usages)
        return Carried(usage, self._context.price(outcome.model, usage))

    # -- rows that ended --------------------------------------------------------------------------------------

    def _report(self, row: EndedRow) -> None:
        """Count and report a row whose outcome is committed, and stop the batch if most rows fail."""
        if row.origin == "cache":  # says nothing about the service now
            self._tally.from_cache += 1
        else:
            self._tally.count(row.outcome, row.carried)
            if self._context.trace is not None:
                self._context.trace.ended(row.outcome)
        self._on_outcome(row.outcome)
        if row.origin == "service":
            self._check_failures(row.outcome)

    def _check_failures(self, outcome: Outcome) -> None:
        """Stop a batch in which most rows fail: something is wrong, and it continues to cost money."""
        if not isinstance(outcome, Failed):
            return
        self._service_failures += 1
        tally = self._tally
        ended = tally.completed + tally.incomplete + self._service_failures
        if self._keep_going or ended < FAILURES_CHECKED_AFTER or self._service_failures * 2 <= ended:
            return
        self._stop_for(
            Stop(
                f"{self._service_failures} of the first {ended} rows failed, the last with {outcome.error_type}: "
                f"{outcome.error} (--keep-going continues anyway)",
                exit_code=3,
            )
        )
