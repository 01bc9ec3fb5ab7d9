"""A Responses service connected to a scripted server, and the objects and events that such a server sends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from batchrun.engine.limits import Limits
from batchrun.engine.service import Reply
from batchrun.errors import ServiceFault
from batchrun.records import Attempt, Exchange
from batchrun.services.client import Endpoint
from batchrun.services.responses import ResponseSettings, ResponsesService
from batchrun.services.wire import Wire
from tests.support.rows import attempt, exchange
from tests.support.scripted_http import ScriptedHttp, event
from tests.support.seen import Seen

KEY = "sk-secret-0123456789"
USAGE = {
    "input_tokens": 9,
    "input_tokens_details": {"cached_tokens": 2},
    "output_tokens": 4,
    "output_tokens_details": {"reasoning_tokens": 1},
    "total_tokens": 13,
}
ITEMS = "GET /conversations/conv_1/items"


def message(*parts: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    """Return an output item with the assistant's message."""
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": parts, **fields}


def text(words: str = "It is 4.") -> dict[str, Any]:
    """Return a text part of a message."""
    return {"type": "output_text", "text": words, "annotations": []}


def response(status: str = "completed", **fields: Any) -> dict[str, Any]:
    """Return a response object; it has a usage if the response has ended, and a text if it has completed."""
    ended = status in ("completed", "incomplete", "failed")
    output = [message(text())] if status == "completed" else []
    usage = USAGE if ended else None
    return {"id": "resp_1", "status": status, "error": None, "model": "m-1", "output": output, "usage": usage, **fields}


CALL = {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{}"}
ITEM_OF_QUESTION = {"type": "message", "role": "user", "status": "completed", "content": []}


def stream_event(name: str, number: int, **fields: Any) -> bytes:
    """Return an event of a stream; as in the protocol, its name appears twice."""
    return event(f"response.{name}", {"type": f"response.{name}", "sequence_number": number, **fields})


BEGUN = [
    stream_event("created", 0, response=response("in_progress")),
    stream_event("in_progress", 1, response=response("in_progress")),
    stream_event("output_text.delta", 2, delta="It is"),
]
ENDED = stream_event("completed", 3, response=response())
WHOLE = [*BEGUN, ENDED]


async def call_service(
    server: ScriptedHttp,
    custom_attempt: Attempt | None = None,
    *,
    custom_exchange: Exchange | None = None,
    method: str = "answer",
    silence_timeout_s: float = 5.0,
    **options: Any,
) -> tuple[Reply, Seen]:
    """Call the service once; return the reply and the reported ids.

    Args:
        method: `answer` or `follow`.
        options: fields of `ResponseSettings`.
    """
    settings = {"model": "m-1", "instructions": "Be brief.", "metadata": {"batch": "b"}, **options}
    wire = Wire(
        Endpoint(server.url, KEY),
        Limits(),
        silence_timeout_s=silence_timeout_s,
        settings=settings.get("parameters", ()),
    )
    seen = Seen(server)
    service = ResponsesService(wire, ResponseSettings(**settings))
    try:
        await service.prepare()
        call = service.answer if method == "answer" else service.follow
        return await call(custom_exchange or exchange(3), custom_attempt or attempt(2, 1, "key-7"), seen), seen
    finally:
        await wire.aclose()


async def fault_of(server: ScriptedHttp, custom_attempt: Attempt | None = None, **options: Any) -> ServiceFault:
    """Call the service, which must fail; return the fault."""
    with pytest.raises(ServiceFault) as caught:
        await call_service(server, custom_attempt, **options)
    return caught.value
