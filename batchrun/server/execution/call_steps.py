"""A run's step of tool calls while the calls are being written: the calls so far, and the events of their pieces.

The order is that of the hosted API: a call's first event names it and has no arguments, and each further one adds a
piece, so that a client which joins them has the call.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from batchrun.server.execution.call_arguments import CodeText
from batchrun.server.replies.encoding import dumps, frame, frame_text

if TYPE_CHECKING:
    from batchrun.server.protocol.bodies import Body, StepBody
    from batchrun.server.responders.base import ToolCallDelta
    from batchrun.server.store.hidden import StepHidden

__all__ = ["CallKind", "CallStep", "call_body", "opened", "with_contents"]

CallKind: TypeAlias = Literal["function", "code_interpreter", "file_search"]


def call_body(kind: CallKind, call_id: str, name: str, text: str) -> Body:
    """Return a call without its result, as a step shows it. `text` is the function's arguments or the code."""
    inner: Body = {}
    if kind == "function":
        inner = {"name": name, "arguments": text, "output": None}
    elif kind == "code_interpreter":
        inner = {"input": text, "outputs": []}
    return {"id": call_id, "type": kind, kind: inner}


def with_contents(step: StepBody, hidden: StepHidden) -> StepBody:
    """Return a copy of a step whose search results have their texts, which clients get only on request."""
    step = copy.deepcopy(step)
    kept = hidden.get("calls", {})
    for each in step["step_details"].get("tool_calls", ()):
        if each["type"] == "file_search":
            texts = kept[each["id"]]["contents"] if each["id"] in kept else ()
            for result, text in zip(each["file_search"].get("results", ()), texts, strict=False):
                result["content"] = [{"type": "text", "text": text}]
    return step


def opened(step_text: str) -> list[bytes]:
    """Return the events with which a step begins."""
    return [frame_text("thread.run.step.created", step_text), frame_text("thread.run.step.in_progress", step_text)]


@dataclass(slots=True)
class _WrittenCall:
    """A call of which some pieces have arrived.

    Attributes:
        pieces: of the function's arguments, or of the code.
    """

    index: int
    kind: CallKind
    name: str
    pieces: list[str] = field(default_factory=list)
    code: CodeText = field(default_factory=CodeText)


class CallStep:
    """An open step of tool calls.

    Mutable state: `step`, and the pieces of its calls.
    """

    def __init__(self, step: StepBody) -> None:
        self.step = step
        self._calls: dict[str, _WrittenCall] = {}

    def opened(self) -> list[bytes]:
        """Return the events with which the step begins."""
        return opened(dumps(self.step))

    def take(self, delta: ToolCallDelta, kind: CallKind) -> list[bytes]:
        """Return the events of a piece of a call; a search has none after its first."""
        call = self._calls.get(delta.id)
        if call is None:
            call = self._calls[delta.id] = _WrittenCall(len(self._calls), kind, delta.name)
            return [self._event({"index": call.index, **call_body(kind, delta.id, delta.name, "")})]
        if kind == "function":
            return self._piece(call, {"arguments": delta.arguments}, delta.arguments)
        if kind == "code_interpreter":
            code = call.code.take(delta.arguments)
            return self._piece(call, {"input": code}, code)
        return []

    def show_result(self, body: Body) -> list[bytes]:
        """Return the events of a hosted call that has its result: the rest of its code, and its outputs."""
        call = self._calls[body["id"]]
        if call.kind != "code_interpreter":
            return []
        code, outputs = body["code_interpreter"]["input"], body["code_interpreter"]["outputs"]
        rest = call.code.rest(code)
        frames = self._piece(call, {"input": rest}, rest)
        for number, output in enumerate(outputs):
            inner = {"outputs": [{"index": number, **output}]}
            frames.append(self._event({"index": call.index, "type": call.kind, call.kind: inner}))
        return frames

    def written(self) -> list[Body]:
        """Return the calls as far as they are written, for a step that ends before they are whole."""
        return [call_body(call.kind, call_id, call.name, "".join(call.pieces)) for call_id, call in self._calls.items()]

    def _piece(self, call: _WrittenCall, inner: Body, text: str) -> list[bytes]:
        if not text:
            return []
        call.pieces.append(text)
        return [self._event({"index": call.index, "type": call.kind, call.kind: inner})]

    def _event(self, call: Body) -> bytes:
        details = {"step_details": {"type": "tool_calls", "tool_calls": [call]}}
        return frame(
            "thread.run.step.delta", {"id": self.step["id"], "object": "thread.run.step.delta", "delta": details}
        )
