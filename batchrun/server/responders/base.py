"""The interface of responders, which answer for the embedded server.

A responder gets a conversation and answers with parts. It knows nothing of threads, runs or HTTP: the server turns
the parts into messages, steps, run states and stream events.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

__all__ = [
    "HOSTED_FUNCTIONS",
    "Conversation",
    "Finish",
    "Message",
    "Part",
    "Responder",
    "ResponderError",
    "TextDelta",
    "TokenCount",
    "ToolCall",
    "ToolCallDelta",
    "ToolOutput",
    "answering_model",
]


HOSTED_FUNCTIONS: Mapping[str, str] = {"code_interpreter": "python", "file_search": "file_search"}
"""Hosted tool → the function as which a responder sees it."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function call that the responder requests.

    Attributes:
        id: `call_…`, unique in the conversation; chosen by the responder.
        arguments: JSON text.
    """

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of a call that the responder is still writing; the `ToolCall` with the same id follows when it is whole.

    Attributes:
        id: the call's id, the same in every piece.
        name: the function's whole name, in every piece.
        arguments: the next piece of the JSON text; may be empty.
    """

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolOutput:
    """The return value of the caller's function, for the call with this id."""

    call_id: str
    output: str


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the conversation.

    Attributes:
        text: all text parts, joined.
        content: the content parts as the client sent them, including images; None for plain text. For the role
            `tool`, the images in the outputs.
        tool_calls: calls of an assistant message.
        tool_outputs: for the role `tool`, the outputs of the preceding calls.
    """

    role: Literal["system", "developer", "user", "assistant", "tool"]
    text: str
    content: Sequence[Mapping[str, Any]] | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_outputs: tuple[ToolOutput, ...] = ()


@dataclass(frozen=True, slots=True)
class Conversation:
    """The input of a responder for one answer.

    Attributes:
        instructions: system instructions; "" if there are none.
        messages: oldest first.
        tools: function tools in the form of Chat Completions: {"type": "function", "function": {...}}.
        tool_choice: "none", "auto", "required" or {"type": "function", "function": {"name": ...}}.
        response_format: as sent by the client; None for plain text.
        max_completion_tokens: limit of the answer; None for no limit.
        parameters: all other model parameters of the request (temperature, top_p, seed, ...).
        metadata: metadata of the run.
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
    """Tokens of one answer, as counted by the service."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Prompt and completion tokens together."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: TokenCount) -> TokenCount:
        return TokenCount(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
        )


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of the answer's text.

    Attributes:
        refusal: the text is a refusal: it states why there is no answer. All pieces of an answer have the same value.
    """

    text: str
    refusal: bool = False


@dataclass(frozen=True, slots=True)
class Finish:
    """The last part of every answer.

    Attributes:
        reason: `stop`, `tool_calls`, `length` (cut at max_completion_tokens), `content_filter`.
        usage: None if the responder does not know it; the server then counts by the rule of `token_counts`.
        model: the model that answered; None for the requested one.
    """

    reason: Literal["stop", "tool_calls", "length", "content_filter"]
    usage: TokenCount | None = None
    model: str | None = None


Part: TypeAlias = TextDelta | ToolCallDelta | ToolCall | Finish


FailureCode: TypeAlias = Literal[
    "server_error", "rate_limit_exceeded", "invalid_prompt", "model_not_found", "upstream_refused"
]


class ResponderError(Exception):
    """The answer failed. It becomes the run's `last_error` (Assistants), `error` (Responses) or the HTTP error (Chat).

    Attributes:
        code: one of the three codes of the protocol's runs; or `model_not_found` or `upstream_refused`, which every
            other request would meet too.
        status_code: HTTP status, for protocols that report one.
        retry_after_s: seconds to wait; None if the responder does not know.
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
    """Answers conversations. One instance serves all runs, so it must be safe to call concurrently."""

    name: str
    """Short name, such as `tutor`, `script` or `upstream`."""

    models: tuple[str, ...]
    """Model names to list. If empty, any name is accepted and returned."""

    def respond(self, conversation: Conversation) -> AsyncIterator[Part]:
        """Yield TextDelta and ToolCall parts, then exactly one Finish.

        A ToolCall may be preceded by its pieces (ToolCallDelta), which clients then see as they come. Pieces without
        a ToolCall belong to a call that was cut off: it is not made.

        Raises:
            ResponderError: before or between parts; the parts already yielded remain valid.
        """
        ...

    async def aclose(self) -> None:
        """Release the responder's resources."""
        ...


def answering_model(responder: Responder, requested: str) -> str:
    """Return the model that a reply names: the requested one, unless the responder has the attribute `own_model`."""
    return str(getattr(responder, "own_model", None) or requested)
