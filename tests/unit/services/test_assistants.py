"""The Assistants service over a real socket, against a server that sends the bytes of each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from batchrun.engine.limits import Limits
from batchrun.engine.service import Reply
from batchrun.errors import (
    BatchRefused,
    ConnectionLost,
    PermanentFault,
    RateLimited,
    RunLost,
    ServerFault,
    ServiceFault,
    Silence,
    Unavailable,
)
from batchrun.records import ToolCall, ToolOutput
from batchrun.services.assistants import AssistantSettings, AssistantsService
from batchrun.services.client import Endpoint
from batchrun.services.wire import Wire
from tests.support.rows import attempt, exchange
from tests.support.scripted_http import Answer, Request, ScriptedHttp, Served, event, html, json_answer, stream
from tests.support.seen import Seen

pytestmark = pytest.mark.anyio

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
    usage = USAGE if status in ("completed", "incomplete", "failed") else None
    return {"id": "run_1", "thread_id": "thread_1", "status": status, "model": "m-1", "usage": usage, **fields}


def message(text: str = "It is 4.", role: str = "assistant", **fields: Any) -> dict[str, Any]:
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

# What a client that has lost the stream is told.
LOOKED_UP: dict[str, Answer] = {
    f"GET {RUN}": json_answer(run()),
    "GET /threads/thread_1/messages": json_answer({"data": [message()], "has_more": False}),
}


@asynccontextmanager
async def _opened(url: str, *, silence_timeout_s: float = 5.0, **options: Any) -> AsyncIterator[AssistantsService]:
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
    return _opened(server.url, **options)


async def answer(server: ScriptedHttp, **options: Any) -> tuple[Reply, Seen]:
    seen = Seen(server)
    async with opened(server, **options) as service:
        return await service.answer(exchange(3), attempt(2, 1, "key-7"), seen), seen


async def fault_of(server: ScriptedHttp, **options: Any) -> ServiceFault:
    with pytest.raises(ServiceFault) as caught:
        await answer(server, **options)
    return caught.value


# -- one request ------------------------------------------------------------------------------------------------


async def test_one_request_a_row(serve: Served) -> None:
    """A row is one POST, which makes the thread and the run, streamed to its end."""
    server = serve({"POST /threads/runs": stream(*WHOLE)})
    reply, seen = await answer(server)
    assert server.paths() == ["POST /threads/runs"]
    assert (reply.status, reply.response, reply.model) == ("completed", "It is 4.", "m-1")
    assert seen.ids == [("thread_1", "run_1")]


async def test_what_is_sent(serve: Served) -> None:
    """The request carries the prompt, its key, the settings, and metadata with batch, row and attempt."""
    server = serve({"POST /threads/runs": stream(*WHOLE)})
    await answer(server)
    request = server.requests[0]
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["openai-beta"] == "assistants=v2"
    assert request.headers["idempotency-key"] == "key-7"
    metadata = {"batch": "b", "row": "3", "attempt": "1"}
    assert request.body == {
        "assistant_id": "asst_1",
        "thread": {"messages": [{"role": "user", "content": "What is 2 + 2?"}], "metadata": metadata},
        "metadata": metadata,
        "stream": True,
        "temperature": 0.5,
    }


async def test_the_users_assistant(serve: Served) -> None:
    """On --assistant the run says model and instructions only where the user did."""
    server = serve({"POST /threads/runs": stream(*WHOLE)})
    await answer(server, assistant_id="asst_u", model=None, instructions=None)
    await answer(server, assistant_id="asst_u")
    plain, overriding = (request.body for request in server.requests)
    assert plain["assistant_id"] == "asst_u"
    assert "model" not in plain
    assert "instructions" not in plain
    assert (overriding["model"], overriding["instructions"]) == ("m-1", "Be brief.")


async def test_the_same_try_sends_the_same_bytes(serve: Served) -> None:
    """A repeated request equals the first: a service compares the body of a key that it knows."""
    server = serve({"POST /threads/runs": stream(*WHOLE)})
    async with opened(server) as service:
        for number in (1, 2):
            await service.answer(exchange(), attempt(number, 1, "k"), Seen(server))
    assert server.requests[0].body == server.requests[1].body


async def test_usage_is_taken_whole(serve: Served) -> None:
    """All counts are read, under the protocol's own spelling, and the raw object is kept."""
    reply, _ = await answer(serve({"POST /threads/runs": stream(*WHOLE)}))
    usage = reply.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (9, 4, 13)
    assert (usage.cached_tokens, usage.reasoning_tokens) == (2, 1)
    assert usage.raw == USAGE


async def test_all_messages_of_the_run_are_joined(serve: Served) -> None:
    """Several assistant messages, refusals and images make one response; a user's message is none of it."""
    parts: dict[str, Any] = {
        "content": [
            {"type": "refusal", "refusal": "I won't."},
            {"type": "image_file", "image_file": {"file_id": "file-1"}},
            {"type": "hologram", "x": 1},
        ]
    }
    frames = [
        *CREATED,
        event("thread.message.completed", message("one")),
        event("thread.message.completed", message("mine", role="user")),
        event("thread.message.incomplete", message("tw")),
        event("thread.message.completed", message("", **parts)),
        event("thread.run.completed", run()),
    ]
    reply, _ = await answer(serve({"POST /threads/runs": stream(*frames)}))
    assert reply.response == "one\n\ntw\n\nI won't.\n[image file-1]"


async def test_crlf_and_comments(serve: Served) -> None:
    """Keep-alive comments and CRLF line ends change nothing."""
    frames = [b": ping\r\n\r\n", *(frame.replace(b"\n", b"\r\n") for frame in WHOLE), b": bye\r\n\r\n"]
    reply, _ = await answer(serve({"POST /threads/runs": stream(*frames)}))
    assert reply.response == "It is 4."


# -- how runs end -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("polled", [False, True])
@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (run("completed"), ("completed", None, None)),
        (run("incomplete", incomplete_details={"reason": "max_completion_tokens"}),
         ("incomplete", "max_completion_tokens", None)),
        (run("incomplete", incomplete_details=None), ("incomplete", "incomplete", None)),
        (run("expired"), ("expired", "run_expired", "the run ended as expired")),
        (run("cancelled"), ("cancelled", "run_cancelled", "the run ended as cancelled")),
        (run("failed", last_error={"code": "invalid_prompt", "message": "No\nway."}),
         ("failed", "invalid_prompt", "No way.")),
        (run("failed", last_error=None), ("failed", "run_failed", "the run failed")),
    ],
)  # fmt: skip
async def test_ends_that_are_final(serve: Served, end: dict[str, Any], expected: tuple[Any, ...], polled: bool) -> None:
    """Each end state is told with its reason, and what text there is is kept, streamed or polled."""
    routes: dict[str, Any] = {
        **LOOKED_UP,
        f"GET {RUN}": json_answer(end),
        "POST /threads/runs": json_answer(run("queued"))
        if polled
        else stream(*CREATED, MESSAGE, event(f"thread.run.{end['status']}", end), DONE),
    }
    reply, _ = await answer(serve(routes), poll=polled)
    assert (reply.status, reply.reason, reply.error) == expected
    assert reply.response == "It is 4."


@pytest.mark.parametrize(
    ("last_error", "kind"),
    [
        ({"code": "rate_limit_exceeded", "message": "Try again in 20s."}, RateLimited),
        ({"code": "server_error", "message": "Sorry."}, ServerFault),
        ({"code": "rate_limit_exceeded", "message": "You exceeded your current quota, ..."}, BatchRefused),
    ],
)
async def test_runs_that_another_may_cure(serve: Served, last_error: dict[str, str], kind: type[ServiceFault]) -> None:
    """A run that failed for the rate or the server is a fault like a 429 or a 500, with the tokens it took."""
    frames = [*CREATED, event("thread.run.failed", run("failed", last_error=last_error)), DONE]
    fault = await fault_of(serve({"POST /threads/runs": stream(*frames)}))
    assert type(fault) is kind
    assert fault.run_ended
    assert fault.usage is not None
    assert fault.usage.total_tokens == 13


async def test_a_run_that_wants_functions(serve: Served) -> None:
    """A run that waits for outputs tells which, its ids seen; it goes on with them in one streamed request."""
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    action = {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": [call]}}
    frames = [*CREATED, event("thread.run.requires_action", run("requires_action", required_action=action)), DONE]
    submit = "POST /threads/thread_1/runs/run_1/submit_tool_outputs"
    server = serve({"POST /threads/runs": stream(*frames), submit: stream(*WHOLE[2:])})
    seen = Seen(server)
    async with opened(server) as service:
        reply = await service.answer(exchange(), attempt(), seen)
        assert (reply.status, reply.waiting, seen.ids) == ("requires_action", True, [("thread_1", "run_1")])
        assert reply.calls == (ToolCall("call_1", "weather", "{}"),)
        going_on = exchange(outputs=(ToolOutput("call_1", "sun"),))
        reply = await service.answer(going_on, attempt(thread_id="thread_1", run_id="run_1"), seen)
    assert (reply.status, reply.response) == ("completed", "It is 4.")
    assert server.requests[-1].body == {"tool_outputs": [{"tool_call_id": "call_1", "output": "sun"}], "stream": True}


def waiting(*calls: str) -> dict[str, Any]:
    """A run that wants functions to be called."""
    wanted = [{"id": call, "type": "function", "function": {"name": "f", "arguments": "{}"}} for call in calls]
    return run("requires_action", required_action={"submit_tool_outputs": {"tool_calls": wanted}})


SUBMIT = f"POST {RUN}/submit_tool_outputs"
GOING_ON = {"thread_id": "thread_1", "run_id": "run_1"}


async def submitted(server: ScriptedHttp, *call_ids: str, number: int = 1, partial_text: str = "") -> Reply:
    outputs = tuple(ToolOutput(call, "x") for call in call_ids)
    async with opened(server) as service:
        going_on = exchange(3, outputs=outputs, round=number, partial_text=partial_text)
        return await service.answer(going_on, attempt(1, 1, "key-7", **GOING_ON), Seen(server))


async def test_the_key_of_outputs(serve: Served) -> None:
    """Outputs for the same calls go under the same key, for others under another: also when the round is not known."""
    server = serve({SUBMIT: stream(MESSAGE, event("thread.run.completed", run()))})
    for call_ids, number in ((("a", "b"), 1), (("a", "b"), 4), (("c",), 1)):
        await submitted(server, *call_ids, number=number)
    first, same, other = (request.headers["idempotency-key"] for request in server.requests)
    assert first == same != other
    assert first.startswith("key-7-")


async def test_what_a_run_said_before_it_asked(serve: Served) -> None:
    """The answer is all that the run says, before its calls and behind them, streamed or looked up."""
    frames = [
        *CREATED,
        event("thread.message.completed", message("Wait.")),
        event("thread.run.requires_action", waiting("a")),
    ]
    server = serve(
        {"POST /threads/runs": stream(*frames), SUBMIT: stream(MESSAGE, event("thread.run.completed", run()))}
    )
    asked, _ = await answer(server)
    assert asked.response == "Wait."
    assert (await submitted(server, "a", partial_text=asked.response)).response == "Wait.\n\nIt is 4."
    both = json_answer({"data": [message("Wait."), message()], "has_more": False})
    cut = serve({SUBMIT: stream(MESSAGE, end="cut"), **LOOKED_UP, "GET /threads/thread_1/messages": both})
    assert (await submitted(cut, "a", partial_text="Wait.")).response == "Wait.\n\nIt is 4."


async def test_a_run_that_waits_is_followed(serve: Served) -> None:
    """Looked up by its id, it tells what it said and which functions it waits for."""
    said = json_answer({"data": [message("Wait.")], "has_more": False})
    server = serve({f"GET {RUN}": json_answer(waiting("a")), "GET /threads/thread_1/messages": said})
    async with opened(server) as service:
        reply = await service.follow(exchange(3), attempt(1, 1, "key-1", **GOING_ON), Seen(server))
    assert (reply.response, reply.waiting, [call.call_id for call in reply.calls]) == ("Wait.", True, ["a"])


async def test_outputs_that_are_refused_for_now(serve: Served) -> None:
    """The fault is the row's to wait for: the run is not looked up and told again at once."""
    server = serve({SUBMIT: json_answer({"error": {"message": "slow down"}}, 429)})
    with pytest.raises(RateLimited):
        await submitted(server, "a")
    assert server.paths() == [SUBMIT]


# -- threads that exist ------------------------------------------------------------------------------------------

ON_THREAD = "POST /threads/thread_1/runs"
LOCKED = json_answer({"error": {"message": "Thread thread_1 already has an active run run_9.", "code": None}}, 400)


async def on_thread(server: ScriptedHttp, **options: Any) -> tuple[Reply, Seen]:
    seen = Seen(server)
    async with opened(server, **options) as service:
        return await service.answer(exchange(3, thread_id="thread_1"), attempt(2, 2, "key-7"), seen), seen


async def test_a_run_on_a_thread(serve: Served) -> None:
    """A later turn, or a thread that the table names: the message is added and run in one request."""
    server = serve({ON_THREAD: stream(*WHOLE)})
    reply, seen = await on_thread(server)
    assert (reply.response, seen.ids) == ("It is 4.", [("thread_1", "run_1")])
    (request,) = server.requests
    assert request.headers["idempotency-key"] == "key-7"
    assert request.body == {
        "assistant_id": "asst_1",
        "metadata": {"batch": "b", "row": "3", "attempt": "2"},
        "stream": True,
        "temperature": 0.5,
        "additional_messages": [{"role": "user", "content": "What is 2 + 2?"}],
    }


@pytest.mark.parametrize("poll", [False, True])
async def test_a_locked_thread_is_waited_for(serve: Served, poll: bool) -> None:
    """While somebody else's run is at work on the thread, also one that waits for outputs, ours is not made."""
    foreign = {"id": "run_9", "metadata": {"batch": "another"}}
    blocking = [json_answer({**run(status), **foreign}) for status in ("in_progress", "requires_action", "expired")]
    made = json_answer(run()) if poll else stream(*WHOLE)
    server = serve({ON_THREAD: [LOCKED, made], "GET /threads/thread_1/runs/run_9": blocking, **LOOKED_UP})
    reply, _ = await on_thread(server, poll=poll)
    assert reply.response == "It is 4."
    assert server.paths()[:5] == [ON_THREAD, *["GET /threads/thread_1/runs/run_9"] * 3, ON_THREAD]
    assert len({request.headers["idempotency-key"] for request in server.requests if request.method == "POST"}) == 1


@pytest.mark.parametrize("status", ["completed", "requires_action"])
async def test_a_thread_locked_by_our_own_run(serve: Served, status: str) -> None:
    """The run was made, and the reply that named it lost: it is followed, and none is made beside it."""
    ours = {**(waiting("a") if status == "requires_action" else run()), "id": "run_9"}
    ours["metadata"] = {"batch": "b", "row": "3", "attempt": "2"}
    server = serve({**LOOKED_UP, ON_THREAD: LOCKED, "GET /threads/thread_1/runs/run_9": json_answer(ours)})
    reply, seen = await on_thread(server)
    assert (reply.status, seen.ids) == (status, [("thread_1", "run_9")])
    assert server.paths().count(ON_THREAD) == 1


async def test_a_run_of_an_earlier_try_is_not_taken_for_this_one(serve: Served) -> None:
    """What keeps the thread locked may be this row's own earlier run: it is waited for, and another is made."""
    earlier = {**run("cancelled"), "id": "run_9", "metadata": {"batch": "b", "row": "3", "attempt": "1"}}
    server = serve({ON_THREAD: [LOCKED, stream(*WHOLE)], "GET /threads/thread_1/runs/run_9": json_answer(earlier)})
    _, seen = await on_thread(server)
    assert seen.ids == [("thread_1", "run_1")]


async def test_a_thread_that_is_not_there(serve: Served) -> None:
    """It fails the row, and is no reason to stop the batch."""
    gone = json_answer({"error": {"message": "No thread found with id 'thread_1'.", "code": None}}, 404)
    with pytest.raises(PermanentFault, match="No thread found") as caught:
        await on_thread(serve({ON_THREAD: gone}))
    assert not isinstance(caught.value, BatchRefused)


# -- streams that break ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["whole", "cut"])
@pytest.mark.parametrize("frames", range(2, len(WHOLE) - 1))
async def test_a_stream_that_ends_early_is_looked_up(serve: Served, frames: int, end: Any) -> None:
    """Wherever it breaks behind the ids, closed or torn, the run is looked up and never made again."""
    server = serve({"POST /threads/runs": stream(*WHOLE[:frames], end=end), **LOOKED_UP})
    reply, seen = await answer(server)
    assert (reply.status, reply.response) == ("completed", "It is 4.")
    assert server.paths().count("POST /threads/runs") == 1
    assert f"GET {RUN}" in server.paths()
    assert seen.requests == [1]


@pytest.mark.parametrize("end", ["whole", "cut"])
@pytest.mark.parametrize("frames", [0, 1])
async def test_a_stream_that_breaks_before_the_ids(serve: Served, frames: int, end: Any) -> None:
    """With no run named there is nothing to look up: the request may be repeated under its key."""
    fault = await fault_of(serve({"POST /threads/runs": stream(*WHOLE[:frames], end=end)}))
    assert type(fault) is ConnectionLost
    assert not fault.run_ended
    assert fault.status_code is None


async def test_a_stream_cut_inside_an_event(serve: Served) -> None:
    """Half an event is no event: the run is looked up."""
    half = WHOLE[-2][: len(WHOLE[-2]) // 2]
    server = serve({"POST /threads/runs": stream(*CREATED, half, end="whole"), **LOOKED_UP})
    reply, _ = await answer(server)
    assert reply.response == "It is 4."


async def test_a_stream_that_falls_silent(serve: Served) -> None:
    """Silence past the deadline behind the ids leads to a look-up; before them it is a fault of its own."""
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
    """A passing error behind the ids leads to a look-up; one that stays fails the row or stops the batch."""
    server = serve({"POST /threads/runs": stream(*CREATED, event("error", error), DONE), **LOOKED_UP})
    if kind is None:
        assert (await answer(server))[0].response == "It is 4."
    else:
        assert type(await fault_of(server)) is kind


async def test_garbage_between_events(serve: Served) -> None:
    """Events of other names, without JSON or without a name are stepped over where they do not matter."""
    odd = [b"data: {}\n\n", event("thread.weather", "not JSON"), b"\n\n\n", b"garbage\n\n"]
    reply, _ = await answer(serve({"POST /threads/runs": stream(*CREATED, *odd, *WHOLE[-4:])}))
    assert reply.response == "It is 4."


async def test_an_event_that_matters_and_is_no_json(serve: Served) -> None:
    """A broken event behind the ids leads to a look-up."""
    server = serve({"POST /threads/runs": stream(*CREATED, event("thread.run.completed", "{oops")), **LOOKED_UP})
    assert (await answer(server))[0].response == "It is 4."


# -- servers that answer something else --------------------------------------------------------------------------


async def test_a_server_that_does_not_stream(serve: Served) -> None:
    """JSON instead of a stream names the run, which is then polled."""
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
    """Whatever comes instead of a run is one line about what came, and never an error of ours."""
    if polled and reply.data.find(b"event-stream") > 0:
        return
    fault = await fault_of(serve({"POST /threads/runs": reply}), poll=polled)
    assert type(fault) is kind
    assert words in str(fault)
    assert "\n" not in str(fault)


async def test_a_server_that_is_not_there(serve: Served) -> None:
    """A refused connection says that nothing is there, and certainly nothing was done."""
    with ScriptedHttp.answering({}) as server:
        url = server.url
    async with _opened(url) as service:
        with pytest.raises(Unavailable) as caught:
            await service.answer(exchange(), attempt(), lambda *_, **__: None)
    assert not caught.value.connected
    assert not caught.value.unseen


async def test_a_server_that_never_answers(serve: Served) -> None:
    """No byte within the deadline is `timeout`, in one line."""
    fault = await fault_of(serve({"POST /threads/runs": Answer(b"", "silence")}), silence_timeout_s=0.2)
    assert (type(fault), fault.error_type) == (Silence, "timeout")


async def test_retry_after_is_passed_on(serve: Served) -> None:
    """The seconds that a 429 names arrive with the fault, and hold all requests at once."""
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
    """x-ratelimit-* headers reach the limits, and every request is counted there."""
    limits = Limits()
    server = serve({"GET /x": json_answer({}, x_ratelimit_limit_requests="500")})
    wire = Wire(Endpoint(server.url, KEY), limits, silence_timeout_s=5)
    await wire.get("/x", {})
    await wire.aclose()
    assert limits.statistics().max_requests_per_minute == 500
    assert limits.requests == 1


async def test_the_sdk_does_not_retry(serve: Served) -> None:
    """One try is one request, whatever it meets: retries are the engine's, under the limits."""
    for reply in (json_answer({}, 500), json_answer({}, 429), json_answer({}, 409), Answer(b"", "close")):
        server = serve({"POST /threads/runs": reply})
        await fault_of(server)
        assert len(server.requests) == 1


# -- polling --------------------------------------------------------------------------------------------------


async def test_polling(serve: Served) -> None:
    """--poll makes the run, sees its ids, asks until it has ended, and lists its messages."""
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
    """Messages are asked for oldest first, of this run only, page after page; the user's are left out."""

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
    """A run of an earlier process is asked after by its id: no POST."""
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
    """The API's own 404 means that the run is lost and has to be made again."""
    gone = json_answer({"error": {"message": "No run found with id 'run_1'.", "code": None}}, 404)
    fault = await follow_fault(serve({f"GET {RUN}": gone}))
    assert type(fault) is RunLost
    assert fault.run_ended


@pytest.mark.parametrize("page", [html(status=404), json_answer({"detail": "Not Found"}, 404)])
async def test_a_404_of_something_else(serve: Served, page: Answer) -> None:
    """A 404 that a proxy sends says nothing about the run: it is not paid for again."""
    fault = await follow_fault(serve({f"GET {RUN}": page}))
    assert type(fault) is BatchRefused


async def test_a_poll_that_fails_is_repeated(serve: Served) -> None:
    """One lost poll is nothing: asking again costs nothing."""
    server = serve({**LOOKED_UP, f"GET {RUN}": [json_answer({"error": {"message": "x"}}, 500), json_answer(run())]})
    async with opened(server) as service:
        reply = await service.follow(exchange(), attempt(thread_id="thread_1", run_id="run_1"), Seen(server))
    assert reply.response == "It is 4."


async def test_a_poll_of_another_shape(serve: Served) -> None:
    """A reply to a poll that is no run is one line, not a crash and not an empty answer."""
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
    """Without one, an assistant with the job's model and instructions is made, under a key, and told of."""
    server = serve({"POST /assistants": json_answer({"id": "asst_2"})})
    assert await prepared(server, known_assistant_id=None) == ["asst_2"]
    body: Mapping[str, Any] = server.requests[0].body
    assert (body["model"], body["instructions"], body["metadata"]) == ("m-1", "Be brief.", {"batch": "b"})
    assert server.requests[0].headers["idempotency-key"].startswith("batchrun b-")


async def test_a_known_assistant_is_used_again(serve: Served) -> None:
    """A resumed batch makes no second assistant while the first exists."""
    server = serve({"GET /assistants/asst_1": json_answer({"id": "asst_1"})})
    assert await prepared(server) == []


async def test_an_assistant_that_is_gone_is_made_again(serve: Served) -> None:
    """One that was deleted is replaced, under another key than it was made with: else the reply would come again."""
    server = serve({"GET /assistants/asst_1": GONE, "POST /assistants": json_answer({"id": "asst_2"})})
    assert await prepared(server) == ["asst_2"]
    await prepared(server, known_assistant_id=None)
    posts = [request for request in server.requests if request.method == "POST"]
    assert posts[0].headers["idempotency-key"] != posts[1].headers["idempotency-key"]


async def test_the_users_assistant_that_is_gone(serve: Served) -> None:
    """--assistant with an unknown id is refused and names it: nothing is made in its place."""
    server = serve({"GET /assistants/asst_1": GONE})
    with pytest.raises(BatchRefused, match="No assistant found with id 'asst_1'"):
        await prepared(server, assistant_id="asst_1")
    assert server.paths() == ["GET /assistants/asst_1"]


async def test_an_assistant_of_another_shape(serve: Served) -> None:
    """A server that speaks something else is found out before the first row."""
    server = serve({"POST /assistants": json_answer({"models": []})})
    with pytest.raises(PermanentFault, match="has no 'id'"):
        await prepared(server, known_assistant_id=None)
