"""Streams of tool calls: first the call with nothing in it, then its pieces, as soon as the model writes them."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio.to_thread
import pytest
from openai import AssistantEventHandler
from openai.types.beta.assistant_stream_event import AssistantStreamEvent
from openai.types.chat import ChatCompletionChunk
from openai.types.responses import ResponseStreamEvent

from batchrun.server.responders.base import Conversation, Finish, Part, TextDelta, ToolCall, ToolCallDelta
from tests.integration.server.conftest import Running
from tests.integration.server.scripted import WEATHER
from tests.integration.server.sdk_types import validate
from tests.support.sandbox import needs_sandbox

Start = Callable[..., Running]
PIECES = ("", '{"city"', ': "Be', 'rn"}')
TOOL = {"type": "function", **WEATHER["function"]}


def in_pieces(gate: threading.Event) -> Any:
    """Return a responder that writes a call in pieces, and waits before the last one until the gate opens."""

    async def script(conversation: Conversation) -> AsyncIterator[Part]:
        yield TextDelta("Let me see.")
        for piece in PIECES[:-1]:
            yield ToolCallDelta("call_1", "weather", piece)
        await anyio.to_thread.run_sync(gate.wait, 20)
        yield ToolCallDelta("call_1", "weather", PIECES[-1])
        yield ToolCall("call_1", "weather", "".join(PIECES))
        yield Finish("tool_calls")

    return script


def run_pieces(client: Any, running: Running) -> Iterator[tuple[str | None, str | None]]:
    stream = client.beta.threads.create_and_run(
        assistant_id=running.assistant(tools=[WEATHER]),
        stream=True,
        thread={"messages": [{"role": "user", "content": "weather?"}]},
    )
    for event in stream:
        validate(AssistantStreamEvent, event.model_dump_json())
        if event.event == "thread.run.step.delta":
            (call,) = event.data.delta.step_details.tool_calls
            yield call.function.name, call.function.arguments


def chat_pieces(client: Any, running: Running) -> Iterator[tuple[str | None, str | None]]:
    question = {"role": "user", "content": "weather?"}
    for chunk in client.chat.completions.create(model="m", messages=[question], tools=[WEATHER], stream=True):
        validate(ChatCompletionChunk, chunk.model_dump_json())
        for call in chunk.choices[0].delta.tool_calls or ():
            yield call.function.name, call.function.arguments


def response_pieces(client: Any, running: Running) -> Iterator[tuple[str | None, str | None]]:
    for event in client.responses.create(model="m", input="weather?", tools=[TOOL], stream=True):
        validate(ResponseStreamEvent, event.model_dump_json())
        if event.type == "response.output_item.added" and event.item.type == "function_call":
            yield event.item.name, event.item.arguments
        if event.type == "response.function_call_arguments.delta":
            yield None, event.delta


@pytest.mark.parametrize("protocol", [run_pieces, chat_pieces, response_pieces])
def test_calls_stream_while_they_are_written(start: Start, protocol: Any) -> None:
    """A client has a call's name and each piece of its arguments as soon as the model has written them."""
    gate = threading.Event()
    running = start(in_pieces(gate))
    pieces = protocol(running.client, running)
    assert [next(pieces) for _ in PIECES[:-1]] == [("weather", "")] + [(None, each) for each in PIECES[1:-1]]
    gate.set()
    assert list(pieces) == [(None, PIECES[-1])]


async def at_once(conversation: Conversation) -> AsyncIterator[Part]:
    """Call a function without writing it in pieces."""
    if conversation.messages[-1].role == "tool":
        yield TextDelta("sunny")
        yield Finish("stop")
        return
    yield ToolCall("call_1", "weather", '{"city": "Bern"}')
    yield Finish("tool_calls")


@pytest.mark.parametrize("protocol", [run_pieces, chat_pieces, response_pieces])
def test_a_call_without_pieces_has_the_same_form(start: Start, protocol: Any) -> None:
    """A call that the responder makes at once streams in the same order: named and empty, then its arguments."""
    running = start(at_once)
    assert list(protocol(running.client, running)) == [("weather", ""), (None, '{"city": "Bern"}')]


class Seen(AssistantEventHandler):
    """What OpenAI's quickstart handler shows of tool calls."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[str] = []
        self.done: list[Any] = []

    def on_tool_call_created(self, tool_call: Any) -> None:
        self.shown.append(f"{tool_call.type}>")

    def on_tool_call_delta(self, delta: Any, snapshot: Any) -> None:
        if delta.type == "function":
            self.shown.append(delta.function.arguments)
        elif delta.type == "code_interpreter":
            if delta.code_interpreter.input:
                self.shown.append(delta.code_interpreter.input)
            for output in delta.code_interpreter.outputs or ():
                self.shown.append(f"output {output.index}: {output.logs}")

    def on_tool_call_done(self, tool_call: Any) -> None:
        self.done.append(tool_call)


def test_the_quickstarts_handler_sees_a_call(start: Start) -> None:
    """The SDK's handler gets a created call, its pieces, and at the end the call put together from them."""
    running = start(at_once)
    client = running.client
    handler = Seen()
    assistant_id = running.assistant(tools=[WEATHER])
    thread = client.beta.threads.create(messages=[{"role": "user", "content": "weather?"}])
    with client.beta.threads.runs.stream(
        thread_id=thread.id, assistant_id=assistant_id, event_handler=handler
    ) as stream:
        stream.until_done()
    assert handler.shown == ["function>", '{"city": "Bern"}']
    run = handler.current_run
    assert run is not None
    assert handler.current_run_step_snapshot is not None
    snapshot: Any = handler.current_run_step_snapshot.step_details
    assert snapshot.tool_calls[0].function.model_dump() == {
        "name": "weather", "arguments": '{"city": "Bern"}', "output": None,
    }  # fmt: skip


async def code_in_pieces(conversation: Conversation) -> AsyncIterator[Part]:
    """Write code piece by piece, then answer with its output."""
    if conversation.messages[-1].role == "tool":
        yield TextDelta(conversation.messages[-1].tool_outputs[0].output)
        yield Finish("stop")
        return
    arguments = json.dumps({"code": "a = 6\nprint(a * 7)"})
    for start in range(0, len(arguments), 7):
        yield ToolCallDelta("call_1", "python", arguments[start : start + 7])
    yield ToolCall("call_1", "python", arguments)
    yield Finish("tool_calls")


@needs_sandbox
def test_code_and_its_outputs_stream(start: Start) -> None:
    """The code of the interpreter arrives in pieces, decoded, and its outputs as further deltas."""
    running = start(code_in_pieces)
    handler = Seen()
    assistant_id = running.assistant(tools=[{"type": "code_interpreter"}])
    thread = running.client.beta.threads.create(messages=[{"role": "user", "content": "6 * 7?"}])
    with running.client.beta.threads.runs.stream(
        thread_id=thread.id, assistant_id=assistant_id, event_handler=handler
    ) as stream:
        stream.until_done()
    created, *code, output = handler.shown
    assert created == "code_interpreter>"
    assert len(code) > 2
    assert "".join(code) == "a = 6\nprint(a * 7)"
    assert output.strip() == "output 0: 42"
    assert handler.done[0].code_interpreter.input == "a = 6\nprint(a * 7)"
    assert handler.done[0].code_interpreter.outputs[0].logs.strip() == "42"


async def cut_off(conversation: Conversation) -> AsyncIterator[Part]:
    """End an answer in the middle of a call, for its length."""
    yield ToolCallDelta("call_1", "weather", '{"ci')
    yield Finish("length")


def test_a_call_that_is_cut_off_is_not_made(start: Start) -> None:
    """The run is incomplete, its step cancelled with what was written; a response has an incomplete call."""
    running = start(cut_off)
    client = running.client
    run = client.beta.threads.create_and_run_poll(
        assistant_id=running.assistant(tools=[WEATHER]),
        thread={"messages": [{"role": "user", "content": "weather?"}]},
        poll_interval_ms=20,
    )
    assert run.status == "incomplete"
    (step,) = client.beta.threads.runs.steps.list(run.id, thread_id=run.thread_id).data
    assert step.status == "cancelled"
    details: Any = step.step_details
    assert details.tool_calls[0].function.arguments == '{"ci'
    tools: Any = [TOOL]
    response = client.responses.create(model="m", input="weather?", tools=tools)
    assert response.status == "incomplete"
    call: Any = response.output[0]
    assert (call.status, call.arguments) == ("incomplete", '{"ci')
    after = client.responses.create(model="m", input="again", previous_response_id=response.id)
    assert after.status == "incomplete"
    assert all(not message.tool_calls for message in running.responder.asked[-1].messages)


async def unknown(conversation: Conversation) -> AsyncIterator[Part]:
    """Call a function that the request does not offer."""
    yield ToolCall("call_1", "wether", "{}")
    yield Finish("tool_calls")


def test_an_unknown_function_fails_the_run_for_good(start: Start) -> None:
    """A run that calls a function which it does not offer fails with a code that nobody retries, and names the offer."""
    running = start(unknown)
    run = running.client.beta.threads.create_and_run_poll(
        assistant_id=running.assistant(tools=[WEATHER]), poll_interval_ms=20
    )
    assert run.last_error is not None
    assert run.last_error.code == "invalid_prompt"
    assert "'wether', which the request does not offer; it offers: 'weather'" in run.last_error.message
