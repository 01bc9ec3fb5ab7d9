"""The Responses protocol: a run is a stored response, a thread is a chain of responses or a Conversation.

Each row takes one `POST /responses`, and before it one `POST /conversations` if it has a conversation. The reply is
plain JSON unless `stream` or `background` is set. docs/reference/services.md lists the requests of each mode, and what
each mode can recover after a crash.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace

from batchrun.engine.service import OnIds, Reply
from batchrun.errors import BatchRefused, ConnectionLost, PermanentFault, ServiceFault, TransientFault
from batchrun.records import Attempt, Exchange, JsonObject, Turn
from batchrun.services.conversations import question_of, response_items
from batchrun.services.files.messages import MessageContent
from batchrun.services.files.produced import produced_in_items
from batchrun.services.files.row_files import RowFiles
from batchrun.services.own_settings import RequestSettings, metadata_of
from batchrun.services.parameters import with_format, with_tools
from batchrun.services.polling import NO_LOOKING_UP, ended_by, poll
from batchrun.services.reply_fields import Billed, count, in_path, loaded, mapping, name, objects
from batchrun.services.responses_replies import (
    TERMINAL,
    answer_in,
    extras_of_response,
    reply_of_response,
    status_of,
    thread_id_of,
    usage_in,
)
from batchrun.services.translation import bad_reply, fault_of_error_body
from batchrun.services.usage import usage_of_response
from batchrun.services.wire import EventReader, RequestBody, Wire, says_nothing

__all__ = ["ResponseSettings", "ResponsesService"]

KEPT_EVENTS = (
    "response.created",
    "response.completed",
    "response.failed",
    "response.incomplete",
    "response.cancelled",
    "error",
    "json",  # a server that does not stream: see Wire.post_stream
)
"""The events that a row needs: the id, and the response at its end."""
MAX_RESUMES = 5
"""Times that one broken stream is resumed; then the response is polled."""


@dataclass(frozen=True, slots=True)
class ResponseSettings(RequestSettings):
    """The settings of every response of a service.

    Attributes:
        conversation: create a Conversation for each row; its id becomes the `thread_id`.
        stream: read the reply as a stream, so that the id is known from the first byte.
        background: the service works in the background, so that the response can be polled, resumed and cancelled.
        metadata: of responses and conversations, which also get `row` and `attempt`.
        structure: the `text` parameter of structured answers; None for plain text.
        keep: see `batchrun.services.kept.extras_of`.
    """

    metadata: Mapping[str, str]
    conversation: bool = False
    stream: bool = False
    background: bool = False
    structure: JsonObject | None = None
    keep: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Stream:
    """The contents of a stream so far, across its resumptions.

    Mutable state: all attributes but `conversation_id`.

    Attributes:
        conversation_id: of the row's conversation; None if it has none.
        on_ids: reports the ids; called once.
        position: sequence number of the last event; None before the first.
        final: the response, when it has ended.
        resumes: times that the stream was resumed.
    """

    conversation_id: str | None
    on_ids: OnIds
    response_id: str | None = None
    position: int | None = None
    final: JsonObject | None = None
    resumes: int = 0


class ResponsesService:
    """Answers rows by stored responses; see the module's docstring.

    Mutable state: `_looks_up`, whether this service has ever found a response by its id.
    """

    endpoint = "/v1/responses"
    """Path of the requests, as the Batch API names it."""

    def __init__(self, wire: Wire, settings: ResponseSettings, row_files: RowFiles | None = None) -> None:
        """
        Args:
            row_files: the batch's files; None if it has none.
        """
        self._wire = wire
        self._settings = settings
        self._row_files = row_files
        self._looks_up = False

    async def prepare(self) -> None:
        """Upload the files to search; everything else goes with each request."""
        if self._row_files is not None:
            await self._row_files.prepare()

    async def answer(self, exchange: Exchange, attempt: Attempt, on_ids: OnIds) -> Reply:
        """Create a response and return its end."""
        key = attempt.key if exchange.round == 0 else f"{attempt.key}-{exchange.round}"
        conversation_id = exchange.thread_id if _is_conversation(exchange.thread_id) else None
        if exchange.thread_id is None:
            if attempt.thread_id is not None and _is_conversation(attempt.thread_id):
                # An earlier attempt created the conversation; only its items show whether the response exists too.
                items = await self._items_of(attempt.thread_id)
                found = answer_in(items or (), self._settings.keep)
                if found is not None:
                    return found
                if items == []:
                    conversation_id = attempt.thread_id
                # Else it was deleted, or holds the prompt without an answer, and would hold the prompt twice.
            if conversation_id is None and self._settings.conversation:
                conversation_id = await self._create_conversation(exchange, attempt)
                on_ids(conversation_id, None)
            if conversation_id is not None:
                # A key belongs to one request: the same prompt in another conversation is another request.
                key = f"{key}-{in_path(conversation_id)}"
        body = await self._body(exchange, attempt, conversation_id)
        headers = {"Idempotency-Key": key}
        if self._settings.stream:
            opened = self._wire.post_stream("/responses", body, headers)
            return await self._reply(exchange, await self._read_streams(opened, _Stream(conversation_id, on_ids)))
        reply = await self._wire.post("/responses", body, headers, patient=not self._settings.background)
        return await self._reply_of(reply, exchange, conversation_id, on_ids)

    async def request_body(self, exchange: Exchange, attempt: Attempt) -> RequestBody:
        """Return the body of the request that `answer` sends, for a row without a Conversation of its own."""
        conversation_id = exchange.thread_id if _is_conversation(exchange.thread_id) else None
        return await self._body(exchange, attempt, conversation_id)

    async def reply_of(self, body: JsonObject, exchange: Exchange, on_ids: OnIds) -> Reply:
        """Return the reply in the body of a whole reply to `request_body`. Raises as `answer` does."""
        conversation_id = exchange.thread_id if _is_conversation(exchange.thread_id) else None
        return await self._reply_of(body, exchange, conversation_id, on_ids)

    async def _reply_of(
        self, reply: JsonObject, exchange: Exchange, conversation_id: str | None, on_ids: OnIds
    ) -> Reply:
        response_id = self._id_of(reply)
        with Billed(lambda: usage_of_response(reply.get("usage"))):
            ended = status_of(reply) in TERMINAL
        on_ids(conversation_id or thread_id_of(reply, response_id), response_id, with_reply=ended)
        return await self._reply(exchange, reply if ended else await self._poll(response_id, just_made=True))

    async def follow(self, exchange: Exchange, attempt: Attempt, on_ids: OnIds) -> Reply:  # noqa: ARG002 - the ids are known
        """Poll the response that the journal names until it ends."""
        return await self._reply(exchange, await self._poll(str(attempt.run_id)))

    async def cancel(self, exchange: Exchange, attempt: Attempt) -> None:  # noqa: ARG002 - required by the interface
        """Cancel the response, which must have been created in the background.

        Raises:
            PermanentFault: the service refused; or the response ended before, which the service reports with HTTP 200.
        """
        reply = await self._wire.post(f"/responses/{in_path(attempt.run_id)}/cancel", {}, {})
        if name(reply.get("status")) in TERMINAL - {"cancelled"}:
            raise PermanentFault(f"the response has already ended as {reply['status']}", error_type="run_ended")

    # -- the request ----------------------------------------------------------------------------------

    def _metadata(self, exchange: Exchange, attempt: Attempt) -> dict[str, str]:
        return metadata_of(self._settings.for_row(exchange.own).metadata, exchange, attempt)

    async def _body(self, exchange: Exchange, attempt: Attempt, conversation_id: str | None) -> RequestBody:
        settings = self._settings.for_row(exchange.own)
        body: RequestBody = {
            "model": settings.model,
            "input": _outputs(exchange) if exchange.outputs else await self._input(exchange.turn),
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
            body["tools"] = with_tools(self._row_files.responses_tools(), body.get("tools"))
        if exchange.structured and settings.structure is not None:
            body["text"] = with_format(body.get("text"), settings.structure)
        return body

    async def _input(self, turn: Turn) -> MessageContent:
        question = None
        if self._row_files is not None and turn.attachments:
            question = await self._row_files.input(question_of(turn))
        if question is None and not turn.messages and not turn.examples:
            return turn.text
        return response_items(turn, question)

    async def _create_conversation(self, exchange: Exchange, attempt: Attempt) -> str:
        # The same key until its id is in the journal, which may be after the next request; another one if an earlier
        # conversation is abandoned.
        key = f"{attempt.key}-conversation"
        if attempt.thread_id is not None:
            key += f"-{in_path(attempt.thread_id)}"
        conversation = await self._wire.post(
            "/conversations", {"metadata": self._metadata(exchange, attempt)}, {"Idempotency-Key": key}
        )
        return self._id_of(conversation)

    async def _items_of(self, conversation_id: str) -> list[JsonObject] | None:
        """Return the last items of a conversation, oldest first; None if the service does not know it."""
        path = f"/conversations/{in_path(conversation_id)}/items"
        try:
            page, _ = await self._wire.get(path, {}, order="desc", limit=100)
        except PermanentFault as fault:
            if fault.status_code == 404 and not isinstance(fault, BatchRefused):
                return None
            raise
        return objects(page.get("data"))[::-1]

    # -- polling --------------------------------------------------------------------------------------

    async def _poll(self, response_id: str, *, just_made: bool = False) -> JsonObject:
        """Return a response when it has ended.

        Args:
            just_made: this process created the response and has not polled it yet.

        Raises:
            BatchRefused: the service cannot look up a response that it has just created: every row would be paid for
                and lost.
        """
        path = f"/responses/{in_path(response_id)}"

        def has_ended(found: JsonObject) -> bool:
            self._looks_up = True
            return status_of(found) in TERMINAL

        just_made = just_made and self._settings.background
        try:
            return await poll(self._wire, path, {}, has_ended, just_made=just_made)
        except ServiceFault as fault:
            if just_made and not self._looks_up and fault.status_code in NO_LOOKING_UP:
                # Counted as ended: the same command without --background then asks the row again, and does not poll.
                raise BatchRefused(
                    f"the service cannot look up a response that it works on in the background (GET {path}: {fault}); "
                    "run the batch again without --background",
                    error_type="background_not_supported",
                    status_code=fault.status_code,
                    run_ended=True,
                ) from fault
            raise

    # -- streaming ------------------------------------------------------------------------------------

    async def _read_streams(
        self, opened: AbstractAsyncContextManager[AsyncIterator[bytes]], stream: _Stream
    ) -> JsonObject:
        """Return the response at the end of a stream. A background stream that breaks off is resumed after its last
        event."""
        while True:
            try:
                await self._read(opened, stream)
            except TransientFault as fault:
                if stream.response_id is None or fault.run_ended:
                    raise
            except PermanentFault as fault:
                if stream.resumes == 0 or isinstance(fault, BatchRefused):
                    raise
                break  # the stream is no longer available, but the response can be polled
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
        return await self._poll(str(stream.response_id))

    async def _read(self, opened: AbstractAsyncContextManager[AsyncIterator[bytes]], stream: _Stream) -> None:
        # A stream that can be resumed is decoded whole, because every event moves the position.
        reader = EventReader(() if self._settings.background else KEPT_EVENTS)
        async with opened as chunks:
            async for chunk in chunks:
                for event, data in reader.feed(chunk):
                    if data != b"[DONE]" and not says_nothing(event, data):
                        self._read_event(event, _decoded(data), stream)
                if stream.final is not None:
                    return

    def _read_event(self, event: str, body: JsonObject, stream: _Stream) -> None:
        """Add one event to `stream`; report the ids when they first appear."""
        position = count(body.get("sequence_number"))
        stream.position = stream.position if position is None else position
        if event == "message":
            # Some servers (LiteLLM) send no event lines; every event also has its name in `type`.
            event = name(body.get("type")) or ("error" if "error" in body else event)
        if event == "error":
            raise fault_of_error_body(body, self._wire.secrets)
        if event not in KEPT_EVENTS:
            return
        response = body if event == "json" else mapping(body.get("response"))
        response_id = stream.response_id or self._id_of(response)
        if stream.response_id is None:
            stream.response_id = response_id
            stream.on_ids(stream.conversation_id or thread_id_of(response, response_id), response_id)
        with Billed(lambda: usage_of_response(response.get("usage"))):
            response = ended_by(event, response, status_of(response))
            if status_of(response) in TERMINAL:
                stream.final = response

    # -- the reply ------------------------------------------------------------------------------------

    def _id_of(self, body: JsonObject) -> str:
        """Return the id of an object.

        Raises:
            ServiceFault: the object is an error that came with HTTP 200, or has no id.
        """
        if object_id := name(body.get("id")):
            return object_id
        if body.get("error"):
            raise fault_of_error_body(body, self._wire.secrets)
        raise bad_reply("id", body, "Responses", self._wire.secrets)

    async def _reply(self, exchange: Exchange, response: JsonObject) -> Reply:
        """Return how a response ended, with what it carried. Raises as `reply_of_response` does."""
        settings, files = self._settings.for_row(exchange.own), self._row_files
        usage = usage_in(response, settings.parameters)
        with Billed(usage):
            reply, output, reasoning = reply_of_response(
                response, usage, parameters=settings.parameters, secrets=self._wire.secrets
            )
            extras = extras_of_response(
                response, output, reasoning, settings.parameters, settings.keep, with_files=files is None
            )
        if files is not None and not reply.calls and (produced := produced_in_items(output)):
            extras = {**(extras or {}), "files": await files.download(produced, exchange.row_key)}
        return reply if extras is None else replace(reply, extras=extras)


def _decoded(data: bytes) -> JsonObject:
    try:
        body = loaded(data)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise ConnectionLost("the stream broke inside an event", error_type="connection_error")
    return body


def _is_conversation(thread_id: str | None) -> bool:
    """Return whether a thread is a Conversation; else it is the chain that ends with a response."""
    return thread_id is not None and thread_id.startswith("conv")


def _outputs(exchange: Exchange) -> list[JsonObject]:
    return [
        {"type": "function_call_output", "call_id": output.call_id, "output": output.text}
        for output in exchange.outputs
    ]
