"""The Chat Completions protocol: one stateless request a row, for every compatible server.

The thread is the message list, which the journal can make again from the row; nothing on the server outlives the
request, so a reply that was lost is asked for again under the same key.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import from_json

from batchrun.errors import ConnectionLost, RunLost, ServerFault, TransientFault
from batchrun.records import Attempt, Prompt
from batchrun.services.base import IdsSeen, Reply
from batchrun.services.faults import bad_reply, fault_of_error_body, needs_tools
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

    async def answer(self, prompt: Prompt, attempt: Attempt, seen: IdsSeen) -> Reply:
        """Ask for one completion.

        Its id is told when the whole of it is there: before, it is no use to anyone.
        """
        headers = {"Idempotency-Key": attempt.key}
        if self._settings.stream:
            return await self._answer_streamed(self._body(prompt), headers, seen)
        reply = await self._wire.post("/chat/completions", self._body(prompt), headers, patient=True)
        return self._whole(reply, seen)

    async def follow(self, prompt: Prompt, attempt: Attempt, seen: IdsSeen) -> Reply:  # noqa: ARG002 - the interface's
        """Nothing can be followed; under the same key a service that honours it tells the same completion again."""
        raise RunLost("chat completions cannot be looked up", error_type="run_lost")

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

    async def _answer_streamed(self, body: Mapping[str, Any], headers: Mapping[str, str], seen: IdsSeen) -> Reply:
        reader = EventReader()
        whole = _Completion()
        try:
            async with self._wire.post_stream("/chat/completions", body, headers) as chunks:
                async for chunk in chunks:
                    for event, data in reader.feed(chunk):
                        if data == b"[DONE]":
                            continue
                        if event == "json":
                            return self._whole(json.loads(data), seen)
                        whole.add(_decoded(data), self._wire.secrets)
        except TransientFault:
            # Behind the finish reason there was only usage to come: the answer is whole, and paid for.
            if whole.finish_reason is None:
                raise
        return whole.reply(seen)

    def _whole(self, completion: Any, seen: IdsSeen) -> Reply:
        """How a completion that came in one piece, ended.

        Raises:
            ServiceFault: it is an error that came with HTTP 200, or something else; or it asks for a function call.
        """
        choices = _objects(completion.get("choices")) if isinstance(completion, Mapping) else []
        message = choices[0].get("message") if choices else None
        if not isinstance(message, Mapping):
            if isinstance(completion, Mapping) and completion.get("error"):
                raise fault_of_error_body(completion, self._wire.secrets)
            raise bad_reply("choice with a message", completion, "Chat Completions", self._wire.secrets)
        ended = _Completion()
        ended.add({**completion, "choices": [{**choices[0], "delta": message}]}, self._wire.secrets)
        ended.finish_reason = ended.finish_reason or "stop"
        return ended.reply(seen)


@dataclass(slots=True)
class _Completion:
    """A completion as put together from its chunks, of which there may be one."""

    id: str | None = None
    model: str | None = None
    finish_reason: str | None = None
    usage: Mapping[str, Any] | None = None
    texts: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    calls_tools: bool = False

    def add(self, chunk: Mapping[str, Any], secrets: tuple[str, ...]) -> None:
        """Take in one chunk; of several choices the first counts.

        Raises:
            ServiceFault: it is an error.
        """
        if chunk.get("error"):
            raise fault_of_error_body(chunk, secrets)
        self.id = chunk.get("id") or self.id
        self.model = chunk.get("model") or self.model
        self.usage = chunk.get("usage") or self.usage
        for choice in chunk.get("choices") or ():
            if not isinstance(choice, dict) or choice.get("index"):
                continue
            delta = choice.get("delta") or {}
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
            if content := delta.get("content"):
                self.texts.append(content if isinstance(content, str) else _text(content))
            if refusal := delta.get("refusal"):
                self.refusals.append(_text(refusal))
            self.calls_tools = self.calls_tools or bool(delta.get("tool_calls") or delta.get("function_call"))

    def reply(self, seen: IdsSeen) -> Reply:
        """The whole, once no more is to come.

        Raises:
            ServiceFault: it ended too early (without a finish reason nothing says that the answer is whole), or asks
                for a function call.
        """
        if self.finish_reason is None:
            raise ConnectionLost("the stream ended before the answer did", error_type="connection_error")
        usage = usage_of_tokens(self.usage)
        if self.finish_reason == "error":
            raise ServerFault("the service broke off the answer", error_type="server_error", usage=usage)
        seen(None, self.id, with_reply=True)
        if self.calls_tools:
            raise needs_tools(usage, run_ended=True)
        text, refusal = _joined(self.texts), _joined(self.refusals)
        if refusal:
            return Reply("incomplete", text + refusal, usage, self.model, "refusal")
        reason = REASONS.get(self.finish_reason)
        return Reply("incomplete" if reason else "completed", text, usage, self.model, reason)


def _decoded(data: bytes) -> dict[str, Any]:
    try:
        chunk = from_json(data)  # a third of the CPU of json.loads, and there are many
    except ValueError:
        chunk = _decoded_leniently(data)
    if not isinstance(chunk, dict):
        raise ConnectionLost("the stream broke inside a chunk", error_type="connection_error")
    return chunk


def _decoded_leniently(data: bytes) -> Any:
    """Half a character, escaped: a server that cuts a text into chunks by UTF-16 sends the other half in the next."""
    try:
        return json.loads(data)
    except ValueError:
        return None


def _joined(pieces: list[str]) -> str:
    """The pieces as one text; halves of a character that meet become it, others U+FFFD."""
    text = "".join(pieces)
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _objects(items: Any) -> list[Mapping[str, Any]]:
    return [item for item in items or () if isinstance(item, Mapping)]


def _text(content: Any) -> str:
    """A message's text; some servers (Mistral) give it in parts, others than text among them."""
    if isinstance(content, str):
        return content
    return "".join(str(part.get("text") or "") for part in _objects(content) if part.get("type") == "text")
