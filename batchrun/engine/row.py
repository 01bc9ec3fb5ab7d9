"""One row, from its admission to its outcome: its runs, their tries, retries, re-attachment, the deadline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import anyio

from batchrun.clock import WallClock
from batchrun.engine.dialogue import Check, Dialogue, Misshapen, with_outputs
from batchrun.engine.limits import Lease, Limits
from batchrun.engine.retry import GiveUp, RetryAfter, RetryPolicy
from batchrun.engine.service import CallTools, Service
from batchrun.engine.tally import Tally
from batchrun.errors import BatchRefused, PermanentFault, RateLimited, Refused, RunLost, ServiceFault, Shortage, Silence
from batchrun.job.fingerprint import digest
from batchrun.journal import Journal
from batchrun.prompts.templates import PromptError
from batchrun.records import (
    EMPTY_ANSWER,
    Attempt,
    CallKey,
    Completed,
    Exchange,
    Failed,
    Outcome,
    Prompt,
    Reply,
    RunEnd,
    ToolOutput,
    Usage,
    sum_usage,
)

__all__ = ["DialogueSettings", "LockThread", "Price", "RowContext", "RowRun", "RowTask"]

CANCEL_TIMEOUT_S = 10.0

Price: TypeAlias = Callable[[str | None, Usage], float | None]
"""(model, usage) → US dollars, None where the price is unknown."""

LockThread: TypeAlias = Callable[[str], AbstractAsyncContextManager[None]]
"""(thread_id) → held by the one row that may go on with the thread now."""


@dataclass(frozen=True, slots=True)
class RowTask:
    """A row to be asked.

    Attributes:
        last: its last try in an earlier run, None for a row never tried. With `run_ended` another run is made;
            else its run is followed, or its request repeated under the same key.
        ends: the runs that ended, of a row that needs more than one.
        outputs: of functions that were called already.
        redo_from_turn: the first turn to run again although the journal has it; None to keep all.
        billed: tries whose runs an earlier outcome bears, with what they took.
    """

    prompt: Prompt
    last: Attempt | None = None
    ends: Sequence[RunEnd] = ()
    outputs: Mapping[CallKey, ToolOutput] = field(default_factory=dict)
    redo_from_turn: int | None = None
    billed: int = 0


@dataclass(frozen=True, slots=True)
class DialogueSettings:
    """How rows that are more than one question go on.

    Attributes:
        recorded: rows may need more than one run, so that each is kept in the journal.
        call_tools: calls the user's functions; None where there are none.
        max_tool_rounds: how often the model may ask for functions in one turn.
        check: of the form of the last turn's answer, None where any form does.
        max_corrections: how often the model is told what is wrong with it.
    """

    recorded: bool = False
    call_tools: CallTools | None = None
    max_tool_rounds: int = 10
    check: Check | None = None
    max_corrections: int = 2


@dataclass(frozen=True, slots=True)
class RowContext:
    """What all rows of a batch share.

    Attributes:
        stopped: set when the batch admits no more rows: a row that waits for its next try then ends without
            an outcome, to be continued by the next run.
        locks: of threads that are continued, so that rows go on with the same one in turn.
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
    locks: LockThread


class _ThreadGone(Exception):
    """What the row has said is not there any more: it has to be said again."""


class RowRun:
    """One row in flight.

    All state: `_dialogue`, the runs that ended; `_exchange`, what is asked now; `_attempt`, the try at hand (on disk
    before anything is sent, and again when its ids are seen), and `_tries`, the number of the last that was on disk;
    `_redo_from_turn`, the first turn to run again, until the journal knows it; `_has_restarted`, set once the thread
    was lost; `_billed`, the usage of runs that failed or were lost; `_outputs` of functions by call, on disk before
    they are sent; `unsettled`, the usage since tokens were last reserved; `ids_unwritten`: the ids of the try came with
    the reply, and are to be written with what it ended; and `refused`, the refusal that the row failed with,
    if it did.
    """

    def __init__(self, ask: RowTask, lease: Lease, context: RowContext) -> None:
        self._prompt = ask.prompt
        self._lease = lease
        self._context = context
        settings = context.dialogue_settings
        self._dialogue = Dialogue(ask.prompt, ask.ends, check=settings.check, max_corrections=settings.max_corrections)
        self._attempt = self._first_attempt(ask.last)
        self._exchange: Exchange
        self._billed: list[Usage] = []
        self._outputs = dict(ask.outputs)
        self._redo_from_turn = ask.redo_from_turn
        self._has_restarted = False
        self._tries = ask.last.number if ask.last is not None else 0
        self.carried = [end.reply.usage for end in ask.ends if end.attempt <= ask.billed]
        self.unsettled: list[Usage] = []
        self.ids_unwritten = False
        self.refused: Refused | None = None

    async def outcome(self) -> Outcome | None:
        """How the row ended; None if the batch stopped before it did.

        Raises:
            BatchRefused: every other row would end the same way.
            OutputError: the journal cannot be written.
        """
        if self._prompt.thread_id is None:
            return await self._through()
        async with self._context.locks(self._prompt.thread_id):
            return None if self._context.stopped.is_set() else await self._through()

    async def _through(self) -> Outcome | None:
        """Run after run, until nothing is left to ask."""
        fresh = False
        while True:
            try:
                exchange = self._dialogue.next()
            except PromptError as exc:
                return self._failed(exc.error_type, str(exc))
            except Misshapen as exc:
                return self._misshapen(exc)
            if exchange is None:
                return self._completed(self._dialogue.whole())
            self._exchange = exchange
            if fresh:
                self._attempt = self._another_run(self._attempt)
                await self._reserve()
            try:
                end = await self._answered()
            except _ThreadGone:
                self._restart()
                fresh = True
                continue
            if not isinstance(end, Reply):
                return end
            if end.status not in ("completed", "incomplete"):
                return self._run_failed(end)
            self._end(end)
            fresh = True

    async def _answered(self) -> Reply | Outcome | None:
        """The reply to the exchange at hand, after as many tries as it takes; or how the row ended without one."""
        context = self._context
        spent = 0
        while True:
            if not await context.limits.next_try(self._lease):
                return None
            number = self._exchange.turn.number
            context.journal.begin_attempt(
                self._prompt, self._attempt, context.clock(), number, redo_from_turn=self._redo_from_turn
            )
            self._redo_from_turn, self._tries = None, self._attempt.number
            try:
                reply = await self._try()
                if reply is None and self._lease.stopwatch.overslept:
                    raise Silence("this process was suspended while the row was in flight", error_type="suspended")
            except ServiceFault as fault:
                ill = self._is_ill(fault)
                spent += not ill
                decision = context.policy.decide(fault, max(spent, 1), context.random_unit(), ill=ill)
                if isinstance(decision, GiveUp):
                    if self._thread_is_gone(fault):
                        raise _ThreadGone from fault
                    if isinstance(fault, Refused) and not self._is_about_own_thread(fault):
                        self.refused = fault
                    return await self._given_up(fault)
                if await self._stopped_before_next(fault, decision):
                    return None
                self._attempt = self._next_attempt(fault)
                continue
            if reply is None:
                return await self._timed_out()
            if reply.reason != EMPTY_ANSWER:
                return reply
            if self._outputs or context.journal.was_empty(self._prompt.row_key, self._prompt.fingerprint, number):
                return reply  # behind functions another run would call them again
            self._attempt = self._after_nothing(reply)

    def _is_ill(self, fault: ServiceFault) -> bool:
        """Take in a fault: whether it is the service's, so that it costs the row no try.

        Raises:
            BatchRefused: every other row would end the same way, or the service has been ill for too long.
        """
        self._record(fault)
        limits = self._context.limits
        why = limits.failed(self._lease, fault)
        if isinstance(fault, BatchRefused):
            raise fault
        if why is not None:
            raise BatchRefused(why, error_type="service_unavailable") from fault
        return limits.health.is_ill(fault, self._lease.trouble, anyio.current_time())

    async def _stopped_before_next(self, fault: ServiceFault, decision: RetryAfter) -> bool:
        """Wait for the next try; whether the batch stopped meanwhile. What all rows wait for, they wait for in line."""
        if isinstance(fault, RateLimited | Shortage):
            self._say(f"waits for its turn after {fault.error_type}")
            return self._context.stopped.is_set()
        if decision.shared:
            self._context.limits.cool_down(decision.wait_s, fault.error_type)
        self._say(f"waits {decision.wait_s:.0f} s after a try that ended with {fault.error_type}")
        return await self._stopped_within(decision.wait_s)

    # -- one try ----------------------------------------------------------------------------------------

    async def _try(self) -> Reply | None:
        """The reply to the exchange at hand; None if the row's time ran out."""
        reply: Reply | None = None
        with self._lease.stopwatch.running():
            reply = await self._ended()
        return reply  # noqa: RET504 - where time runs out, the block is left without one

    async def _ended(self) -> Reply:
        """Make or follow the run, and answer the calls of functions that it makes, until it calls none."""
        service = self._context.service
        left = self._calls_left()
        if left is not None:
            self._exchange = await self._with_outputs(self._exchange, left)
        if self._attempt.run_id is not None:
            self._say(f"asks for {self._attempt.run_id} by its id")
            reply = await service.follow(self._exchange, self._attempt, self._seen)
        else:
            reply = await service.answer(self._exchange, self._attempt, self._seen)
        while reply.calls:
            exchange = await self._round(reply)
            reply = await service.answer(exchange, self._attempt, self._seen)
        return reply

    def _calls_left(self) -> RunEnd | None:
        """The run of an earlier batch run whose calls of functions were not answered."""
        last = self._dialogue.last
        return last if last is not None and last.reply.calls and not self._exchange.outputs else None

    async def _round(self, reply: Reply) -> Exchange:
        """Answer the calls of a run: the exchange that goes on with the outputs.

        Raises:
            PermanentFault: nobody here can call functions, or the model does not stop asking for them.
        """
        settings, attempt = self._context.dialogue_settings, self._attempt
        # One run, whatever the number of rounds: a try after this one begins with the run, not with outputs.
        waiting = RunEnd(0, 0, 0, "", reply, attempt.thread_id, attempt.run_id) if reply.waiting else None
        asked_again = waiting is not None and waiting.calls_by_key().keys() <= self._outputs.keys()
        round_ = self._exchange.round + (not asked_again)
        fault = None
        if settings.call_tools is None:
            fault = PermanentFault(
                "the model asks for a function to be called, and this batch has no functions (--tools)",
                error_type="requires_action",
            )
        elif round_ > settings.max_tool_rounds:
            fault = PermanentFault(
                f"the model asks for functions more than {settings.max_tool_rounds} times (--max-tool-rounds)",
                error_type="too_many_tool_rounds",
            )
        if fault is not None:
            fault.run_ended = not reply.waiting
            fault.usage = None if reply.waiting else reply.usage
            raise fault
        if waiting is not None:
            exchange = await self._with_outputs(replace(self._exchange, round=round_), waiting)
            self._exchange = replace(self._exchange, round=exchange.round, partial_text=exchange.partial_text)
            return exchange
        end = self._end(reply)
        self._attempt = replace(self._attempt, run_id=None)  # it ended: nothing is left to be followed, or stopped
        self._exchange = await self._with_outputs(replace(self._exchange, round=round_), end)
        return self._exchange

    async def _with_outputs(self, exchange: Exchange, end: RunEnd) -> Exchange:
        """Call the functions that `end` asks for, each call once, however often it is asked about."""
        context, prompt = self._context, self._prompt
        calls = end.calls_by_key()
        new = {key: call for key, call in calls.items() if key not in self._outputs}
        assert context.dialogue_settings.call_tools is not None
        self._say(f"waits for {', '.join(call.name for call in new.values()) or 'the run'} to end")
        made = await context.dialogue_settings.call_tools(list(new.values())) if new else ()
        for key, output in zip(new, made, strict=True):
            self._outputs[key] = output
            context.journal.exchanges.add_output(prompt.row_key, prompt.fingerprint, exchange.turn.number, key, output)
        context.tally.tool_calls += len(made)
        context.tally.tool_errors += sum(output.failed for output in made)
        return with_outputs(exchange, end, tuple(self._outputs[key] for key in calls))

    def _end(self, reply: Reply) -> RunEnd:
        """A run has ended: remember it, here and (where rows need more than one) in the journal."""
        self._context.limits.answered(self._lease)
        attempt = self._attempt
        end = self._dialogue.add(self._exchange, reply, attempt.number, attempt.thread_id, attempt.run_id)
        self.unsettled.append(reply.usage)
        if self._context.dialogue_settings.recorded:
            self._context.journal.run_ended(
                self._prompt.row_key, self._prompt.fingerprint, end, with_ids=self.ids_unwritten
            )
            self.ids_unwritten = False
        return end

    async def _reserve(self) -> None:
        """Another run of the row: settle what the last took, and set aside what this one may take."""
        usage, self.unsettled = sum_usage(self.unsettled), []
        await self._context.limits.readmit(self._lease, usage, self._dialogue.chars(self._exchange))

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
            self._context.journal.set_ids(self._prompt.row_key, self._attempt.number, thread_id, run_id)

    def _record(self, fault: ServiceFault) -> None:
        self._context.tally.faults += 1
        if self.ids_unwritten:
            self._seen(self._attempt.thread_id, self._attempt.run_id)
        if fault.usage is not None:
            self._billed.append(fault.usage)
            self.unsettled.append(fault.usage)
        if isinstance(fault, PermanentFault) and self._attempt.run_id is None:
            # Refused for good: a service that keeps its replies by key would refuse the key again.
            fault.run_ended = True
        if fault.run_ended:
            self._attempt = replace(self._attempt, run_ended=True)
        self._context.journal.record_fault(self._prompt.row_key, self._attempt.number, fault)

    def _after_nothing(self, reply: Reply) -> Attempt:
        """The answer is empty: it has been paid for, and another run is asked for one that is not."""
        fault = ServiceFault("the answer is empty", error_type=EMPTY_ANSWER, run_ended=True, usage=reply.usage)
        self._record(fault)
        return self._next_attempt(fault)

    def _thread_is_gone(self, fault: ServiceFault) -> bool:
        """Whether the service does not know the row's own thread any more, which it has answered on before."""
        if self._prompt.thread_id is not None or not self._dialogue.ends or self._has_restarted:
            return False
        if fault.status_code != 404 and fault.error_type != "previous_response_not_found":
            return False
        return any(
            name is not None and name in str(fault) for name in (self._exchange.thread_id, self._exchange.previous_id)
        )

    def _restart(self) -> None:
        """Ask from the first turn, on another thread. What was said on the lost one has been paid for."""
        self._context.tally.created_again += 1
        self._billed += self._dialogue.usages()
        self._dialogue.ends.clear()
        self._outputs.clear()
        self._redo_from_turn, self._has_restarted = 1, True

    def _is_about_own_thread(self, fault: ServiceFault) -> bool:
        """Whether the service does not know the thread that the table names for this row."""
        return fault.status_code == 404 and self._prompt.thread_id is not None

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
        end = self._dialogue.last
        if last.run_ended or (end is not None and end.attempt >= last.number and not end.reply.calls):
            return self._another_run(last)
        if end is not None and end.reply.calls and end.run_id == last.run_id:
            # It ended; its calls are to be answered.
            return replace(last, number=last.number + 1, run_id=None, unseen=True)
        if last.run_id is None and last.unseen:
            self._context.tally.created_again += 1
        return replace(last, number=last.number + 1, unseen=True)

    def _next_attempt(self, fault: ServiceFault) -> Attempt:
        attempt = self._attempt
        if isinstance(fault, RunLost):
            self._context.tally.created_again += 1
            if not attempt.run_ended:
                # Nothing can be looked up there, but the key may still stand for the run.
                return replace(attempt, number=attempt.number + 1, run_id=None)
        if not attempt.run_ended:
            # Under the same key a service that honours it answers with the run that it may have made already.
            if attempt.run_id is None and fault.unseen:
                self._context.tally.created_again += 1
            return replace(attempt, number=attempt.number + 1)
        if not self._exchange.outputs:
            self._exchange = replace(self._exchange, partial_text="", round=0)  # another run begins with the message
        return self._another_run(attempt)

    def _another_run(self, last: Attempt) -> Attempt:
        generation = last.generation + 1
        return Attempt(last.number + 1, generation, self._key(generation))

    def _key(self, generation: int) -> str:
        row_key = self._prompt.row_key
        plain = row_key if row_key.isalnum() and row_key.isascii() and len(row_key) <= 40 else digest(row_key)
        return f"{self._context.batch_id}-{plain}-{generation}"

    # -- ends ---------------------------------------------------------------------------------------------

    async def _given_up(self, fault: ServiceFault) -> Reply | Outcome:
        """The row fails, unless its run has ended well without our seeing it."""
        try:
            with anyio.move_on_after(CANCEL_TIMEOUT_S):
                late = await self._stop_run(fault)
                if late is not None and not late.calls:
                    return late
        except ServiceFault:
            pass  # the row's own fault is what counts; the run's id stays in the journal
        return self._failed(fault.error_type, self._at_turn(str(fault), self._exchange.turn.number))

    async def _stop_run(self, fault: ServiceFault) -> Reply | None:
        """Stop a run that may still be going, so that it costs no more; one that refuses may have ended: see how."""
        attempt = self._attempt
        if attempt.run_id is None or attempt.run_ended:
            return None
        try:
            await self._context.service.cancel(self._exchange, attempt)
        except PermanentFault:
            return await self._context.service.follow(self._exchange, attempt, self._seen)
        fault.run_ended = True
        self._context.journal.record_fault(self._prompt.row_key, attempt.number, fault)
        return None

    async def _timed_out(self) -> Reply | Outcome:
        limit_s = self._lease.stopwatch.limit_s
        fault = Silence(f"not finished within {limit_s:g} s (--row-timeout)", error_type="row_timeout")
        self._record(fault)
        self._context.limits.timed_out(self._lease)
        return await self._given_up(fault)

    def _usage(self) -> Usage:
        """All that the row took so far."""
        return sum_usage([*self._billed, *self._dialogue.usages()])

    def _extras(self) -> Mapping[str, Any] | None:
        """What all runs of the row have beside their texts, and what became of the calls of functions."""
        extras = dict(self._dialogue.extras() or {})
        if self._context.dialogue_settings.call_tools is not None:
            failed = sum(output.failed for output in self._outputs.values())
            extras |= {"tool_calls": len(self._outputs), "tool_errors": failed}
        return extras or None

    def _ids(self) -> tuple[str | None, str | None]:
        """The thread and the run of the try at hand, or else of the run that ended last."""
        attempt, end = self._attempt, self._dialogue.last
        if end is None or attempt.run_id is not None:
            return attempt.thread_id, attempt.run_id
        return end.thread_id, end.run_id

    def _failed(self, error_type: str, error: str, reply: Reply | None = None) -> Failed:
        """
        Args:
            reply: of the run that failed, where there is one; else the last run that ended has the row's text.
        """
        usage = self._usage()
        thread_id, run_id = self._ids()
        end = self._dialogue.last
        last = reply if reply is not None else end.reply if end is not None else None
        model = last.model if last is not None else None
        known = bool(self._billed or self._dialogue.ends)
        status = reply.status if reply is not None else "failed"
        assert status == "failed" or status == "expired" or status == "cancelled"
        return Failed(
            row_key=self._prompt.row_key,
            error_type=error_type,
            error=error,
            attempts=self._tries,
            duration_s=round(self._lease.stopwatch.elapsed_s, 3),
            completed_at=self._context.clock(),
            thread_id=thread_id,
            run_id=run_id,
            model=model,
            usage=usage,
            cost_usd=self._context.price(model or self._prompt.model, usage) if known else None,
            response=(last.response or None) if last is not None else None,
            status=status,
            extras=self._extras(),
        )

    def broken(self, bug: Exception) -> Failed:
        """The row's outcome after an exception that nobody foresaw. Its run may still be going on."""
        return self._failed(
            "internal_error", f"{type(bug).__name__}: {' '.join(str(bug).split())} (a bug; see the log)"
        )

    def _misshapen(self, problem: Misshapen) -> Failed:
        """The answers are kept: the last one in the row, the others in the journal."""
        end = self._dialogue.last
        assert end is not None
        words = f"the answer does not have the form asked for: {' '.join(str(problem).split())}"
        fault = PermanentFault(words, error_type="schema_mismatch", run_ended=True)
        self._context.journal.record_fault(self._prompt.row_key, self._tries, fault)
        return self._failed(fault.error_type, self._at_turn(words, end.turn))

    def _at_turn(self, error: str, turn: int) -> str:
        return f"turn {turn}: {error}" if self._prompt.later is not None else error

    def _run_failed(self, reply: Reply) -> Failed:
        """A run that ended badly, so that another would not help."""
        self._billed.append(reply.usage)
        self.unsettled.append(reply.usage)
        error_type = reply.reason or "run_failed"
        fault = ServiceFault(reply.error or "", error_type=error_type, run_ended=True)
        self._context.limits.failed(self._lease, fault)
        self._context.journal.record_fault(self._prompt.row_key, self._tries, fault)
        error = reply.error or f"the run ended as {reply.status}"
        return self._failed(error_type, self._at_turn(error, self._exchange.turn.number), reply)

    def _completed(self, reply: Reply) -> Completed:
        usage = self._usage()
        thread_id, run_id = self._ids()
        assert reply.status == "completed" or reply.status == "incomplete"
        return Completed(
            row_key=self._prompt.row_key,
            response=reply.response,
            thread_id=thread_id,
            run_id=run_id,
            model=reply.model,
            usage=usage,
            attempts=self._tries,
            duration_s=round(self._lease.stopwatch.elapsed_s, 3),
            completed_at=self._context.clock(),
            cost_usd=self._context.price(reply.model or self._prompt.model, usage),
            status=reply.status,
            reason=reply.reason,
            extras=self._extras(),
        )
