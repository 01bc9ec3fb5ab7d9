"""The Responses protocol: a run is a stored response, a thread the chain it begins, or a Conversation.

One `POST /responses` a row; with a conversation, `POST /conversations` before it. The reply is plain JSON unless
`stream` or `background` is set: what each costs in requests and what it lets a crash recover is in
docs/services.md.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from typing import Any

from batchrun.engine.service import OnIds, Reply
from batchrun.errors import BatchRefused, ConnectionLost, PermanentFault, ServiceFault, TransientFault
from batchrun.records import Attempt, Exchange, ToolCall, Usage
from batchrun.services.files.produced import produced_in_items
from batchrun.services.files.row_files import RowFiles
from batchrun.services.finish_reason import CUT, end_of_completed
from batchrun.services.polling import NO_LOOKING_UP, poll
from batchrun.services.reply_fields import (
    arguments,
    billed,
    count,
    in_path,
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
from batchrun.services.translation import bad_reply, fault_of_error_body, fault_of_failed_run
from batchrun.services.usage import usage_of_response
from batchrun.services.wire import EventReader, Wire

__all__ = ["ResponseSettings", "ResponsesService"]

TERMINAL = frozenset({"completed", "failed", "incomplete", "cancelled"})
STATUSES = TERMINAL | {"queued", "in_progress"}
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
        structure: the `text` parameter of answers that are to have a form.
    """

    model: str | None
    instructions: str | None
    metadata: Mapping[str, str]
    conversation: bool = False
    stream: bool = False
    background: bool = False
    parameters: Mapping[str, Any] = field(default_factory=dict)
    structure: Mapping[str, Any] | None = None


@dataclass(slots=True)
class _Stream:
    """What a stream has told so far; `position` is the last event's sequence number."""

    response_id: str | None = None
    position: int | None = None
    final: Mapping[str, Any] | None = None
    resumes: int = 0


class ResponsesService:
    """Rows as stored responses; see the module's docstring."""

    def __init__(self, wire: Wire, settings: ResponseSettings, row_files: RowFiles | None = None) -> None:
        """
        Args:
            row_files: the batch's files; None if it has none.
        """
        self._wire = wire
        self._settings = settings
        self._row_files = row_files
        self._looks_up = False  # it has found a response by its id

    async def prepare(self) -> None:
        """Upload the files that are to be searched; all else goes with each request."""
        if self._row_files is not None:
            await self._row_files.prepare()

    async def answer(self, exchange: Exchange, attempt: Attempt, on_ids: OnIds) -> Reply:
        """Make a response and read it to its end."""
        key = attempt.key if exchange.round == 0 else f"{attempt.key}-{exchange.round}"
        conversation_id = exchange.thread_id if _is_conversation(exchange.thread_id) else None
        if exchange.thread_id is None:
            conversation_id = attempt.thread_id if _is_conversation(attempt.thread_id) else None
            if conversation_id is not None:
                # An earlier try made it; whether its response was made too, only the conversation can tell.
                items = await self._items_of(conversation_id)
                found = _answer_among(items or ())
                if found is not None:
                    return found
                if items != []:
                    # It is gone, or holds the question alone, and would hold it twice if it were asked in it again.
                    conversation_id = None
            if conversation_id is None and self._settings.conversation:
                conversation_id = await self._make_conversation(exchange, attempt)
                on_ids(conversation_id, None)
            if conversation_id is not None:
                # A key stands for one request: the same question in another conversation is another.
                key = f"{key}-{in_path(conversation_id)}"
        body = await self._body(exchange, attempt, conversation_id)
        headers = {"Idempotency-Key": key}
        if self._settings.stream:
            opened = self._wire.post_stream("/responses", body, headers)
            return await self._reply(exchange, await self._read_streams(opened, conversation_id, on_ids))
        reply = await self._wire.post("/responses", body, headers, patient=not self._settings.background)
        response_id = self._id_of(reply)
        with billed(usage_of_response(reply.get("usage"))):
            ended = _status(reply) in TERMINAL
        on_ids(conversation_id or _thread_id(reply, response_id), response_id, with_reply=ended)
        return await self._reply(exchange, reply if ended else await self._follow(response_id, just_made=True))

    async def follow(self, exchange: Exchange, attempt: Attempt, on_ids: OnIds) -> Reply:  # noqa: ARG002 - the ids are known
        """Poll the response that the journal names to its end."""
        return await self._reply(exchange, await self._follow(str(attempt.run_id)))

    async def cancel(self, exchange: Exchange, attempt: Attempt) -> None:  # noqa: ARG002 - the interface's
        """Cancel the response; only one made in the background can be.

        Raises:
            PermanentFault: also where it ended before it could be cancelled, and the service says so with HTTP 200.
        """
        reply = await self._wire.post(f"/responses/{in_path(attempt.run_id)}/cancel", {}, {})
        if name(reply.get("status")) in TERMINAL - {"cancelled"}:
            raise PermanentFault(f"the response has ended as {reply['status']}", error_type="run_ended")

    # -- making ---------------------------------------------------------------------------------------

    def _metadata(self, exchange: Exchange, attempt: Attempt) -> dict[str, str]:
        return {**self._settings.metadata, "row": exchange.row_key[:512], "attempt": str(attempt.generation)}

    async def _body(self, exchange: Exchange, attempt: Attempt, conversation_id: str | None) -> dict[str, Any]:
        settings = self._settings
        body: dict[str, Any] = {
            "model": settings.model,
            "input": _outputs(exchange) if exchange.outputs else exchange.turn.text,
            "store": True,
            "metadata": self._metadata(exchange, attempt),
        }
        if settings.instructions is not None:
            body["instructions"] = settings.instructions
        if conversation_id is not None:
            body["conversation"] = conversation_id
        elif exchange.previous_id is not None:
            body["previous_response_id"] = exchange.previous_id
        if settings.stream:
            body["stream"] = True
        if settings.background:
            body["background"] = True
        body |= settings.parameters
        if self._row_files is not None:
            body["tools"] = [*self._row_files.responses_tools(), *body.get("tools", ())]
            if not exchange.outputs:
                body["input"] = await self._row_files.input(exchange.turn)
        if exchange.structured and settings.structure is not None:
            body["text"] = settings.structure
        return body

    async def _make_conversation(self, exchange: Exchange, attempt: Attempt) -> str:
        conversation = await self._wire.post(
            "/conversations",
            {"metadata": self._metadata(exchange, attempt)},
            {"Idempotency-Key": f"{attempt.key}-conversation-{attempt.number}"},
        )
        return self._id_of(conversation)

    async def _items_of(self, conversation_id: str) -> list[Mapping[str, Any]] | None:
        """What a conversation holds, oldest first; None where the service does not know it."""
        path = f"/conversations/{in_path(conversation_id)}/items"
        try:
            page, _ = await self._wire.get(path, {}, order="asc", limit=100)
        except PermanentFault as fault:
            if fault.status_code == 404 and not isinstance(fault, BatchRefused):
                return None
            raise
        return objects(page.get("data"))

    # -- following ------------------------------------------------------------------------------------

    async def _follow(self, response_id: str, *, just_made: bool = False) -> Mapping[str, Any]:
        """A response, once it has ended.

        Args:
            just_made: by this process, which has not looked at it yet.

        Raises:
            BatchRefused: the service cannot look up what it has just made: each row would be paid for and lost.
        """
        path = f"/responses/{in_path(response_id)}"

        def ended(found: Mapping[str, Any]) -> bool:
            self._looks_up = True
            return _status(found) in TERMINAL

        just_made = just_made and self._settings.background
        try:
            found: Mapping[str, Any] = await poll(self._wire, path, {}, ended, just_made=just_made)
        except ServiceFault as fault:
            if just_made and not self._looks_up and fault.status_code in NO_LOOKING_UP:
                # Ended for us: without --background the same command asks the row again, instead of looking there.
                raise BatchRefused(
                    f"the service cannot look up a response that it works on in the background (GET {path}: {fault}); "
                    "leave --background away",
                    error_type="background_not_supported",
                    status_code=fault.status_code,
                    run_ended=True,
                ) from fault
            raise
        return found

    async def _read_streams(
        self, opened: AbstractAsyncContextManager[AsyncIterator[bytes]], conversation_id: str | None, on_ids: OnIds
    ) -> Mapping[str, Any]:
        """The response at the end of a stream; one made in the background that breaks off is resumed behind its last
        event."""
        stream = _Stream()
        while True:
            try:
                await self._read(opened, stream, conversation_id, on_ids)
            except TransientFault as fault:
                if stream.response_id is None or fault.run_ended:
                    raise
            except PermanentFault as fault:
                if stream.resumes == 0 or isinstance(fault, BatchRefused):
                    raise
                break  # the stream cannot be had any more; the response can be looked up
            if stream.final is not None:
                return stream.final
            if stream.response_id is None:
                raise ConnectionLost("the stream ended before it named a response", error_type="connection_error")
            if not self._settings.background or stream.position is None or stream.resumes == MAX_RESUMES:
                break
            stream.resumes += 1
            opened = self._wire.get_stream(
                f"/responses/{in_path(stream.response_id)}", {}, stream="true", starting_after=stream.position
            )
        return await self._follow(str(stream.response_id))

    async def _read(
        self,
        opened: AbstractAsyncContextManager[AsyncIterator[bytes]],
        stream: _Stream,
        conversation_id: str | None,
        on_ids: OnIds,
    ) -> None:
        # Every event moves the position, so where a stream can be resumed all are decoded.
        reader = EventReader(() if self._settings.background else KEPT_EVENTS)
        async with opened as chunks:
            async for chunk in chunks:
                for event, data in reader.feed(chunk):
                    if data != b"[DONE]":
                        self._take(event, _decoded(data), stream, conversation_id, on_ids)
                if stream.final is not None:
                    return

    def _take(
        self, event: str, body: Mapping[str, Any], stream: _Stream, conversation_id: str | None, on_ids: OnIds
    ) -> None:
        position = count(body.get("sequence_number"))
        stream.position = stream.position if position is None else position
        if event == "message":
            # Some servers (LiteLLM) send no event lines; every event carries its name in `type` too.
            event = name(body.get("type")) or ("error" if "error" in body else event)
        if event == "error":
            raise fault_of_error_body(body, self._wire.secrets)
        if event not in KEPT_EVENTS:
            return
        response = body if event == "json" else mapping(body.get("response"))
        response_id = stream.response_id or self._id_of(response)
        if stream.response_id is None:
            stream.response_id = response_id
            on_ids(conversation_id or _thread_id(response, response_id), response_id)
        with billed(usage_of_response(response.get("usage"))):
            if _status(response) in TERMINAL:
                stream.final = response

    # -- ends -----------------------------------------------------------------------------------------

    def _id_of(self, body: Mapping[str, Any]) -> str:
        """The id of the object that a body is.

        Raises:
            ServiceFault: it is an error that came with HTTP 200, or something else.
        """
        if object_id := name(body.get("id")):
            return object_id
        if body.get("error"):
            raise fault_of_error_body(body, self._wire.secrets)
        raise bad_reply("id", body, "Responses", self._wire.secrets)

    async def _reply(self, exchange: Exchange, response: Mapping[str, Any]) -> Reply:
        """How a response ended.

        Raises:
            ServiceFault: it failed in a way that another may cure, or that concerns the whole batch; or it cannot be
                understood.
        """
        usage = usage_of_response(response.get("usage"))
        with billed(usage):
            reply, output = self._read_reply(response, usage)
        if self._row_files is not None and not reply.calls:
            reply = replace(reply, extras=await self._row_files.of_items(output, exchange.row_key))
        return reply

    def _read_reply(self, response: Mapping[str, Any], usage: Usage) -> tuple[Reply, list[Mapping[str, Any]]]:
        """(how it ended, its output items)."""
        model, status = name(response.get("model")), _status(response)
        output = members(response.get("output"), "`output`")
        said, refused = _text_of(output)
        if status == "failed":
            failure = mapping(response.get("error"))
            message = name(failure.get("message")) or "the response failed"
            fault = fault_of_failed_run(name(failure.get("code")), message, usage, self._wire.secrets)
            if isinstance(fault, TransientFault | BatchRefused):
                raise fault
            return Reply("failed", said, usage, model, fault.error_type, str(fault)), output
        if status == "cancelled":
            return Reply("cancelled", said, usage, model, "run_cancelled", "the response was cancelled"), output
        if status == "incomplete":
            reason = name(mapping(response.get("incomplete_details")).get("reason")) or "incomplete"
            return Reply("incomplete", said, usage, model, CUT if reason == "max_output_tokens" else reason), output
        if calls := _calls(output):
            return Reply("requires_action", said, usage, model, calls=calls), output
        parameters = self._settings.parameters
        ended, why = end_of_completed(
            "" if _waits_for_approval(output) else said,
            usage,
            refused=refused,
            parameters=parameters if not response.get("incomplete_details") else None,
            more=bool(produced_in_items(output)) and not _waits_for_approval(output),
        )
        return Reply(ended, said, usage, model, why), output


def _decoded(data: bytes) -> Mapping[str, Any]:
    try:
        body = loaded(data)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise ConnectionLost("the stream broke inside an event", error_type="connection_error")
    return body


def _status(response: Mapping[str, Any]) -> str:
    """The status, which the protocol lets a server leave out of a response that has ended.

    Raises:
        PermanentFault: it is not one that the protocol has, so that nobody knows whether there is more to come.
    """
    status = response.get("status")
    if status is None:
        return "failed" if response.get("error") else "completed"
    if not isinstance(status, str) or status not in STATUSES:
        raise unexpected(status, "`status`", "one of the protocol's")
    return status


def _is_conversation(thread_id: str | None) -> bool:
    """A thread is a Conversation, or the chain that ends with a response."""
    return thread_id is not None and thread_id.startswith("conv")


def _outputs(exchange: Exchange) -> list[dict[str, Any]]:
    return [
        {"type": "function_call_output", "call_id": output.call_id, "output": output.text}
        for output in exchange.outputs
    ]


def _calls(items: Iterable[Mapping[str, Any]]) -> tuple[ToolCall, ...]:
    """The functions that a response asks for."""
    return tuple(
        ToolCall(
            required(item.get("call_id"), "the `call_id` of a call"),
            required(item.get("name"), "the name of a function that is called"),
            whole_text(arguments(item.get("arguments"))) or "{}",
        )
        for item in items
        if item.get("type") == "function_call"
    )


def _waits_for_approval(items: Iterable[Mapping[str, Any]]) -> bool:
    """Whether the model wants to be allowed something, which nobody here can allow: what it said is no answer yet."""
    return any(item.get("type") == "mcp_approval_request" for item in items)


def _thread_id(response: Mapping[str, Any], response_id: str) -> str:
    """The conversation, or the response itself: it ends a chain that `previous_response_id` continues."""
    return name(mapping(response.get("conversation")).get("id")) or response_id


def _answer_among(items: Iterable[Mapping[str, Any]]) -> Reply | None:
    """The answer that a conversation already holds, or the functions that it asks for: its response was made, and the
    reply that named it lost.

    The service does not tell the response's usage here.
    """
    items = list(items)
    if calls := _calls(items):
        return Reply("requires_action", _text_of(_said(items))[0], calls=calls)
    answers = _said(items)
    if not answers or answers[-1].get("status") != "completed":
        return None
    said, refused = _text_of(answers)
    status, reason = end_of_completed(said, Usage(), refused=refused, more=bool(produced_in_items(items)))
    return Reply(status, said, reason=reason)


def _said(items: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The assistant's messages."""
    return [item for item in items if item.get("type") == "message" and item.get("role") == "assistant"]


def _text_of(items: Iterable[Mapping[str, Any]]) -> tuple[str, bool]:
    """(the text of the messages among the items, joined by a blank line; whether the model refused)."""
    texts, refused = [], False
    for item in items:
        if required(item.get("type"), "the type of an output item") == "message":
            lines = []
            for part in members(item.get("content"), "the content of a message"):
                kind = required(part.get("type"), "the type of a part of a message")
                if kind in _TEXTS:
                    lines.append(text(part.get(_TEXTS[kind]), "a part of a message"))
                    refused = refused or kind == "refusal"
            texts.append("\n".join(lines))
    return whole_text("\n\n".join(each for each in texts if each)), refused


_TEXTS = {"output_text": "text", "refusal": "refusal"}
"""Kind of a message's part → its field that holds text."""
