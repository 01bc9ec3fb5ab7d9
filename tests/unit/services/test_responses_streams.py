"""The Responses service on streams, whole, broken and resumed, and during long silences."""

from __future__ import annotations

from typing import Any

import pytest

from batchrun.engine.service import Reply
from batchrun.errors import (
    ConnectionLost,
    PermanentFault,
    RateLimited,
    RunLost,
    ServerFault,
    ServiceFault,
    Unavailable,
)
from batchrun.token_usage import Usage
from tests.support.responses_service import (
    BEGUN,
    ENDED,
    USAGE,
    WHOLE,
    call_service,
    fault_of,
    response,
    stream_event,
)
from tests.support.scripted_http import Answer, Served, event, html, json_answer, stream

pytestmark = pytest.mark.anyio


# -- streams ----------------------------------------------------------------------------------------------------


async def test_stream(serve: Served) -> None:
    """A streamed row is one request, and gives the same reply as a row without streaming."""
    server = serve({"POST /responses": stream(*WHOLE)})
    reply, seen = await call_service(server, stream=True)
    assert server.paths() == ["POST /responses"]
    assert server.requests[0].body["stream"] is True
    assert reply == Reply("completed", "It is 4.", Usage(9, 4, 13, 2, 1, USAGE), "m-1")
    assert seen.ids == [("resp_1", "resp_1")]


async def test_a_stream_without_event_lines(serve: Served) -> None:
    """Events with their name only in `type`, as LiteLLM sends them, are read too."""
    bare = [frame.partition(b"\n")[2] for frame in WHOLE]
    server = serve({"POST /responses": stream(*bare, b"data: [DONE]\n\n")})
    reply, seen = await call_service(server, stream=True)
    assert (reply.response, seen.ids) == ("It is 4.", [("resp_1", "resp_1")])
    assert server.paths() == ["POST /responses"]


async def test_a_server_that_does_not_stream(serve: Served) -> None:
    """A JSON reply in place of a stream is read as the whole reply."""
    server = serve({"POST /responses": json_answer(response())})
    reply, _ = await call_service(server, stream=True)
    assert (reply.response, server.paths()) == ("It is 4.", ["POST /responses"])


@pytest.mark.parametrize("background", [False, True])
async def test_events_that_only_keep_the_connection_open(serve: Served, background: bool) -> None:
    """Empty events, and named events without an object, hold nothing."""
    idle = [b"data:\n\n", b"event: ping\ndata: ping\n\n", b"data\n\n"]
    server = serve({"POST /responses": stream(*idle, *BEGUN, *idle, ENDED)})
    reply, _ = await call_service(server, stream=True, background=background)
    assert (reply.response, server.paths()) == ("It is 4.", ["POST /responses"])


@pytest.mark.parametrize(
    ("last", "claimed", "status"),
    [
        ("incomplete", "completed", "incomplete"),
        ("incomplete", None, "incomplete"),
        ("failed", "completed", "failed"),
        ("failed", None, "failed"),
        ("completed", "in_progress", "completed"),
        ("completed", "incomplete", "incomplete"),
    ],
)
async def test_the_last_event_says_how_a_response_ended(
    serve: Served, last: str, claimed: str | None, status: str
) -> None:
    """If event and status differ, or there is no status, an answer that one of them calls incomplete is incomplete."""
    body = {**response(), "status": claimed}
    server = serve({"POST /responses": stream(*BEGUN, stream_event(last, 3, response=body))})
    reply, _ = await call_service(server, stream=True)
    assert (reply.status, reply.response, server.paths()) == (status, "It is 4.", ["POST /responses"])


@pytest.mark.parametrize("end", ["whole", "cut", "silence"])
@pytest.mark.parametrize("frames", range(1, len(WHOLE)))
async def test_a_broken_stream_is_looked_up(serve: Served, frames: int, end: Any) -> None:
    """If a plain stream ends early after the id, the response is polled and not created again."""
    server = serve(
        {"POST /responses": stream(*WHOLE[:frames], end=end), "GET /responses/resp_1": json_answer(response())}
    )
    reply, seen = await call_service(server, stream=True, silence_timeout_s=0.2)
    assert server.paths() == ["POST /responses", "GET /responses/resp_1"]
    assert (reply.response, seen.ids) == ("It is 4.", [("resp_1", "resp_1")])


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("end", ["whole", "cut"])
@pytest.mark.parametrize("frames", [[], [b": ping\n\n"], [WHOLE[0][:40]]])
async def test_a_stream_that_names_nothing(serve: Served, frames: list[bytes], end: Any, background: bool) -> None:
    """A stream that breaks before it names a response leaves the key, so that the same request can be repeated."""
    server = serve({"POST /responses": stream(*frames, end=end)})
    fault = await fault_of(server, stream=True, background=background)
    assert isinstance(fault, ConnectionLost)
    assert not fault.run_ended
    assert server.paths() == ["POST /responses"]


@pytest.mark.parametrize("end", ["whole", "cut", "silence"])
@pytest.mark.parametrize("frames", range(1, len(WHOLE)))
async def test_a_background_stream_is_resumed(serve: Served, frames: int, end: Any) -> None:
    """A background stream that ends early is resumed after its last event, without another response."""
    server = serve(
        {
            "POST /responses": stream(*WHOLE[:frames], end=end),
            "GET /responses/resp_1": stream(*WHOLE[frames:]),
        }
    )
    reply, seen = await call_service(server, stream=True, background=True, silence_timeout_s=0.2)
    assert server.paths() == ["POST /responses", "GET /responses/resp_1"]
    assert server.requests[1].query == {"stream": "true", "starting_after": str(frames - 1)}
    assert (reply.response, seen.ids) == ("It is 4.", [("resp_1", "resp_1")])


async def test_a_background_stream_is_resumed_again(serve: Served) -> None:
    """Each resumption begins after the last event of the one before."""
    server = serve(
        {
            "POST /responses": stream(WHOLE[0], end="cut"),
            "GET /responses/resp_1": [stream(WHOLE[1], WHOLE[2], end="cut"), stream(ENDED)],
        }
    )
    reply, _ = await call_service(server, stream=True, background=True)
    assert [request.query["starting_after"] for request in server.requests[1:]] == ["0", "2"]
    assert reply.response == "It is 4."


async def test_a_stream_that_never_lasts(serve: Served) -> None:
    """After five broken streams, the response is polled."""
    broken = stream(stream_event("in_progress", 1, response=response("in_progress")), end="cut")
    server = serve({"POST /responses": stream(*BEGUN, end="cut"), "GET /responses/resp_1": [broken] * 5})
    server_script = server.script

    def script(request: Any) -> Answer:
        polled = request.method == "GET" and "stream" not in request.query
        return json_answer(response()) if polled else server_script(request)

    server.script = script
    reply, _ = await call_service(server, stream=True, background=True)
    assert reply.response == "It is 4."
    assert [("stream" in request.query) for request in server.requests] == [False, *[True] * 5, False]


@pytest.mark.parametrize("status", [400, 422])
async def test_a_stream_that_cannot_be_resumed(serve: Served, status: int) -> None:
    """If the service refuses to resume the stream, the response is polled."""
    refused = json_answer({"error": {"message": "This response cannot be streamed.", "code": None}}, status)
    server = serve(
        {"POST /responses": stream(*BEGUN, end="cut"), "GET /responses/resp_1": [refused, json_answer(response())]}
    )
    reply, _ = await call_service(server, stream=True, background=True)
    assert reply.response == "It is 4."
    assert len(server.requests) == 3


async def test_a_stream_whose_response_is_gone(serve: Served) -> None:
    """A response that is unknown when its stream is resumed is lost; the row does not fail."""
    gone = json_answer({"error": {"message": "Response with id 'resp_1' not found.", "code": None}}, 404)
    server = serve({"POST /responses": stream(*BEGUN, end="cut"), "GET /responses/resp_1": gone})
    assert isinstance(await fault_of(server, stream=True, background=True), RunLost)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ({"type": "error", "code": "rate_limit_exceeded", "message": "slow"}, RateLimited),
        ({"type": "error", "code": None, "message": "it broke"}, ServerFault),
        ({"type": "error", "error": {"type": "server_error", "message": "it broke"}}, ServerFault),
        ({"type": "error", "code": "invalid_prompt", "message": "no"}, PermanentFault),
        ({"error": {"message": "over", "type": "None", "code": "503"}}, Unavailable),
    ],
)
@pytest.mark.parametrize("named", [False, True])
async def test_an_error_event_before_any_response(
    serve: Served, data: dict[str, Any], kind: type[ServiceFault], named: bool
) -> None:
    """An error event that comes first is its own fault, under the same key, however its name is sent."""
    frame = event("error", data) if named else event("error", data).partition(b"\n")[2]
    fault = await fault_of(serve({"POST /responses": stream(frame)}), stream=True)
    assert type(fault) is kind
    assert not fault.run_ended


async def test_an_error_event_behind_the_id(serve: Served) -> None:
    """After a transient error event in a stream that named its response, the response is polled."""
    server = serve(
        {
            "POST /responses": stream(*BEGUN, event("error", {"type": "error", "message": "it broke"})),
            "GET /responses/resp_1": json_answer(response()),
        }
    )
    reply, _ = await call_service(server, stream=True)
    assert (reply.response, len(server.requests)) == ("It is 4.", 2)


@pytest.mark.parametrize("data", ["[1]", "{", '"words"', "null"])
async def test_garbage_in_a_stream(serve: Served, data: str) -> None:
    """An event that is not an object breaks the stream, and nothing else."""
    server = serve({"POST /responses": stream(event("response.created", data))})
    assert isinstance(await fault_of(server, stream=True), ConnectionLost)


async def test_html_in_place_of_a_reply(serve: Served) -> None:
    """A proxy's page is a transient fault whose message describes the page."""
    fault = await fault_of(serve({"POST /responses": html()}))
    assert isinstance(fault, Unavailable)
    assert "text/html" in str(fault)
    assert fault.unseen


# -- silence ----------------------------------------------------------------------------------------------------


async def test_a_long_answer_is_waited_for(serve: Served) -> None:
    """A plain reply that is later than the silence timeout is accepted: it would have to be paid for again."""
    import threading

    server = serve({"POST /responses": json_answer(response())})
    script = server.script

    def late(request: Any) -> Answer:
        threading.Event().wait(0.4)
        return script(request)

    server.script = late
    reply, _ = await call_service(server, silence_timeout_s=0.1)
    assert (reply.response, server.paths()) == ("It is 4.", ["POST /responses"])
