"""The Assistants service on streams that break and servers that do not answer as expected."""

from __future__ import annotations

from typing import Any

import pytest

from batchrun.engine.limits import Limits
from batchrun.errors import (
    BatchRefused,
    ConnectionLost,
    PermanentFault,
    RateLimited,
    ServerFault,
    ServiceFault,
    Silence,
    Unavailable,
)
from batchrun.services.client import Endpoint
from batchrun.services.wire import Wire
from tests.support.assistants_service import (
    CREATED,
    DONE,
    KEY,
    LOOKED_UP,
    RUN,
    WHOLE,
    answer,
    fault_of,
    run,
    service_at,
)
from tests.support.rows import attempt, exchange
from tests.support.scripted_http import Answer, ScriptedHttp, Served, event, html, json_answer, stream

pytestmark = pytest.mark.anyio


# -- streams that break ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["whole", "cut"])
@pytest.mark.parametrize("frames", range(2, len(WHOLE) - 1))
async def test_a_stream_that_ends_early_is_looked_up(serve: Served, frames: int, end: Any) -> None:
    """If a stream breaks after the ids, closed or cut, the run is polled and never created again."""
    server = serve({"POST /threads/runs": stream(*WHOLE[:frames], end=end), **LOOKED_UP})
    reply, seen = await answer(server)
    assert (reply.status, reply.response) == ("completed", "It is 4.")
    assert server.paths().count("POST /threads/runs") == 1
    assert f"GET {RUN}" in server.paths()
    assert seen.requests == [1]


@pytest.mark.parametrize("end", ["whole", "cut"])
@pytest.mark.parametrize("frames", [0, 1])
async def test_a_stream_that_breaks_before_the_ids(serve: Served, frames: int, end: Any) -> None:
    """If a stream breaks before the ids, the request may be repeated under its key."""
    fault = await fault_of(serve({"POST /threads/runs": stream(*WHOLE[:frames], end=end)}))
    assert type(fault) is ConnectionLost
    assert not fault.run_ended
    assert fault.status_code is None


async def test_a_stream_cut_inside_an_event(serve: Served) -> None:
    """An incomplete event is ignored, and the run is polled."""
    half = WHOLE[-2][: len(WHOLE[-2]) // 2]
    server = serve({"POST /threads/runs": stream(*CREATED, half, end="whole"), **LOOKED_UP})
    reply, _ = await answer(server)
    assert reply.response == "It is 4."


async def test_a_stream_that_falls_silent(serve: Served) -> None:
    """Silence past the deadline leads to polling after the ids; before them it is a fault."""
    server = serve({"POST /threads/runs": stream(*CREATED, end="silence"), **LOOKED_UP})
    reply, _ = await answer(server, silence_timeout_s=0.2)
    assert reply.response == "It is 4."
    fault = await fault_of(serve({"POST /threads/runs": stream(end="silence")}), silence_timeout_s=0.2)
    assert type(fault) is Silence


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"error": {"message": "Sorry.", "code": "server_error"}}, None),
        ({"error": {"message": "no quota", "code": "insufficient_quota"}}, BatchRefused),
        ({"error": {"message": "bad", "type": "invalid_request_error"}}, PermanentFault),
    ],
)
async def test_an_error_event(serve: Served, error: dict[str, Any], kind: type[ServiceFault] | None) -> None:
    """A transient error after the ids leads to polling; a permanent one fails the row or stops the batch."""
    server = serve({"POST /threads/runs": stream(*CREATED, event("error", error), DONE), **LOOKED_UP})
    if kind is None:
        assert (await answer(server))[0].response == "It is 4."
    else:
        assert type(await fault_of(server)) is kind


async def test_garbage_between_events(serve: Served) -> None:
    """Events with other names, without JSON or without a name are skipped if they are not needed."""
    odd = [b"data: {}\n\n", event("thread.weather", "not JSON"), b"\n\n\n", b"garbage\n\n"]
    reply, _ = await answer(serve({"POST /threads/runs": stream(*CREATED, *odd, *WHOLE[-4:])}))
    assert reply.response == "It is 4."


async def test_an_important_event_that_is_not_json(serve: Served) -> None:
    """A needed event that is not valid JSON, after the ids, leads to polling."""
    server = serve({"POST /threads/runs": stream(*CREATED, event("thread.run.completed", "{oops")), **LOOKED_UP})
    assert (await answer(server))[0].response == "It is 4."


# -- servers that answer something else --------------------------------------------------------------------------


async def test_a_server_that_does_not_stream(serve: Served) -> None:
    """A JSON reply in place of a stream names the run, which is then polled."""
    server = serve({"POST /threads/runs": json_answer(run("queued")), **LOOKED_UP})
    reply, seen = await answer(server)
    assert reply.response == "It is 4."
    assert seen.requests == [1]


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        (html(), Unavailable, "answered 200 with text/html; charset=utf-8, expected JSON or an event stream"),
        (json_answer([1, 2]), ServerFault, "answered 200 with application/json, expected JSON"),
        (json_answer("yes"), ServerFault, "answered 200 with application/json, expected JSON"),
        (json_answer({"ok": True}), PermanentFault, "has no 'thread_id': {\"ok\": true}"),
        (json_answer({"error": {"message": "Sorry.", "code": "server_error"}}), ServerFault, "Sorry."),
        (json_answer({"id": 7, "thread_id": "t"}), PermanentFault, "has no 'id'"),
        (stream(event("thread.run.created", {"id": "run_1"})), PermanentFault, "has no 'thread_id'"),
        (stream(event("thread.run.created", "[]")), PermanentFault, "has no 'thread_id'"),
        (html(status=502), Unavailable, "the server answered 502 with HTML: Sign in"),
        (json_answer({"error": {"message": "Slow down"}}, 429), RateLimited, "Slow down"),
        (json_answer({"error": {"message": "bad key", "code": "x"}}, 401), BatchRefused, "refused the key: bad key"),
        (Answer(b"", "close"), Unavailable, "the server closed the connection without an answer"),
        (Answer(b"SSH-2.0-OpenSSH_9.2\r\n", "close"), ConnectionLost, "the connection failed: "),
        (Answer(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\ncontent-type: application/json\r\n\r\n{", "close"),
         ConnectionLost, "the connection failed: "),
    ],
)  # fmt: skip
@pytest.mark.parametrize("polled", [False, True])
async def test_replies_of_another_kind(
    serve: Served, reply: Answer, kind: type[ServiceFault], words: str, polled: bool
) -> None:
    """Any other reply in place of a run is one line that describes it, and never an exception of batchrun."""
    if polled and reply.data.find(b"event-stream") > 0:
        return
    fault = await fault_of(serve({"POST /threads/runs": reply}), poll=polled)
    assert type(fault) is kind
    assert words in str(fault)
    assert "\n" not in str(fault)


async def test_a_server_that_is_not_there(serve: Served) -> None:
    """A refused connection reports that nothing was reached, and that the service did not act."""
    with ScriptedHttp.answering({}) as server:
        url = server.url
    async with service_at(url) as service:
        with pytest.raises(Unavailable) as caught:
            await service.answer(exchange(), attempt(), lambda *_, **__: None)
    assert not caught.value.connected
    assert not caught.value.unseen


async def test_a_server_that_never_answers(serve: Served) -> None:
    """No byte within the deadline is a `timeout`, in one line."""
    fault = await fault_of(serve({"POST /threads/runs": Answer(b"", "silence")}), silence_timeout_s=0.2)
    assert (type(fault), fault.error_type) == (Silence, "timeout")


async def test_retry_after_is_passed_on(serve: Served) -> None:
    """The seconds that a 429 names are part of the fault, and pause all requests at once."""
    slow = json_answer({"error": {"message": "Slow down"}}, 429, retry_after="7")
    limits = Limits()
    server = serve({"POST /threads/runs": slow})
    wire = Wire(Endpoint(server.url, KEY), limits, silence_timeout_s=5)
    with pytest.raises(RateLimited) as caught:
        await wire.post("/threads/runs", {}, {})
    await wire.aclose()
    assert caught.value.retry_after_s == 7.0
    assert 6 < limits.statistics().cool_down_s <= 7


async def test_a_limit_is_learnt_from_any_reply(serve: Served) -> None:
    """x-ratelimit-* headers reach the limits, which count every request."""
    limits = Limits()
    server = serve({"GET /x": json_answer({}, x_ratelimit_limit_requests="500")})
    wire = Wire(Endpoint(server.url, KEY), limits, silence_timeout_s=5)
    for _ in range(2):
        await wire.get("/x", {})
    await wire.aclose()
    assert limits.statistics().max_requests_per_minute == 500
    assert limits.requests == 2


async def test_the_sdk_does_not_retry(serve: Served) -> None:
    """One attempt is one request: only the engine retries, under the limits."""
    for reply in (json_answer({}, 500), json_answer({}, 429), json_answer({}, 409), Answer(b"", "close")):
        server = serve({"POST /threads/runs": reply})
        await fault_of(server)
        assert len(server.requests) == 1
