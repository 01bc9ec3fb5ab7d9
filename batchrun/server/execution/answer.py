"""One call of the responder: its parts gathered, checked and counted."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from batchrun.server.protocol.ids import new_id
from batchrun.server.protocol.json_schemas import mismatch
from batchrun.server.protocol.token_counts import count_answer
from batchrun.server.responders.base import Finish, ResponderError, TextDelta, TokenCount, ToolCall

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from batchrun.server.responders.base import Conversation, Responder

__all__ = ["Answer", "ask", "check_format"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What one call of the responder gave.

    Attributes:
        refused: the text says why there is no answer.
        usage: the responder's own, else counted by the stated rule.
    """

    text: str
    calls: tuple[ToolCall, ...]
    finish: Finish
    usage: TokenCount
    refused: bool = False


async def ask(responder: Responder, conversation: Conversation, on_text: Callable[[str, bool], None]) -> Answer:
    """Let the responder answer; `on_text` gets each piece of text as it comes, and whether it is of a refusal.

    Raises:
        ResponderError: the responder's own, or an answer that ends without a `Finish`.
    """
    pieces: list[str] = []
    calls: list[ToolCall] = []
    finish: Finish | None = None
    refused = False
    async for part in responder.respond(conversation):
        if isinstance(part, TextDelta):
            text = _clean(part.text)
            if text:
                pieces.append(text)
                refused = part.refusal
                on_text(text, refused)
        elif isinstance(part, ToolCall):
            calls.append(ToolCall(part.id or new_id("call_"), _clean(part.name), _clean(part.arguments)))
        else:
            finish = part
    if finish is None:
        raise ResponderError("The model's answer ended before it was finished.")
    text = "".join(pieces)
    return Answer(text, tuple(calls), finish, finish.usage or count_answer(conversation, text, calls), refused)


def check_format(answer: Answer, response_format: Mapping[str, Any] | None) -> None:
    """Refuse a finished answer that is not the JSON the request asked for: an object, or what its schema says. A
    refusal needs no form.

    Raises:
        ResponderError: what the answer should have been.
    """
    if answer.refused or response_format is None or response_format.get("type") not in ("json_object", "json_schema"):
        return
    try:
        data = json.loads(answer.text)
    except ValueError as exc:
        raise ResponderError(f"The model's answer is not the JSON that response_format asks for: {exc}.") from exc
    if response_format["type"] == "json_object":
        if not isinstance(data, dict):
            raise ResponderError("The model's answer is JSON, but not the object that response_format asks for.")
        return
    schema = response_format["json_schema"].get("schema")
    difference = mismatch(data, schema) if schema is not None else None
    if difference is not None:
        raise ResponderError(f"The model's answer does not agree with the schema of response_format: {difference}.")


def _clean(text: str) -> str:
    """Text that UTF-8 can carry: lone surrogates become "?"."""
    if text.isascii():
        return text
    return text.encode("utf-8", "replace").decode("utf-8")
