"""The Chat Completions protocol: one stateless request per row, for every compatible server.

The thread is the list of messages, which the journal keeps. The server keeps nothing after the request, so a lost reply
is requested again under the same key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from batchrun.engine.service import OnIds, Reply
from batchrun.errors import ConnectionLost, RunLost, TransientFault
from batchrun.records import Attempt, Exchange, JsonObject
from batchrun.services.chat_replies import Completion, whole_completion
from batchrun.services.conversations import chat_messages, question_of
from batchrun.services.files.row_files import RowFiles
from batchrun.services.finish_reason import is_known
from batchrun.services.own_settings import RequestSettings
from batchrun.services.parameters import USAGE_TOO
from batchrun.services.reply_fields import loaded
from batchrun.services.translation import fault_of_error_body
from batchrun.services.wire import EventReader, RequestBody, Wire, says_nothing

__all__ = ["ChatService", "ChatSettings"]


@dataclass(frozen=True, slots=True)
class ChatSettings(RequestSettings):
    """The settings of every completion of a service.

    Attributes:
        stream: read the reply as a stream, so that proxies do not close the connection during a long answer.
        structure: response format of structured answers; None for plain text.
        keep: see `batchrun.services.kept.extras_of`.
    """

    stream: bool = False
    structure: JsonObject | None = None
    keep: frozenset[str] = frozenset()


class ChatService:
    """Answers rows by chat completions; see the module's docstring."""

    endpoint = "/v1/chat/completions"
    """Path of the requests, as the Batch API names it."""

    def __init__(
        self,
        wire: Wire,
        settings: ChatSettings,
        row_files: RowFiles | None = None,
        on_unknown_end: Callable[[str], None] | None = None,
    ) -> None:
        """
        Args:
            row_files: the batch's files; None if it has none.
            on_unknown_end: called with a line about the finish reason of an answer, if nobody knows its meaning.
        """
        self._wire = wire
        self._settings = settings
        self._row_files = row_files
        self._on_unknown_end = on_unknown_end

    async def prepare(self) -> None:
        """Do nothing: each request is complete in itself."""

    async def answer(self, exchange: Exchange, attempt: Attempt, on_ids: OnIds) -> Reply:
        """Request one completion. Its id is reported with the whole reply: an id alone cannot be looked up."""
        key = attempt.key if exchange.round == 0 else f"{attempt.key}-{exchange.round}"
        headers = {"Idempotency-Key": key}
        settings = self._settings.for_row(exchange.own)
        added = await self._added_messages(exchange, settings)
        body = _body(exchange, settings, added)
        raw: JsonObject | list[JsonObject]
        if self._settings.stream:
            completion, raw = await self._streamed(body, headers)
        else:
            raw = await self._wire.post("/chat/completions", body, headers, patient=True)
            completion = whole_completion(raw, self._wire.secrets)
        return self._reply(completion, on_ids, added, settings, raw)

    async def request_body(self, exchange: Exchange, attempt: Attempt) -> RequestBody:  # noqa: ARG002 - as other protocols
        """Return the body of the request that `answer` sends."""
        settings = self._settings.for_row(exchange.own)
        return _body(exchange, settings, await self._added_messages(exchange, settings))

    async def reply_of(self, body: JsonObject, exchange: Exchange, on_ids: OnIds) -> Reply:
        """Return the reply in the body of a whole reply to `request_body`. Raises as `answer` does."""
        settings = self._settings.for_row(exchange.own)
        added = await self._added_messages(exchange, settings)
        return self._reply(whole_completion(body, self._wire.secrets), on_ids, added, settings, body)

    def _reply(
        self,
        completion: Completion,
        on_ids: OnIds,
        added: Sequence[JsonObject],
        settings: ChatSettings,
        raw: JsonObject | list[JsonObject],
    ) -> Reply:
        reply = completion.reply(on_ids, added, settings.parameters, settings.keep, raw)
        if self._on_unknown_end is not None and not is_known(completion.finish_reason):
            self._on_unknown_end(
                f"the service ended an answer with the finish reason {completion.finish_reason!a:.80}, whose meaning "
                "batchrun does not know: such answers count as whole"
            )
        return reply

    async def follow(self, exchange: Exchange, attempt: Attempt, on_ids: OnIds) -> Reply:  # noqa: ARG002 - required by the interface
        """Raise `RunLost`, so that the engine repeats the request: under the same key, a service that supports keys
        returns the same completion."""
        raise RunLost("chat completions cannot be looked up", error_type="run_lost")

    async def cancel(self, exchange: Exchange, attempt: Attempt) -> None:
        """Do nothing: a completion ends with its request."""

    async def _added_messages(self, exchange: Exchange, settings: ChatSettings) -> list[JsonObject]:
        """Return the messages that this exchange adds to the history."""
        if exchange.outputs:
            return [
                {"role": "tool", "tool_call_id": output.call_id, "content": output.text} for output in exchange.outputs
            ]
        question: JsonObject | None = None
        if self._row_files is not None and exchange.turn.attachments:
            question = {"role": "user", "content": await self._row_files.content(question_of(exchange.turn))}
        messages = chat_messages(exchange.turn, question)
        if exchange.history or settings.instructions is None:
            return messages
        return [{"role": "system", "content": settings.instructions}, *messages]

    async def _streamed(
        self, body: JsonObject, headers: Mapping[str, str]
    ) -> tuple[Completion, JsonObject | list[JsonObject]]:
        """Return (a completion, the whole reply: its chunks if they are kept, or the object that came instead)."""
        reader = EventReader()
        completion = Completion()
        chunks_kept: list[JsonObject] = []
        keeps = "raw" in self._settings.keep
        try:
            async with self._wire.post_stream("/chat/completions", body, headers) as chunks:
                secrets = self._wire.secrets
                async for chunk in chunks:
                    for event, data in reader.feed(chunk):
                        if data == b"[DONE]" or says_nothing(event, data):
                            continue
                        if event == "json":
                            whole = loaded(data)
                            return whole_completion(whole, secrets), whole
                        decoded = _decoded(data)
                        if event == "error":
                            raise fault_of_error_body(decoded, secrets)
                        completion.add(decoded, secrets)
                        if keeps:
                            chunks_kept.append(decoded)
        except TransientFault:
            # Only the usage can follow the finish reason: the answer is complete, and paid for.
            if completion.finish_reason is None:
                raise
        return completion, chunks_kept


def _body(exchange: Exchange, settings: ChatSettings, added: Sequence[JsonObject]) -> RequestBody:
    body: RequestBody = {"model": settings.model, "messages": [*exchange.history, *added]}
    if settings.stream:
        body |= {"stream": True, "stream_options": dict(USAGE_TOO)}
    body |= settings.parameters
    if exchange.structured and settings.structure is not None:
        body["response_format"] = settings.structure
    return body


def _decoded(data: bytes) -> JsonObject:
    """Return a chunk. It may end with half a character, whose other half begins the next chunk."""
    try:
        chunk = loaded(data, halves=True)
    except ValueError:
        chunk = None
    if not isinstance(chunk, dict):
        raise ConnectionLost("the stream broke inside a chunk", error_type="connection_error")
    return chunk
