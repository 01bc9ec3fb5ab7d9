"""One row, from its admission to its outcome: run after run, each with its retries, until nothing is left to ask."""

from __future__ import annotations

from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import replace

import anyio

from batchrun.engine import fallback
from batchrun.engine.attempts import Attempts, ThreadGone, names_lost
from batchrun.engine.dialogue import Dialogue, Misshapen
from batchrun.engine.function_calls import FunctionCalls
from batchrun.engine.limits import Lease
from batchrun.engine.retry import GiveUp, RetryAfter
from batchrun.engine.row_context import RowContext, RowTask, completed_row
from batchrun.engine.row_usage import RowUsage
from batchrun.errors import BatchRefused, Deferred, PermanentFault, Refused, ServiceFault, Silence
from batchrun.journal.service_batches import is_custom_id
from batchrun.prompts.templates import PromptError
from batchrun.records import EMPTY_ANSWER, Completed, Exchange, Failed, JsonObject, Outcome, Reply, RunEnd

__all__ = ["RowRun"]

CANCEL_TIMEOUT_S = 10.0


class RowRun:
    """One row in flight.

    Mutable state: `_first_end`, set when the fallback model is asked, as is `_prompt` then; `_model_fault`, the
    fault that failed the row; `_exchange`, the request at hand; `_redo_from_turn`, the first turn to run again,
    until the journal knows it; `_has_restarted`, set once the thread was lost; `refused`, the refusal that failed
    the row, if any; `is_deferred`, set when the row ends because its reply comes later; `reserved_usd`, the money
    reserved for it, None when it ends because there is none for another request; and the state of its parts:
    `_dialogue`, `attempts`, `_calls`, `usage`.
    """

    def __init__(self, task: RowTask, lease: Lease, context: RowContext, reserved_usd: float) -> None:
        self._own = task.prompt.own
        self._lease = lease
        self._context = context
        settings = context.dialogue_settings
        self._first_end = task.first_end
        self._prompt = task.prompt if task.first_end is None else fallback.asked_of(task.prompt, task.first_end.asked)
        self._model_fault: ServiceFault | None = None
        self._dialogue = Dialogue(
            self._prompt, task.ends, check=settings.check, max_corrections=settings.max_corrections
        )
        self.attempts = Attempts(
            task.prompt.row_key,
            context.batch_id,
            context.policy,
            task.last,
            self._dialogue.last,
            is_deferred=task.is_deferred,
            counted=task.counted,
        )
        lease.stopwatch.elapsed_s = task.waited_s
        self._calls = FunctionCalls(self._prompt, task.outputs, context)
        self.usage = RowUsage([end.reply.usage for end in task.ends if end.attempt <= task.billed], task.spent)
        self._exchange: Exchange
        self._redo_from_turn = task.redo_from_turn
        self._has_restarted = self.is_deferred = False
        self.refused: Refused | BatchRefused | None = None
        self.reserved_usd: float | None = reserved_usd
        context.tally.created_again += self.attempts.is_repeat

    def outcome(self) -> Awaitable[Outcome | None]:
        """Run the row; return its outcome, or None if the batch stopped before the row ended or its reply comes later.

        Raises:
            BatchRefused: every other row would end the same way.
            OutputError: the journal cannot be written.
        """
        return self._ask_models() if self._prompt.thread_id is None else self._ask_in_turn()

    async def _ask_in_turn(self) -> Outcome | None:
        context, follows = self._context, self.attempts.follows_earlier_run
        async with context.on_thread(self._lease, self._prompt, self.reserved_usd, follows=follows) as reserved_usd:
            self.reserved_usd = reserved_usd
            return None if reserved_usd is None or context.stopped.is_set() else await self._ask_models()

    async def _ask_models(self) -> Outcome | None:
        """Ask the row's model, and the fallback model if that one gives no answer."""
        outcome = await self._run_dialogue()
        other = self._context.dialogue_settings.fallback_model
        if outcome is None or other is None:
            return outcome
        is_first = self._first_end is None and other != self._prompt.model
        if is_first and fallback.fails_with_model(outcome, self._model_fault):
            self._fall_back(outcome, other)
            outcome = await self._run_dialogue()
        return outcome if self._first_end is None else fallback.named(outcome, self._first_end)

    async def _run_dialogue(self) -> Outcome | None:
        """Make run after run, until nothing is left to ask."""
        while True:
            try:
                exchange = self._dialogue.next()
            except PromptError as exc:
                return self._failed(exc.error_type, str(exc))
            except Misshapen as exc:
                return self._misshapen(exc)
            if exchange is None:
                return self._completed(self._dialogue.answer())
            self._exchange = exchange
            if self.attempts.current.number == self.attempts.started:
                self.attempts.next_run()
                await self._context.limits.readmit(
                    self._lease, self.usage.take_unsettled(), self._dialogue.chars(exchange)
                )
            try:
                end = await self._run()
            except ThreadGone:
                self._restart()
                continue
            if not isinstance(end, Reply):
                return end
            if end.status not in ("completed", "incomplete"):
                return self._run_failed(end)
            self._end_run(end)

    async def _run(self) -> Reply | Outcome | None:
        """Return the reply to the exchange at hand, after as many attempts as it takes.

        Returns the row's outcome if there is no reply, and None if the batch stopped before the row ended or its reply
        comes later.
        """
        context, attempts = self._context, self.attempts
        while self.reserved_usd is not None and await self._begin_attempt():
            if context.trace is not None:
                context.trace.begin(self._prompt.row_key, attempts.current.number)
            try:
                reply: Reply | None = None  # if the time runs out, the block is left without one
                with self._lease.stopwatch.running():
                    reply = await self._reply()
                if reply is None and self._lease.stopwatch.overslept:
                    raise Silence("this process was suspended while the row was in flight", error_type="suspended")
            except ServiceFault as fault:
                decision = self._decide(fault)
                self._trace_fault(fault, decision)
                if isinstance(decision, GiveUp):
                    return await self._give_up(fault)
                if await context.stopped_before_retry(self._prompt.row_key, fault, decision, self._lease.trouble):
                    return None
                await self._retry(fault)
                continue
            except Deferred:
                self.is_deferred = True
                return None
            if reply is None:
                return await self._timed_out()
            if reply.status == "completed" or not await self._replaces(reply):
                return reply
        return None

    def _begin_attempt(self) -> Awaitable[bool]:
        redo, self._redo_from_turn, turn = self._redo_from_turn, None, self._exchange.turn.number
        return self._context.begin_attempt(self._lease, self._prompt, self.attempts, turn, redo, self.reserved_usd)

    # -- one attempt ----------------------------------------------------------------------------------------

    async def _reply(self) -> Reply:
        """Make or follow the run, and answer its function calls until it makes no more."""
        service, attempts, last = self._context.service, self.attempts, self._dialogue.last
        if last is not None and last.reply.calls and not self._exchange.outputs:
            # An earlier run of the batch ended before it answered these calls.
            self._exchange = await self._calls.answer(self._exchange, last)
        if attempts.current.run_id is not None:
            self._note(f"asks for {attempts.current.run_id} by its id")
            reply = await service.follow(self._exchange, attempts.current, self._on_ids)
        else:
            reply = await service.answer(self._exchange, attempts.current, self._on_ids)
        while reply.calls:
            exchange = await self._answer_calls(reply)
            reply = await service.answer(exchange, attempts.current, self._on_ids)
        return reply

    async def _answer_calls(self, reply: Reply) -> Exchange:
        """Call the functions that `reply` asks for; return the exchange that sends their outputs.

        Raises:
            PermanentFault: the batch has no functions, or the model has asked for too many rounds.
        """
        attempt = self.attempts.current
        if not reply.waiting:
            round_ = self._calls.round_after(self._exchange, reply, None)
            end = self._end_run(reply)
            self.attempts.leave_run()
            self._exchange = await self._calls.answer(replace(self._exchange, round=round_), end)
            return self._exchange
        # One run, whatever the number of rounds: a retry begins with the run, so the outputs are not kept here.
        waiting = RunEnd(0, 0, 0, "", reply, attempt.thread_id, attempt.run_id)
        round_ = self._calls.round_after(self._exchange, reply, waiting)
        exchange = await self._calls.answer(replace(self._exchange, round=round_), waiting)
        self._exchange = replace(self._exchange, round=round_, partial=exchange.partial)
        return exchange

    def _on_ids(self, thread_id: str | None, run_id: str | None, *, with_reply: bool = False) -> None:
        self.attempts.set_ids(thread_id, run_id, with_reply=with_reply)
        if not with_reply:
            self._note(f"waits for {run_id or thread_id} to end")
            self._context.journal.set_ids(self._prompt.row_key, self.attempts.current.number, thread_id, run_id)

    def _end_run(self, reply: Reply) -> RunEnd:
        """Add a run that ended well to the dialogue, and to the journal if rows need more than one run."""
        self._context.limits.answered(self._lease)
        attempt = self.attempts.current
        end = self._dialogue.add(self._exchange, reply, attempt.number, attempt.thread_id, attempt.run_id)
        self.usage.add(reply.usage)
        if self._context.dialogue_settings.recorded:
            with_ids = self.attempts.take_unwritten_ids()
            self._context.journal.run_ended(self._prompt.row_key, self._prompt.fingerprint, end, with_ids=with_ids)
        return end

    def _note(self, doing: str) -> None:
        self._context.tally.note(self._prompt.row_key, doing)

    # -- after a fault --------------------------------------------------------------------------------------

    def _decide(self, fault: ServiceFault) -> RetryAfter | GiveUp:
        """Record a fault; return whether to retry, and when.

        Raises:
            BatchRefused: every other row would end the same way, or the service has been ill for too long.
        """
        self._record(fault)
        limits, first = self._context.limits, self._first_end
        why = limits.failed(self._lease, fault)
        if isinstance(fault, BatchRefused) and not fallback.is_rows_own(fault, self._own, first):
            # Answers of the first model show nothing about another one, and a run that exists may be working.
            is_sure = first is not None or self._context.defers or self.attempts.current.run_id is not None
            if is_sure or not fault.may_be_odd:
                raise fallback.of_fallback_model(fault, first)
            self.refused = fault
        if why is not None:
            raise BatchRefused(why, error_type="service_unavailable") from fault
        return self.attempts.decide(fault, self._context.random_unit(), ill=limits.is_ill(self._lease, fault))

    def _record(self, fault: ServiceFault) -> None:
        context, attempts = self._context, self.attempts
        context.tally.faults += 1
        if attempts.has_unwritten_ids:
            self._on_ids(attempts.current.thread_id, attempts.current.run_id)
        if fault.usage is not None:
            self.usage.add_failed(fault.usage)
        attempts.fail(fault)
        context.journal.record_fault(self._prompt.row_key, attempts.current.number, fault)

    def _trace_fault(self, fault: ServiceFault, decision: RetryAfter | GiveUp) -> None:
        if (trace := self._context.trace) is not None:
            trace.fault(self._prompt.row_key, self.attempts.current.number, fault, decision)

    async def _replaces(self, reply: Reply) -> bool:
        """Return whether a run ended so that another one is made at once, and prepare that one."""
        if reply.status in ("cancelled", "expired"):
            # Nobody followed it then: it was cancelled after a row timeout, or nobody answered its calls.
            is_replaced = self.attempts.follows_earlier_run
        else:
            # Another run would call the functions again, and a second empty answer is final.
            prompt, turn = self._prompt, self._exchange.turn.number
            is_replaced = reply.reason == EMPTY_ANSWER and not (
                self._calls.outputs or self._context.journal.was_empty(prompt.row_key, prompt.fingerprint, turn)
            )
        if is_replaced:
            error = reply.error or "the answer is empty"
            fault = ServiceFault(error, error_type=str(reply.reason), run_ended=True, usage=reply.usage)
            self._record(fault)
            self._trace_fault(fault, RetryAfter(0.0, shared=False))
            await self._retry(fault)
        return is_replaced

    async def _retry(self, fault: ServiceFault) -> None:
        """Move to the next attempt. If the last one has cost something, or may have, this one needs money too."""
        has_usage = fault.usage is not None and fault.usage.is_known
        context, is_billed = self._context, has_usage or not self.attempts.cost_is_known(fault)
        makes_another_run = self.attempts.retry(fault)
        context.tally.created_again += self.attempts.is_repeat
        if makes_another_run and not self._exchange.outputs:
            self._exchange = replace(self._exchange, partial=(), round=0)  # it begins with the user message
        if self.attempts.is_repeat or (makes_another_run and is_billed and not context.defers):
            usd = await context.take_again(self._lease, self._prompt, self.reserved_usd, is_known=has_usage)
            self.reserved_usd, self.usage.is_whole = usd, self.usage.is_whole or not has_usage

    def _is_thread_gone(self, fault: ServiceFault) -> bool:
        """Return whether the service no longer knows the row's own thread, which it has answered on before."""
        is_own = self._prompt.thread_id is None and bool(self._dialogue.ends) and not self._has_restarted
        return is_own and names_lost(fault, (self._exchange.thread_id, self._exchange.previous_id))

    def _restart(self) -> None:
        """Begin again with the first turn, on another thread. The runs on the lost thread have been paid for."""
        self._context.tally.created_again += 1
        self.usage.keep_lost(self._dialogue.usages())
        self._dialogue.ends.clear()
        self._calls.outputs.clear()
        self._redo_from_turn, self._has_restarted = 1, True

    def _fall_back(self, outcome: Outcome, model: str) -> None:
        """Record how the first model has ended, and turn to another one: it begins with the first turn."""
        context, settings = self._context, self._context.dialogue_settings
        first = fallback.first_end(outcome, model, self._prompt.model)
        fault = self._model_fault or fallback.no_answer(first)
        context.journal.fall_back(self._prompt, first, fault, with_ids=self.attempts.take_unwritten_ids())
        self._note(f"asks {model} after {first.reply.model} ended with {first.reply.reason}")
        if context.trace is not None:
            context.trace.fall_back(self._prompt.row_key, first)
        self._first_end, self._prompt = first, fallback.asked_of(self._prompt, model)
        self._dialogue = Dialogue(self._prompt, check=settings.check, max_corrections=settings.max_corrections)
        self._calls = FunctionCalls(self._prompt, {}, context)
        self.usage.fall_back(first.reply.usage, first.reply.model)
        self._redo_from_turn, self._has_restarted, self.refused, self._model_fault = None, False, None, None

    # -- the end of the row ---------------------------------------------------------------------------------

    async def _give_up(self, fault: ServiceFault) -> Reply | Outcome:
        """Fail the row with `fault`, unless it is about the thread, which is then replaced.

        Raises:
            ThreadGone: the row has to begin again.
        """
        if self._is_thread_gone(fault):
            raise ThreadGone from fault
        # A 404 that is about the thread which the table names for this row concerns no other row.
        if isinstance(fault, Refused) and not (fault.status_code == 404 and self._prompt.thread_id is not None):
            self.refused = fault
        end = await self._fail(fault)
        self._model_fault = None if isinstance(end, Reply) or isinstance(self.refused, BatchRefused) else fault
        return end

    async def _timed_out(self) -> Reply | Outcome:
        limit_s = self._lease.stopwatch.limit_s
        fault = Silence(f"not finished within {limit_s:g} s (--row-timeout)", error_type="row_timeout")
        self._record(fault)
        self._trace_fault(fault, GiveUp())
        self._context.limits.timed_out(self._lease)
        return await self._fail(fault)

    async def _fail(self, fault: ServiceFault) -> Reply | Outcome:
        """Stop the run and fail the row by its own fault, unless the run has ended well without our seeing it."""
        with suppress(ServiceFault), anyio.move_on_after(CANCEL_TIMEOUT_S):
            late = await self._stop_run(fault)
            if late is not None and not late.calls:
                return late
        self.usage.is_whole &= self.attempts.cost_is_known(fault)
        return self._failed(fault.error_type, self._at_turn(str(fault), self._exchange.turn.number))

    async def _stop_run(self, fault: ServiceFault) -> Reply | None:
        """Cancel a run that may still be running. One that refuses may have ended: return its reply."""
        attempt = self.attempts.current
        if attempt.run_id is None or attempt.run_ended:
            return None
        try:
            await self._context.service.cancel(self._exchange, attempt)
        except PermanentFault:
            return await self._context.service.follow(self._exchange, attempt, self._on_ids)
        fault.run_ended = True
        self._context.journal.record_fault(self._prompt.row_key, attempt.number, fault)
        return None

    def _run_failed(self, reply: Reply) -> Failed:
        """Fail the row with a run that failed in a way that another run would not change."""
        self.usage.add_failed(reply.usage)
        kind = reply.reason or "run_failed"
        error = reply.error or f"the run ended as {reply.status}"
        fault = self._model_fault = PermanentFault(error, error_type=kind, run_ended=True, usage=reply.usage)
        self._context.limits.failed(self._lease, fault)
        self._context.journal.record_fault(self._prompt.row_key, self.attempts.started, fault)
        return self._failed(kind, self._at_turn(error, self._exchange.turn.number), reply)

    def _misshapen(self, problem: Misshapen) -> Failed:
        """Fail the row; its last answer stays in the row, the others in the journal."""
        end = self._dialogue.last
        assert end is not None
        error = f"the answer does not have the requested form: {' '.join(str(problem).split())}"
        fault = self._model_fault = PermanentFault(error, error_type="schema_mismatch", run_ended=True)
        self._context.journal.record_fault(self._prompt.row_key, self.attempts.started, fault)
        return self._failed(fault.error_type, self._at_turn(error, end.turn))

    def broken(self, bug: Exception) -> Failed:
        """Return the row's outcome after an unforeseen exception. Its run may still be running."""
        self.usage.is_whole &= not self.attempts.may_have_cost
        return self._failed(
            "internal_error", f"{type(bug).__name__}: {' '.join(str(bug).split())} (a bug; see the log)"
        )

    def _at_turn(self, error: str, turn: int) -> str:
        return f"turn {turn}: {error}" if self._prompt.later is not None else error

    def _failed(self, error_type: str, error: str, reply: Reply | None = None) -> Failed:
        """
        Args:
            reply: reply of the run that failed; None if the row's text is that of the last run that ended.
        """
        end = self._dialogue.last
        last = reply if reply is not None else end.reply if end is not None else None
        model = last.model if last is not None else None
        model = self._prompt.model if model is None and self._first_end is not None else model
        usage = self.usage.total(self._dialogue.usages())
        has_usage = self.usage.has_failed_runs or bool(self._dialogue.ends)
        status = reply.status if reply is not None else "failed"
        assert status == "failed" or status == "expired" or status == "cancelled"
        thread_id, run_id = self._ids()
        return Failed(
            row_key=self._prompt.row_key,
            error_type=error_type,
            error=error,
            attempts=self.attempts.started,
            duration_s=round(self._lease.stopwatch.elapsed_s, 3),
            completed_at=self._context.clock(),
            thread_id=thread_id,
            run_id=run_id,
            model=model,
            usage=usage,
            cost_usd=self._context.price(model or self._prompt.model, usage) if has_usage else None,
            response=(last.response or None) if last is not None else None,
            status=status,
            extras=self._extras(reply),
        )

    def _completed(self, reply: Reply) -> Completed:
        return completed_row(
            self._context,
            self._prompt,
            reply,
            self.usage.total(self._dialogue.usages()),
            attempts=self.attempts.started,
            elapsed_s=self._lease.stopwatch.elapsed_s,
            ids=self._ids(),
            extras=self._extras(),
        )

    def _extras(self, failed: Reply | None = None) -> JsonObject | None:
        """Return what the row's runs carried, and the counts of function calls.

        Args:
            failed: the reply of the run that failed; None if none did.
        """
        return {**(self._dialogue.extras(failed) or {}), **self._calls.counts()} or None

    def _ids(self) -> tuple[str | None, str | None]:
        """Return the ids of the thread and the run at hand, or else of the last run that ended."""
        attempt, end = self.attempts.current, self._dialogue.last
        if is_custom_id(attempt.run_id):  # its request was never a run
            attempt = replace(attempt, run_id=None)
        if end is None or attempt.run_id is not None:
            return attempt.thread_id, attempt.run_id
        return end.thread_id, end.run_id
