"""The Assistants protocol: a thread and a run per row, in one streamed request.

`POST /threads/runs` makes both and streams the run to its end. The stream's first events name the ids, which
go to the journal at once. A stream that ends without a terminal run event says nothing about the run: it is
then looked up by its id and polled, never made again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from batchrun.errors import BatchRefused, ConnectionLost, PermanentFault, TransientFault
from batchrun.job import digest
from batchrun.records import Attempt, Prompt
from batchrun.services.base import IdsSeen, Reply
from batchrun.services.faults import fault_of_error_body, fault_of_failed_run, needs_tools
from batchrun.services.polling import poll
from batchrun.services.usage import usage_of_tokens
from batchrun.services.wire import EventReader, Wire

__all__ = ["AssistantSettings", "AssistantsService"]

BETA = {"OpenAI-Beta": "assistants=v2"}
TERMINAL = frozenset({"cancelled", "failed", "completed", "incomplete", "expired"})

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
    """

    assistant_id: str | None
    known_assistant_id: str | None
    name: str
    model: str | None
    instructions: str | None
    metadata: Mapping[str, str]
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class _Stream:
    """What a stream has told so far."""

    thread_id: str | None = None
    run_id: str | None = None
    texts: list[str] = field(default_factory=list)
    final_run: Mapping[str, Any] | None = None


class AssistantsService:
    """Rows as threads and runs; see the module's docstring."""

    def __init__(
        self,
        wire: Wire,
        settings: AssistantSettings,
        *,
        poll: bool = False,
        made: Callable[[str], None] = lambda _assistant_id: None,
    ) -> None:
        """
        Args:
            poll: never stream.
            made: called with the id of the assistant that is made for the batch.
        """
        self._wire = wire
        self._settings = settings
        self._poll = poll
        self._made = made
        self.assistant_id = settings.assistant_id or settings.known_assistant_id

    async def prepare(self) -> None:
        """Check that the assistant exists, or make one for the batch; its id is then in `assistant_id`."""
        if self.assistant_id is not None:
            try:
                await self._wire.get(f"/assistants/{self.assistant_id}", BETA)
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
        # Another body, or one in place of an assistant that is gone, must not be answered with the earlier reply.
        key = f"{self._settings.name}-{digest(body, self.assistant_id)}"
        assistant = await self._wire.post("/assistants", body, {**BETA, "Idempotency-Key": key})
        self.assistant_id = _field(assistant, "id", str)
        self._made(self.assistant_id)

    async def answer(self, prompt: Prompt, attempt: Attempt, seen: IdsSeen) -> Reply:
        """One streamed request; falls back to polling by id when the stream breaks off."""
        if self._poll:
            return await self._answer_polled(prompt, attempt, seen)
        stream = _Stream()
        reader = EventReader(KEPT_EVENTS)
        try:
            async with self._wire.post_stream(
                "/threads/runs", self._body(prompt, attempt, stream=True), self._headers(attempt)
            ) as chunks:
                async for chunk in chunks:
                    for event, data in reader.feed(chunk):
                        self._take(event, data, stream, seen)
                    if stream.final_run is not None:
                        return self._reply(stream.final_run, stream.texts)
        except TransientFault as fault:
            if stream.run_id is None or fault.run_ended:
                raise
        if stream.run_id is None:
            raise ConnectionLost("the stream ended before it named a run", error_type="connection_error")
        return await self._follow(str(stream.thread_id), stream.run_id)

    async def follow(self, prompt: Prompt, attempt: Attempt, seen: IdsSeen) -> Reply:  # noqa: ARG002 - the ids are known
        """Poll the run that the journal names to its end."""
        assert attempt.thread_id is not None
        assert attempt.run_id is not None
        return await self._follow(attempt.thread_id, attempt.run_id)

    async def cancel(self, attempt: Attempt) -> None:
        """Cancel the run."""
        await self._wire.post(f"/threads/{attempt.thread_id}/runs/{attempt.run_id}/cancel", {}, BETA)

    # -- making a run ---------------------------------------------------------------------------------

    def _body(self, prompt: Prompt, attempt: Attempt, *, stream: bool) -> dict[str, Any]:
        settings = self._settings
        metadata = {**settings.metadata, "row": prompt.row_key[:512], "attempt": str(attempt.generation)}
        body: dict[str, Any] = {
            "assistant_id": self.assistant_id,
            "thread": {
                "messages": [{"role": "user", "content": prompt.turns[0].text}],
                "metadata": metadata,
            },
            "metadata": metadata,
            "stream": stream,
            **settings.parameters,
        }
        if settings.assistant_id is not None:
            # The user's assistant stands as it is, but for what the job says otherwise.
            if settings.instructions is not None:
                body["instructions"] = settings.instructions
            if settings.model is not None:
                body["model"] = settings.model
        return body

    def _headers(self, attempt: Attempt) -> dict[str, str]:
        return {**BETA, "Idempotency-Key": attempt.key}

    async def _answer_polled(self, prompt: Prompt, attempt: Attempt, seen: IdsSeen) -> Reply:
        run = await self._wire.post("/threads/runs", self._body(prompt, attempt, stream=False), self._headers(attempt))
        thread_id, run_id = _field(run, "thread_id", str), _field(run, "id", str)
        seen(thread_id, run_id)
        return await self._follow(thread_id, run_id)

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
                stream.texts.append(message_text(body))
            return
        if stream.run_id is None:
            stream.thread_id, stream.run_id = _field(body, "thread_id", str), _field(body, "id", str)
            seen(stream.thread_id, stream.run_id)
        if body.get("status") == "requires_action":
            raise needs_tools()
        if body.get("status") in TERMINAL and event != "json":
            stream.final_run = body

    async def _follow(self, thread_id: str, run_id: str) -> Reply:
        """Poll a run to its end."""
        path = f"/threads/{thread_id}/runs/{run_id}"
        run = await poll(
            self._wire, path, BETA, lambda run: _field(run, "status", str) in TERMINAL | {"requires_action"}
        )
        if run["status"] == "requires_action":
            raise needs_tools()
        return self._reply(run, await self._texts(thread_id, run_id))

    async def _texts(self, thread_id: str, run_id: str) -> list[str]:
        """The assistant's messages of a run, oldest first."""
        texts: list[str] = []
        after: dict[str, str] = {}
        while True:
            page, _ = await self._wire.get(
                f"/threads/{thread_id}/messages", BETA, run_id=run_id, order="asc", limit=100, **after
            )
            texts += [message_text(message) for message in _field(page, "data", list) if message["role"] == "assistant"]
            if not page.get("has_more"):
                return texts
            after = {"after": page["last_id"]}

    def _reply(self, run: Mapping[str, Any], texts: list[str]) -> Reply:
        """How a run that ended, ended.

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
        elif status == "incomplete":
            reason = (run.get("incomplete_details") or {}).get("reason") or "incomplete"
        elif status != "completed":
            reason, error = f"run_{status}", f"the run ended as {status}"
        return Reply(status, "\n\n".join(texts), usage, run.get("model"), reason, error)


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
