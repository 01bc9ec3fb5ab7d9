"""A response that is being executed: its output so far, and its events."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from batchrun.server.execution.supervisor import Live
from batchrun.server.protocol.ids import new_id
from batchrun.server.protocol.items import function_call_item, message_item, refusal_part, text_part
from batchrun.server.replies.encoding import dumps, frame_text
from batchrun.server.responders.base import ToolCall

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from batchrun.server.protocol.bodies import Body
    from batchrun.server.responders.base import TokenCount, ToolCallDelta
    from batchrun.server.store.hidden import ResponseHidden

__all__ = ["LiveResponse", "announce_start", "response_usage"]


def response_usage(count: TokenCount) -> Body:
    """Return the usage in the form of Responses."""
    return {
        "input_tokens": count.prompt_tokens,
        "input_tokens_details": {"cached_tokens": count.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": count.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": count.reasoning_tokens},
        "total_tokens": count.total_tokens,
    }


@dataclass(slots=True)
class _OpenCall:
    """A function call of which some pieces have arrived."""

    item_id: str
    index: int
    name: str
    pieces: list[str] = field(default_factory=list)

    def place(self) -> Body:
        return {"item_id": self.item_id, "output_index": self.index}


@dataclass(slots=True)
class LiveResponse(Live):
    """A response that has a task. An event's `sequence_number` is the position of its frame in the log.

    An item has its place in the output from its first event on. The stored response has it only at its end.

    Mutable state: `body`, the log, the open message, and the open calls (call id → call).

    Attributes:
        body: the response as clients see it.
    """

    owner: str
    body: Body
    hidden: ResponseHidden
    _open: str | None = None
    _index: int = 0
    _text: list[str] = field(default_factory=list)
    _refusal: bool = False
    _calls: dict[str, _OpenCall] = field(default_factory=dict)

    def emit(self, event: str, **fields: Any) -> None:
        """Append an event."""
        data = {"type": event, "sequence_number": len(self.log.frames), **fields}
        self.log.append(frame_text(event, dumps(data)))

    def announce(self, event: str) -> None:
        """Append an event that holds the whole response."""
        self.emit(f"response.{event}", response=self.body)

    def delta(self, text: str, refusal: bool) -> None:
        """Append a piece of the answer's text, or of its refusal. The first piece opens the message."""
        if self._open is None:
            self.open_message(refusal=refusal)
        self._text.append(text)
        if self._refusal:
            self.emit("response.refusal.delta", **self._place(), delta=text)
            return
        self.log.append(
            frame_text(
                "response.output_text.delta",
                f'{{"type":"response.output_text.delta","sequence_number":{len(self.log.frames)},'
                f'"item_id":"{self._open}","output_index":{self._index},"content_index":0,'
                f'"delta":{dumps(text)},"logprobs":[]}}',
            )
        )

    def _place(self) -> Body:
        return {"item_id": self._open, "output_index": self._index, "content_index": 0}

    def _part(self, text: str) -> Body:
        return refusal_part(text) if self._refusal else text_part(text)

    def open_message(self, *, refusal: bool = False) -> None:
        """Begin the message item and its only part, a text or a refusal."""
        self._open, self._refusal = new_id("msg_"), refusal
        self._index = self._add(message_item(self._open, "in_progress", []))
        self.emit("response.content_part.added", **self._place(), part=self._part(""))

    def close_message(self, status: str) -> None:
        """End the open message, if there is one, and add it to the output."""
        if self._open is None:
            return
        place = self._place()
        text = "".join(self._text)
        part = self._part(text)
        item = message_item(self._open, status, [part])
        if self._refusal:
            self.emit("response.refusal.done", **place, refusal=text)
        else:
            self.emit("response.output_text.done", **place, text=text, logprobs=[])
        self.emit("response.content_part.done", **place, part=part)
        self._end(self._index, item)
        self._open, self._text = None, []

    def _add(self, item: Body) -> int:
        """Begin an item, and return its place in the output."""
        self.body["output"].append(item)
        index = len(self.body["output"]) - 1
        self.emit("response.output_item.added", output_index=index, item=item)
        return index

    def _end(self, index: int, item: Body) -> None:
        self.body["output"][index] = item
        self.emit("response.output_item.done", output_index=index, item=item)

    def call_delta(self, delta: ToolCallDelta) -> None:
        """Append a piece of a function call. The first piece of a call ends the open message, and begins the item."""
        call = self._calls.get(delta.id)
        if call is None:
            self.close_message("completed")
            item_id = new_id("fc_")
            begun = function_call_item(item_id, "in_progress", ToolCall(delta.id, delta.name, ""), "")
            self._calls[delta.id] = _OpenCall(item_id, self._add(begun), delta.name)
        else:
            call.pieces.append(delta.arguments)
            self.emit("response.function_call_arguments.delta", **call.place(), delta=delta.arguments)

    def complete_calls(self, calls: Sequence[ToolCall]) -> None:
        """End the answer's function calls."""
        for call in calls:
            self._complete_call(self._calls.pop(call.id), call, "completed")

    def _complete_call(self, begun: _OpenCall, call: ToolCall, status: str) -> None:
        item = function_call_item(begun.item_id, status, call, call.arguments)
        self.emit("response.function_call_arguments.done", **begun.place(), arguments=call.arguments, name=call.name)
        self._end(begun.index, item)

    def close(self, status: str) -> None:
        """End everything that is open: the message, and the calls that the answer did not finish."""
        self.close_message(status)
        for call_id, begun in self._calls.items():
            self._complete_call(begun, ToolCall(call_id, begun.name, "".join(begun.pieces)), status)
        self._calls = {}


def announce_start(live: LiveResponse) -> None:
    """Append the first events of a response."""
    live.announce("created")
    if live.body["background"]:
        live.announce("queued")
