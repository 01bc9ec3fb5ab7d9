"""The Responses service polling and cancelling responses in the background."""

from __future__ import annotations

import pytest

from batchrun.engine.limits import Limits
from batchrun.engine.service import Reply
from batchrun.errors import (
    BatchRefused,
    PermanentFault,
    RunLost,
)
from batchrun.services.client import Endpoint
from batchrun.services.responses import ResponseSettings, ResponsesService
from batchrun.services.wire import Wire
from batchrun.token_usage import Usage
from tests.support.responses_service import (
    KEY,
    USAGE,
    call_service,
    fault_of,
    response,
)
from tests.support.rows import attempt, exchange
from tests.support.scripted_http import Answer, Served, html, json_answer

pytestmark = pytest.mark.anyio


async def test_background_is_polled(serve: Served) -> None:
    """A response in the background is polled until it ends."""
    server = serve(
        {
            "POST /responses": json_answer(response("queued")),
            "GET /responses/resp_1": [json_answer(response("in_progress")), json_answer(response())],
        }
    )
    reply, seen = await call_service(server, background=True)
    assert server.requests[0].body["background"] is True
    assert server.paths() == ["POST /responses", "GET /responses/resp_1", "GET /responses/resp_1"]
    assert (seen.ids, seen.requests) == ([("resp_1", "resp_1")], [1])
    assert reply.response == "It is 4."


async def test_follow(serve: Served) -> None:
    """A response that the journal names is polled by its id and never created again."""
    server = serve({"GET /responses/resp_1": json_answer(response())})
    reply, _ = await call_service(server, attempt(3, 1, "key-7", thread_id="resp_1", run_id="resp_1"), method="follow")
    assert server.paths() == ["GET /responses/resp_1"]
    assert reply == Reply("completed", "It is 4.", Usage(9, 4, 13, 2, 1, USAGE), "m-1")


async def test_follow_what_is_gone(serve: Served) -> None:
    """A response that the service does not know is lost, and is created again under another key."""
    gone = json_answer({"error": {"message": "Response with id 'resp_1' not found.", "code": None}}, 404)
    fault = await fault_of(
        serve({"GET /responses/resp_1": gone}),
        attempt(3, 1, "key-7", thread_id="resp_1", run_id="resp_1"),
        method="follow",
    )
    assert isinstance(fault, RunLost)
    assert fault.run_ended


BEGUN_BEHIND = json_answer(response("queued"))
UNKNOWN = {"error": {"message": "Response with id 'resp_1' not found.", "code": None}}


@pytest.mark.parametrize(
    "answer",
    [
        json_answer(UNKNOWN, 404),
        json_answer({"detail": "Not Found"}, 404),
        html("<title>404 Not Found</title>", 404),
        json_answer({"detail": "Method Not Allowed"}, 405),
        html("<title>405</title>", 405),
        json_answer({"error": {"message": "Not implemented", "type": "server_error"}}, 501),
    ],
)
async def test_a_service_that_cannot_look_responses_up(serve: Served, answer: Answer) -> None:
    """If the first response in the background cannot be looked up, the batch stops, and the message says what to do."""
    server = serve({"POST /responses": BEGUN_BEHIND, "GET /responses/resp_1": answer})
    fault = await fault_of(server, background=True)
    assert isinstance(fault, BatchRefused)
    assert "without --background" in str(fault)
    assert fault.run_ended
    assert server.paths().count("POST /responses") == 1


@pytest.mark.parametrize("status", [401, 403, 500])
async def test_another_fault_at_the_first_look(serve: Served, status: int) -> None:
    """A fault that does not mean a missing object or endpoint is reported as itself."""
    refused = json_answer({"error": {"message": "no", "code": None}}, status)
    server = serve({"POST /responses": BEGUN_BEHIND, "GET /responses/resp_1": [refused, json_answer(response())]})
    if status == 500:
        reply, _ = await call_service(server, background=True)
        assert reply.response == "It is 4."
    else:
        assert "--background" not in str(await fault_of(server, background=True))


async def test_a_response_that_is_known_a_moment_later(serve: Served) -> None:
    """A service may know a new response only a moment later."""
    looks = [json_answer(UNKNOWN, 404), json_answer(response("in_progress")), json_answer(response())]
    server = serve({"POST /responses": BEGUN_BEHIND, "GET /responses/resp_1": looks})
    reply, _ = await call_service(server, background=True)
    assert reply.response == "It is 4."


async def test_a_response_that_is_gone_after_it_was_seen(serve: Served) -> None:
    """A response that disappears later is lost: it is created again, and the batch continues."""
    looks = [json_answer(response("in_progress")), json_answer(UNKNOWN, 404)]
    server = serve({"POST /responses": BEGUN_BEHIND, "GET /responses/resp_1": looks})
    fault = await fault_of(server, background=True)
    assert isinstance(fault, RunLost)
    assert server.paths().count("GET /responses/resp_1") == 2


async def test_cancelled_too_late(serve: Served) -> None:
    """A response that ended before it was cancelled does not count as cancelled: its answer is paid for."""
    server = serve({"POST /responses/resp_1/cancel": json_answer(response("completed"))})
    wire = Wire(Endpoint(server.url, KEY), Limits(), silence_timeout_s=5)
    try:
        service = ResponsesService(wire, ResponseSettings(model="m-1", instructions=None, metadata={}))
        with pytest.raises(PermanentFault):
            await service.cancel(exchange(), attempt(1, 1, "key-7", thread_id="resp_1", run_id="resp_1"))
    finally:
        await wire.aclose()


async def test_cancel(serve: Served) -> None:
    """Cancelling a background response takes one request."""
    server = serve({"POST /responses/resp_1/cancel": json_answer(response("cancelled"))})
    wire = Wire(Endpoint(server.url, KEY), Limits(), silence_timeout_s=5)
    try:
        service = ResponsesService(wire, ResponseSettings("m-1", None, {}, background=True))
        await service.cancel(exchange(), attempt(1, 1, "key-7", thread_id="resp_1", run_id="resp_1"))
    finally:
        await wire.aclose()
    assert server.paths() == ["POST /responses/resp_1/cancel"]
