"""The dialogue of a row: its finished runs, and its next request. Pure: no I/O, no clock."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from batchrun.records import (
    EMPTY_ANSWER,
    REFUSAL,
    Exchange,
    JsonDict,
    JsonObject,
    Prompt,
    Reply,
    RunEnd,
    ToolOutput,
    Turn,
)
from batchrun.token_usage import Usage

__all__ = ["Check", "Dialogue", "Misshapen", "with_outputs"]

Check: TypeAlias = Callable[[str], str | None]
"""(answer) → the problem with its form, in words for the model; None if the form is right."""

CORRECTION = (
    "That answer does not have the form that was asked for:\n{problem}\n"
    "Answer the question again, with JSON of that form and nothing else."
)


_JOINED: Mapping[str, Any] = {"citations": [], "files": [], "reasoning": "\n\n"}
"""The extras that a row has from all of its runs → the separator between those of two runs."""


class Misshapen(Exception):
    """The last answer does not have the requested form, and no further correction is allowed."""


class Dialogue:
    """The turns of one row: its finished runs, and the next exchange that follows from them.

    Mutable state: `ends`, the finished runs, oldest first.
    """

    def __init__(
        self,
        prompt: Prompt,
        ends: Sequence[RunEnd] = (),
        *,
        check: Check | None = None,
        max_corrections: int = 0,
    ) -> None:
        """
        Args:
            ends: finished runs of an earlier run of the batch.
            check: checks the form of the last turn's answer.
            max_corrections: maximum requests to correct the form of an answer.
        """
        self._prompt = prompt
        self._check = check
        self._max_corrections = max_corrections
        self._last_turn = prompt.later.count if prompt.later is not None else 1
        self.ends = list(ends)

    # -- what comes next ------------------------------------------------------------------------------------

    def next(self) -> Exchange | None:
        """Return the next request, or None if the row has its answer.

        Raises:
            Misshapen: the answer does not have the requested form.
            PromptError: the next turn cannot be rendered.
        """
        if not self.ends:
            return self._exchange(self._prompt.first)
        last = self.ends[-1]
        if last.reply.calls:
            # The functions were not called yet, or their outputs were lost: the caller calls them (again).
            rounds = sum(1 for _ in itertools.takewhile(lambda end: end.reply.calls, reversed(self.ends)))
            return replace(self._exchange(Turn(last.asked, last.turn)), round=rounds)
        if last.reply.reason == EMPTY_ANSWER:
            return None  # the turn was sent twice already, and later turns would build on an empty answer
        problem = self._problem(last)
        if problem is not None:
            if self._corrections(last.turn) >= self._max_corrections:
                raise Misshapen(problem)
            return self._exchange(Turn(CORRECTION.format(problem=problem), last.turn))
        for number in range(last.turn + 1, self._last_turn + 1):
            assert self._prompt.later is not None
            turn = self._prompt.later.turn(number, self.responses(number - 1))
            if turn is not None:
                return self._exchange(turn)
        return None

    def _exchange(self, turn: Turn) -> Exchange:
        last = self.ends[-1] if self.ends else None
        given = self._prompt.thread_id
        return Exchange(
            row_key=self._prompt.row_key,
            turn=turn,
            variant=self._prompt.variant,
            thread_id=last.thread_id if last is not None else given,
            previous_id=last.run_id if last is not None else given,
            history=last.history if last is not None else (),
            thread_attachments=self._prompt.first.attachments,
            own=self._prompt.own,
            row_index=self._prompt.row_index,
            structured=self._check is not None and turn.number == self._last_turn,
        )

    def _problem(self, last: RunEnd) -> str | None:
        if self._check is None or last.turn != self._last_turn or last.reply.status != "completed":
            return None
        if last.reply.reason == REFUSAL:
            return None  # a correction cannot help: the tutor cannot answer
        return self._check(last.reply.response)

    def _corrections(self, turn: int) -> int:
        return sum(1 for end in self.ends if end.turn == turn and not end.reply.calls) - 1

    # -- the finished runs ----------------------------------------------------------------------------------

    def add(self, exchange: Exchange, reply: Reply, attempt: int, thread_id: str | None, run_id: str | None) -> RunEnd:
        """Add the end of this exchange's run."""
        outputs = "\n".join(output.text for output in exchange.outputs)
        end = RunEnd(
            number=self.ends[-1].number + 1 if self.ends else 1,
            turn=exchange.turn.number,
            attempt=attempt,
            asked=outputs if exchange.outputs else exchange.turn.text,
            reply=reply,
            thread_id=thread_id,
            run_id=run_id,
            history=(*exchange.history, *reply.history),
        )
        self.ends.append(end)
        return end

    def responses(self, turns: int) -> list[str]:
        """Return the answers of the first `turns` turns, "" for a turn that was left out."""
        answers = {end.turn: end.reply.response for end in self.ends if not end.reply.calls}
        return [answers.get(number, "") for number in range(1, turns + 1)]

    @property
    def last(self) -> RunEnd | None:
        """The last run that ended, None if none has."""
        return self.ends[-1] if self.ends else None

    def answer(self) -> Reply:
        """Return the row's answer, once `next` returns None: its last one, marked as incomplete or refused if any
        was."""
        last = self.ends[-1].reply
        answers = [end for end in self.ends if not end.reply.calls]
        cut = next((end.reply for end in answers if end.reply.status == "incomplete"), None)
        refused = next((end.reply for end in answers if end.reply.reason == REFUSAL), None)
        lacking = cut or refused
        if lacking is not None and last.status == "completed":
            last = replace(last, status=lacking.status, reason=lacking.reason)
        return last

    def extras(self, failed: Reply | None = None) -> JsonObject | None:
        """Return what the answer carried: citations, files and reasoning of all runs, everything else of the last one.

        Args:
            failed: the reply of a run that failed after these; None if none did.
        """
        found: JsonDict = {}
        replies = [end.reply for end in self.ends] if failed is None else [*(end.reply for end in self.ends), failed]
        for number, reply in enumerate(replies, 1):
            for name, value in (reply.extras or {}).items():
                if name in _JOINED:
                    found[name] = found[name] + _JOINED[name] + value if name in found else value
                elif number == len(replies):
                    found[name] = value
        return found or None

    def usages(self) -> list[Usage]:
        """Return the usage of each finished run."""
        return [end.reply.usage for end in self.ends]

    def chars(self, exchange: Exchange) -> int:
        """Return the characters that the model will read, without the instructions of the batch; as `Prompt.chars`."""
        before = sum(len(end.asked) + len(end.reply.response) for end in self.ends)
        return before + len(exchange.turn.text) + self._prompt.chars_beside


def with_outputs(exchange: Exchange, end: RunEnd, outputs: tuple[ToolOutput, ...]) -> Exchange:
    """Return the exchange that sends the outputs of the functions that `end` asked for."""
    return replace(
        exchange,
        thread_id=end.thread_id,
        previous_id=end.run_id,
        history=end.history,
        outputs=outputs,
        partial=end.reply.history if end.reply.waiting else (),
    )
