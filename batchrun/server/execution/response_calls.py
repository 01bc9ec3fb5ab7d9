"""The tool calls of a response while they are written and made: their items, and the events of each state."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from batchrun.server.execution.call_arguments import CodeText, code_of
from batchrun.server.protocol.items import function_call_item
from batchrun.server.responders.base import ToolCall

if TYPE_CHECKING:
    from batchrun.server.execution.hosted_tools import ToolResult
    from batchrun.server.protocol.bodies import Body

__all__ = ["ItemKind", "OpenCall", "without_details"]

ItemKind: TypeAlias = Literal["function_call", "code_interpreter_call", "file_search_call"]
Events: TypeAlias = list[tuple[str, "Body"]]
"""(name without `response.`, fields)."""

_DETAILS = {
    "file_search_call": ("results", "file_search_call.results"),
    "code_interpreter_call": ("outputs", "code_interpreter_call.outputs"),
}
"""Type of an item → the field that clients get only on request, and the value of `include` that requests it."""


@dataclass(slots=True)
class OpenCall:
    """A call of which some pieces have arrived.

    Mutable state: the pieces.

    Attributes:
        call_id: as the responder chose it.
        index: the item's place in the output.
        container_id: of a call of the code interpreter.
        pieces: of the arguments, or of the code.
    """

    kind: ItemKind
    item_id: str
    call_id: str
    name: str
    container_id: str | None = None
    index: int = 0
    pieces: list[str] = field(default_factory=list)
    code: CodeText = field(default_factory=CodeText)

    def _place(self) -> Body:
        return {"item_id": self.item_id, "output_index": self.index}

    def item(self, status: str, text: str = "") -> Body:
        """Return the call's item without a result. `text` is the arguments, or the code."""
        if self.kind == "function_call":
            return function_call_item(self.item_id, status, ToolCall(self.call_id, self.name, text), text)
        item: Body = {"id": self.item_id, "type": self.kind, "status": status}
        if self.kind == "file_search_call":
            return item | {"queries": [], "results": None}
        return item | {"code": text, "container_id": self.container_id, "outputs": None}

    def written(self) -> Body:
        """Return the item of a call that ends before it is whole."""
        return self.item("incomplete", "".join(self.pieces))

    def begun(self) -> Events:
        """Return the events that follow the item's first one."""
        return [] if self.kind == "function_call" else [(f"{self.kind}.in_progress", self._place())]

    def take(self, piece: str) -> Events:
        """Return the events of a piece of the arguments; a search has none."""
        if self.kind == "function_call":
            return self._piece("function_call_arguments.delta", piece)
        return self._piece("code_interpreter_call_code.delta", self.code.take(piece)) if self._has_code else []

    @property
    def _has_code(self) -> bool:
        return self.kind == "code_interpreter_call"

    def _piece(self, event: str, text: str) -> Events:
        if not text:
            return []
        self.pieces.append(text)
        return [(event, {**self._place(), "delta": text})]

    def made(self, call: ToolCall) -> Events:
        """Return the events of a call that is whole and, if it is a hosted one, is made now."""
        if self.kind == "function_call":
            return [("function_call_arguments.done", {**self._place(), "arguments": call.arguments, "name": call.name})]
        if self.kind == "file_search_call":
            return [("file_search_call.searching", self._place())]
        code = code_of(call.arguments)
        return [
            *self._piece("code_interpreter_call_code.delta", self.code.rest(code)),
            ("code_interpreter_call_code.done", {**self._place(), "code": code}),
            ("code_interpreter_call.interpreting", self._place()),
        ]

    def completed(self) -> Events:
        """Return the events of a hosted call that has its result."""
        return [(f"{self.kind}.completed", self._place())]

    def result_item(self, result: ToolResult, image_urls: list[str]) -> Body:
        """Return the item of a completed hosted call, with all details."""
        item = self.item("completed", result.code)
        if self.kind == "file_search_call":
            results = [
                {
                    "attributes": result.attributes.get(hit.file_id, {}),
                    "file_id": hit.file_id,
                    "filename": hit.filename,
                    "score": hit.score,
                    "text": hit.text,
                }
                for hit in result.hits
            ]
            return item | {"queries": list(result.queries), "results": results}
        outputs: list[Body] = [{"type": "logs", "logs": result.logs}] if result.logs else []
        return item | {"outputs": [*outputs, *({"type": "image", "url": url} for url in image_urls)]}


def without_details(item: Body, include: list[str]) -> Body:
    """Return an item as clients see it that did not ask for all details."""
    detail, value = _DETAILS.get(item["type"], ("", ""))
    return item if not detail or value in include else item | {detail: None}
