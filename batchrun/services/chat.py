"""The Chat Completions protocol: one stateless request a row, for every compatible server.

The thread is the message list, which the journal keeps; nothing on the server outlives the request, so a reply that was
lost is asked for again under the same key.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic_core import from_json

from batchrun.errors import ConnectionLost, RunLost, ServerFault, TransientFault
from batchrun.records import Attempt, Exchange, ToolCall
from batchrun.services.base import IdsSeen, Reply
from batchrun.services.enclosures import Enclosures
from batchrun.services.faults import bad_reply, fault_of_error_body, needs_tools
from batchrun.services.reading import objects
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
        structure: the response format of answers that are to have a form.
    """

    model: str | None
    instructions: str | None
    stream: bool = False
    parameters: Mapping[str, Any] = field(default_factory=dict)
    structure: Mapping[str, Any] | None = None


class ChatService:
    """Rows as chat completions; see the module's docstring."""

    def __init__(self, wire: Wire, settings: ChatSettings, enclosures: Enclosures | None = None) -> None:
        """
        Args:
            enclosures: the files that go with prompts, where there are any.
        """
        self._wire = wire
        self._settings = settings
        self._enclosures = enclosures

    async def prepare(self) -> None:
        """Nothing: each request carries all it needs."""

    async def answer(self, exchange: Exchange, attempt: Attempt, seen: IdsSeen) -> Reply:
        """Ask for one completion.

        Its id is told when the whole of it is there: before, it is no use to anyone.
        """
        key = attempt.key if exchange.round == 0 else f"{attempt.key}-{exchange.round}"
        headers = {"Idempotency-Key": key}
        added = await self._added(exchange)
        body = self._body(exchange, added)
        if self._settings.stream:
            whole = await self._streamed(body, headers)
        else:
            whole = self._whole(await self._wire.post("/chat/completions", body, headers, patient=True))
        reply = whole.reply(seen, added)
        if self._enclosures is not None:
            extras = await self._enclosures.of_chat({"annotations": whole.annotations}, exchange.row_key)
            reply = replace(reply, extras=extras)
        return reply

    async def follow(self, exchange: Exchange, attempt: Attempt, seen: IdsSeen) -> Reply:  # noqa: ARG002 - the interface's
        """Nothing can be followed; under the same key a service that honours it tells the same completion again."""
        raise RunLost("chat completions cannot be looked up", error_type="run_lost")

    async def cancel(self, exchange: Exchange, attempt: Attempt) -> None:
        """Nothing: a completion ends with its request."""

    async def _added(self, exchange: Exchange) -> list[dict[str, Any]]:
        """The messages behind those that were said before."""
        if exchange.outputs:
            return [
                {"role": "tool", "tool_call_id": output.call_id, "content": output.text} for output in exchange.outputs
            ]
        content: Any = exchange.turn.text
        if self._enclosures is not None:
            content = await self._enclosures.content(exchange.turn)
        message = {"role": "user", "content": content}
        if exchange.said or self._settings.instructions is None:
            return [message]
        return [{"role": "system", "content": self._settings.instructions}, message]

    def _body(self, exchange: Exchange, added: list[dict[str, Any]]) -> dict[str, Any]:
        settings = self._settings
        body: dict[str, Any] = {"model": settings.model, "messages": [*exchange.said, *added]}
        if settings.stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        body |= settings.parameters
        if exchange.structured and settings.structure is not None:
            body["response_format"] = settings.structure
        return body

    async def _streamed(self, body: Mapping[str, Any], headers: Mapping[str, str]) -> _Completion:
        reader = EventReader()
        whole = _Completion()
        try:
            async with self._wire.post_stream("/chat/completions", body, headers) as chunks:
                async for chunk in chunks:
                    for event, data in reader.feed(chunk):
                        if data == b"[DONE]":
                            continue
                        if event == "json":
                            return self._whole(json.loads(data))
                        whole.add(_decoded(data), self._wire.secrets)
        except TransientFault:
            # Behind the finish reason there was only usage to come: the answer is whole, and paid for.
            if whole.finish_reason is None:
                raise
        return whole

    def _whole(self, completion: Any) -> _Completion:
        """A completion that came in one piece.

        Raises:
            ServiceFault: it is an error that came with HTTP 200, or something else.
        """
        choices = objects(completion.get("choices")) if isinstance(completion, Mapping) else []
        message = choices[0].get("message") if choices else None
        if not isinstance(message, Mapping):
            if isinstance(completion, Mapping) and completion.get("error"):
                raise fault_of_error_body(completion, self._wire.secrets)
            raise bad_reply("choice with a message", completion, "Chat Completions", self._wire.secrets)
        ended = _Completion()
        ended.add({**completion, "choices": [{**choices[0], "delta": message}]}, self._wire.secrets)
        ended.finish_reason = ended.finish_reason or "stop"
        return ended


@dataclass(slots=True)
class _Completion:
    """A completion as put together from its chunks, of which there may be one."""

    id: str | None = None
    model: str | None = None
    finish_reason: str | None = None
    usage: Mapping[str, Any] | None = None
    texts: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    annotations: list[Mapping[str, Any]] = field(default_factory=list)
    calls: dict[int, dict[str, Any]] = field(default_factory=dict)
    calls_function: bool = False

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
            self.annotations += objects(delta.get("annotations"))
            for position, call in enumerate(objects(delta.get("tool_calls"))):
                self._add_call(call, call.get("index", position))
            self.calls_function = self.calls_function or bool(delta.get("function_call"))

    def _add_call(self, piece: Mapping[str, Any], index: int) -> None:
        """A piece of a call: its arguments come in several, all else in the first."""
        function = piece.get("function") or {}
        call = self.calls.setdefault(
            index, {**{name: value for name, value in piece.items() if name != "index"}, "function": {"arguments": ""}}
        )
        call["id"] = piece.get("id") or call.get("id")
        call["function"] |= {name: value for name, value in function.items() if name != "arguments" and value}
        call["function"]["arguments"] += function.get("arguments") or ""

    def reply(self, seen: IdsSeen, added: list[dict[str, Any]]) -> Reply:
        """The whole, once no more is to come.

        Args:
            added: the messages that it answers, behind those before.

        Raises:
            ServiceFault: it ended too early (without a finish reason nothing says that the answer is whole), or asks
                for a function in the manner that was given up in 2023.
        """
        if self.finish_reason is None:
            raise ConnectionLost("the stream ended before the answer did", error_type="connection_error")
        usage = usage_of_tokens(self.usage)
        if self.finish_reason == "error":
            raise ServerFault("the service broke off the answer", error_type="server_error", usage=usage)
        seen(None, self.id, with_reply=True)
        text, refusal = _joined(self.texts), _joined(self.refusals)
        if self.calls:
            calls = [{"type": "function", **self.calls[index]} for index in sorted(self.calls)]
            said = (*added, {"role": "assistant", "content": text or None, "tool_calls": calls})
            return Reply("requires_action", text, usage, self.model, calls=_asked_for(calls), said=said)
        if self.calls_function:
            raise needs_tools(usage)
        said = (*added, {"role": "assistant", "content": text + refusal})
        if refusal:
            return Reply("incomplete", text + refusal, usage, self.model, "refusal", said=said)
        reason = REASONS.get(self.finish_reason)
        return Reply("incomplete" if reason else "completed", text, usage, self.model, reason, said=said)


def _asked_for(calls: list[dict[str, Any]]) -> tuple[ToolCall, ...]:
    return tuple(
        ToolCall(str(call.get("id")), str(call["function"].get("name")), call["function"]["arguments"] or "{}")
        for call in calls
    )


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


def _text(content: Any) -> str:
    """A message's text; some servers (Mistral) give it in parts, others than text among them."""
    if isinstance(content, str):
        return content
    return "".join(str(part.get("text") or "") for part in objects(content) if part.get("type") == "text")
