"""The answer of an upstream endpoint, put together from the chunks of its stream."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from batchrun.server.responders.base import (
    Finish,
    Part,
    ResponderError,
    TextDelta,
    TokenCount,
    ToolCall,
    ToolCallDelta,
)

if TYPE_CHECKING:
    from batchrun.server.responders.base import Conversation

__all__ = ["UpstreamAnswer", "one_line"]

_FinishReason: TypeAlias = Literal["stop", "tool_calls", "length", "content_filter"]
_REASONS: Mapping[str, _FinishReason] = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content_filter",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    # Words of single services: Mistral, GLM, Gemini.
    "max_tokens": "length",
    "model_length": "length",
    "model_context_window_exceeded": "length",
    "sensitive": "content_filter",
    **dict.fromkeys(("safety", "recitation", "blocklist", "prohibited_content", "spii"), "content_filter"),
}
_BROKEN = frozenset(
    {"error", "abort", "aborted", "insufficient_system_resource", "network_error", "malformed_function_call", "other"}
)
"""Finish reasons of an answer that the endpoint broke off."""


@dataclass(slots=True)
class _Call:
    """A tool call of which some fragments have arrived.

    Attributes:
        given_id: the id of its first fragment; the endpoint may give several calls the same one, or none.
        is_named: the name is whole, and the pieces so far are passed on.
    """

    id: str
    given_id: str
    name: str = ""
    arguments: list[str] = field(default_factory=list)
    is_named: bool = False


class UpstreamAnswer:
    """An answer whose pieces are arriving.

    Mutable state: calls (all of them, and the last one of each index), finish reason, usage and model so far; `deltas`.

    Attributes:
        deltas: pieces of calls to pass on; see `taken_deltas`.
    """

    def __init__(self, conversation: Conversation) -> None:
        self.deltas: list[ToolCallDelta] = []
        self._offered = {tool["function"]["name"] for tool in conversation.tools}
        self._calls: list[_Call] = []
        self._open: dict[Any, _Call] = {}
        self._reason: str | None = None
        self._usage: TokenCount | None = None
        self._model: str | None = None

    def take(self, event: Mapping[str, Any]) -> TextDelta:
        """Process one chunk, or a whole completion, and return the text that it adds, which may be empty.

        Raises:
            ResponderError: the chunk reports an error, or has another form than a chunk.
        """
        reported = _reported_error(event)
        if reported is not None:
            raise _streamed_error(reported)
        try:
            return self._taken(event)
        except (AttributeError, TypeError) as exc:  # to validate every chunk would cost more than all other work
            raise ResponderError(
                "The upstream endpoint sent an event that is not a chunk of a chat completion.", status_code=502
            ) from exc

    def _taken(self, event: Mapping[str, Any]) -> TextDelta:
        self._model = event.get("model") or self._model
        if event.get("usage"):
            self._usage = _token_count(event["usage"])
        for choice in event.get("choices") or ():
            if choice.get("index", 0) != 0:
                continue
            self._reason = choice.get("finish_reason") or self._reason
            delta = choice.get("delta") or choice.get("message") or {}
            for fragment in delta.get("tool_calls") or ():
                self._add(fragment)
            refusal = _text(delta.get("refusal"))
            return TextDelta(refusal, refusal=True) if refusal else TextDelta(_text(delta.get("content")))
        return TextDelta("")

    def _add(self, fragment: Mapping[str, Any]) -> None:
        """Add a fragment to the call with its index. Servers without an index send whole calls, or the id once."""
        function = fragment.get("function") or {}
        name, arguments = _text(function.get("name")), function.get("arguments") or ""
        piece = arguments if isinstance(arguments, str) else json.dumps(arguments)
        given_id = str(fragment.get("id") or "")
        key = fragment.get("index")
        if key is None:
            key = given_id or next(reversed(self._open), 0)
        call = self._open.get(key)
        if call is None or _begins_another(call, given_id, name, piece):
            call = self._open[key] = self._new_call(given_id)
        call.arguments.append(piece)
        if call.is_named:
            if piece:
                self.deltas.append(ToolCallDelta(call.id, call.name, piece))
            return
        if name != call.name:  # some servers repeat it in every fragment, others send it in fragments
            call.name += name
        if call.name and (piece or self._is_whole(call.name)):
            call.is_named = True
            self.deltas.append(ToolCallDelta(call.id, call.name, "".join(call.arguments)))

    def _new_call(self, given_id: str) -> _Call:
        is_usable = bool(given_id) and all(call.id != given_id for call in self._calls)
        call = _Call(given_id if is_usable else f"call_{uuid.uuid4().hex[:24]}", given_id)
        self._calls.append(call)
        return call

    def _is_whole(self, name: str) -> bool:
        """Return whether a name cannot be the beginning of another function's name."""
        return [offered for offered in self._offered if offered.startswith(name)] == [name]

    def taken_deltas(self) -> list[ToolCallDelta]:
        """Return the pieces of calls that arrived since the last time."""
        deltas, self.deltas = self.deltas, []
        return deltas

    def end(self) -> Iterator[Part]:
        """Yield the complete calls and the Finish.

        Raises:
            ResponderError: the stream ended in the middle of the answer.
        """
        if self._reason is None:
            raise ResponderError("The upstream endpoint ended its stream in the middle of the answer.", status_code=502)
        said = str(self._reason).partition(":")[0].strip().lower()
        if said in _BROKEN:
            raise ResponderError(f"The upstream endpoint broke off its answer ({self._reason}).", status_code=502)
        reason = _REASONS.get(said, "stop")
        # Some servers end a message of calls with `stop`. Calls that `length` cut off have invalid arguments.
        if self._calls and reason in ("stop", "tool_calls"):
            reason = "tool_calls"
            for call in self._calls:
                yield ToolCall(call.id, call.name, "".join(call.arguments) or "{}")
        elif reason == "tool_calls":
            reason = "stop"
        yield Finish(reason, self._usage, self._model)


def _begins_another(call: _Call, given_id: str, name: str, piece: str) -> bool:
    """Return whether a fragment begins another call, although it has the index of `call`, or neither index nor id.

    Some servers (Gemini, older versions of Ollama) give all parallel calls the index 0. A name alone begins no call:
    other servers repeat it, or the id, in every fragment.
    """
    if not (call.is_named and name):
        return False
    if given_id:
        return given_id != call.given_id
    return piece.startswith("{") and _is_json("".join(call.arguments))


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _text(value: Any) -> str:
    """Return a field's text. Mistral sends content as parts, of which those with thoughts are left out."""
    if isinstance(value, list):
        return "".join(_text(part.get("text")) for part in value)
    return "" if value is None else str(value)


def _token_count(usage: Mapping[str, Any]) -> TokenCount | None:
    """Return an endpoint's count; None if it is not made of numbers."""
    prompt, completion = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    counts = [
        usage.get("prompt_tokens") or 0,
        usage.get("completion_tokens") or 0,
        (prompt or {}).get("cached_tokens") or 0,
        (completion or {}).get("reasoning_tokens") or 0,
    ]
    return TokenCount(*map(int, counts)) if all(isinstance(count, int | float) for count in counts) else None


def _reported_error(event: Mapping[str, Any]) -> Any:
    """Return the error that an event reports, or None; some servers send it without the key `error`."""
    if "choices" not in event and "message" in event:
        return event
    return event.get("error") or None


def _streamed_error(error: Any) -> ResponderError:
    """Return the error of an event in a stream. It has no HTTP status, so its code or type decides."""
    details = error if isinstance(error, Mapping) else {"message": error}
    message = f"The upstream endpoint failed: {one_line(details.get('message') or 'no reason given')}"
    kinds = f"{details.get('code')} {details.get('type')}"
    if "rate_limit" in kinds or "quota" in kinds or "429" in kinds:
        return ResponderError(message, code="rate_limit_exceeded", status_code=429)
    if "invalid_" in kinds or "context_length" in kinds:
        return ResponderError(message, code="invalid_prompt", status_code=400)
    return ResponderError(message, status_code=502)


def one_line(text: Any) -> str:
    """Return a text of another service as one line of at most 500 characters."""
    return " ".join(str(text).split())[:500]
