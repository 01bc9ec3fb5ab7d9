"""An Assistants service connected to a scripted server, and the objects and events that such a server sends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from batchrun.engine.limits import Limits
from batchrun.engine.service import Reply
from batchrun.errors import ServiceFault
from batchrun.services.assistants import AssistantSettings, AssistantsService
from batchrun.services.client import Endpoint
from batchrun.services.wire import Wire
from tests.support.rows import attempt, exchange
from tests.support.scripted_http import Answer, ScriptedHttp, event, json_answer
from tests.support.seen import Seen

KEY = "sk-secret-0123456789"
RUN = "/threads/thread_1/runs/run_1"
USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 4,
    "total_tokens": 13,
    "prompt_token_details": {"cached_tokens": 2},
    "completion_tokens_details": {"reasoning_tokens": 1},
}


def run(status: str = "completed", **fields: Any) -> dict[str, Any]:
    """Return a run object; it has a usage if the run has ended."""
    usage = USAGE if status in ("completed", "incomplete", "failed") else None
    return {"id": "run_1", "thread_id": "thread_1", "status": status, "model": "m-1", "usage": usage, **fields}


def message(text: str = "It is 4.", role: str = "assistant", **fields: Any) -> dict[str, Any]:
    """Return a message object with one text part."""
    content = [{"type": "text", "text": {"value": text, "annotations": []}}]
    return {"id": "msg_1", "role": role, "content": content, **fields}


CREATED = [
    event("thread.created", {"id": "thread_1"}),
    event("thread.run.created", run("queued")),
    event("thread.run.queued", run("queued")),
    event("thread.run.in_progress", run("in_progress")),
    event("thread.run.step.created", {"id": "step_1", "status": "in_progress"}),
    event("thread.message.created", message("")),
    event("thread.message.delta", {"id": "msg_1", "delta": {}}),
]
MESSAGE = event("thread.message.completed", message())
STEP_DONE = event("thread.run.step.completed", {"id": "step_1", "status": "completed"})
DONE = event("done", "[DONE]")
WHOLE = [*CREATED, MESSAGE, STEP_DONE, event("thread.run.completed", run()), DONE]
"""The stream of a run that completes."""

LOOKED_UP: dict[str, Answer] = {
    f"GET {RUN}": json_answer(run()),
    "GET /threads/thread_1/messages": json_answer({"data": [message()], "has_more": False}),
}
"""The answers to a client that polls the completed run, for example after a broken stream."""


@asynccontextmanager
async def service_at(url: str, *, silence_timeout_s: float = 5.0, **options: Any) -> AsyncIterator[AssistantsService]:
    """Open a service at a URL.

    Args:
        options: fields of `AssistantSettings`; also `poll` and `made`, the service's `assistant_made`.
    """
    settings = {
        "assistant_id": None,
        "known_assistant_id": "asst_1",
        "name": "batchrun b",
        "model": "m-1",
        "instructions": "Be brief.",
        "metadata": {"batch": "b"},
        "parameters": {"temperature": 0.5},
    }
    poll, made = options.pop("poll", False), options.pop("made", lambda _: None)
    wire = Wire(Endpoint(url, KEY), Limits(), silence_timeout_s=silence_timeout_s)
    try:
        yield AssistantsService(wire, AssistantSettings(**{**settings, **options}), poll=poll, assistant_made=made)
    finally:
        await wire.aclose()


def opened(server: ScriptedHttp, **options: Any) -> AbstractAsyncContextManager[AssistantsService]:
    """Open a service at a scripted server, with the options of `service_at`."""
    return service_at(server.url, **options)


async def answer(server: ScriptedHttp, **options: Any) -> tuple[Reply, Seen]:
    """Answer row 3; return the reply and the reported ids."""
    seen = Seen(server)
    async with opened(server, **options) as service:
        return await service.answer(exchange(3), attempt(2, 1, "key-7"), seen), seen


async def fault_of(server: ScriptedHttp, **options: Any) -> ServiceFault:
    """Answer row 3, which must fail; return the fault."""
    with pytest.raises(ServiceFault) as caught:
        await answer(server, **options)
    return caught.value
