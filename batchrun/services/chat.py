"""The Chat Completions protocol: one stateless request a row, for every compatible server.

The thread is the message list, which the journal keeps; nothing on the server outlives the request, so a reply that was
lost is asked for again under the same key.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from batchrun.engine.service import OnIds, Reply
from batchrun.errors import ConnectionLost, RunLost, ServerFault, TransientFault
from batchrun.records import Attempt, Exchange, ToolCall
from batchrun.services.files.row_files import RowFiles
from batchrun.services.finish_reason import CUT, end_of_completed
from batchrun.services.reply_fields import (
    arguments,
    billed,
    cleaned,
    count,
    loaded,
    mapping,
    members,
    name,
    objects,
    required,
    text,
    unexpected,
    whole_text,
)
from batchrun.services.translation import bad_reply, fault_of_error_body, needs_tools
from batchrun.services.usage import usage_of_tokens
from batchrun.services.wire import EventReader, Wire

__all__ = ["ChatService", "ChatSettings"]

REASONS = {"length": CUT, "content_filter": "content_filter"}


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

    def __init__(self, wire: Wire, settings: ChatSettings, row_files: RowFiles | None = None) -> None:
        """
        Args:
            row_files: the batch's files; None if it has none.
        """
        self._wire = wire
        self._settings = settings
        self._row_files = row_files

    async def prepare(self) -> None:
        """Nothing: each request carries all it needs."""

    async def answer(self, exchange: Exchange, attempt: Attempt, on_ids: OnIds) -> Reply:
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
        reply = whole.reply(on_ids, added, self._settings.parameters)
        if self._row_files is not None:
            extras = await self._row_files.of_chat({"annotations": whole.annotations}, exchange.row_key)
            reply = replace(reply, extras=extras)
        return reply

    async def follow(self, exchange: Exchange, attempt: Attempt, on_ids: OnIds) -> Reply:  # noqa: ARG002 - the interface's
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
        if self._row_files is not None:
            content = await self._row_files.content(exchange.turn)
        message = {"role": "user", "content": content}
        if exchange.history or self._settings.instructions is None:
            return [message]
        return [{"role": "system", "content": self._settings.instructions}, message]

    def _body(self, exchange: Exchange, added: list[dict[str, Any]]) -> dict[str, Any]:
        settings = self._settings
        body: dict[str, Any] = {"model": settings.model, "messages": [*exchange.history, *added]}
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
                            return self._whole(loaded(data))
                        whole.add(_decoded(data), self._wire.secrets)
        except TransientFault:
            # Behind the finish reason there was only usage to come: the answer is whole, and paid for.
            if whole.finish_reason is None:
                raise
        return whole

    def _whole(self, completion: Mapping[str, Any]) -> _Completion:
        """A completion that came in one piece.

        Raises:
            ServiceFault: it is an error that came with HTTP 200, or something else.
        """
        choices = objects(completion.get("choices"))
        message = choices[0].get("message") if choices else None
        if not isinstance(message, dict):
            if completion.get("error"):
                raise fault_of_error_body(completion, self._wire.secrets)
            usage = usage_of_tokens(completion.get("usage"))
            if "choices" in completion and not completion["choices"]:
                # Gateways send this where the model behind them broke off.
                raise ServerFault(
                    "the service answered without a choice", error_type="no_choices", run_ended=True, usage=usage
                )
            fault = bad_reply("choice with a message", completion, "Chat Completions", self._wire.secrets)
            fault.usage = usage
            raise fault
        ended = _Completion(in_one_piece=True)
        ended.add({**completion, "choices": [{**choices[0], "index": 0, "delta": message}]}, self._wire.secrets)
        return ended


@dataclass(slots=True)
class _Completion:
    """A completion as put together from its chunks, of which there may be one."""

    in_one_piece: bool = False
    id: str | None = None
    model: str | None = None
    finish_reason: str | None = None
    usage: Mapping[str, Any] | None = None
    texts: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    annotations: list[Mapping[str, Any]] = field(default_factory=list)
    calls: dict[int, dict[str, Any]] = field(default_factory=dict)
    calls_function: bool = False
    has_more: bool = False

    def add(self, chunk: Mapping[str, Any], secrets: tuple[str, ...]) -> None:
        """Take in one chunk; of several choices the first counts.

        Raises:
            ServiceFault: it is an error, or a part of the answer in it is of another type.
        """
        if chunk.get("error"):
            raise fault_of_error_body(chunk, secrets)
        self.id = name(chunk.get("id")) or self.id
        self.model = name(chunk.get("model")) or self.model
        self.usage = mapping(chunk.get("usage")) or self.usage
        with billed(usage_of_tokens(self.usage)) if self.usage else nullcontext():
            for choice in members(chunk.get("choices"), "`choices`"):
                if not count(choice.get("index")):
                    self._add_choice(choice)

    def _add_choice(self, choice: Mapping[str, Any]) -> None:
        finish_reason = choice.get("finish_reason")
        if finish_reason:
            self.finish_reason = required(finish_reason, "`finish_reason`")
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            if delta is not None:
                raise unexpected(delta, "`delta`", "an object")
            return
        if (content := delta.get("content")) is not None:
            self.texts.append(_text(content, "`content`"))
        if (refusal := delta.get("refusal")) is not None:
            self.refusals.append(_text(refusal, "`refusal`"))
        if annotations := delta.get("annotations"):
            self.annotations += objects(cleaned(annotations))
        if calls := delta.get("tool_calls"):
            for position, call in enumerate(members(calls, "`tool_calls`")):
                index = count(call.get("index"))
                self._add_call(call, position if index is None else index)
        self.calls_function = self.calls_function or bool(delta.get("function_call"))
        # What models answer with beside text, or instead of it: OpenRouter's images, speech.
        self.has_more = self.has_more or bool(objects(delta.get("images")) or mapping(delta.get("audio")))

    def _add_call(self, piece: Mapping[str, Any], index: int) -> None:
        """A piece of a call: its arguments come in several, all else in the first."""
        function = piece.get("function")
        if not isinstance(function, dict):
            if function is not None:
                raise unexpected(function, "the function of a call", "an object")
            function = {}
        call = self.calls.setdefault(
            index, {**{name: value for name, value in piece.items() if name != "index"}, "function": {"arguments": ""}}
        )
        call["id"] = name(piece.get("id")) or call.get("id")
        call["function"] |= {name: value for name, value in function.items() if name != "arguments" and value}
        call["function"]["arguments"] += arguments(function.get("arguments"))

    def reply(self, on_ids: OnIds, added: list[dict[str, Any]], parameters: Mapping[str, Any]) -> Reply:
        """The whole, once no more is to come.

        Args:
            added: the messages that it answers, behind those before.
            parameters: that it was asked for with.

        Raises:
            ServiceFault: it ended too early (without a finish reason nothing says that the answer is whole), or asks
                for a function in the manner that was given up in 2023.
        """
        if self.finish_reason is None and not self.in_one_piece:
            raise ConnectionLost("the stream ended before the answer did", error_type="connection_error")
        usage = usage_of_tokens(self.usage)
        if self.finish_reason == "error":
            raise ServerFault("the service broke off the answer", error_type="server_error", usage=usage)
        on_ids(None, self.id, with_reply=True)
        answer, refusal = whole_text("".join(self.texts)), whole_text("".join(self.refusals))
        if self.calls:
            with billed(usage):
                calls = [_call(self.calls[index], index) for index in sorted(self.calls)]
            asked_for = tuple(
                ToolCall(call["id"], call["function"]["name"], call["function"]["arguments"]) for call in calls
            )
            said = (*added, {"role": "assistant", "content": answer or None, "tool_calls": calls})
            return Reply("requires_action", answer, usage, self.model, calls=asked_for, history=said)
        if self.calls_function:
            raise needs_tools(usage)
        said = (*added, {"role": "assistant", "content": answer + refusal})
        reason = REASONS.get(self.finish_reason or "")
        if reason is not None and not refusal:
            return Reply("incomplete", answer, usage, self.model, reason, history=said)
        status, reason = end_of_completed(
            answer + refusal,
            usage,
            refused=bool(refusal),
            parameters=parameters if self.finish_reason is None else None,
            more=self.has_more,
        )
        return Reply(status, answer + refusal, usage, self.model, reason, history=said)


def _call(pieces: Mapping[str, Any], index: int) -> dict[str, Any]:
    """A call as it is sent back with its output, where the two go together by an id: some servers give none."""
    call: dict[str, Any] = {**cleaned(pieces), "type": "function", "id": name(pieces.get("id")) or f"call_{index}"}
    required(call["function"].get("name"), "the name of a function that is called")
    call["function"]["arguments"] = call["function"]["arguments"] or "{}"
    return call


def _decoded(data: bytes) -> Mapping[str, Any]:
    """A chunk. It may hold half a character, and the next one the other."""
    try:
        chunk = loaded(data, halves=True)
    except ValueError:
        chunk = None
    if not isinstance(chunk, dict):
        raise ConnectionLost("the stream broke inside a chunk", error_type="connection_error")
    return chunk


def _text(content: Any, what: str) -> str:
    """A message's text; some servers (Mistral) give it in parts, others than text among them."""
    if isinstance(content, str):
        return content
    parts = members(content, what)
    return "".join(text(part.get("text"), what) for part in parts if required(part.get("type"), what) == "text")
