"""One row, from its admission to its outcome: tries, retries, re-attachment, the deadline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import anyio

from batchrun.clock import WallClock
from batchrun.engine.limits import Lease, Limits
from batchrun.engine.retry import GiveUp, RetryPolicy
from batchrun.engine.tally import Tally
from batchrun.errors import BatchRefused, ConnectionLost, PermanentFault, RateLimited, RunLost, ServiceFault, Silence
from batchrun.job import digest
from batchrun.journal import Journal
from batchrun.records import Attempt, Completed, Failed, Outcome, Prompt, Usage, sum_usage
from batchrun.services.base import Reply, Service

__all__ = ["Ask", "Price", "RowContext", "RowRun"]

CANCEL_TIMEOUT_S = 10.0

NOT_ACTED_ON = (409, 429)
"""Statuses that say that nothing was done. Behind a 5xx, or no reply at all, a run may have been made."""

Price: TypeAlias = Callable[[str | None, Usage], float | None]
"""(model, usage) → US dollars, None where the price is unknown."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A row to be asked.

    Attributes:
        last: its last try in an earlier run, None for a row never tried. With `run_ended` another run is made;
            else its run is followed, or its request repeated under the same key.
    """

    prompt: Prompt
    last: Attempt | None = None


@dataclass(frozen=True, slots=True)
class RowContext:
    """What all rows of a batch share.

    Attributes:
        stopped: set when the batch admits no more rows: a row that waits for its next try then ends without
            an outcome, to be continued by the next run.
    """

    service: Service
    journal: Journal
    limits: Limits
    policy: RetryPolicy
    batch_id: str
    price: Price
    clock: WallClock
    random_unit: Callable[[], float]
    tally: Tally
    stopped: anyio.Event


class RowRun:
    """One row in flight.

    All state: `_attempt`, the try at hand (on disk before anything is sent, and again when its ids are seen),
    `_billed`, the usage of runs that failed, and `ids_unwritten`: the ids of the try came with the reply, and are to be
    written with the outcome.
    """

    def __init__(self, ask: Ask, lease: Lease, context: RowContext) -> None:
        self._prompt = ask.prompt
        self._lease = lease
        self._context = context
        self._attempt = self._first_attempt(ask.last)
        self._billed: list[Usage] = []
        self.ids_unwritten = False

    async def outcome(self) -> Outcome | None:
        """How the row ended; None if the batch stopped before it did.

        Raises:
            BatchRefused: every other row would end the same way.
            OutputError: the journal cannot be written.
        """
        context = self._context
        tries = 0
        while True:
            tries += 1
            context.journal.begin(self._prompt, self._attempt, context.clock())
            try:
                reply = await self._try()
                if reply is None and self._lease.stopwatch.overslept:
                    raise Silence("this process was suspended while the row was in flight", error_type="suspended")
            except ServiceFault as fault:
                self._record(fault)
                if isinstance(fault, RateLimited):
                    context.limits.rate_limited(self._lease)
                if isinstance(fault, BatchRefused):
                    raise
                decision = context.policy.decide(fault, tries, context.random_unit())
                if isinstance(decision, GiveUp):
                    if isinstance(fault, ConnectionLost) and not fault.connected and not context.limits.replies:
                        # Nobody has ever answered: every other row would fail the same way.
                        raise BatchRefused(
                            f"the service cannot be reached: {fault}", error_type="unreachable"
                        ) from fault
                    return await self._given_up(fault)
                if decision.shared:
                    context.limits.cool_down(decision.wait_s)
                self._say(f"waits {decision.wait_s:.0f} s after try {tries}, which ended with {fault.error_type}")
                if await self._stopped_within(decision.wait_s):
                    return None
                self._attempt = self._next_attempt(fault)
                continue
            if reply is None:
                return await self._timed_out()
            return self._ended(reply)

    # -- one try ----------------------------------------------------------------------------------------

    async def _try(self) -> Reply | None:
        """Make or follow the run; None if the row's time ran out."""
        service = self._context.service
        reply: Reply | None = None
        with self._lease.stopwatch.running():
            if self._attempt.run_id is not None:
                self._say(f"asks for {self._attempt.run_id} by its id")
                reply = await service.follow(self._prompt, self._attempt, self._seen)
            else:
                reply = await service.answer(self._prompt, self._attempt, self._seen)
        return reply

    def _say(self, doing: str) -> None:
        """Tell displays what this row waits for."""
        flight = self._context.tally.in_flight.get(self._prompt.row_key)
        if flight is not None:
            flight.doing = doing

    def _seen(self, thread_id: str | None, run_id: str | None, *, with_reply: bool = False) -> None:
        self._attempt = replace(self._attempt, thread_id=thread_id, run_id=run_id)
        self.ids_unwritten = with_reply
        if not with_reply:
            self._say(f"waits for {run_id or thread_id} to end")
            self._context.journal.seen(self._prompt.row_key, self._attempt.number, thread_id, run_id)

    def _record(self, fault: ServiceFault) -> None:
        self._context.tally.faults += 1
        if self.ids_unwritten:
            self._seen(self._attempt.thread_id, self._attempt.run_id)
        if fault.usage is not None:
            self._billed.append(fault.usage)
        if isinstance(fault, PermanentFault) and self._attempt.run_id is None:
            # Refused for good: a service that keeps its replies by key would refuse the key again.
            fault.run_ended = True
        if fault.run_ended:
            self._attempt = replace(self._attempt, run_ended=True)
        self._context.journal.fault(self._prompt.row_key, self._attempt.number, fault)

    async def _stopped_within(self, wait_s: float) -> bool:
        self._context.tally.retrying += 1
        try:
            with anyio.move_on_after(wait_s):
                await self._context.stopped.wait()
                return True
            return False
        finally:
            self._context.tally.retrying -= 1

    # -- which try comes next -----------------------------------------------------------------------------

    def _first_attempt(self, last: Attempt | None) -> Attempt:
        if last is None:
            return Attempt(1, 1, self._key(1))
        if last.run_ended:
            generation = last.generation + 1
            return Attempt(last.number + 1, generation, self._key(generation))
        if last.run_id is None:
            self._context.tally.created_again += 1
        return replace(last, number=last.number + 1)

    def _next_attempt(self, fault: ServiceFault) -> Attempt:
        attempt = self._attempt
        if isinstance(fault, RunLost):
            self._context.tally.created_again += 1
            if not attempt.run_ended:
                # Nothing can be looked up there, but the key may still stand for the run.
                return replace(attempt, number=attempt.number + 1, run_id=None)
        if not attempt.run_ended:
            # Under the same key a service that honours it answers with the run that it may have made already.
            certainly_nothing = isinstance(fault, ConnectionLost) and not fault.connected
            if attempt.run_id is None and fault.status_code not in NOT_ACTED_ON and not certainly_nothing:
                self._context.tally.created_again += 1
            return replace(attempt, number=attempt.number + 1)
        generation = attempt.generation + 1
        return Attempt(attempt.number + 1, generation, self._key(generation))

    def _key(self, generation: int) -> str:
        row_key = self._prompt.row_key
        plain = row_key if row_key.isalnum() and row_key.isascii() and len(row_key) <= 40 else digest(row_key)
        return f"{self._context.batch_id}-{plain}-{generation}"

    # -- ends ---------------------------------------------------------------------------------------------

    async def _given_up(self, fault: ServiceFault) -> Outcome:
        """The row fails, unless its run has ended well without our seeing it."""
        try:
            with anyio.move_on_after(CANCEL_TIMEOUT_S):
                late = await self._stop_run(fault)
                if late is not None:
                    return self._ended(late)
        except ServiceFault:
            pass  # the row's own fault is what counts; the run's id stays in the journal
        return self._failed(fault)

    async def _stop_run(self, fault: ServiceFault) -> Reply | None:
        """Stop a run that may still be going, so that it costs no more; one that refuses may have ended: see how."""
        attempt = self._attempt
        if attempt.run_id is None or attempt.run_ended:
            return None
        try:
            await self._context.service.cancel(attempt)
        except PermanentFault:
            return await self._context.service.follow(self._prompt, attempt, self._seen)
        fault.run_ended = True
        self._context.journal.fault(self._prompt.row_key, attempt.number, fault)
        return None

    async def _timed_out(self) -> Outcome:
        limit_s = self._lease.stopwatch.limit_s
        fault = ServiceFault(f"not finished within {limit_s:g} s (--row-timeout)", error_type="row_timeout")
        self._record(fault)
        return await self._given_up(fault)

    def _failed(self, fault: ServiceFault) -> Failed:
        attempt = self._attempt
        usage = sum_usage(self._billed)
        return Failed(
            row_key=self._prompt.row_key,
            error_type=fault.error_type,
            error=str(fault),
            attempts=attempt.number,
            duration_s=round(self._lease.stopwatch.elapsed_s, 3),
            completed_at=self._context.clock(),
            thread_id=attempt.thread_id,
            run_id=attempt.run_id,
            usage=usage,
            cost_usd=self._context.price(None, usage) if self._billed else None,
        )

    def _ended(self, reply: Reply) -> Outcome:
        attempt = self._attempt
        usage = sum_usage([*self._billed, reply.usage])
        cost_usd = self._context.price(reply.model, usage)
        duration_s = round(self._lease.stopwatch.elapsed_s, 3)
        completed_at = self._context.clock()
        if reply.status == "completed" or reply.status == "incomplete":
            return Completed(
                row_key=self._prompt.row_key,
                response=reply.response,
                thread_id=attempt.thread_id,
                run_id=attempt.run_id,
                model=reply.model,
                usage=usage,
                attempts=attempt.number,
                duration_s=duration_s,
                completed_at=completed_at,
                cost_usd=cost_usd,
                status=reply.status,
                reason=reply.reason,
            )
        self._context.journal.fault(
            self._prompt.row_key,
            attempt.number,
            ServiceFault(reply.error or "", error_type=reply.reason or "run_failed", run_ended=True),
        )
        return Failed(
            row_key=self._prompt.row_key,
            error_type=reply.reason or "run_failed",
            error=reply.error or f"the run ended as {reply.status}",
            attempts=attempt.number,
            duration_s=duration_s,
            completed_at=completed_at,
            thread_id=attempt.thread_id,
            run_id=attempt.run_id,
            model=reply.model,
            usage=usage,
            cost_usd=cost_usd,
            response=reply.response or None,
            status=reply.status,
        )
