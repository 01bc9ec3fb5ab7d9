"""The Chat Completions protocol: one stateless request a row, for every compatible server.

The thread is the message list, which the journal can make again from the row; nothing on the server outlives the
request, so a reply that was lost is asked for again under the same key.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from batchrun.errors import ConnectionLost, RunLost
from batchrun.records import Attempt, Prompt
from batchrun.services.base import IdsSeen, Reply
from batchrun.services.faults import fault_of_error_body, needs_tools
from batchrun.services.usage import usage_of_tokens
from batchrun.services.wire import EventReader, Wire

__all__ = ["ChatService", "ChatSettings"]

REASONS = {"length": "max_completion_tokens", "content_filter": "content_filter"}


@dataclass(frozen=True, slots=True)
class ChatSettings:
    """What each completion is made with.

    Attributes:
        stream: read the reply as a stream; keeps proxies from giving up a long answer.
        parameters: temperature and the like, as the API names them.
    """

    model: str | None
    instructions: str | None
    stream: bool = False
    parameters: Mapping[str, Any] = field(default_factory=dict)


class ChatService:
    """Rows as chat completions; see the module's docstring."""

    def __init__(self, wire: Wire, settings: ChatSettings) -> None:
        self._wire = wire
        self._settings = settings

    async def prepare(self) -> None:
        """Nothing: each request carries all it needs."""

    async def answer(self, prompt: Prompt, attempt: Attempt, seen: IdsSeen) -> Reply:  # noqa: ARG002 - no id can be followed
        """Ask for one completion."""
        headers = {"Idempotency-Key": attempt.key}
        if self._settings.stream:
            return await self._answer_streamed(self._body(prompt), headers)
        return _reply(await self._wire.post("/chat/completions", self._body(prompt), headers), self._wire.secrets)

    async def follow(self, prompt: Prompt, attempt: Attempt, seen: IdsSeen) -> Reply:  # noqa: ARG002 - the interface's
        """Nothing can be followed."""
        raise RunLost("chat completions cannot be looked up", error_type="run_lost", run_ended=True)

    async def cancel(self, attempt: Attempt) -> None:
        """Nothing: a completion ends with its request."""

    def _body(self, prompt: Prompt) -> dict[str, Any]:
        settings = self._settings
        messages = [{"role": "user", "content": prompt.turns[0].text}]
        if settings.instructions is not None:
            messages.insert(0, {"role": "system", "content": settings.instructions})
        body: dict[str, Any] = {"model": settings.model, "messages": messages}
        if settings.stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return {**body, **settings.parameters}

    async def _answer_streamed(self, body: Mapping[str, Any], headers: Mapping[str, str]) -> Reply:
        reader = EventReader()
        whole = _Completion()
        async with self._wire.post_stream("/chat/completions", body, headers) as chunks:
            async for chunk in chunks:
                for event, data in reader.feed(chunk):
                    if data == b"[DONE]":
                        continue
                    if event == "json":
                        return _reply(json.loads(data), self._wire.secrets)
                    whole.add(_decoded(data), self._wire.secrets)
        return whole.reply()


@dataclass(slots=True)
class _Completion:
    """A completion as put together from its chunks."""

    model: str | None = None
    finish_reason: str | None = None
    usage: Mapping[str, Any] | None = None
    texts: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    calls_tools: bool = False

    def add(self, chunk: Mapping[str, Any], secrets: tuple[str, ...]) -> None:
        """Take in one chunk."""
        if "error" in chunk:
            raise fault_of_error_body(chunk, secrets)
        self.model = chunk.get("model") or self.model
        self.usage = chunk.get("usage") or self.usage
        for choice in chunk.get("choices") or ():
            delta = choice.get("delta") or {}
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
            if delta.get("content"):
                self.texts.append(delta["content"])
            if delta.get("refusal"):
                self.refusals.append(delta["refusal"])
            self.calls_tools = self.calls_tools or bool(delta.get("tool_calls"))

    def reply(self) -> Reply:
        """The whole, once the stream has ended.

        Raises:
            ConnectionLost: it ended too early: without a finish reason nothing says that the answer is whole.
        """
        if self.finish_reason is None:
            raise ConnectionLost("the stream ended before the answer did", error_type="connection_error")
        if self.calls_tools:
            raise needs_tools()
        return _ended("".join(self.texts), "".join(self.refusals), self.finish_reason, self.usage, self.model)


def _decoded(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        raise ConnectionLost("the stream broke inside a chunk", error_type="connection_error") from None


def _reply(completion: Mapping[str, Any], secrets: tuple[str, ...]) -> Reply:
    if not completion.get("choices"):
        # Some servers report errors with HTTP 200.
        raise fault_of_error_body(
            completion if "error" in completion else {"message": "the server sent a completion without choices"},
            secrets,
        )
    choice = completion["choices"][0]
    message = choice["message"]
    if message.get("tool_calls"):
        raise needs_tools()
    return _ended(
        message.get("content") or "",
        message.get("refusal") or "",
        choice.get("finish_reason") or "stop",
        completion.get("usage"),
        completion.get("model"),
    )


def _ended(text: str, refusal: str, finish_reason: str, usage: Mapping[str, Any] | None, model: str | None) -> Reply:
    if refusal:
        return Reply("incomplete", text + refusal, usage_of_tokens(usage), model, "refusal")
    reason = REASONS.get(finish_reason)
    return Reply("incomplete" if reason else "completed", text, usage_of_tokens(usage), model, reason)
