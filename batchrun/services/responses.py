"""The Responses protocol: a run is a stored response, a thread the chain it begins, or a Conversation.

One `POST /responses` a row; with a conversation, `POST /conversations` before it. The reply is plain JSON unless
`stream` or `background` is set: what each costs in requests and what it lets a crash recover is in
docs/services.md.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

from batchrun.errors import BatchRefused, ConnectionLost, PermanentFault, RunLost, TransientFault
from batchrun.records import Attempt, Prompt
from batchrun.services.base import IdsSeen, Reply
from batchrun.services.faults import fault_of_error_body, fault_of_failed_run, needs_tools
from batchrun.services.polling import poll
from batchrun.services.usage import usage_of_response
from batchrun.services.wire import EventReader, Wire

__all__ = ["ResponseSettings", "ResponsesService"]

TERMINAL = frozenset({"completed", "failed", "incomplete", "cancelled"})
KEPT_EVENTS = (
    "response.created",
    "response.completed",
    "response.failed",
    "response.incomplete",
    "response.cancelled",
    "error",
    "json",  # a server that does not stream: see Wire.post_stream
)
MAX_RESUMES = 5


@dataclass(frozen=True, slots=True)
class ResponseSettings:
    """What each response is made with.

    Attributes:
        conversation: a Conversation of its own for each row, its id in `thread_id`.
        stream: read the reply as a stream, so that the id is known from the first byte.
        background: let the service work on its own, so that the response can be polled, resumed and cancelled.
        metadata: put on responses and conversations, with `row` and `attempt` added.
        parameters: temperature and the like, as the API names them.
    """

    model: str | None
    instructions: str | None
    metadata: Mapping[str, str]
    conversation: bool = False
    stream: bool = False
    background: bool = False
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class _Stream:
    """What a stream has told so far; `position` is the last event's sequence number."""

    response_id: str | None = None
    position: int | None = None
    final: Mapping[str, Any] | None = None


class ResponsesService:
    """Rows as stored responses; see the module's docstring."""

    def __init__(self, wire: Wire, settings: ResponseSettings) -> None:
        self._wire = wire
        self._settings = settings

    async def prepare(self) -> None:
        """Nothing: there is no assistant any more, each request carries all it needs."""

    async def answer(self, prompt: Prompt, attempt: Attempt, seen: IdsSeen) -> Reply:
        """Make a response and read it to its end."""
        conversation_id = attempt.thread_id
        if self._settings.conversation:
            if conversation_id is not None:
                found = await self._answer_in(conversation_id)
                if found is not None:
                    return found
            conversation_id = await self._make_conversation(prompt, attempt)
            seen(conversation_id, None)
        body = self._body(prompt, attempt, conversation_id)
        headers = {"Idempotency-Key": attempt.key}
        if self._settings.stream:
            return await self._read_streams(self._wire.post_stream("/responses", body, headers), conversation_id, seen)
        response = await self._wire.post("/responses", body, headers)
        seen(_thread_id(response) or conversation_id, response["id"])
        if response["status"] not in TERMINAL:
            return await self._follow(response["id"])
        return _reply(response)

    async def follow(self, prompt: Prompt, attempt: Attempt, seen: IdsSeen) -> Reply:  # noqa: ARG002 - the ids are known
        """Poll the response that the journal names to its end."""
        return await self._follow(str(attempt.run_id))

    async def cancel(self, attempt: Attempt) -> None:
        """Cancel the response; only one made in the background can be."""
        await self._wire.post(f"/responses/{attempt.run_id}/cancel", {}, {})

    # -- making ---------------------------------------------------------------------------------------

    def _metadata(self, prompt: Prompt, attempt: Attempt) -> dict[str, str]:
        return {**self._settings.metadata, "row": prompt.row_key[:512], "attempt": str(attempt.generation)}

    def _body(self, prompt: Prompt, attempt: Attempt, conversation_id: str | None) -> dict[str, Any]:
        settings = self._settings
        body: dict[str, Any] = {
            "model": settings.model,
            "input": prompt.turns[0].text,
            "store": True,
            "metadata": self._metadata(prompt, attempt),
        }
        if settings.instructions is not None:
            body["instructions"] = settings.instructions
        if conversation_id is not None:
            body["conversation"] = conversation_id
        if settings.stream:
            body["stream"] = True
        if settings.background:
            body["background"] = True
        return {**body, **settings.parameters}

    async def _make_conversation(self, prompt: Prompt, attempt: Attempt) -> str:
        conversation = await self._wire.post(
            "/conversations",
            {"metadata": self._metadata(prompt, attempt)},
            {"Idempotency-Key": f"{attempt.key}-conversation-{attempt.number}"},
        )
        return str(conversation["id"])

    async def _answer_in(self, conversation_id: str) -> Reply | None:
        """The answer that a conversation already holds: its response was made, and the reply that named it lost.

        The service does not tell the response's usage here. None where there is no answer: a conversation that
        holds the question alone would hold it twice if it were asked in it again, so a new one is made.
        """
        try:
            page, _ = await self._wire.get(f"/conversations/{conversation_id}/items", {}, order="asc", limit=100)
        except PermanentFault as fault:
            if fault.status_code == 404:
                return None
            raise
        answers = [item for item in page["data"] if item.get("type") == "message" and item["role"] == "assistant"]
        if not answers or answers[-1].get("status") != "completed":
            return None
        text, refused = _text_of(answers)
        return Reply("incomplete" if refused else "completed", text, reason="refusal" if refused else None)

    # -- following ------------------------------------------------------------------------------------

    async def _follow(self, response_id: str) -> Reply:
        return _reply(
            await poll(self._wire, f"/responses/{response_id}", {}, lambda found: found["status"] in TERMINAL)
        )

    async def _read_streams(
        self, opened: AbstractAsyncContextManager[AsyncIterator[bytes]], conversation_id: str | None, seen: IdsSeen
    ) -> Reply:
        """Read a stream; one of a background response that breaks off is resumed behind its last event."""
        stream = _Stream()
        for _ in range(MAX_RESUMES):
            try:
                await self._read(opened, stream, conversation_id, seen)
            except RunLost:
                raise
            except TransientFault as fault:
                if stream.response_id is None or fault.run_ended:
                    raise
            if stream.final is not None:
                return _reply(stream.final)
            if stream.response_id is None:
                raise ConnectionLost("the stream ended before it named a response", error_type="connection_error")
            if not self._settings.background or stream.position is None:
                break
            opened = self._wire.get_stream(
                f"/responses/{stream.response_id}", {}, stream="true", starting_after=stream.position
            )
        return await self._follow(str(stream.response_id))

    async def _read(
        self,
        opened: AbstractAsyncContextManager[AsyncIterator[bytes]],
        stream: _Stream,
        conversation_id: str | None,
        seen: IdsSeen,
    ) -> None:
        # Every event moves the position, so where a stream can be resumed all are decoded.
        reader = EventReader(() if self._settings.background else KEPT_EVENTS)
        async with opened as chunks:
            async for chunk in chunks:
                for event, data in reader.feed(chunk):
                    if data != b"[DONE]":
                        self._take(event, _decoded(data), stream, conversation_id, seen)
                if stream.final is not None:
                    return

    def _take(
        self, event: str, body: Mapping[str, Any], stream: _Stream, conversation_id: str | None, seen: IdsSeen
    ) -> None:
        stream.position = body.get("sequence_number", stream.position)
        if event == "error":
            raise fault_of_error_body(body, self._wire.secrets)
        if event not in KEPT_EVENTS:
            return
        response = body if event == "json" else body["response"]
        if stream.response_id is None:
            stream.response_id = response["id"]
            seen(_thread_id(response) or conversation_id, response["id"])
        if response["status"] in TERMINAL:
            stream.final = response


def _decoded(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        raise ConnectionLost("the stream broke inside an event", error_type="connection_error") from None


def _thread_id(response: Mapping[str, Any]) -> str | None:
    """The conversation, or the response itself: it begins a chain that `previous_response_id` continues."""
    conversation = response.get("conversation")
    return str(conversation["id"]) if conversation else response["id"]


def _reply(response: Mapping[str, Any]) -> Reply:
    """How a response ended.

    Raises:
        ServiceFault: it failed in a way that another may cure, or that concerns the whole batch; or it asks for
            a function call.
    """
    usage = usage_of_response(response.get("usage"))
    output = response.get("output") or []
    text, refused = _text_of(item for item in output if item.get("type") == "message")
    status, reason, error = response["status"], None, None
    if status == "failed":
        failure = response.get("error") or {}
        fault = fault_of_failed_run(failure.get("code"), str(failure.get("message") or "the response failed"), usage)
        if isinstance(fault, TransientFault | BatchRefused):
            raise fault
        reason, error = fault.error_type, str(fault)
    elif status == "incomplete":
        reason = (response.get("incomplete_details") or {}).get("reason") or "incomplete"
    elif status == "cancelled":
        reason, error = "run_cancelled", "the response was cancelled"
    elif any(item.get("type") == "function_call" for item in output):
        raise needs_tools()
    elif refused:
        status, reason = "incomplete", "refusal"
    return Reply(status, text, usage, response.get("model"), _REASONS.get(str(reason), reason), error)


_REASONS = {"max_output_tokens": "max_completion_tokens"}
"""One word for one thing, whatever the protocol."""


def _text_of(messages: Any) -> tuple[str, bool]:
    """(all text of the messages, whether the model refused)."""
    texts, refused = [], False
    for message in messages:
        for part in message.get("content") or ():
            if part["type"] == "output_text":
                texts.append(part["text"])
            elif part["type"] == "refusal":
                texts.append(part["refusal"])
                refused = True
    return "\n\n".join(texts), refused
