"""The Assistants protocol: a thread and a run per row, in one streamed request.

`POST /threads/runs` makes both and streams the run to its end; a run on a thread that exists is one request too. The
stream's first events name the ids, which go to the journal at once. A stream that ends without a terminal run event
says nothing about the run: it is then looked up by its id and polled, never made again.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import anyio

from batchrun.engine.service import OnIds, Reply
from batchrun.errors import BatchRefused, ConnectionLost, PermanentFault, Silence, TransientFault
from batchrun.job.fingerprint import digest
from batchrun.records import EMPTY_ANSWER, Attempt, Exchange, ToolCall, Usage
from batchrun.services.files.produced import produced_by_steps, produced_in_messages
from batchrun.services.files.row_files import RowFiles
from batchrun.services.finish_reason import end_of_completed
from batchrun.services.polling import pages, poll
from batchrun.services.reply_fields import (
    arguments,
    billed,
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
from batchrun.services.usage import usage_of_tokens
from batchrun.services.wire import BETA, EventReader, Wire

__all__ = ["AssistantSettings", "AssistantsService"]

PREPARE_TIMEOUT_S = 30.0
"""For the assistant: a service that takes longer to look one up does not answer at all."""
HOSTED = ("file_search", "code_interpreter")
"""Tools that run at the service."""
TERMINAL = frozenset({"cancelled", "failed", "completed", "incomplete", "expired"})
ENDED = TERMINAL | {"requires_action"}
STATUSES = ENDED | {"queued", "in_progress", "cancelling"}
"""States in which a run goes on no more, unless something is done about it."""

_LOCKED = re.compile(r"already has an active run (\w+)")
"""The API's words where a thread cannot take another run now."""

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
"""What a row needs of a stream: ids, messages, the end."""


@dataclass(frozen=True, slots=True)
class AssistantSettings:
    """What each run is made with.

    Attributes:
        assistant_id: the user's assistant, or None: one is made for the batch.
        known_assistant_id: the one that an earlier run of this batch made.
        name: name of the assistant that is made.
        metadata: put on threads and runs, with `row` and `attempt` added.
        parameters: temperature and the like, as the API names them.
        structure: the response format of answers that are to have a form.
    """

    assistant_id: str | None
    known_assistant_id: str | None
    name: str
    model: str | None
    instructions: str | None
    metadata: Mapping[str, str]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    structure: Mapping[str, Any] | None = None


@dataclass(slots=True)
class _Stream:
    """What a stream has told so far; `run` is the run once it has ended, or waits for outputs."""

    thread_id: str | None = None
    run_id: str | None = None
    messages: list[Mapping[str, Any]] = field(default_factory=list)
    run: Mapping[str, Any] | None = None


class AssistantsService:
    """Rows as threads and runs; see the module's docstring."""

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
        self._own_tools: list[Any] = []
        self.assistant_id = settings.assistant_id or settings.known_assistant_id

    async def prepare(self) -> None:
        """Check that the assistant exists, or make one for the batch; its id is then in `assistant_id`."""
        if self._row_files is not None:
            await self._row_files.prepare()
        with anyio.move_on_after(PREPARE_TIMEOUT_S):
            await self._find_or_make_assistant()
            return
        raise Silence(f"no answer within {PREPARE_TIMEOUT_S:g} s", error_type="timeout")

    async def _find_or_make_assistant(self) -> None:
        # Threads that rows continue cannot be given anything to search; the assistant can.
        resources = self._row_files.searched_resources() if self._row_files is not None else {}
        if self.assistant_id is not None:
            path = f"/assistants/{in_path(self.assistant_id)}"
            try:
                assistant, _ = await self._wire.get(path, BETA)
                self._own_tools = [tool for tool in objects(assistant.get("tools")) if tool.get("type") in HOSTED]
                if self._settings.assistant_id is None and not _has(assistant, resources):
                    await self._wire.post(path, {"tool_resources": resources}, BETA)
                return
            except PermanentFault as fault:
                if self._settings.assistant_id is not None or fault.status_code != 404:
                    raise
        if self._settings.model is None:
            raise PermanentFault("an assistant needs a model", error_type="no_model")
        body: dict[str, Any] = {
            "model": self._settings.model,
            "name": self._settings.name,
            "metadata": dict(self._settings.metadata),
        }
        if self._settings.instructions is not None:
            body["instructions"] = self._settings.instructions
        if resources:
            body["tool_resources"] = resources
        # Another body, or one in place of an assistant that is gone, must not be answered with the earlier reply.
        key = f"{self._settings.name}-{digest(body, self.assistant_id)}"
        assistant = await self._wire.post("/assistants", body, {**BETA, "Idempotency-Key": key})
        self.assistant_id = _id_of(assistant)
        self._assistant_made(self.assistant_id)

    async def answer(self, exchange: Exchange, attempt: Attempt, on_ids: OnIds) -> Reply:
        """One streamed request; falls back to polling by id when the stream breaks off.

        A thread on which another run is active is waited for.
        """
        while True:
            try:
                return await self._answer(exchange, attempt, on_ids)
            except PermanentFault as fault:
                blocking = _LOCKED.search(str(fault)) if exchange.thread_id and not exchange.outputs else None
                if blocking is None:
                    raise
                metadata = self._metadata(exchange, attempt)
                run = await self._run_when_free(str(exchange.thread_id), blocking[1], metadata)
                if _is_made_by(run, metadata):
                    # The request was acted on, and its reply lost.
                    on_ids(exchange.thread_id, blocking[1])
                    return await self._follow(exchange, str(exchange.thread_id), blocking[1])

    async def _answer(self, exchange: Exchange, attempt: Attempt, on_ids: OnIds) -> Reply:
        if self._poll:
            return await self._answer_polled(exchange, attempt, on_ids)
        stream = _Stream()
        reader = EventReader(KEPT_EVENTS)
        if exchange.outputs:
            stream.thread_id, stream.run_id = attempt.thread_id, attempt.run_id
        begun = False
        try:
            async with self._wire.post_stream(
                self._path(exchange, attempt),
                await self._body(exchange, attempt, stream=True),
                self._headers(exchange, attempt),
            ) as chunks:
                begun = True
                async for chunk in chunks:
                    for event, data in reader.feed(chunk):
                        self._take(event, data, stream, on_ids)
                    if stream.run is not None:
                        break
        except TransientFault as fault:
            # Outputs that were refused are no run to look up: it waits for them.
            if not begun or stream.run_id is None or fault.run_ended:
                raise
        if stream.run is not None:
            return await self._reply(exchange, stream.run, stream.messages)
        if stream.run_id is None:
            raise ConnectionLost("the stream ended before it named a run", error_type="connection_error")
        return await self._follow(exchange, str(stream.thread_id), stream.run_id)

    async def follow(self, exchange: Exchange, attempt: Attempt, on_ids: OnIds) -> Reply:  # noqa: ARG002 - the ids are known
        """Poll the run that the journal names to its end, or to the functions that it asks for."""
        assert attempt.thread_id is not None
        assert attempt.run_id is not None
        return await self._follow(exchange, attempt.thread_id, attempt.run_id)

    async def cancel(self, exchange: Exchange, attempt: Attempt) -> None:  # noqa: ARG002 - the interface's
        """Cancel the run."""
        await self._wire.post(f"{_run_path(attempt.thread_id, attempt.run_id)}/cancel", {}, BETA)

    # -- making a run ---------------------------------------------------------------------------------

    @staticmethod
    def _path(exchange: Exchange, attempt: Attempt) -> str:
        if exchange.outputs:
            return f"{_run_path(attempt.thread_id, attempt.run_id)}/submit_tool_outputs"
        return "/threads/runs" if exchange.thread_id is None else f"/threads/{in_path(exchange.thread_id)}/runs"

    async def _body(self, exchange: Exchange, attempt: Attempt, *, stream: bool) -> dict[str, Any]:
        settings = self._settings
        if exchange.outputs:
            outputs = [{"tool_call_id": output.call_id, "output": output.text} for output in exchange.outputs]
            return {"tool_outputs": outputs, "stream": stream}
        metadata = self._metadata(exchange, attempt)
        body: dict[str, Any] = {
            "assistant_id": self.assistant_id,
            "metadata": metadata,
            "stream": stream,
            **settings.parameters,
        }
        files = self._row_files
        message = {"role": "user", "content": exchange.turn.text}
        if files is not None:
            message = await files.message(exchange.turn)
            if needed := files.assistants_tools(exchange.thread_attachments):
                body["tools"] = [*needed, *(body.get("tools") or ())]
        if tools := body.get("tools"):
            # What a run names takes the place of all that the assistant has.
            body["tools"] = [*tools, *(own for own in self._own_tools if own["type"] not in [t["type"] for t in tools])]
        if exchange.thread_id is None:
            body["thread"] = {"messages": [message], "metadata": metadata}
            if files is not None and settings.assistant_id is not None:
                body["thread"]["tool_resources"] = files.searched_resources()
        else:
            body["additional_messages"] = [message]
        if exchange.structured and settings.structure is not None:
            body["response_format"] = settings.structure
        if settings.assistant_id is not None:
            # The user's assistant stands as it is, but for what the job says otherwise.
            if settings.instructions is not None:
                body["instructions"] = settings.instructions
            if settings.model is not None:
                body["model"] = settings.model
        return body

    def _metadata(self, exchange: Exchange, attempt: Attempt) -> dict[str, str]:
        return {**self._settings.metadata, "row": exchange.row_key[:512], "attempt": str(attempt.generation)}

    def _headers(self, exchange: Exchange, attempt: Attempt) -> dict[str, str]:
        key = attempt.key
        if exchange.outputs:
            # Not by the round: who follows a run from another process does not know how many there were.
            key = f"{key}-{digest(*(output.call_id for output in exchange.outputs))}"
        return {**BETA, "Idempotency-Key": key}

    async def _answer_polled(self, exchange: Exchange, attempt: Attempt, on_ids: OnIds) -> Reply:
        body = await self._body(exchange, attempt, stream=False)
        run = await self._wire.post(self._path(exchange, attempt), body, self._headers(exchange, attempt))
        thread_id, run_id = _ids_of(run)
        if run_id != attempt.run_id:
            on_ids(thread_id, run_id)
        return await self._follow(exchange, thread_id, run_id)

    async def _run_when_free(self, thread_id: str, run_id: str, metadata: Mapping[str, str]) -> Mapping[str, Any]:
        """The run that keeps the thread locked, once it ended; one with this metadata, once it waits for outputs."""

        def free(run: Any) -> bool:
            return _status(run) in (ENDED if _is_made_by(run, metadata) else TERMINAL)

        found: Mapping[str, Any] = await poll(self._wire, _run_path(thread_id, run_id), BETA, free)
        return found

    # -- following a run ------------------------------------------------------------------------------

    def _take(self, event: str, data: bytes, stream: _Stream, on_ids: OnIds) -> None:
        """Take in one event of the stream."""
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
            if _is_the_assistants(body):
                stream.messages.append(body)
            return
        if stream.run_id is None:
            stream.thread_id, stream.run_id = _ids_of(body)
            on_ids(stream.thread_id, stream.run_id)
        with billed(usage_of_tokens(body.get("usage"))):
            if _status(body) in ENDED and event != "json":
                stream.run = body

    async def _follow(self, exchange: Exchange, thread_id: str, run_id: str) -> Reply:
        """Poll a run to its end, or to the functions that it asks for."""
        run = await poll(self._wire, _run_path(thread_id, run_id), BETA, lambda run: _status(run) in ENDED)
        # Asked for anew, they include what the run said before it asked for functions.
        with billed(usage_of_tokens(run.get("usage"))):
            messages = [each async for each in self._messages(thread_id, run_id)]
        return await self._reply(replace(exchange, partial_text=""), run, messages)

    async def _messages(self, thread_id: str, run_id: str) -> AsyncIterator[Mapping[str, Any]]:
        """The assistant's messages of a run, oldest first."""
        async for message in pages(self._wire, f"/threads/{in_path(thread_id)}/messages", BETA, run_id=run_id):
            if _is_the_assistants(message):
                yield message

    async def _reply(self, exchange: Exchange, run: Mapping[str, Any], messages: Sequence[Mapping[str, Any]]) -> Reply:
        """How a run that ended, ended; or what it waits for.

        Raises:
            ServiceFault: it failed in a way that another run may cure, or that concerns the whole batch.
        """
        usage = usage_of_tokens(run.get("usage"))
        with billed(usage):
            reply = self._read_reply(exchange, run, messages, usage)
            if reply.waiting:
                return reply
            wants_steps = self._row_files is not None and self._row_files.code_interpreter
            steps = await self._steps(run) if wants_steps and (messages or reply.reason == EMPTY_ANSWER) else []
        if reply.reason == EMPTY_ANSWER and (produced_in_messages(messages) or produced_by_steps(steps)):
            reply = replace(reply, status="completed", reason=None)
        if self._row_files is not None:
            extras = await self._row_files.of_messages(messages, steps, exchange.row_key)
            reply = replace(reply, extras=extras)
        return reply

    def _read_reply(
        self, exchange: Exchange, run: Mapping[str, Any], messages: Sequence[Mapping[str, Any]], usage: Usage
    ) -> Reply:
        """What a run and its messages say; files that are not in the messages apart."""
        model, status = name(run.get("model")), _status(run)
        refused = any(part.get("type") == "refusal" for message in messages for part in objects(message.get("content")))
        heard = [exchange.partial_text] if exchange.partial_text else []
        said = "\n\n".join([*heard, *(message_text(message) for message in messages)])
        if status == "requires_action":
            return Reply("requires_action", said, calls=_calls(run), waiting=True, model=model)
        if status == "failed":
            failure = mapping(run.get("last_error"))
            message = name(failure.get("message")) or "the run failed"
            fault = fault_of_failed_run(name(failure.get("code")), message, usage, self._wire.secrets)
            if isinstance(fault, TransientFault | BatchRefused):
                raise fault
            return Reply("failed", said, usage, model, fault.error_type, str(fault))
        if status == "incomplete":
            reason = name(mapping(run.get("incomplete_details")).get("reason")) or "incomplete"
            return Reply("incomplete", said, usage, model, reason)
        if status != "completed":
            ended_as: Literal["cancelled", "expired"] = "cancelled" if status == "cancelled" else "expired"
            return Reply(ended_as, said, usage, model, f"run_{status}", f"the run ended as {status}")
        ended, why = end_of_completed(
            said,
            usage,
            refused=refused,
            parameters=self._settings.parameters if not run.get("incomplete_details") else None,
        )
        return Reply(ended, said, usage, model, why)

    async def _steps(self, run: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """What a run did; the files that its code made show here only where no message shows them."""
        thread_id, run_id = _ids_of(run)
        return [step async for step in pages(self._wire, f"{_run_path(thread_id, run_id)}/steps", BETA)]


def _run_path(thread_id: str | None, run_id: str | None) -> str:
    return f"/threads/{in_path(thread_id)}/runs/{in_path(run_id)}"


def _id_of(body: Mapping[str, Any], field: str = "id") -> str:
    """
    Raises:
        PermanentFault: there is none: the server speaks something else.
    """
    found = name(body.get(field))
    if found is None:
        raise bad_reply(repr(field), body, "Assistants", ())
    return found


def _ids_of(run: Mapping[str, Any]) -> tuple[str, str]:
    """(the thread's id, the run's)."""
    return _id_of(run, "thread_id"), _id_of(run)


def _status(run: Mapping[str, Any]) -> str:
    """
    Raises:
        PermanentFault: it is not one that the protocol has, so that nobody knows whether there is more to come.
    """
    status = run.get("status")
    if status is None:
        raise bad_reply("'status'", run, "Assistants", ())
    if not isinstance(status, str) or status not in STATUSES:
        raise unexpected(status, "the run's `status`", "one of the protocol's")
    return status


def _is_the_assistants(message: Mapping[str, Any]) -> bool:
    return required(message.get("role"), "the role of a message") == "assistant"


def _calls(run: Mapping[str, Any]) -> tuple[ToolCall, ...]:
    """The functions whose outputs a run waits for."""
    action = mapping(mapping(run.get("required_action")).get("submit_tool_outputs"))
    calls = members(action.get("tool_calls"), "`tool_calls`")
    if not calls:
        raise unexpected(None, "`tool_calls` of a run that waits for them", "a list")
    return tuple(
        ToolCall(
            required(call.get("id"), "the `id` of a call"),
            required(mapping(call.get("function")).get("name"), "the name of a function that is called"),
            whole_text(arguments(mapping(call.get("function")).get("arguments"))) or "{}",
        )
        for call in calls
    )


def _has(assistant: Mapping[str, Any], resources: Mapping[str, Any]) -> bool:
    """Whether an assistant works on these resources."""
    found = mapping(assistant.get("tool_resources"))
    return all(found.get(tool) == wanted for tool, wanted in resources.items())


def _is_made_by(run: Mapping[str, Any], metadata: Mapping[str, str]) -> bool:
    found = mapping(run.get("metadata"))
    return all(found.get(key) == value for key, value in metadata.items())


def message_text(message: Mapping[str, Any]) -> str:
    """The text of a message: its text and refusal parts, one per line; an image as `[image file-…]`."""
    lines = []
    for part in members(message.get("content"), "the content of a message"):
        kind = required(part.get("type"), "the type of a part of a message")
        if kind == "text":
            lines.append(text(_inside(part, "text").get("value"), "the text of a message"))
        elif kind == "refusal":
            lines.append(text(part.get("refusal"), "a refusal"))
        elif kind == "image_file":
            lines.append(f"[image {required(_inside(part, 'image_file').get('file_id'), 'the `file_id` of an image')}]")
    return whole_text("\n".join(lines))


def _inside(part: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    """What a part of a message holds; null holds nothing."""
    found = part.get(field)
    if found is not None and not isinstance(found, dict):
        raise unexpected(found, f"`{field}` of a message", "an object")
    return mapping(found)
