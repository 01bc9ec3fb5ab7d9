"""What stands behind the embedded server: the one interface that every responder implements.

A responder sees a conversation and answers with parts. It knows nothing of threads, runs or HTTP; the
server turns parts into messages, steps, run states and stream events.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

__all__ = [
    "Conversation",
    "Finish",
    "Message",
    "Part",
    "Responder",
    "ResponderError",
    "TextDelta",
    "TokenCount",
    "ToolCall",
    "ToolOutput",
    "answering_model",
]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a function, as the responder wants it made.

    Attributes:
        id: `call_…`, unique in the conversation; the responder makes it.
        arguments: JSON text.
    """

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolOutput:
    """What the caller's function returned for the call with this id."""

    call_id: str
    output: str


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the conversation, oldest first.

    Attributes:
        text: all text parts, joined.
        content: the content parts as the client sent them (images included), or None where it was plain text.
        tool_calls: calls that this assistant message made.
        tool_outputs: for role `tool`: the outputs that answer the calls before.
    """

    role: Literal["system", "developer", "user", "assistant", "tool"]
    text: str
    content: Sequence[Mapping[str, Any]] | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_outputs: tuple[ToolOutput, ...] = ()


@dataclass(frozen=True, slots=True)
class Conversation:
    """All that a responder may look at for one answer.

    Attributes:
        instructions: system instructions, "" where there are none.
        tools: function tools in the Chat Completions form: {"type": "function", "function": {...}}.
        tool_choice: "none", "auto", "required" or {"type": "function", "function": {"name": ...}}.
        response_format: as sent by the client, None for plain text.
        parameters: every other model parameter that was sent, passed through (temperature, top_p, seed, ...).
        metadata: of the run.
    """

    model: str
    instructions: str
    messages: tuple[Message, ...]
    tools: Sequence[Mapping[str, Any]] = ()
    tool_choice: str | Mapping[str, Any] = "auto"
    parallel_tool_calls: bool = True
    response_format: Mapping[str, Any] | None = None
    max_completion_tokens: int | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TokenCount:
    """Tokens of one answer, in the service's own counting."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Prompt and completion tokens together."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of the answer's text.

    Attributes:
        refusal: the text says why there is no answer; then every piece of it says so.
    """

    text: str
    refusal: bool = False


@dataclass(frozen=True, slots=True)
class Finish:
    """The last part of every answer.

    Attributes:
        reason: `stop`, `tool_calls`, `length` (cut at max_completion_tokens), `content_filter`.
        usage: None where the responder cannot tell; the server then counts by its stated rule.
        model: the name the responder really used, None for the one asked for.
    """

    reason: Literal["stop", "tool_calls", "length", "content_filter"]
    usage: TokenCount | None = None
    model: str | None = None


Part: TypeAlias = TextDelta | ToolCall | Finish


FailureCode: TypeAlias = Literal[
    "server_error", "rate_limit_exceeded", "invalid_prompt", "model_not_found", "upstream_refused"
]


class ResponderError(Exception):
    """The answer failed. Becomes the run's `last_error` (Assistants), `error` (Responses) or the HTTP error (Chat).

    Attributes:
        code: one of the three codes that a run may carry; or `model_not_found` and `upstream_refused`, which no other
            request would end without.
        status_code: HTTP status for protocols that report it there.
        retry_after_s: seconds to wait, where the responder knows.
    """

    def __init__(
        self,
        message: str,
        *,
        code: FailureCode = "server_error",
        status_code: int = 500,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status_code = status_code
        self.retry_after_s = retry_after_s


class Responder(Protocol):
    """Answers conversations. One instance serves all runs at once; it must be safe to call concurrently."""

    name: str
    """Short name for people: `tutor`, `script`, `upstream`."""

    models: tuple[str, ...]
    """Model names to list; empty: any name is accepted and echoed."""

    def respond(self, conversation: Conversation) -> AsyncIterator[Part]:
        """Yield TextDelta and ToolCall parts, then exactly one Finish.

        Raises:
            ResponderError: before or between parts; what was yielded stands.
        """
        ...

    async def aclose(self) -> None:
        """Free what the responder holds."""
        ...


def answering_model(responder: Responder, asked: str) -> str:
    """The name in the `model` of what is answered: the one asked for, unless the responder always uses its own
    (an optional attribute `own_model`)."""
    return str(getattr(responder, "own_model", None) or asked)
