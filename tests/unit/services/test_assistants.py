"""The Assistants service: requests, ends of runs, functions, and threads that rows continue."""

from __future__ import annotations

from typing import Any

import pytest

from batchrun.engine.service import Reply
from batchrun.errors import (
    BatchRefused,
    PermanentFault,
    RateLimited,
    ServerFault,
    ServiceFault,
)
from batchrun.records import JsonObject, ToolCall, ToolOutput
from tests.support.assistants_service import (
    CREATED,
    DONE,
    KEY,
    LOOKED_UP,
    MESSAGE,
    RUN,
    USAGE,
    WHOLE,
    answer,
    fault_of,
    message,
    opened,
    run,
)
from tests.support.rows import attempt, exchange
from tests.support.scripted_http import ScriptedHttp, Served, event, json_answer, stream
from tests.support.seen import Seen

pytestmark = pytest.mark.anyio


# -- one request ------------------------------------------------------------------------------------------------


async def test_one_request_a_row(serve: Served) -> None:
    """A row takes one POST request under its key."""
    server = serve({"POST /threads/runs": stream(*WHOLE)})
    reply, seen = await answer(server)
    assert server.paths() == ["POST /threads/runs"]
    assert (reply.status, reply.response, reply.model) == ("completed", "It is 4.", "m-1")
    assert seen.ids == [("thread_1", "run_1")]


async def test_the_request(serve: Served) -> None:
    """The request has the prompt, its key, the settings, and metadata with batch, row and attempt."""
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
    """With --assistant, a run has a model and instructions only if the user gives them."""
    server = serve({"POST /threads/runs": stream(*WHOLE)})
    await answer(server, assistant_id="asst_u", model=None, instructions=None)
    await answer(server, assistant_id="asst_u")
    plain, overriding = (request.body for request in server.requests)
    assert plain["assistant_id"] == "asst_u"
    assert "model" not in plain
    assert "instructions" not in plain
    assert (overriding["model"], overriding["instructions"]) == ("m-1", "Be brief.")


async def test_the_same_try_sends_the_same_bytes(serve: Served) -> None:
    """A repeated request equals the first: a service compares the body with that of the known key."""
    server = serve({"POST /threads/runs": stream(*WHOLE)})
    async with opened(server) as service:
        for number in (1, 2):
            await service.answer(exchange(), attempt(number, 1, "k"), Seen(server))
    assert server.requests[0].body == server.requests[1].body


async def test_usage_is_taken_whole(serve: Served) -> None:
    """All counts are read under the protocol's own names, and the raw object is kept."""
    reply, _ = await answer(serve({"POST /threads/runs": stream(*WHOLE)}))
    usage = reply.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (9, 4, 13)
    assert (usage.cached_tokens, usage.reasoning_tokens) == (2, 1)
    assert usage.raw == USAGE


async def test_all_messages_of_the_run_are_joined(serve: Served) -> None:
    """All assistant messages, refusals and images form one response; the user's messages are left out."""
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
        (run("completed", incomplete_details={"reason": "content_filter"}), ("incomplete", "content_filter", None)),
        (run("expired"), ("expired", "run_expired", "the run ended as expired")),
        (run("cancelled"), ("cancelled", "run_cancelled", "the run ended as cancelled")),
        (run("failed", last_error={"code": "invalid_prompt", "message": "No\nway."}),
         ("failed", "invalid_prompt", "No way.")),
        (run("failed", last_error=None), ("failed", "run_failed", "the run failed")),
    ],
)  # fmt: skip
async def test_ends_that_are_final(serve: Served, end: dict[str, Any], expected: tuple[Any, ...], polled: bool) -> None:
    """Each final state is reported with its reason, and its text is kept, streamed or polled."""
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
    ("in_message", "reason"), [("content_filter", "content_filter"), ("max_tokens", "max_completion_tokens")]
)
async def test_a_reason_that_only_the_message_has(serve: Served, in_message: str, reason: str) -> None:
    """A run that is incomplete without a reason has that of its message, as after a content filter."""
    cut = event("thread.message.incomplete", message("It", incomplete_details={"reason": in_message}))
    end = event("thread.run.incomplete", run("incomplete", incomplete_details={"reason": None}))
    reply, _ = await answer(serve({"POST /threads/runs": stream(*CREATED, cut, end, DONE)}))
    assert (reply.status, reply.reason, reply.response) == ("incomplete", reason, "It")


@pytest.mark.parametrize(
    ("last", "claimed", "status"),
    [
        ("incomplete", "completed", "incomplete"),
        ("failed", "completed", "failed"),
        ("completed", "in_progress", "completed"),
        ("completed", "failed", "failed"),
    ],
)
async def test_the_last_event_says_how_a_run_ended(serve: Served, last: str, claimed: str, status: str) -> None:
    """If event and status differ, an answer that one of them calls incomplete or failed is not a whole answer."""
    server = serve({"POST /threads/runs": stream(*CREATED, MESSAGE, event(f"thread.run.{last}", run(claimed)))})
    reply, _ = await answer(server)
    assert (reply.status, reply.response, server.paths()) == (status, "It is 4.", ["POST /threads/runs"])


@pytest.mark.parametrize("polled", [False, True])
async def test_an_error_of_a_completed_run(serve: Served, polled: bool) -> None:
    """A run that calls itself completed and has an error has failed."""
    end = run(last_error={"code": "invalid_prompt", "message": "no"})
    created = json_answer(run("queued")) if polled else stream(*CREATED, MESSAGE, event("thread.run.completed", end))
    server = serve({**LOOKED_UP, f"GET {RUN}": json_answer(end), "POST /threads/runs": created})
    reply, _ = await answer(server, poll=polled)
    assert (reply.status, reply.reason, reply.error) == ("failed", "invalid_prompt", "no")


@pytest.mark.parametrize("polled", [False, True])
async def test_messages_of_other_runs_are_left_out(serve: Served, polled: bool) -> None:
    """A server that does not know the list's filter sends the answers of earlier runs too: they are not this answer."""
    messages = [message("It was 3.", run_id="run_0"), message(run_id="run_1"), message("Really.", run_id=None)]
    frames = [event("thread.message.completed", each) for each in messages]
    server = serve(
        {
            **LOOKED_UP,
            "GET /threads/thread_1/messages": json_answer({"data": messages, "has_more": False}),
            "POST /threads/runs": json_answer(run("queued"))
            if polled
            else stream(*CREATED, *frames, event("thread.run.completed", run())),
        }
    )
    reply, _ = await answer(server, poll=polled)
    assert reply.response == "It is 4.\n\nReally."


async def test_an_incomplete_message_of_a_completed_run(serve: Served) -> None:
    """A message that is incomplete is not a whole answer, even if its run claims to have completed."""
    cut = event("thread.message.incomplete", message("It", status="incomplete"))
    reply, _ = await answer(serve({"POST /threads/runs": stream(*CREATED, cut, event("thread.run.completed", run()))}))
    assert (reply.status, reply.reason, reply.response) == ("incomplete", "incomplete", "It")


@pytest.mark.parametrize(
    ("last_error", "kind"),
    [
        ({"code": "rate_limit_exceeded", "message": "Try again in 20s."}, RateLimited),
        ({"code": "server_error", "message": "Sorry."}, ServerFault),
        ({"code": "rate_limit_exceeded", "message": "You exceeded your current quota, ..."}, BatchRefused),
    ],
)
async def test_runs_that_another_may_cure(serve: Served, last_error: dict[str, str], kind: type[ServiceFault]) -> None:
    """A run that failed by a rate limit or the server is a fault like a 429 or a 500, and has its usage."""
    frames = [*CREATED, event("thread.run.failed", run("failed", last_error=last_error)), DONE]
    fault = await fault_of(serve({"POST /threads/runs": stream(*frames)}))
    assert type(fault) is kind
    assert fault.run_ended
    assert fault.usage is not None
    assert fault.usage.total_tokens == 13


async def test_a_run_that_wants_functions(serve: Served) -> None:
    """A run that waits for outputs reports its calls and ids, and continues in one streamed request."""
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
    """Return a run that waits for the outputs of functions."""
    wanted = [{"id": call, "type": "function", "function": {"name": "f", "arguments": "{}"}} for call in calls]
    return run("requires_action", required_action={"submit_tool_outputs": {"tool_calls": wanted}})


SUBMIT = f"POST {RUN}/submit_tool_outputs"
GOING_ON = {"thread_id": "thread_1", "run_id": "run_1"}


async def submitted(
    server: ScriptedHttp, *call_ids: str, number: int = 1, partial: tuple[JsonObject, ...] = ()
) -> Reply:
    outputs = tuple(ToolOutput(call, "x") for call in call_ids)
    async with opened(server) as service:
        going_on = exchange(3, outputs=outputs, round=number, partial=partial)
        return await service.answer(going_on, attempt(1, 1, "key-7", **GOING_ON), Seen(server))


async def test_the_key_of_outputs(serve: Served) -> None:
    """Outputs of the same calls have the same key, even if the round is unknown; other outputs have another."""
    server = serve({SUBMIT: stream(MESSAGE, event("thread.run.completed", run()))})
    for call_ids, number in ((("a", "b"), 1), (("a", "b"), 4), (("c",), 1)):
        await submitted(server, *call_ids, number=number)
    first, same, other = (request.headers["idempotency-key"] for request in server.requests)
    assert first == same != other
    assert first.startswith("key-7-")


async def test_what_a_run_said_before_it_asked(serve: Served) -> None:
    """The answer has the text from before and after the calls, streamed or polled."""
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
    assert (await submitted(server, "a", partial=asked.history)).response == "Wait.\n\nIt is 4."
    both = json_answer({"data": [message("Wait."), message()], "has_more": False})
    cut = serve({SUBMIT: stream(MESSAGE, end="cut"), **LOOKED_UP, "GET /threads/thread_1/messages": both})
    assert (await submitted(cut, "a", partial=asked.history)).response == "Wait.\n\nIt is 4."


async def test_a_run_that_waits_is_followed(serve: Served) -> None:
    """A run polled by its id reports its text so far and the functions that it waits for."""
    said = json_answer({"data": [message("Wait.")], "has_more": False})
    server = serve({f"GET {RUN}": json_answer(waiting("a")), "GET /threads/thread_1/messages": said})
    async with opened(server) as service:
        reply = await service.follow(exchange(3), attempt(1, 1, "key-1", **GOING_ON), Seen(server))
    assert (reply.response, reply.waiting, [call.call_id for call in reply.calls]) == ("Wait.", True, ["a"])


async def test_outputs_that_are_refused_for_now(serve: Served) -> None:
    """If outputs are refused for now, the row waits; the run is not polled and reported at once."""
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
    """On an existing thread, the message is added and run in one request."""
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
    """While another run is active on the thread, or waits for outputs, no run is created."""
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
    """If the run was created and the reply with its id was lost, the run is polled and no other is created."""
    ours = {**(waiting("a") if status == "requires_action" else run()), "id": "run_9"}
    ours["metadata"] = {"batch": "b", "row": "3", "attempt": "2"}
    server = serve({**LOOKED_UP, ON_THREAD: LOCKED, "GET /threads/thread_1/runs/run_9": json_answer(ours)})
    reply, seen = await on_thread(server)
    assert (reply.status, seen.ids) == (status, [("thread_1", "run_9")])
    assert server.paths().count(ON_THREAD) == 1


async def test_a_run_of_an_earlier_attempt_is_not_taken_for_this_one(serve: Served) -> None:
    """A run of an earlier attempt that locks the thread is waited for; then a new run is created."""
    earlier = {**run("cancelled"), "id": "run_9", "metadata": {"batch": "b", "row": "3", "attempt": "1"}}
    server = serve({ON_THREAD: [LOCKED, stream(*WHOLE)], "GET /threads/thread_1/runs/run_9": json_answer(earlier)})
    _, seen = await on_thread(server)
    assert seen.ids == [("thread_1", "run_1")]


async def test_a_thread_that_is_not_there(serve: Served) -> None:
    """A thread that does not exist fails its row, and does not stop the batch."""
    gone = json_answer({"error": {"message": "No thread found with id 'thread_1'.", "code": None}}, 404)
    with pytest.raises(PermanentFault, match="No thread found") as caught:
        await on_thread(serve({ON_THREAD: gone}))
    assert not isinstance(caught.value, BatchRefused)
