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
        is_named: the name is whole, and the pieces so far are passed on.
    """

    id: str
    name: str = ""
    arguments: list[str] = field(default_factory=list)
    is_named: bool = False


class UpstreamAnswer:
    """An answer whose pieces are arriving.

    Mutable state: calls, finish reason, usage and model so far; `deltas`.

    Attributes:
        deltas: pieces of calls to pass on; see `taken_deltas`.
    """

    def __init__(self, conversation: Conversation) -> None:
        self.deltas: list[ToolCallDelta] = []
        self._offered = {tool["function"]["name"] for tool in conversation.tools}
        self._calls: dict[Any, _Call] = {}
        self._reason: str | None = None
        self._usage: TokenCount | None = None
        self._model: str | None = None

    def take(self, event: Mapping[str, Any]) -> TextDelta:
        """Process one chunk, or a whole completion, and return the text that it adds, which may be empty.

        Raises:
            ResponderError: the chunk reports an error.
        """
        if event.get("error"):
            raise _streamed_error(event["error"])
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
            refusal = str(delta.get("refusal") or "")
            return TextDelta(refusal, refusal=True) if refusal else TextDelta(str(delta.get("content") or ""))
        return TextDelta("")

    def _add(self, fragment: Mapping[str, Any]) -> None:
        """Add a fragment to the call with its index. Servers without an index send whole calls, or the id once."""
        key = fragment.get("index")
        if key is None:
            key = fragment.get("id") or next(reversed(self._calls), 0)
        call = self._calls.get(key)
        if call is None:
            call = self._calls[key] = _Call(fragment.get("id") or f"call_{uuid.uuid4().hex[:24]}")
        function = fragment.get("function") or {}
        arguments = function.get("arguments") or ""
        piece = arguments if isinstance(arguments, str) else json.dumps(arguments)
        call.arguments.append(piece)
        if call.is_named:
            if piece:
                self.deltas.append(ToolCallDelta(call.id, call.name, piece))
            return
        name = function.get("name") or ""
        if name != call.name:  # some servers repeat it in every fragment, others send it in fragments
            call.name += name
        if call.name and (piece or self._is_whole(call.name)):
            call.is_named = True
            self.deltas.append(ToolCallDelta(call.id, call.name, "".join(call.arguments)))

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
            for call in self._calls.values():
                yield ToolCall(call.id, call.name, "".join(call.arguments) or "{}")
        elif reason == "tool_calls":
            reason = "stop"
        yield Finish(reason, self._usage, self._model)


def _token_count(usage: Mapping[str, Any]) -> TokenCount:
    prompt, completion = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    return TokenCount(
        prompt_tokens=usage.get("prompt_tokens") or 0,
        completion_tokens=usage.get("completion_tokens") or 0,
        cached_tokens=(prompt or {}).get("cached_tokens") or 0,
        reasoning_tokens=(completion or {}).get("reasoning_tokens") or 0,
    )


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
