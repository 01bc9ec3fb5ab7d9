"""The Assistants service polling runs, cancelling them, and preparing its assistant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from batchrun.errors import (
    BatchRefused,
    PermanentFault,
    RunLost,
    ServiceFault,
)
from tests.support.assistants_service import (
    LOOKED_UP,
    RUN,
    answer,
    message,
    opened,
    run,
)
from tests.support.rows import attempt, exchange
from tests.support.scripted_http import Answer, Request, ScriptedHttp, Served, html, json_answer
from tests.support.seen import Seen

pytestmark = pytest.mark.anyio


# -- polling --------------------------------------------------------------------------------------------------


async def test_polling(serve: Served) -> None:
    """--poll creates the run, reports its ids, polls until it has ended, and lists its messages."""
    runs = [json_answer(run("queued"), openai_poll_after_ms="10"), json_answer(run("in_progress")), json_answer(run())]
    server = serve({**LOOKED_UP, "POST /threads/runs": json_answer(run("queued")), f"GET {RUN}": runs[::2]})
    reply, seen = await answer(server, poll=True)
    assert server.paths() == [
        "POST /threads/runs",
        f"GET {RUN}",
        f"GET {RUN}",
        "GET /threads/thread_1/messages",
    ]
    assert server.requests[0].body["stream"] is False
    assert reply.response == "It is 4."
    assert seen.requests == [1]


async def test_messages_over_several_pages(serve: Served) -> None:
    """The messages of the run are listed page by page, oldest first; the user's messages are left out."""

    def pages(request: Request) -> Answer:
        if request.method == "POST":
            return json_answer(run("queued"))
        if request.path.endswith("/run_1"):
            return json_answer(run())
        after = request.query.get("after")
        first = {"data": [message("q", role="user"), message("one")], "has_more": True, "last_id": "msg_9"}
        return json_answer({"data": [message("two")], "has_more": False} if after == "msg_9" else first)

    with ScriptedHttp(pages) as server:
        reply, _ = await answer(server, poll=True)
        assert reply.response == "one\n\ntwo"
        assert server.requests[-2].query == {"run_id": "run_1", "order": "asc", "limit": "100"}


async def test_following_makes_nothing(serve: Served) -> None:
    """A run of an earlier process is polled by its id, without a POST."""
    server = serve(LOOKED_UP)
    async with opened(server) as service:
        reply = await service.follow(exchange(), attempt(thread_id="thread_1", run_id="run_1"), Seen(server))
    assert reply.response == "It is 4."
    assert {request.method for request in server.requests} == {"GET"}


async def follow_fault(server: ScriptedHttp) -> ServiceFault:
    async with opened(server) as service:
        with pytest.raises(ServiceFault) as caught:
            await service.follow(exchange(), attempt(thread_id="thread_1", run_id="run_1"), Seen(server))
    return caught.value


async def test_a_run_that_is_gone(serve: Served) -> None:
    """The API's own 404 means that the run is lost and must be created again."""
    gone = json_answer({"error": {"message": "No run found with id 'run_1'.", "code": None}}, 404)
    fault = await follow_fault(serve({f"GET {RUN}": gone}))
    assert type(fault) is RunLost
    assert fault.run_ended


@pytest.mark.parametrize("page", [html(status=404), json_answer({"detail": "Not Found"}, 404)])
async def test_a_404_of_something_else(serve: Served, page: Answer) -> None:
    """A 404 from a proxy does not mean that the run is lost: the run is not paid for twice."""
    fault = await follow_fault(serve({f"GET {RUN}": page}))
    assert type(fault) is BatchRefused


async def test_a_poll_that_fails_is_repeated(serve: Served) -> None:
    """One lost poll is repeated, because polling is free."""
    server = serve({**LOOKED_UP, f"GET {RUN}": [json_answer({"error": {"message": "x"}}, 500), json_answer(run())]})
    async with opened(server) as service:
        reply = await service.follow(exchange(), attempt(thread_id="thread_1", run_id="run_1"), Seen(server))
    assert reply.response == "It is 4."


async def test_a_poll_of_another_shape(serve: Served) -> None:
    """A polled reply that is not a run is one line, not a crash and not an empty answer."""
    assert "has no 'status'" in str(await follow_fault(serve({f"GET {RUN}": json_answer({"hello": 1})})))
    routes = {**LOOKED_UP, "GET /threads/thread_1/messages": json_answer({"hello": 1})}
    assert "has no 'data'" in str(await follow_fault(serve(routes)))


async def test_cancelling(serve: Served) -> None:
    """A run is cancelled by its ids."""
    server = serve({f"POST {RUN}/cancel": json_answer(run("cancelling"))})
    async with opened(server) as service:
        await service.cancel(exchange(), attempt(thread_id="thread_1", run_id="run_1"))
    assert server.paths() == [f"POST {RUN}/cancel"]


# -- the assistant ----------------------------------------------------------------------------------------------

GONE = json_answer({"error": {"message": "No assistant found with id 'asst_1'.", "code": None}}, 404)


async def prepared(server: ScriptedHttp, **options: Any) -> list[str]:
    made: list[str] = []
    async with opened(server, made=made.append, **options) as service:
        await service.prepare()
        assert service.assistant_id
    return made


async def test_an_assistant_is_made_for_the_batch(serve: Served) -> None:
    """Without --assistant, one is created with the job's model and instructions, under a key, and reported."""
    server = serve({"POST /assistants": json_answer({"id": "asst_2"})})
    assert await prepared(server, known_assistant_id=None) == ["asst_2"]
    body: Mapping[str, Any] = server.requests[0].body
    assert (body["model"], body["instructions"], body["metadata"]) == ("m-1", "Be brief.", {"batch": "b"})
    assert server.requests[0].headers["idempotency-key"].startswith("batchrun b-")


async def test_a_known_assistant_is_used_again(serve: Served) -> None:
    """A resumed batch creates no second assistant while the first exists."""
    server = serve({"GET /assistants/asst_1": json_answer({"id": "asst_1"})})
    assert await prepared(server) == []


async def test_an_assistant_that_is_gone_is_made_again(serve: Served) -> None:
    """A deleted assistant is replaced under another key; else the service would repeat its first reply."""
    server = serve({"GET /assistants/asst_1": GONE, "POST /assistants": json_answer({"id": "asst_2"})})
    assert await prepared(server) == ["asst_2"]
    await prepared(server, known_assistant_id=None)
    posts = [request for request in server.requests if request.method == "POST"]
    assert posts[0].headers["idempotency-key"] != posts[1].headers["idempotency-key"]


async def test_the_users_assistant_that_is_gone(serve: Served) -> None:
    """An unknown id for --assistant is refused with its name, and no other assistant is created."""
    server = serve({"GET /assistants/asst_1": GONE})
    with pytest.raises(BatchRefused, match="No assistant found with id 'asst_1'"):
        await prepared(server, assistant_id="asst_1")
    assert server.paths() == ["GET /assistants/asst_1"]


async def test_an_assistant_of_another_shape(serve: Served) -> None:
    """A server that speaks another protocol is detected before the first row."""
    server = serve({"POST /assistants": json_answer({"models": []})})
    with pytest.raises(PermanentFault, match="has no 'id'"):
        await prepared(server, known_assistant_id=None)
