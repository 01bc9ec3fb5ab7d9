from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from itertools import count
from typing import Any

import anyio
import openai
import pytest
from openai.types.beta.threads import Run

from batchrun.server.responders.base import Conversation, Finish, Part, ResponderError, TextDelta, TokenCount
from tests.integration.server.conftest import Running
from tests.integration.server.scripted import TIME, WEATHER, call_functions, echo, forever

Start = Callable[..., Running]


def ask(running: Running, text: str = "Hello", **options: Any) -> list[Any]:
    """Return the events of one streamed create_and_run."""
    assistant_id = options.pop("assistant_id", None) or running.assistant(**options.pop("assistant", {}))
    thread = {"messages": [{"role": "user", "content": text}]}
    return list(
        running.client.beta.threads.create_and_run(
            assistant_id=assistant_id, thread=options.pop("thread", thread), stream=True, **options
        )
    )


def names(events: list[Any]) -> list[str]:
    return [event.event for event in events]


def test_a_streamed_run_has_the_events_of_the_protocol(start: Start) -> None:
    """create_and_run streams exactly the events of the API reference, in its order."""
    events = ask(start())
    assert names(events) == [
        "thread.created", "thread.run.created", "thread.run.queued", "thread.run.in_progress",
        "thread.run.step.created", "thread.run.step.in_progress",
        "thread.message.created", "thread.message.in_progress",
        "thread.message.delta", "thread.message.delta", "thread.message.delta",
        "thread.message.completed", "thread.run.step.completed", "thread.run.completed",
    ]  # fmt: skip
    assert [event.data.status for event in events if event.event.startswith("thread.run.") and
            "step" not in event.event] == ["queued", "queued", "in_progress", "completed"]  # fmt: skip


def test_a_run_on_a_thread_has_no_thread_created(start: Start) -> None:
    """runs.create streams the same events without thread.created."""
    running = start()
    thread = running.client.beta.threads.create()
    events = list(running.client.beta.threads.runs.create(thread.id, assistant_id=running.assistant(), stream=True))
    assert names(events)[:2] == ["thread.run.created", "thread.run.queued"]
    assert names(events)[-1] == "thread.run.completed"


def test_the_raw_stream_ends_with_done(start: Start) -> None:
    """The last event on the wire is `done` with `[DONE]`."""
    running = start()
    body = {"assistant_id": running.assistant(), "stream": True}
    reply = running.client.beta.threads.with_raw_response.create_and_run(**body)  # type: ignore[call-overload]  # raw
    assert reply.http_response.read().endswith(b"event: done\ndata: [DONE]\n\n")
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"


def test_deltas_join_to_the_message(start: Start) -> None:
    """The joined pieces of a stream are the stored message."""
    running = start()
    events = ask(running, 'Grüezi\n\u2028\u0085 😀 \x00 "quoted" \\ back')
    text = "".join(event.data.delta.content[0].text.value for event in events if event.event == "thread.message.delta")
    (message,) = running.client.beta.threads.messages.list(events[-1].data.thread_id, run_id=events[-1].data.id).data
    assert message.content[0].type == "text"
    assert message.content[0].text.value == text == 'You said: Grüezi\n\u2028\u0085 😀 \x00 "quoted" \\ back'


def test_a_finished_run_returns_the_defaults(start: Start) -> None:
    """The reference's defaults are returned, times are set, expires_at is null, and usage has the hosted API's form."""
    running = start()
    run = ask(running)[-1].data
    now = int(running.clock.now())
    dumped = run.model_dump()
    assert dumped | {
        "temperature": 1.0, "top_p": 1.0, "tool_choice": "auto", "response_format": "auto",
        "parallel_tool_calls": True, "truncation_strategy": {"type": "auto", "last_messages": None},
        "max_prompt_tokens": None, "max_completion_tokens": None, "metadata": {}, "tool_resources": {},
        "required_action": None, "last_error": None, "incomplete_details": None, "instructions": "",
        "status": "completed", "created_at": now, "started_at": now, "completed_at": now, "expires_at": None,
    } == dumped  # fmt: skip
    assert dumped["usage"]["prompt_token_details"] == {"cached_tokens": 0}
    assert dumped["usage"]["completion_tokens_details"] == {"reasoning_tokens": 0}


def test_a_queued_run_expires_after_ten_minutes_exactly(start: Start) -> None:
    """A new run is queued, not started, and expires 600 seconds after its creation."""
    running = start(forever)
    thread = running.client.beta.threads.create()
    run = running.client.beta.threads.runs.create(thread.id, assistant_id=running.assistant())
    assert (run.status, run.started_at, run.usage) == ("queued", None, None)
    assert run.expires_at == run.created_at + 600


def test_usage_of_the_responder_is_reported(start: Start) -> None:
    """The run and its step report the responder's token counts unchanged."""

    async def counted(conversation: Conversation) -> AsyncIterator[Part]:
        yield TextDelta("x")
        yield Finish("stop", TokenCount(100, 20, cached_tokens=60, reasoning_tokens=5))

    running = start(counted)
    run = ask(running)[-1].data
    assert run.usage.model_dump() == {
        "prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120,
        "prompt_token_details": {"cached_tokens": 60}, "completion_tokens_details": {"reasoning_tokens": 5},
    }  # fmt: skip
    (step,) = running.client.beta.threads.runs.steps.list(run.id, thread_id=run.thread_id).data
    assert step.usage is not None
    assert step.usage.total_tokens == 120


def test_the_thread_is_locked_while_a_run_is_active(start: Start) -> None:
    """Messages and further runs are refused with the hosted API's texts until the run ends."""
    running = start(forever)
    threads = running.client.beta.threads
    thread = threads.create()
    assistant_id = running.assistant()
    run = threads.runs.create(thread.id, assistant_id=assistant_id)
    with pytest.raises(openai.BadRequestError) as caught:
        threads.messages.create(thread.id, role="user", content="more")
    assert caught.value.body == {
        "message": f"Can't add messages to {thread.id} while a run {run.id} is active.",
        "type": "invalid_request_error", "param": None, "code": None,
    }  # fmt: skip
    with pytest.raises(openai.BadRequestError, match=f"Thread {thread.id} already has an active run {run.id}"):
        threads.runs.create(thread.id, assistant_id=assistant_id)
    assert threads.runs.cancel(run.id, thread_id=thread.id).status == "cancelling"
    assert threads.runs.poll(run.id, thread_id=thread.id).status == "cancelled"
    threads.messages.create(thread.id, role="user", content="more")


def test_cancelling_ends_stream_message_and_step(start: Start) -> None:
    """A cancelled run streams cancelling, the incomplete message, its step, cancelled, and then done."""
    running = start(forever)
    threads = running.client.beta.threads
    seen: list[Any] = []
    for event in threads.create_and_run(assistant_id=running.assistant(), stream=True):
        seen.append(event)
        if event.event == "thread.message.delta":
            run: Run = next(each.data for each in seen if each.event == "thread.run.created")
            threads.runs.cancel(run.id, thread_id=run.thread_id)
    assert names(seen)[-4:] == [
        "thread.run.cancelling", "thread.message.incomplete", "thread.run.step.cancelled", "thread.run.cancelled",
    ]  # fmt: skip
    message = seen[-3].data
    assert message.incomplete_details.reason == "run_cancelled"
    assert message.content[0].text.value == "Let me think"
    with pytest.raises(openai.BadRequestError, match=r"^Error code: 400.*Cannot cancel run with status 'cancelled'"):
        threads.runs.cancel(run.id, thread_id=run.thread_id)


def test_a_run_expires_by_the_clock(start: Start) -> None:
    """The next request after expires_at sees an active run as expired, and its thread is unlocked."""
    running = start(forever)
    threads = running.client.beta.threads
    thread = threads.create()
    run = threads.runs.create(thread.id, assistant_id=running.assistant())
    running.clock.advance(599)
    assert threads.runs.retrieve(run.id, thread_id=thread.id).status in ("queued", "in_progress")
    running.clock.advance(1)
    assert threads.runs.retrieve(run.id, thread_id=thread.id).status == "expired"
    threads.messages.create(thread.id, role="user", content="free again")


@pytest.mark.parametrize("code", ["rate_limit_exceeded", "server_error", "invalid_prompt"])
def test_a_responders_error_fails_the_run(start: Start, code: Any) -> None:
    """A run whose responder fails has the status failed, with HTTP 200, code and message; its text so far is kept."""

    async def broken(conversation: Conversation) -> AsyncIterator[Part]:
        yield TextDelta("so far")
        raise ResponderError("upstream says no", code=code)

    running = start(broken)
    events = ask(running)
    assert names(events)[-3:] == ["thread.message.incomplete", "thread.run.step.failed", "thread.run.failed"]
    run = events[-1].data
    assert run.last_error.model_dump() == {"code": code, "message": "upstream says no"}
    assert events[-3].data.content[0].text.value == "so far"
    assert run.failed_at == int(running.clock.now())


def test_a_bug_in_a_responder_fails_one_run_only(start: Start) -> None:
    """Any exception of a responder fails its run, and the server continues."""

    async def buggy(conversation: Conversation) -> AsyncIterator[Part]:
        if conversation.messages[-1].text == "bug":
            raise RuntimeError("secret internals")
        yield TextDelta("fine")
        yield Finish("stop")

    running = start(buggy)
    run = ask(running, "bug")[-1].data
    assert run.status == "failed"
    assert "secret" not in run.model_dump_json()
    assert ask(running, "no bug")[-1].data.status == "completed"


def test_an_answer_without_an_end_fails(start: Start) -> None:
    """An answer without a Finish is a failure, not a short answer."""

    async def endless(conversation: Conversation) -> AsyncIterator[Part]:
        yield TextDelta("half an ans")

    run = ask(start(endless))[-1].data
    assert (run.status, run.last_error.code) == ("failed", "server_error")


@pytest.mark.parametrize(
    ("finish", "run_reason", "message_reason"),
    [("length", "max_completion_tokens", "max_tokens"), ("content_filter", None, "content_filter")],
)
def test_a_cut_answer_is_incomplete(start: Start, finish: Any, run_reason: str | None, message_reason: str) -> None:
    """An answer that is cut off is incomplete, with its reason, and keeps its text."""

    async def cut(conversation: Conversation) -> AsyncIterator[Part]:
        yield TextDelta("one two")
        yield Finish(finish)

    events = ask(start(cut))
    assert names(events)[-3:] == ["thread.message.incomplete", "thread.run.step.completed", "thread.run.incomplete"]
    assert events[-1].data.incomplete_details.reason == run_reason
    assert events[-3].data.incomplete_details.reason == message_reason
    assert events[-3].data.content[0].text.value == "one two"


def test_a_prompt_beyond_its_limit_is_incomplete(start: Start) -> None:
    """A prompt that cannot be truncated to max_prompt_tokens ends the run before the responder is called."""
    running = start()
    run = ask(running, "word " * 400, max_prompt_tokens=256)[-1].data
    assert run.status == "incomplete"
    assert run.incomplete_details.reason == "max_prompt_tokens"
    assert running.responder.asked == []


def test_truncation_keeps_the_last_messages(start: Start) -> None:
    """With last_messages=n the responder gets only the n newest messages; auto drops messages from the middle."""
    running = start()
    messages = [{"role": "user", "content": f"{number} " + "x" * 400} for number in range(8)]
    ask(running, thread={"messages": messages}, truncation_strategy={"type": "last_messages", "last_messages": 2})
    assert [message.text[0] for message in running.responder.asked[-1].messages] == ["6", "7"]
    ask(running, thread={"messages": messages}, max_prompt_tokens=330)
    assert [message.text[0] for message in running.responder.asked[-1].messages] == ["0", "6", "7"]


def test_instructions_and_messages_can_be_added_to_a_run(start: Start) -> None:
    """additional_messages are added to the thread before the run, additional_instructions to its instructions."""
    running = start()
    thread = running.client.beta.threads.create(messages=[{"role": "user", "content": "first"}])
    run = running.client.beta.threads.runs.create_and_poll(
        thread_id=thread.id, assistant_id=running.assistant(instructions="Be brief."),
        additional_instructions="Be kind.", additional_messages=[{"role": "user", "content": "second"}],
    )  # fmt: skip
    assert run.instructions == "Be brief. Be kind."
    asked = running.responder.asked[-1]
    assert [message.text for message in asked.messages] == ["first", "second"]
    listed = running.client.beta.threads.messages.list(thread.id, order="asc").data
    assert [each.content[0].text.value for each in listed] == ["first", "second", "You said: second"]  # type: ignore[union-attr]  # all are text


def test_a_run_on_an_empty_thread_is_accepted(start: Start) -> None:
    """A run on a thread without messages is possible."""
    assert ask(start(), thread={})[-1].data.status == "completed"


def test_function_calls_wait_for_their_outputs(start: Start) -> None:
    """Calls end the stream with requires_action; outputs continue the run, with its steps and total usage."""
    running = start(call_functions)
    events = ask(running, assistant={"tools": [WEATHER, TIME]})
    assert names(events)[4:] == [
        "thread.run.step.created", "thread.run.step.in_progress",
        *["thread.run.step.delta"] * 4, "thread.run.requires_action",
    ]  # fmt: skip
    run = events[-1].data
    assert run.usage is None
    calls = run.required_action.submit_tool_outputs.tool_calls
    assert [call.function.name for call in calls] == ["weather", "time"]
    running.clock.advance(10)
    outputs = [{"tool_call_id": call.id, "output": f"{call.function.name}!"} for call in calls]
    more: list[Any] = list(
        running.client.beta.threads.runs.submit_tool_outputs(
            run.id, thread_id=run.thread_id, tool_outputs=outputs, stream=True  # type: ignore[arg-type]  # typed dicts
        )
    )  # fmt: skip
    assert names(more) == [
        "thread.run.step.completed", "thread.run.queued", "thread.run.in_progress",
        "thread.run.step.created", "thread.run.step.in_progress",
        "thread.message.created", "thread.message.in_progress", "thread.message.delta",
        "thread.message.completed", "thread.run.step.completed", "thread.run.completed",
    ]  # fmt: skip
    assert more[1].data.expires_at == run.expires_at
    steps = running.client.beta.threads.runs.steps.list(run.id, thread_id=run.thread_id, order="asc").data
    assert [step.type for step in steps] == ["tool_calls", "message_creation"]
    assert [call.function.output for call in steps[0].step_details.tool_calls] == ["weather!", "time!"]  # type: ignore[union-attr]  # both are functions
    assert more[-1].data.usage.total_tokens == sum(step.usage.total_tokens for step in steps if step.usage)


def test_partial_outputs_are_refused(start: Start) -> None:
    """Outputs must answer every call once; otherwise the hosted API's error is returned, and nothing changes."""
    running = start(call_functions)
    run = ask(running, assistant={"tools": [WEATHER, TIME]})[-1].data
    submit = running.client.beta.threads.runs.submit_tool_outputs
    one = {"tool_call_id": "call_0", "output": "x"}
    expected = re.escape("Expected tool outputs for call_ids ['call_0','call_1'], got ['call_0']")
    with pytest.raises(openai.BadRequestError, match=expected):
        submit(run.id, thread_id=run.thread_id, tool_outputs=[one])  # type: ignore[list-item]  # typed dict
    with pytest.raises(openai.BadRequestError, match="Expected tool outputs"):
        submit(run.id, thread_id=run.thread_id, tool_outputs=[one, one])  # type: ignore[list-item]  # typed dict
    assert running.client.beta.threads.runs.retrieve(run.id, thread_id=run.thread_id).status == "requires_action"


def test_an_expired_run_accepts_no_outputs(start: Start) -> None:
    """A run that waits too long expires with its step, and refuses outputs with the exact text."""
    running = start(call_functions)
    run = ask(running, assistant={"tools": [WEATHER]})[-1].data
    running.clock.advance(600)
    with pytest.raises(openai.BadRequestError, match='Runs in status "expired" do not accept tool outputs'):
        running.client.beta.threads.runs.submit_tool_outputs(
            run.id, thread_id=run.thread_id, tool_outputs=[{"tool_call_id": "call_0", "output": "x"}]
        )
    (step,) = running.client.beta.threads.runs.steps.list(run.id, thread_id=run.thread_id).data
    assert (step.status, step.expired_at) == ("expired", int(running.clock.now()))


def test_a_run_that_waits_for_outputs_can_be_cancelled(start: Start) -> None:
    """requires_action can be cancelled; its step is cancelled with it."""
    running = start(call_functions)
    run = ask(running, assistant={"tools": [WEATHER]})[-1].data
    threads = running.client.beta.threads
    assert threads.runs.cancel(run.id, thread_id=run.thread_id).status == "cancelling"
    assert threads.runs.retrieve(run.id, thread_id=run.thread_id).status == "cancelled"
    (step,) = threads.runs.steps.list(run.id, thread_id=run.thread_id).data
    assert step.status == "cancelled"


def test_a_forced_tool_holds_for_the_first_answer(start: Start) -> None:
    """tool_choice reaches the responder in its own form; after the outputs the run may end with a message."""
    running = start(call_functions)
    choice = {"type": "function", "function": {"name": "weather"}}
    run = ask(running, assistant={"tools": [WEATHER]}, tool_choice=choice)[-1].data
    assert running.responder.asked[-1].tool_choice == choice
    running.client.beta.threads.runs.submit_tool_outputs_and_poll(
        run_id=run.id, thread_id=run.thread_id, tool_outputs=[{"tool_call_id": "call_0", "output": "x"}]
    )
    assert running.responder.asked[1].tool_choice == "auto"


def test_a_call_of_an_unknown_function_fails(start: Start) -> None:
    """A call of a function that was not offered fails the run; the error names it."""

    async def invent(conversation: Conversation) -> AsyncIterator[Part]:
        from batchrun.server.responders.base import ToolCall

        yield ToolCall("call_1", "invented", "{}")
        yield Finish("tool_calls")

    run = ask(start(invent), assistant={"tools": [WEATHER]})[-1].data
    assert run.status == "failed"
    assert "invented" in run.last_error.message


def test_requested_json_is_checked(start: Start) -> None:
    """With a JSON response_format an answer that is not valid JSON fails the run."""
    run = ask(start(), response_format={"type": "json_object"})[-1].data
    assert (run.status, run.last_error.code) == ("failed", "server_error")


@pytest.mark.parametrize(("answer", "status"), [('{"x": 1}', "completed"), ('{"x": "1"}', "failed"), ("1", "failed")])
def test_the_answer_is_compared_with_the_schema(start: Start, answer: str, status: str) -> None:
    """With json_schema the responder gets the schema, and an answer that violates it fails the run."""

    async def say(conversation: Conversation) -> AsyncIterator[Part]:
        yield TextDelta(answer)
        yield Finish("stop")

    running = start(say)
    schema = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
    response_format = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}
    run = ask(running, response_format=response_format)[-1].data
    assert run.status == status
    assert running.responder.asked[-1].response_format == response_format
    with pytest.raises(openai.BadRequestError) as caught:
        ask(running, response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": 5}}})
    assert caught.value.param == "response_format.json_schema.schema"


@pytest.mark.anyio
async def test_two_hundred_threads_stream_at_once(start: Start) -> None:
    """200 concurrent streamed runs all complete, each with its own answer."""
    come, all_are_here = count(1), anyio.Event()

    async def together(conversation: Conversation) -> AsyncIterator[Part]:
        yield TextDelta("answer to ")
        if next(come) == 200:
            all_are_here.set()
        await all_are_here.wait()
        yield TextDelta(conversation.messages[-1].text)
        yield Finish("stop")

    running = start(together)
    assistant_id = running.assistant()
    answers: dict[int, str] = {}

    async with openai.AsyncOpenAI(base_url=running.url, api_key="any", max_retries=0) as client:

        async def one(number: int) -> None:
            stream = await client.beta.threads.create_and_run(
                assistant_id=assistant_id, stream=True,
                thread={"messages": [{"role": "user", "content": f"question {number}"}]},
            )  # fmt: skip
            pieces = [
                event.data.delta.content[0].text.value  # type: ignore[index, union-attr]  # text deltas only
                async for event in stream
                if event.event == "thread.message.delta"
            ]
            answers[number] = "".join(pieces)  # type: ignore[arg-type]  # values are set

        async with anyio.create_task_group() as tasks:
            for number in range(200):
                tasks.start_soon(one, number)
    assert answers == {number: f"answer to question {number}" for number in range(200)}


def test_more_runs_than_slots_wait_their_turn(start: Start) -> None:
    """A run beyond max_concurrent_runs stays queued; it can be cancelled in that state."""
    running = start(forever, max_concurrent_runs=1)
    threads, assistant_id = running.client.beta.threads, running.assistant()
    first = threads.create_and_run(assistant_id=assistant_id)
    second = threads.create_and_run(assistant_id=assistant_id)
    threads.runs.cancel(second.id, thread_id=second.thread_id)
    cancelled = threads.runs.poll(second.id, thread_id=second.thread_id)
    assert (cancelled.status, cancelled.started_at) == ("cancelled", None)
    assert threads.runs.retrieve(first.id, thread_id=first.thread_id).status == "in_progress"


def test_a_deleted_thread_removes_its_runs(start: Start) -> None:
    """The deletion of a thread removes its messages, runs and steps, and stops live runs."""
    running = start(forever)
    threads = running.client.beta.threads
    run = threads.create_and_run(assistant_id=running.assistant())
    assert threads.delete(run.thread_id).deleted
    with pytest.raises(openai.NotFoundError, match=f"No thread found with id '{run.thread_id}'"):
        threads.runs.retrieve(run.id, thread_id=run.thread_id)


def test_every_run_reaches_the_same_responder_once(start: Start) -> None:
    """One run calls the responder once."""
    running = start(echo)
    ask(running)
    assert len(running.responder.asked) == 1
