"""The order of events in every kind of stream, as in the recorded and published streams of the reference."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from batchrun.server.responders.base import (
    Conversation,
    Finish,
    Part,
    ResponderError,
    TextDelta,
    ToolCall,
    ToolCallDelta,
)
from tests.integration.server.conftest import Running
from tests.integration.server.scripted import WEATHER, forever
from tests.integration.server.test_response_tools import store_of
from tests.support.sandbox import needs_sandbox

Start = Callable[..., Running]

ORDERS: dict[str, dict[str, list[str]]] = json.loads(Path(__file__).with_name("golden_orders.json").read_text("utf-8"))
"""Protocol → case → its events in order, with one `*` for any number of the same delta."""

ARGUMENTS = {"weather": '{"city": "Bern"}', "file_search": '{"query": "dahlias"}', "python": '{"code": "print(6 * 7)"}'}
TOOLS: dict[str, Any] = {
    "tool call": WEATHER,
    "code interpreter": {"type": "code_interpreter"},
    "file search": {"type": "file_search"},
}


async def answer(conversation: Conversation) -> AsyncIterator[Part]:
    """Call the offered tool in pieces, then end as the last message asks."""
    names = [tool["function"]["name"] for tool in conversation.tools]
    if names and conversation.messages[-1].role != "tool":
        name = next(each for each in ARGUMENTS if each in names)
        arguments = ARGUMENTS[name]
        for piece in ("", arguments[:8], arguments[8:]):
            yield ToolCallDelta("call_1", name, piece)
        yield ToolCall("call_1", name, arguments)
        yield Finish("tool_calls")
        return
    yield TextDelta("Some ")
    yield TextDelta("text.")
    if "failure" in conversation.messages[-1].text:
        raise ResponderError("no", code="server_error")
    yield Finish("length" if "incomplete" in conversation.messages[-1].text else "stop")


def run_events(running: Running, case: str) -> Iterator[Any]:
    client = running.client
    tools = [TOOLS[case]] if case in TOOLS else []
    resources: Any = {"file_search": {"vector_store_ids": [notes(running)]}} if case == "file search" else {}
    stream: Any = client.beta.threads.create_and_run(
        assistant_id=running.assistant(tools=tools, tool_resources=resources),
        thread={"messages": [{"role": "user", "content": case}]},
        stream=True,
    )
    run: Any = None
    for event in stream:
        yield event
        if case == "cancel" and event.event == "thread.message.delta":
            client.beta.threads.runs.cancel(run.id, thread_id=run.thread_id)
        if event.event in ("thread.run.created", "thread.run.requires_action"):
            run = event.data
    if run.status == "requires_action":
        outputs: Any = [{"tool_call_id": "call_1", "output": "sunny"}]
        yield from client.beta.threads.runs.submit_tool_outputs(
            run.id, thread_id=run.thread_id, tool_outputs=outputs, stream=True
        )


def response_events(running: Running, case: str) -> Iterator[Any]:
    tool = TOOLS.get(case, {})
    if case == "file search":
        tool = tool | {"vector_store_ids": [notes(running)]}
    elif case == "tool call":
        tool = {"type": "function", **tool["function"]}
    stream: Any = running.client.responses.create(
        model="m", input=case, tools=[tool] if tool else [], stream=True, background=case == "cancel"
    )
    for event in stream:
        yield event
        if event.type == "response.created":
            response_id = event.response.id
        if case == "cancel" and event.type == "response.output_text.delta":
            running.client.responses.cancel(response_id)


def chat_events(running: Running, case: str) -> Iterator[Any]:
    tools: Any = [TOOLS[case]] if case in TOOLS else []
    stream: Any = running.client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": case}], stream=True, tools=tools,
        stream_options={"include_usage": True},
    )  # fmt: skip
    yield from stream


def notes(running: Running) -> str:
    return store_of(running, ("notes.md", b"Plant the dahlias on Tuesday.", {}))


def name_of(event: Any) -> str:
    """Return the name of an event; for a chunk of a chat, what its delta has."""
    if not hasattr(event, "choices"):
        return str(getattr(event, "event", None) or event.type)
    if not event.choices:
        return "usage"
    delta = {name: value for name, value in event.choices[0].delta.to_dict().items() if value is not None}
    reason = event.choices[0].finish_reason
    return "+".join(delta) if delta else f"finish_{reason}"


def order(events: list[Any]) -> list[str]:
    """Return the names of events in order; equal deltas in a row are one."""
    names: list[str] = []
    for event in events:
        name = name_of(event)
        repeated = name.endswith("delta") or name in ("content", "tool_calls")
        shown = f"{name}*" if repeated else name
        if not (repeated and names and names[-1] == shown):
            names.append(shown)
    return names


PROTOCOLS: dict[str, Callable[[Running, str], Iterator[Any]]] = {
    "runs": run_events, "responses": response_events, "chat": chat_events,
}  # fmt: skip
CASES = [
    pytest.param(
        protocol,
        case,
        marks=needs_sandbox if case == "code interpreter" else (),
    )
    for protocol, orders in ORDERS.items()
    for case in orders
]


def beginnings(events: list[Any]) -> Iterator[Any]:
    """Yield what the first event of each call or message already has of its arguments, code or text."""
    seen = set()
    for event in events:
        name = name_of(event)
        if name == "thread.run.step.delta":
            for call in event.data.delta.step_details.tool_calls:
                if call.type != "file_search" and call.index not in seen:
                    yield call.function.arguments if call.type == "function" else call.code_interpreter.input
                seen.add(call.index)
        elif name == "response.output_item.added" and event.item.type != "file_search_call":
            yield getattr(event.item, {"function_call": "arguments", "message": "content"}.get(event.item.type, "code"))
        elif name.endswith("+role") or name.startswith("role+"):
            delta = event.choices[0].delta
            yield delta.tool_calls[0].function.arguments if delta.tool_calls else delta.content


@pytest.mark.parametrize(("protocol", "case"), CASES)
def test_events_come_in_the_order_of_the_reference(start: Start, protocol: str, case: str) -> None:
    """Text, calls of each kind, failures, cut answers and cancellations stream in the reference's order, empty at first."""
    running = start(forever if case == "cancel" else answer)
    events: list[Any] = []
    stream = PROTOCOLS[protocol](running, case)
    if (protocol, case) == ("chat", "failure"):
        with pytest.raises(openai.APIError, match="no"):
            events.extend(stream)  # what came before the error is kept
    else:
        events.extend(stream)
    assert order(events) == ORDERS[protocol][case]
    assert not [text for text in beginnings(events) if text]
