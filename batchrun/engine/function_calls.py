"""The calls of the user's functions that one row's runs ask for."""

from __future__ import annotations

from collections.abc import Mapping

from batchrun.engine.dialogue import with_outputs
from batchrun.engine.row_context import RowContext
from batchrun.errors import PermanentFault
from batchrun.records import CallKey, Exchange, JsonDict, Prompt, Reply, RunEnd, ToolOutput

__all__ = ["FunctionCalls"]


class FunctionCalls:
    """Calls the user's functions for one row: each call once, its output in the journal before it is sent.

    Mutable state: `outputs`, by call.
    """

    __slots__ = ("_context", "_prompt", "outputs")

    def __init__(self, prompt: Prompt, outputs: Mapping[CallKey, ToolOutput], context: RowContext) -> None:
        """
        Args:
            outputs: those of an earlier run of the batch.
        """
        self._prompt = prompt
        self._context = context
        self.outputs = dict(outputs)

    def round_after(self, exchange: Exchange, reply: Reply, waiting: RunEnd | None) -> int:
        """Return the number of the round of calls that `reply` asks for.

        Args:
            waiting: the run, if it waits for the outputs.

        Raises:
            PermanentFault: the batch has no functions, or the model has asked for too many rounds.
        """
        settings = self._context.dialogue_settings
        is_repeated = waiting is not None and waiting.calls_by_key().keys() <= self.outputs.keys()
        number = exchange.round + (not is_repeated)
        if settings.call_tools is None:
            error_type = "requires_action"
            problem = "the model asks for a function to be called, and this batch has no functions (--tools)"
        elif number > settings.max_tool_rounds:
            error_type = "too_many_tool_rounds"
            problem = f"the model asks for functions more than {settings.max_tool_rounds} times (--max-tool-rounds)"
        else:
            return number
        usage = None if reply.waiting else reply.usage
        raise PermanentFault(problem, error_type=error_type, run_ended=not reply.waiting, usage=usage)

    async def answer(self, exchange: Exchange, end: RunEnd) -> Exchange:
        """Call the functions that `end` asks for, except for calls that have an output; return the exchange that sends
        the outputs."""
        context, prompt = self._context, self._prompt
        calls = end.calls_by_key()
        new = {key: call for key, call in calls.items() if key not in self.outputs}
        call_tools = context.dialogue_settings.call_tools
        assert call_tools is not None
        names = ", ".join(call.name for call in new.values())
        context.tally.note(prompt.row_key, f"waits for {names or 'the run'} to end")
        returned = await call_tools(list(new.values())) if new else ()
        for key, output in zip(new, returned, strict=True):
            self.outputs[key] = output
            context.journal.exchanges.add_output(prompt.row_key, prompt.fingerprint, exchange.turn.number, key, output)
        await context.journal.committed()  # the outputs, and the run that asked for them, before the next request
        context.tally.tool_calls += len(returned)
        context.tally.tool_errors += sum(output.failed for output in returned)
        return with_outputs(exchange, end, tuple(self.outputs[key] for key in calls))

    def counts(self) -> JsonDict:
        """Return the row's `tool_calls` and `tool_errors`; empty if the batch has no functions."""
        if self._context.dialogue_settings.call_tools is None:
            return {}
        failed = sum(output.failed for output in self.outputs.values())
        return {"tool_calls": len(self.outputs), "tool_errors": failed}
