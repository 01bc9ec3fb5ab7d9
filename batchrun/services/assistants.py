"""The Assistants protocol: a thread and a run per row, in one streamed request.

`POST /threads/runs` makes both and streams the run to its end; a run on a thread that exists is one request too. The
stream's first events name the ids, which go to the journal at once. A stream that ends without a terminal run event
says nothing about the run: it is then looked up by its id and polled, never made again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import anyio

from batchrun.errors import BatchRefused, ConnectionLost, PermanentFault, Silence, TransientFault
from batchrun.job import digest
from batchrun.records import REFUSAL, Attempt, Exchange, ToolCall
from batchrun.services.base import IdsSeen, Reply
from batchrun.services.enclosures import Enclosures
from batchrun.services.faults import fault_of_error_body, fault_of_failed_run
from batchrun.services.polling import poll
from batchrun.services.usage import usage_of_tokens
from batchrun.services.wire import BETA, EventReader, Wire

__all__ = ["AssistantSettings", "AssistantsService"]

PREPARE_TIMEOUT_S = 30.0
"""For the assistant: a service that takes longer to look one up does not answer at all."""
HOSTED = ("file_search", "code_interpreter")
"""Tools that run at the service."""
TERMINAL = frozenset({"cancelled", "failed", "completed", "incomplete", "expired"})
ENDED = TERMINAL | {"requires_action"}
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
        made: Callable[[str], None] = lambda _assistant_id: None,
        enclosures: Enclosures | None = None,
    ) -> None:
        """
        Args:
            poll: never stream.
            made: called with the id of the assistant that is made for the batch.
            enclosures: the files of the batch, where it has any.
        """
        self._wire = wire
        self._settings = settings
        self._poll = poll
        self._made = made
        self._enclosures = enclosures
        self._own_tools: list[Any] = []
        self.assistant_id = settings.assistant_id or settings.known_assistant_id

    async def prepare(self) -> None:
        """Check that the assistant exists, or make one for the batch; its id is then in `assistant_id`."""
        if self._enclosures is not None:
            await self._enclosures.prepare()
        with anyio.move_on_after(PREPARE_TIMEOUT_S):
            await self._find_or_make_assistant()
            return
        raise Silence(f"no answer within {PREPARE_TIMEOUT_S:g} s", error_type="timeout")

    async def _find_or_make_assistant(self) -> None:
        # Threads that rows continue cannot be given anything to search; the assistant can.
        resources = self._enclosures.searched_resources() if self._enclosures is not None else {}
        if self.assistant_id is not None:
            try:
                assistant, _ = await self._wire.get(f"/assistants/{self.assistant_id}", BETA)
                tools = assistant.get("tools") or ()
                self._own_tools = [tool for tool in tools if tool.get("type") in HOSTED]
                if self._settings.assistant_id is None and not _has(assistant, resources):
                    await self._wire.post(f"/assistants/{self.assistant_id}", {"tool_resources": resources}, BETA)
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
        self.assistant_id = _field(assistant, "id", str)
        self._made(self.assistant_id)

    async def answer(self, exchange: Exchange, attempt: Attempt, seen: IdsSeen) -> Reply:
        """One streamed request; falls back to polling by id when the stream breaks off.

        A thread on which another run is active is waited for.
        """
        while True:
            try:
                return await self._answer(exchange, attempt, seen)
            except PermanentFault as fault:
                blocking = _LOCKED.search(str(fault)) if exchange.thread_id and not exchange.outputs else None
                if blocking is None:
                    raise
                metadata = self._metadata(exchange, attempt)
                run = await self._run_when_free(str(exchange.thread_id), blocking[1], metadata)
                if _is_made_by(run, metadata):
                    # The request was acted on, and its reply lost.
                    seen(exchange.thread_id, run["id"])
                    return await self._follow(exchange, str(exchange.thread_id), run["id"])

    async def _answer(self, exchange: Exchange, attempt: Attempt, seen: IdsSeen) -> Reply:
        if self._poll:
            return await self._answer_polled(exchange, attempt, seen)
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
                        self._take(event, data, stream, seen)
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

    async def follow(self, exchange: Exchange, attempt: Attempt, seen: IdsSeen) -> Reply:  # noqa: ARG002 - the ids are known
        """Poll the run that the journal names to its end, or to the functions that it asks for."""
        assert attempt.thread_id is not None
        assert attempt.run_id is not None
        return await self._follow(exchange, attempt.thread_id, attempt.run_id)

    async def cancel(self, exchange: Exchange, attempt: Attempt) -> None:  # noqa: ARG002 - the interface's
        """Cancel the run."""
        await self._wire.post(f"/threads/{attempt.thread_id}/runs/{attempt.run_id}/cancel", {}, BETA)

    # -- making a run ---------------------------------------------------------------------------------

    @staticmethod
    def _path(exchange: Exchange, attempt: Attempt) -> str:
        if exchange.outputs:
            return f"/threads/{attempt.thread_id}/runs/{attempt.run_id}/submit_tool_outputs"
        return "/threads/runs" if exchange.thread_id is None else f"/threads/{exchange.thread_id}/runs"

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
        files = self._enclosures
        message = {"role": "user", "content": exchange.turn.text}
        if files is not None:
            message = await files.message(exchange.turn)
            if needed := files.assistants_tools(exchange.brought):
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

    async def _answer_polled(self, exchange: Exchange, attempt: Attempt, seen: IdsSeen) -> Reply:
        body = await self._body(exchange, attempt, stream=False)
        run = await self._wire.post(self._path(exchange, attempt), body, self._headers(exchange, attempt))
        thread_id, run_id = _field(run, "thread_id", str), _field(run, "id", str)
        if run_id != attempt.run_id:
            seen(thread_id, run_id)
        return await self._follow(exchange, thread_id, run_id)

    async def _run_when_free(self, thread_id: str, run_id: str, metadata: Mapping[str, str]) -> Mapping[str, Any]:
        """The run that keeps the thread locked, once it ended; one with this metadata, once it waits for outputs."""

        def free(run: Any) -> bool:
            return _field(run, "status", str) in (ENDED if _is_made_by(run, metadata) else TERMINAL)

        found: Mapping[str, Any] = await poll(self._wire, f"/threads/{thread_id}/runs/{run_id}", BETA, free)
        return found

    # -- following a run ------------------------------------------------------------------------------

    def _take(self, event: str, data: bytes, stream: _Stream, seen: IdsSeen) -> None:
        """Take in one event of the stream."""
        if event not in KEPT_EVENTS:
            return
        try:
            body = json.loads(data)
        except ValueError:
            raise ConnectionLost("the stream broke inside an event", error_type="connection_error") from None
        if event == "error":
            raise fault_of_error_body(body, self._wire.secrets)
        if event.startswith("thread.message."):
            if body.get("role") == "assistant":
                stream.messages.append(body)
            return
        if stream.run_id is None:
            stream.thread_id, stream.run_id = _field(body, "thread_id", str), _field(body, "id", str)
            seen(stream.thread_id, stream.run_id)
        if body.get("status") in ENDED and event != "json":
            stream.run = body

    async def _follow(self, exchange: Exchange, thread_id: str, run_id: str) -> Reply:
        """Poll a run to its end, or to the functions that it asks for."""
        path = f"/threads/{thread_id}/runs/{run_id}"
        run = await poll(self._wire, path, BETA, lambda run: _field(run, "status", str) in ENDED)
        # Asked for anew, they include what the run said before it asked for functions.
        return await self._reply(replace(exchange, heard=""), run, await self._messages(thread_id, run_id))

    async def _messages(self, thread_id: str, run_id: str) -> list[Mapping[str, Any]]:
        """The assistant's messages of a run, oldest first."""
        messages: list[Mapping[str, Any]] = []
        after: dict[str, str] = {}
        while True:
            page, _ = await self._wire.get(
                f"/threads/{thread_id}/messages", BETA, run_id=run_id, order="asc", limit=100, **after
            )
            messages += [message for message in _field(page, "data", list) if message["role"] == "assistant"]
            if not page.get("has_more"):
                return messages
            after = {"after": page["last_id"]}

    async def _reply(self, exchange: Exchange, run: Mapping[str, Any], messages: Sequence[Mapping[str, Any]]) -> Reply:
        """How a run that ended, ended; or what it waits for.

        Raises:
            ServiceFault: it failed in a way that another run may cure, or that concerns the whole batch.
        """
        usage = usage_of_tokens(run.get("usage"))
        status, reason, error = run["status"], None, None
        if status == "failed":
            last_error = run.get("last_error") or {}
            fault = fault_of_failed_run(
                last_error.get("code"), str(last_error.get("message") or "the run failed"), usage, self._wire.secrets
            )
            if isinstance(fault, TransientFault | BatchRefused):
                raise fault
            reason, error = fault.error_type, str(fault)
        elif status == "completed" and any(map(_is_refusal, messages)):
            status, reason = "incomplete", REFUSAL
        elif status == "incomplete":
            reason = (run.get("incomplete_details") or {}).get("reason") or "incomplete"
        elif status not in ("completed", "requires_action"):
            reason, error = f"run_{status}", f"the run ended as {status}"
        heard = [exchange.heard] if exchange.heard else []
        text = "\n\n".join([*heard, *(message_text(message) for message in messages)])
        if status == "requires_action":
            return Reply(status, text, calls=_calls(run), waiting=True, model=run.get("model"))
        extras = None
        if self._enclosures is not None and messages:
            steps = await self._steps(run) if self._enclosures.code_interpreter else ()
            extras = await self._enclosures.of_messages(messages, steps, exchange.row_key)
        return Reply(status, text, usage, run.get("model"), reason, error, extras=extras)

    async def _steps(self, run: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """What a run did; the files that its code made show here only where no message shows them."""
        page, _ = await self._wire.get(
            f"/threads/{run['thread_id']}/runs/{run['id']}/steps", BETA, order="asc", limit=100
        )
        return _field(page, "data", list)


T = TypeVar("T")


def _field(body: Any, name: str, kind: type[T]) -> T:
    """A field without which nothing can be done.

    Raises:
        PermanentFault: it is not there: the server speaks something else.
    """
    value = body.get(name) if isinstance(body, Mapping) else None
    if not isinstance(value, kind):
        raise PermanentFault(
            f"the server's reply has no {name!r}: {json.dumps(body)[:80]} (does it speak the Assistants protocol?)",
            error_type="bad_reply",
        )
    return value


def _calls(run: Mapping[str, Any]) -> tuple[ToolCall, ...]:
    """The functions whose outputs a run waits for."""
    action = _field(_field(run, "required_action", dict), "submit_tool_outputs", dict)
    calls = _field(action, "tool_calls", list)
    return tuple(ToolCall(call["id"], call["function"]["name"], call["function"]["arguments"]) for call in calls)


def _has(assistant: Mapping[str, Any], resources: Mapping[str, Any]) -> bool:
    """Whether an assistant works on these resources."""
    found = assistant.get("tool_resources") or {}
    return all(found.get(tool) == wanted for tool, wanted in resources.items())


def _is_made_by(run: Mapping[str, Any], metadata: Mapping[str, str]) -> bool:
    return all((run.get("metadata") or {}).get(name) == value for name, value in metadata.items())


def _is_refusal(message: Mapping[str, Any]) -> bool:
    return any(part["type"] == "refusal" for part in message["content"])


def message_text(message: Mapping[str, Any]) -> str:
    """The text of a message: its text and refusal parts, one per line; an image as `[image file-…]`."""
    parts = []
    for part in message["content"]:
        kind = part["type"]
        if kind == "text":
            parts.append(part["text"]["value"])
        elif kind == "refusal":
            parts.append(part["refusal"])
        elif kind == "image_file":
            parts.append(f"[image {part['image_file']['file_id']}]")
    return "\n".join(parts)
