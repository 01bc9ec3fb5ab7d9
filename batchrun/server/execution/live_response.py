"""A response that is being executed: its output so far, and its events."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from batchrun.server.execution.citations import MarkReader, links
from batchrun.server.execution.hosted_tools import HOSTED
from batchrun.server.execution.response_calls import OpenCall, without_details
from batchrun.server.execution.supervisor import Live
from batchrun.server.protocol.ids import new_item_id
from batchrun.server.protocol.items import message_item, refusal_part, text_part
from batchrun.server.replies.encoding import dumps, frame_text
from batchrun.server.responders.base import TokenCount

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from batchrun.server.execution.hosted_tools import ToolResult
    from batchrun.server.execution.response_calls import Events, ItemKind
    from batchrun.server.protocol.bodies import Body
    from batchrun.server.protocol.ids import Prefix
    from batchrun.server.responders.base import Message, ToolCall, ToolCallDelta
    from batchrun.server.store.hidden import ResponseHidden

__all__ = ["LiveResponse", "announce_start", "response_usage"]

_ITEM_KINDS: dict[str, tuple[ItemKind, Prefix]] = {
    "function": ("function_call", "fc_"),
    "file_search": ("file_search_call", "fs_"),
    "code_interpreter": ("code_interpreter_call", "ci_"),
}


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
class LiveResponse(Live):
    """A response that has a task. An event's `sequence_number` is the position of its frame in the log.

    An item has its place in the output from its first event on. The stored response has it only at its end.

    Mutable state: all but `owner`.

    Attributes:
        body: the response as clients see it.
        usage: tokens of all answers so far.
        written: what the model has written before its last answer: calls of hosted tools, with their outputs.
        results: results of hosted calls so far.
    """

    owner: str
    body: Body
    hidden: ResponseHidden
    usage: TokenCount = field(default_factory=lambda: TokenCount(0, 0))
    written: list[Message] = field(default_factory=list)
    results: list[ToolResult] = field(default_factory=list)
    _open: str | None = None
    _index: int = 0
    _text: list[str] = field(default_factory=list)
    _annotations: list[Body] = field(default_factory=list)
    _refusal: bool = False
    _calls: dict[str, OpenCall] = field(default_factory=dict)
    _sources: dict[str, str] = field(default_factory=dict)
    _marks: MarkReader = field(default_factory=MarkReader)

    def emit(self, event: str, **fields: Any) -> None:
        """Append an event."""
        data = {"type": event, "sequence_number": len(self.log.frames), **fields}
        self.log.append(frame_text(event, dumps(data)))

    def announce(self, event: str) -> None:
        """Append an event that holds the whole response."""
        self.emit(f"response.{event}", response=self.body)

    def _emit_all(self, events: Events) -> None:
        for event, fields in events:
            self.emit(f"response.{event}", **fields)

    def _add(self, item: Body) -> int:
        """Begin an item, and return its place in the output."""
        self.body["output"].append(item)
        index = len(self.body["output"]) - 1
        self.emit("response.output_item.added", output_index=index, item=item)
        return index

    def _end(self, index: int, item: Body) -> None:
        self.body["output"][index] = item
        self.emit("response.output_item.done", output_index=index, item=item)

    def _new_id(self, prefix: Prefix) -> str:
        return new_item_id(prefix, self.body["id"], len(self.body["output"]))

    def add_usage(self, count: TokenCount) -> None:
        """Add the tokens of one more answer."""
        self.usage += count

    # Text

    def delta(self, text: str, refusal: bool) -> None:
        """Append a piece of the answer's text, or of its refusal. The first piece opens the message."""
        if self._open is None:
            self.open_message(refusal=refusal)
        if not self._sources:
            self._append(text)
            return
        for before, file_id in self._marks.take(text, self._sources):
            self._append(before)
            if file_id is not None:
                self._cite(file_id)

    def _append(self, text: str) -> None:
        if not text:
            return
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
        return refusal_part(text) if self._refusal else text_part(text) | {"annotations": list(self._annotations)}

    def open_message(self, *, refusal: bool = False) -> None:
        """Begin the message item and its only part, a text or a refusal."""
        self._open, self._refusal = self._new_id("msg_"), refusal
        self._index = self._add(message_item(self._open, "in_progress", []))
        self.emit("response.content_part.added", **self._place(), part=self._part(""))

    def close_message(self, status: str) -> None:
        """End the open message, if there is one."""
        if self._open is None:
            return
        self._append(self._marks.rest())
        text = "".join(self._text)
        self._cite_files(text)
        place, part = self._place(), self._part(text)
        item = message_item(self._open, status, [part])
        if self._refusal:
            self.emit("response.refusal.done", **place, refusal=text)
        else:
            self.emit("response.output_text.done", **place, text=text, logprobs=[])
        self.emit("response.content_part.done", **place, part=part)
        self._end(self._index, item)
        self._open, self._text, self._annotations = None, [], []

    # Citations

    def _cite(self, file_id: str) -> None:
        """Annotate the end of the text so far with the file of a search result."""
        names = {hit.file_id: hit.filename for result in self.results for hit in result.hits}
        index = sum(map(len, self._text))
        self._annotate({"type": "file_citation", "index": index, "file_id": file_id, "filename": names[file_id]})

    def _cite_files(self, text: str) -> None:
        """Annotate the links to files that code has written."""
        for result in self.results:
            for match, file_id in links(text, result.facts.get("paths", {})):
                self._annotate(
                    {
                        "type": "container_file_citation",
                        "container_id": self.hidden.get("container"),
                        "file_id": file_id,
                        "filename": match[0].rpartition("/")[2],
                        "start_index": match.start(),
                        "end_index": match.end(),
                    }
                )

    def _annotate(self, annotation: Body) -> None:
        fields = {**self._place(), "annotation_index": len(self._annotations), "annotation": annotation}
        self.emit("response.output_text.annotation.added", **fields)
        self._annotations.append(annotation)

    # Calls

    def hosted_kind(self, name: str) -> str | None:
        """Return the hosted tool that a function name stands for, if the response has it; otherwise None."""
        kind = HOSTED.get(name)
        return kind if kind is not None and any(tool["type"] == kind for tool in self.body["tools"]) else None

    def call_delta(self, delta: ToolCallDelta) -> None:
        """Append a piece of a call. The first piece of a call ends the open message, and begins the item."""
        call = self._calls.get(delta.id)
        if call is not None:
            self._emit_all(call.take(delta.arguments))
            return
        self.close_message("completed")
        kind, prefix = _ITEM_KINDS[self.hosted_kind(delta.name) or "function"]
        call = OpenCall(kind, self._new_id(prefix), delta.id, delta.name, self.hidden.get("container"))
        call.index = self._add(call.item("in_progress"))
        self._calls[delta.id] = call
        self._emit_all(call.begun())

    def complete_calls(self, calls: Sequence[ToolCall]) -> None:
        """End the answer's function calls."""
        for call in calls:
            begun = self._calls.pop(call.id)
            self._emit_all(begun.made(call))
            self._end(begun.index, begun.item("completed", call.arguments))

    def begin_hosted(self, call: ToolCall) -> None:
        """Report that a hosted call is whole, and is being made."""
        self._emit_all(self._calls[call.id].made(call))

    def refuse_hosted(self, call: ToolCall) -> None:
        """End a hosted call that is not made."""
        begun = self._calls.pop(call.id)
        self._end(begun.index, begun.written())

    def end_hosted(self, result: ToolResult, image_urls: list[str]) -> None:
        """Add the result of a hosted call."""
        begun = self._calls.pop(result.call.id)
        self.results.append(result)
        self._sources |= result.facts.get("sources", {})
        self._emit_all(begun.completed())
        item = begun.result_item(result, image_urls)
        self.hidden.setdefault("details", {})[item["id"]] = item
        self._end(begun.index, without_details(item, self.hidden.get("include", [])))

    def close(self, status: str) -> None:
        """End everything that is open: the message, and the calls that were not finished."""
        self.close_message(status)
        for begun in self._calls.values():
            self._end(begun.index, begun.written())
        self._calls = {}


def announce_start(live: LiveResponse) -> None:
    """Append the first events of a response."""
    live.announce("created")
    if live.body["background"]:
        live.announce("queued")
