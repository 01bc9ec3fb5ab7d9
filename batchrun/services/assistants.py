"""The Assistants protocol: a thread and a run per row, in one streamed request.

`POST /threads/runs` creates both and streams the run to its end; a run on an existing thread takes one request too. The
first events of the stream name the ids, which are written to the journal at once. If a stream ends without a terminal
event, the state of the run is unknown: the run is then polled by its id, and never created again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import anyio

from batchrun.engine.service import OnIds, Reply
from batchrun.errors import ConnectionLost, PermanentFault, Silence, TransientFault
from batchrun.job.fingerprint import digest
from batchrun.records import EMPTY_ANSWER, Attempt, Exchange, JsonDict, JsonObject
from batchrun.services.assistants_replies import (
    ENDED,
    TERMINAL,
    has_text_only,
    id_of,
    ids_of,
    is_by_assistant,
    is_created_with,
    is_of_run,
    reply_of_run,
    status_of,
)
from batchrun.services.citations import citations_of_messages
from batchrun.services.conversations import chat_messages, question_of
from batchrun.services.files.produced import produced_by_steps, produced_in_messages
from batchrun.services.files.row_files import RowFiles
from batchrun.services.kept import extras_of
from batchrun.services.own_settings import RequestSettings, metadata_of
from batchrun.services.parameters import with_tools
from batchrun.services.polling import ended_by, pages, poll
from batchrun.services.reasoning import separated_messages
from batchrun.services.reply_fields import Billed, in_path, loaded, mapping, name, objects
from batchrun.services.translation import bad_reply, fault_of_error_body
from batchrun.services.usage import usage_of_tokens
from batchrun.services.wire import BETA, EventReader, RequestBody, Wire

__all__ = ["AssistantSettings", "AssistantsService"]

PREPARE_TIMEOUT_S = 30.0
"""For finding or creating the assistant: a service that takes longer is not answering."""
HOSTED = ("file_search", "code_interpreter")
"""Tools that run at the service."""

_LOCKED = re.compile(r"already has an active run (\w+)")
"""The API's error message if a thread cannot take another run yet."""

KEPT_EVENTS = (
    "thread.run.created",
    "thread.run.requires_action",
    "thread.run.completed",
    "thread.run.incomplete",
    "thread.run.failed",
    "thread.run.cancelled",
    "thread.run.expired",
    "thread.message.completed",
    "thread.message.incomplete",
    "error",
    "json",  # a server that does not stream: see Wire.post_stream
)
"""The events that a row needs: ids, messages and the end of the run."""


@dataclass(frozen=True, slots=True)
class AssistantSettings(RequestSettings):
    """The settings of every run of a service.

    Attributes:
        assistant_id: the user's assistant; None: one is created for the batch.
        known_assistant_id: the assistant that an earlier process created for this batch; None if there is none.
        name: of the assistant that is created.
        metadata: of assistants, threads and runs; those of threads and runs also have `row` and `attempt`.
        structure: response format of structured answers; None for plain text.
        keep: see `batchrun.services.kept.extras_of`.
    """

    assistant_id: str | None
    known_assistant_id: str | None
    name: str
    metadata: Mapping[str, str]
    structure: JsonObject | None = None
    keep: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Stream:
    """The contents of a stream so far.

    Mutable state: all of it. `run` is set when the run has ended or waits for outputs.
    """

    thread_id: str | None = None
    run_id: str | None = None
    messages: list[JsonObject] = field(default_factory=list)
    run: JsonObject | None = None


class AssistantsService:
    """Answers rows by threads and runs; see the module's docstring.

    Mutable state: `assistant_id`, and the hosted tools of that assistant and the instructions of one of the user's, all
    set by `prepare`.
    """

    def __init__(
        self,
        wire: Wire,
        settings: AssistantSettings,
        *,
        poll: bool = False,
        assistant_made: Callable[[str], None] = lambda _assistant_id: None,
        row_files: RowFiles | None = None,
    ) -> None:
        """
        Args:
            poll: poll every run instead of streaming it.
            assistant_made: called with the id of the assistant that is created for the batch.
            row_files: the batch's files; None if it has none.
        """
        self._wire = wire
        self._settings = settings
        self._poll = poll
        self._assistant_made = assistant_made
        self._row_files = row_files
        self._hosted_tools: list[JsonObject] = []
        self._users_instructions: str | None = None
        self.assistant_id = settings.assistant_id or settings.known_assistant_id

    # -- the assistant --------------------------------------------------------------------------------

    async def prepare(self) -> None:
        """Check that the assistant exists, or create one for the batch; its id is then in `assistant_id`."""
        if self._row_files is not None:
            await self._row_files.prepare()
        with anyio.move_on_after(PREPARE_TIMEOUT_S):
            # The assistant gets the files to search, because threads that rows continue cannot be given any.
            resources = self._row_files.searched_resources() if self._row_files is not None else {}
            if self.assistant_id is None or not await self._find_assistant(self.assistant_id, resources):
                await self._create_assistant(resources)
            return
        raise Silence(f"no answer within {PREPARE_TIMEOUT_S:g} s", error_type="timeout")

    async def _find_assistant(self, assistant_id: str, resources: JsonObject) -> bool:
        """Look up the assistant; return False if it is the batch's own and no longer exists."""
        is_users = self._settings.assistant_id is not None
        path = f"/assistants/{in_path(assistant_id)}"
        try:
            assistant, _ = await self._wire.get(path, BETA)
            self._users_instructions = name(assistant.get("instructions")) if is_users else None
            self._hosted_tools = [tool for tool in objects(assistant.get("tools")) if tool.get("type") in HOSTED]
            if not is_users and not _has(assistant, resources):
                await self._wire.post(path, {"tool_resources": resources}, BETA)
        except PermanentFault as fault:
            if is_users or fault.status_code != 404:
                raise
            return False
        return True

    async def _create_assistant(self, resources: JsonObject) -> None:
        if self._settings.model is None:
            raise PermanentFault("an assistant needs a model; set --model", error_type="no_model")
        body: RequestBody = {
            "model": self._settings.model,
            "name": self._settings.name,
            "metadata": dict(self._settings.metadata),
        }
        if self._settings.instructions is not None:
            body["instructions"] = self._settings.instructions
        if resources:
            body["tool_resources"] = resources
        # The key covers the body and the assistant that was deleted: with the same key, the service would repeat its
        # earlier reply.
        key = f"{self._settings.name}-{digest(body, self.assistant_id)}"
        assistant = await self._wire.post("/assistants", body, {**BETA, "Idempotency-Key": key})
        self.assistant_id = id_of(assistant)
        self._assistant_made(self.assistant_id)

    # -- one exchange ---------------------------------------------------------------------------------

    async def answer(self, exchange: Exchange, attempt: Attempt, on_ids: OnIds) -> Reply:
        """Create the run and return its end; if the stream breaks off, poll the run by its id.

        If another run is active on the thread, wait for that run first.
        """
        while True:
            try:
                return await self._answer_once(exchange, attempt, on_ids)
            except PermanentFault as fault:
                active = _LOCKED.search(str(fault)) if exchange.thread_id and not exchange.outputs else None
                if active is None:
                    raise
                thread_id, run_id = str(exchange.thread_id), active[1]
                metadata = self._metadata(exchange, attempt)
                run = await self._wait_until_free(thread_id, run_id, metadata)
                if is_created_with(run, metadata):
                    # The active run is our own: the service acted on an earlier request whose reply was lost.
                    on_ids(thread_id, run_id)
                    return await self._poll_run(exchange, thread_id, run_id)

    async def _answer_once(self, exchange: Exchange, attempt: Attempt, on_ids: OnIds) -> Reply:
        if self._poll:
            return await self._answer_by_polling(exchange, attempt, on_ids)
        stream = _Stream()
        reader = EventReader(KEPT_EVENTS)
        if exchange.outputs:
            stream.thread_id, stream.run_id = attempt.thread_id, attempt.run_id
        has_begun = False
        try:
            async with self._wire.post_stream(
                self._path(exchange, attempt),
                await self._body(exchange, attempt, stream=True),
                self._headers(exchange, attempt),
            ) as chunks:
                has_begun = True
                async for chunk in chunks:
                    for event, data in reader.feed(chunk):
                        self._read_event(event, data, stream, on_ids)
                    if stream.run is not None:
                        break
        except TransientFault as fault:
            # If the service refused the outputs, there is nothing to poll: the run still waits for them.
            if not has_begun or stream.run_id is None or fault.run_ended:
                raise
        if stream.run is not None:
            return await self._reply(exchange, stream.run, stream.messages)
        if stream.run_id is None:
            raise ConnectionLost("the stream ended before it named a run", error_type="connection_error")
        return await self._poll_run(exchange, str(stream.thread_id), stream.run_id)

    async def follow(self, exchange: Exchange, attempt: Attempt, on_ids: OnIds) -> Reply:  # noqa: ARG002 - the ids are known
        """Poll the run that the journal names until it ends or waits for functions."""
        assert attempt.thread_id is not None
        assert attempt.run_id is not None
        return await self._poll_run(exchange, attempt.thread_id, attempt.run_id)

    async def cancel(self, exchange: Exchange, attempt: Attempt) -> None:  # noqa: ARG002 - required by the interface
        """Cancel the run."""
        await self._wire.post(f"{_run_path(attempt.thread_id, attempt.run_id)}/cancel", {}, BETA)

    # -- the request ----------------------------------------------------------------------------------

    @staticmethod
    def _path(exchange: Exchange, attempt: Attempt) -> str:
        if exchange.outputs:
            return f"{_run_path(attempt.thread_id, attempt.run_id)}/submit_tool_outputs"
        return "/threads/runs" if exchange.thread_id is None else f"/threads/{in_path(exchange.thread_id)}/runs"

    async def _body(self, exchange: Exchange, attempt: Attempt, *, stream: bool) -> RequestBody:
        if exchange.outputs:
            outputs = [{"tool_call_id": output.call_id, "output": output.text} for output in exchange.outputs]
            return {"tool_outputs": outputs, "stream": stream}
        settings, files = self._settings.for_row(exchange.own), self._row_files
        metadata = self._metadata(exchange, attempt)
        body: RequestBody = {
            "assistant_id": self.assistant_id,
            "metadata": metadata,
            "stream": stream,
            **settings.parameters,
        }
        question: JsonObject | None = None
        if files is not None:
            if exchange.turn.attachments:
                question = await files.message(question_of(exchange.turn))
            if needed := files.assistants_tools(exchange.thread_attachments):
                body["tools"] = with_tools(needed, body.get("tools"))
        if tools := body.get("tools"):
            # The tools of a run replace all tools of its assistant, so the hosted ones are repeated here.
            named = [tool["type"] for tool in tools]
            body["tools"] = [*tools, *(tool for tool in self._hosted_tools if tool["type"] not in named)]
        messages = chat_messages(exchange.turn, question)
        if exchange.thread_id is None:
            body["thread"] = {"messages": messages, "metadata": metadata}
            if files is not None and settings.assistant_id is not None:
                body["thread"]["tool_resources"] = files.searched_resources()
        else:
            body["additional_messages"] = messages
        if exchange.structured and settings.structure is not None:
            body["response_format"] = settings.structure
        return body | self._run_settings(exchange)

    def _run_settings(self, exchange: Exchange) -> JsonDict:
        """Return the model and the instructions that a run has instead of, or beside, those of its assistant.

        The user's assistant is not changed, so the job's settings go with each run. Instructions of a row are added to
        those of that assistant. A run that is created with its thread has no parameter for that, and gets the whole.
        """
        own, settings = exchange.own, self._settings
        is_users = settings.assistant_id is not None
        if own is None and not is_users:
            return {}
        found: dict[str, str | None] = {}
        if is_users:
            found |= {"model": settings.model, "instructions": settings.instructions}
        if own is not None:
            found["model"] = own.model or found.get("model")
            if own.instructions is not None and is_users and exchange.thread_id is not None:
                found["additional_instructions"] = own.instructions
            elif own.instructions is not None:
                before = (found.get("instructions") or self._users_instructions) if is_users else None
                found["instructions"] = " ".join(filter(None, (before, own.instructions)))
        return {name: value for name, value in found.items() if value is not None}

    def _metadata(self, exchange: Exchange, attempt: Attempt) -> dict[str, str]:
        return metadata_of(self._settings.for_row(exchange.own).metadata, exchange, attempt)

    def _headers(self, exchange: Exchange, attempt: Attempt) -> dict[str, str]:
        key = attempt.key
        if exchange.outputs:
            # By the calls, not by the round: a process that follows a run of another one does not know the round.
            key = f"{key}-{digest(*(output.call_id for output in exchange.outputs))}"
        return {**BETA, "Idempotency-Key": key}

    async def _answer_by_polling(self, exchange: Exchange, attempt: Attempt, on_ids: OnIds) -> Reply:
        body = await self._body(exchange, attempt, stream=False)
        run = await self._wire.post(self._path(exchange, attempt), body, self._headers(exchange, attempt))
        thread_id, run_id = ids_of(run)
        if run_id != attempt.run_id:
            on_ids(thread_id, run_id)
        return await self._poll_run(exchange, thread_id, run_id)

    async def _wait_until_free(self, thread_id: str, run_id: str, metadata: Mapping[str, str]) -> JsonObject:
        """Return the run that blocks the thread, when it has ended. A run with this metadata may also wait for
        outputs: it is our own, and continues with them."""

        def is_free(run: JsonObject) -> bool:
            return status_of(run) in (ENDED if is_created_with(run, metadata) else TERMINAL)

        return await poll(self._wire, _run_path(thread_id, run_id), BETA, is_free)

    # -- the reply ------------------------------------------------------------------------------------

    def _read_event(self, event: str, data: bytes, stream: _Stream, on_ids: OnIds) -> None:
        """Add one event to `stream`; report the ids by `on_ids` when they first appear."""
        if event not in KEPT_EVENTS:
            return
        try:
            body = loaded(data)
        except ValueError:
            body = None
        if body is None:
            raise ConnectionLost("the stream broke inside an event", error_type="connection_error")
        if event == "error":
            raise fault_of_error_body(body, self._wire.secrets)
        if not isinstance(body, dict):
            raise bad_reply("'thread_id'", body, "Assistants", self._wire.secrets)
        if event.startswith("thread.message."):
            if is_by_assistant(body) and is_of_run(body, stream.run_id):
                stream.messages.append(body)
            return
        if stream.run_id is None:
            stream.thread_id, stream.run_id = ids_of(body)
            on_ids(stream.thread_id, stream.run_id)
        with Billed(lambda: usage_of_tokens(body.get("usage"))):
            body = ended_by(event, body, status_of(body))
            if status_of(body) in ENDED and event != "json":
                stream.run = body

    async def _poll_run(self, exchange: Exchange, thread_id: str, run_id: str) -> Reply:
        """Poll a run until it ends or waits for functions."""
        run = await poll(self._wire, _run_path(thread_id, run_id), BETA, lambda run: status_of(run) in ENDED)
        with Billed(usage_of_tokens(run.get("usage"))):
            listed = pages(self._wire, f"/threads/{in_path(thread_id)}/messages", BETA, run_id=run_id)
            messages = [each async for each in listed if is_by_assistant(each) and is_of_run(each, run_id)]
        # The listed messages include those from before the run waited for outputs.
        return await self._reply(replace(exchange, partial=()), run, messages)

    async def _reply(self, exchange: Exchange, run: JsonObject, messages: Sequence[JsonObject]) -> Reply:
        """Return how a run ended, with what it carried, or what it waits for. Raises as `reply_of_run` does.

        Args:
            messages: of the run, except for those in `exchange`.
        """
        settings, files = self._settings.for_row(exchange.own), self._row_files
        messages = [*exchange.partial, *messages]
        usage = usage_of_tokens(run.get("usage"))
        with Billed(usage):
            answers, reasoning = separated_messages(messages)
            reply = reply_of_run(run, answers, usage, parameters=settings.parameters, secrets=self._wire.secrets)
            if reply.waiting:
                return replace(reply, history=tuple(messages))
            wants_steps = files is not None and files.code_interpreter
            steps = await self._steps(run) if wants_steps and (messages or reply.reason == EMPTY_ANSWER) else []
        is_plain = has_text_only(messages)
        produced = [*(() if is_plain else produced_in_messages(messages)), *produced_by_steps(steps)]
        if reply.reason == EMPTY_ANSWER and produced:
            reply = replace(reply, status="completed", reason=None)
        names = files.names if files is not None else None
        extras = extras_of(
            settings.keep,
            citations=() if is_plain else citations_of_messages(answers, names, with_files=files is None),
            reasoning=reasoning,
            raw={"run": run, "messages": messages, **({"steps": steps} if wants_steps else {})},
        )
        if files is not None and produced:
            extras = {**(extras or {}), "files": await files.download(produced, exchange.row_key)}
        return reply if extras is None else replace(reply, extras=extras)

    async def _steps(self, run: JsonObject) -> list[JsonObject]:
        """Return the steps of a run: files of its code that no message shows appear only here."""
        thread_id, run_id = ids_of(run)
        return [step async for step in pages(self._wire, f"{_run_path(thread_id, run_id)}/steps", BETA)]


def _run_path(thread_id: str | None, run_id: str | None) -> str:
    return f"/threads/{in_path(thread_id)}/runs/{in_path(run_id)}"


def _has(assistant: JsonObject, resources: JsonObject) -> bool:
    """Return whether an assistant has these tool resources."""
    found = mapping(assistant.get("tool_resources"))
    return all(found.get(tool) == wanted for tool, wanted in resources.items())
