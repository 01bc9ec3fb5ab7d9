"""What a row needs to run: its task, the settings of its dialogue, and everything that rows share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

import anyio

from batchrun.clock import WallClock
from batchrun.engine.attempts import Attempts
from batchrun.engine.dialogue import Check
from batchrun.engine.health import Trouble
from batchrun.engine.limits import Lease, Limits
from batchrun.engine.reservations import Reservations
from batchrun.engine.retry import RetryAfter, RetryPolicy
from batchrun.engine.service import CallTools, Service
from batchrun.engine.tally import Tally
from batchrun.engine.trace import RowTrace
from batchrun.errors import RateLimited, ServiceFault, Shortage
from batchrun.journal import Journal
from batchrun.records import Attempt, CallKey, Completed, Failed, JsonObject, Prompt, Reply, RunEnd, ToolOutput
from batchrun.token_usage import Usage

__all__ = [
    "CachedRow",
    "DialogueSettings",
    "LockThread",
    "Price",
    "RowContext",
    "RowTask",
    "RowWork",
    "SkippedRow",
    "completed_row",
]

Price: TypeAlias = Callable[[str | None, Usage], float | None]
"""(model, usage) → US dollars, None where the price is unknown."""

LockThread: TypeAlias = Callable[[str], AbstractAsyncContextManager[None]]
"""(thread_id) → lock of the thread; only the row that holds it may add to the thread."""


@dataclass(frozen=True, slots=True)
class RowTask:
    """A row to run.

    Attributes:
        last: the last attempt of an earlier run of the batch, None if there was none. If its run has ended, another
            run is made; otherwise the run is followed, or the request is repeated under the same key.
        ends: the runs that ended, for a row that needs more than one.
        outputs: outputs of the functions that were called already.
        redo_from_turn: the first turn to run again although the journal has it; None to keep all.
        billed: number of attempts already charged to an earlier outcome.
        first_end: the end of all runs with the first model, if the fallback model is asked; None before.
        spent: usage of earlier runs that no outcome has, and that are not in `ends`.
        is_deferred: the last attempt was deferred, and is continued under its own number.
        counted: failed attempts at the row's current run that count for the maximum.
        waited_s: seconds since the first request of the row, for one that was deferred.
    """

    prompt: Prompt
    last: Attempt | None = None
    ends: Sequence[RunEnd] = ()
    outputs: Mapping[CallKey, ToolOutput] = field(default_factory=dict)
    redo_from_turn: int | None = None
    billed: int = 0
    first_end: RunEnd | None = None
    spent: Sequence[Usage] = ()
    is_deferred: bool = False
    counted: int = 0
    waited_s: float = 0.0

    @property
    def continues(self) -> bool:
        """Whether the cost of what earlier runs of the batch have begun will be part of the row's cost."""
        follows = self.last is not None and self.last.run_id is not None and not self.last.run_ended
        return follows or bool(self.ends) or self.first_end is not None


@dataclass(frozen=True, slots=True)
class CachedRow:
    """A row whose answer is known from another batch: it is recorded, and nothing is sent.

    Attributes:
        outcome: costs nothing; its extras have `cached_from`.
        fingerprint: the fingerprint of the row's prompt.
        ends: the answers of its turns, for a row of several turns.
    """

    outcome: Completed
    fingerprint: str
    ends: Sequence[RunEnd] = ()


class SkippedRow(Enum):
    """Why a row of the input is not sent to the service."""

    FINISHED_BEFORE = "finished before"
    """An earlier run finished the row, and its outcome still holds."""
    DUPLICATE = "duplicate"
    """The row gets the answer of another row that asks the same."""
    DEFERRED = "deferred"
    """An earlier run deferred the row, and its reply is not there yet."""


RowWork: TypeAlias = RowTask | CachedRow | Failed | SkippedRow
"""The engine's input, one item per row: a row to ask, a row with the answer of another batch, a row that failed before
it could be asked, or a row to skip."""


@dataclass(frozen=True, slots=True)
class DialogueSettings:
    """Settings for rows that need more than one run.

    Attributes:
        recorded: rows may need more than one run, so each run that ends is written to the journal.
        call_tools: calls the user's functions; None if the batch has none.
        max_tool_rounds: maximum rounds of function calls in one turn.
        check: checks the form of the last turn's answer; None if any form is accepted.
        max_corrections: maximum requests to correct the form of an answer.
        fallback_model: the model to ask where the row's own gave no answer; None for no other.
    """

    recorded: bool = False
    call_tools: CallTools | None = None
    max_tool_rounds: int = 10
    check: Check | None = None
    max_corrections: int = 2
    fallback_model: str | None = None


@dataclass(frozen=True, slots=True)
class RowContext:
    """What all rows of a batch share.

    Attributes:
        stopped: set when the batch admits no more rows. A row that waits for its next attempt then ends without an
            outcome; the next run of the batch continues it.
        reservations: the money of rows.
        locks: locks of existing threads, so that rows use the same thread one after the other.
        trace: logs what happens to rows; None if the log is not enabled.
        defers: the service defers requests, so that no row waits before a retry.
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
    dialogue_settings: DialogueSettings
    reservations: Reservations
    locks: LockThread
    trace: RowTrace | None = None
    defers: bool = False

    @asynccontextmanager
    async def on_thread(
        self, lease: Lease, prompt: Prompt, reserved_usd: float | None, *, follows: bool
    ) -> AsyncIterator[float | None]:
        """Hold the lock of a row's thread; return the money reserved for the row, None if there is none.

        While the row waits, it has no turn and no money: the row that has the lock may need them.

        Args:
            follows: the row follows a run of an earlier run of the batch: it keeps its money, since that run is paid.
        """
        assert prompt.thread_id is not None
        self.limits.give_back(lease)
        if not follows:
            self.reservations.release(reserved_usd)
        async with self.locks(prompt.thread_id):
            yield reserved_usd if follows else await self.reservations.take(prompt)

    async def take_again(
        self, lease: Lease, prompt: Prompt, reserved_usd: float | None, *, is_known: bool
    ) -> float | None:
        """Reserve money for another request of a row: see `Reservations`. While it waits, it has no turn, since a row
        that waits for one may have the money."""
        self.limits.give_back(lease)
        return await self.reservations.take_again(prompt, reserved_usd, is_known=is_known)

    async def begin_attempt(
        self,
        lease: Lease,
        prompt: Prompt,
        attempts: Attempts,
        turn: int,
        redo_from_turn: int | None,
        reserved_usd: float | None,
    ) -> bool:
        """Wait in line and write the current attempt to the journal; return when that is committed and it may be sent.

        Returns False if the batch stopped before that. An attempt that is in the journal already is not written again.
        """
        if not await self.limits.next_attempt(lease):
            return False
        if attempts.is_begun:
            attempts.start()
            return True
        if self.reservations.budget is None:
            reserved_usd = None
        self.journal.begin_attempt(
            prompt, attempts.current, self.clock(), turn, redo_from_turn=redo_from_turn, reserved_usd=reserved_usd
        )
        attempts.start()
        if self.defers:
            return True  # the pass is committed before anything is sent
        try:
            await self.journal.committed()
        except anyio.get_cancelled_exc_class():
            self.journal.withdraw_attempt(prompt.row_key, attempts.current.number)  # it is not sent
            raise
        if not self.limits.step_back(lease) or await self.limits.next_attempt(lease):
            return True
        self.journal.withdraw_attempt(prompt.row_key, attempts.current.number)
        return False

    async def stopped_before_retry(
        self, row_key: str, fault: ServiceFault, decision: RetryAfter, trouble: Trouble
    ) -> bool:
        """Wait before a retry of a row; return whether the batch stopped meanwhile.

        A rate limit or a shortage concerns all rows: they wait together, in `Limits.next_attempt`. Only a row that
        meets rate limits alone waits by itself, and leaves its slot to another one.

        Args:
            trouble: the row's faults so far.
        """
        if (own_s := self.limits.health.own_wait_s(fault, trouble)) is not None:
            decision = RetryAfter(own_s, shared=False)
        if self.defers:
            return self.stopped.is_set()
        if isinstance(fault, RateLimited | Shortage) and own_s is None:
            self.tally.note(row_key, f"waits for its turn after {fault.error_type}")
            return self.stopped.is_set()
        if decision.shared:
            self.limits.cool_down(decision.wait_s, fault.error_type)
        self.tally.note(row_key, f"waits {decision.wait_s:.0f} s after an attempt that ended with {fault.error_type}")
        self.tally.retrying += 1
        try:
            with self.limits.apart() if own_s is not None else nullcontext(), anyio.move_on_after(decision.wait_s):
                await self.stopped.wait()
                return True
            return False
        finally:
            self.tally.retrying -= 1


def completed_row(
    context: RowContext,
    prompt: Prompt,
    reply: Reply,
    usage: Usage,
    *,
    attempts: int,
    elapsed_s: float,
    ids: tuple[str | None, str | None],
    extras: JsonObject | None,
) -> Completed:
    """Return the outcome of a row that has its answer.

    Args:
        usage: of all its runs.
        attempts: number of its last attempt.
        ids: the thread and the run.
    """
    assert reply.status == "completed" or reply.status == "incomplete"
    thread_id, run_id = ids
    return Completed(
        row_key=prompt.row_key,
        response=reply.response,
        thread_id=thread_id,
        run_id=run_id,
        model=reply.model,
        usage=usage,
        attempts=attempts,
        duration_s=round(elapsed_s, 3),
        completed_at=context.clock(),
        cost_usd=context.price(reply.model or prompt.model, usage),
        status=reply.status,
        reason=reply.reason,
        extras=extras or None,
    )
