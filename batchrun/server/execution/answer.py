"""One answer of the responder: its parts are collected, checked and counted."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from batchrun.server.protocol.ids import new_id
from batchrun.server.protocol.json_schemas import mismatch
from batchrun.server.protocol.token_counts import count_answer
from batchrun.server.responders.base import Finish, ResponderError, TextDelta, TokenCount, ToolCall, ToolCallDelta

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from batchrun.server.responders.base import Conversation, Responder

__all__ = ["Answer", "ask", "check_format", "unknown_function"]


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer of the responder.

    Attributes:
        refused: the text is a refusal: it states why there is no answer.
        usage: the responder's count, or the count by the rule of `token_counts` if it gives none.
    """

    text: str
    calls: tuple[ToolCall, ...]
    finish: Finish
    usage: TokenCount
    refused: bool = False


async def ask(
    responder: Responder,
    conversation: Conversation,
    on_text: Callable[[str, bool], None],
    on_call: Callable[[ToolCallDelta], None],
) -> Answer:
    """Return the responder's answer to a conversation.

    Args:
        on_text: called with each piece of text as it arrives, and with whether the piece belongs to a refusal.
        on_call: called with each piece of a tool call as it arrives. A call's first piece has no arguments yet, and
            all its pieces together are its arguments, whether the responder writes it in pieces or at once.

    Raises:
        ResponderError: the responder raised it, the answer ended without a `Finish`, or two calls have one id.
    """
    pieces: list[str] = []
    calls: list[ToolCall] = []
    written = _WrittenCalls(on_call)
    finish: Finish | None = None
    refused = False
    async for part in responder.respond(conversation):
        if isinstance(part, TextDelta):
            text = _clean(part.text)
            if text:
                pieces.append(text)
                refused = part.refusal
                on_text(text, refused)
        elif isinstance(part, ToolCallDelta):
            written.add(part)
        elif isinstance(part, ToolCall):
            call = ToolCall(part.id or new_id("call_"), _clean(part.name), _clean(part.arguments))
            if any(each.id == call.id for each in calls):
                raise ResponderError(f"The responder gave two calls of an answer the id '{call.id}'.")
            written.complete(call)
            calls.append(call)
        else:
            finish = part
    if finish is None:
        raise ResponderError("The model's answer ended before it was finished.")
    text = "".join(pieces)
    return Answer(text, tuple(calls), finish, finish.usage or count_answer(conversation, text, calls), refused)


class _WrittenCalls:
    """The calls of an answer, as far as they are written.

    Mutable state: call id → the pieces of its arguments so far.
    """

    def __init__(self, on_call: Callable[[ToolCallDelta], None]) -> None:
        self._on_call = on_call
        self._pieces: dict[str, list[str]] = {}

    def add(self, delta: ToolCallDelta) -> None:
        name, piece = _clean(delta.name), _clean(delta.arguments)
        if delta.id not in self._pieces:
            self._pieces[delta.id] = []
            self._on_call(ToolCallDelta(delta.id, name, ""))
        if piece:
            self._pieces[delta.id].append(piece)
            self._on_call(ToolCallDelta(delta.id, name, piece))

    def complete(self, call: ToolCall) -> None:
        """Add what is missing of a whole call. One whose arguments differ from its pieces is corrected by its end."""
        sent = "".join(self._pieces.get(call.id, ()))
        rest = call.arguments[len(sent) :] if call.arguments.startswith(sent) else ""
        self.add(ToolCallDelta(call.id, call.name, rest))


def unknown_function(name: str, tools: Sequence[Mapping[str, Any]]) -> ResponderError:
    """Return the error of a model that calls a function which the request does not offer. A retry would not help."""
    offered = ", ".join(f"'{tool['function']['name']}'" for tool in tools) or "none"
    return ResponderError(
        f"The model called the function '{name}', which the request does not offer; it offers: {offered}.",
        code="invalid_prompt",
        status_code=400,
    )


_THOUGHT = re.compile(r"\s*<(think|thinking|thought)>.*?</\1>", re.DOTALL)


_FENCED = re.compile(r"\s*```(?:json)?[ \t]*\n(.*)\n[ \t]*```\s*", re.DOTALL)


def check_format(answer: Answer, response_format: Mapping[str, Any] | None, responder: Responder) -> None:
    """Check that a finished answer is the JSON that the request asked for. A refusal may have any form.

    A thought before it is left out, as by servers of open models. A script may put the JSON into a Markdown fence, to
    rehearse what such servers send.

    Raises:
        ResponderError: the answer is not JSON, not an object, or does not match the schema.
    """
    if answer.refused or response_format is None or response_format.get("type") not in ("json_object", "json_schema"):
        return
    thought = _THOUGHT.match(answer.text)
    text = answer.text[thought.end() :] if thought else answer.text
    fenced = _FENCED.fullmatch(text) if responder.name == "script" else None
    try:
        data = json.loads(fenced[1] if fenced else text)
    except ValueError as exc:
        raise ResponderError(f"The model's answer is not valid JSON, which response_format requires: {exc}.") from exc
    if response_format["type"] == "json_object":
        if not isinstance(data, dict):
            raise ResponderError("The model's answer is valid JSON, but not an object, which response_format requires.")
        return
    schema = response_format["json_schema"].get("schema")
    difference = mismatch(data, schema) if schema is not None else None
    if difference is not None:
        raise ResponderError(f"The model's answer does not match the schema of response_format: {difference}.")


def _clean(text: str) -> str:
    """Return the text with lone surrogates, which UTF-8 cannot encode, replaced by "?"."""
    if text.isascii():
        return text
    return text.encode("utf-8", "replace").decode("utf-8")
