"""The hosted tools of Responses: file_search and code_interpreter."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import openai
import pytest
from openai.types.responses import ResponseStreamEvent

from batchrun.server.responders.base import Conversation, Finish, Part, TextDelta, ToolCall, ToolCallDelta
from tests.integration.server.conftest import Running
from tests.integration.server.scripted import WEATHER
from tests.integration.server.sdk_types import validate
from tests.support.sandbox import needs_sandbox

Start = Callable[..., Running]


def outputs_of(conversation: Conversation) -> list[str]:
    return [output.output for message in conversation.messages for output in message.tool_outputs]


async def search_and_cite(conversation: Conversation) -> AsyncIterator[Part]:
    """Search, then answer with the first result's mark, cut in two, and a mark of no result."""
    outputs = outputs_of(conversation)
    if not outputs:
        yield TextDelta("Searching.")
        yield ToolCall("call_1", "file_search", '{"query": "dahlias"}')
        yield Finish("tool_calls")
        return
    mark = outputs[0].split("\n")[0]
    for piece in ("On Tuesday", mark[:4], mark[4:] + ", not ", "Monday【7:7†dream】."):
        yield TextDelta(piece)
    yield Finish("stop")


def store_of(running: Running, *files: tuple[str, bytes, dict[str, Any]]) -> str:
    store = running.client.vector_stores.create()
    for name, text, attributes in files:
        file = running.client.files.create(file=(name, text), purpose="assistants")
        running.client.vector_stores.files.create_and_poll(
            file.id, vector_store_id=store.id, attributes=attributes, poll_interval_ms=20
        )
    return store.id


def test_file_search(start: Start) -> None:
    """The server searches, reports each state, and annotates the answer where its marks were."""
    running = start(search_and_cite)
    store_id = store_of(running, ("notes.md", b"Plant the dahlias on Tuesday.", {"year": 2026}))
    tools: Any = [{"type": "file_search", "vector_store_ids": [store_id]}]
    events: list[Any] = list(
        running.client.responses.create(
            model="m", input="When?", tools=tools, stream=True, include=["file_search_call.results"]
        )
    )
    for event in events:
        validate(ResponseStreamEvent, event.model_dump_json())
    assert [event.type.removeprefix("response.") for event in events if event.type.startswith("response.file")] == [
        "file_search_call.in_progress", "file_search_call.searching", "file_search_call.completed",
    ]  # fmt: skip
    response = events[-1].response
    first, call, last = response.output
    assert (first.type, first.status) == ("message", "completed")
    assert (call.type, call.status, call.queries) == ("file_search_call", "completed", ["dahlias"])
    assert [(each.filename, each.text, each.attributes) for each in call.results] == [
        ("notes.md", "Plant the dahlias on Tuesday.", {"year": 2026})
    ]
    (part,) = last.content
    assert part.text == "On Tuesday, not Monday【7:7†dream】."
    (annotation,) = part.annotations
    assert (annotation.type, annotation.filename, annotation.index) == ("file_citation", "notes.md", 10)
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == "Searching." + part.text
    added = [event for event in events if event.type == "response.output_text.annotation.added"]
    assert added[0].annotation.file_id == annotation.file_id == call.results[0].file_id
    assert response.usage.total_tokens > 0
    assert running.client.responses.retrieve(response.id).output_text == response.output_text


def test_results_are_given_on_request(start: Start) -> None:
    """Without `include` a search has no results; a later request can ask for them."""
    running = start(search_and_cite)
    store_id = store_of(running, ("notes.md", b"Plant the dahlias on Tuesday.", {}))
    tools: Any = [{"type": "file_search", "vector_store_ids": [store_id]}]
    response = running.client.responses.create(model="m", input="When?", tools=tools)
    call: Any = response.output[1]
    assert call.results is None
    full: Any = running.client.responses.retrieve(response.id, include=["file_search_call.results"])
    assert full.output[1].results[0].filename == "notes.md"
    with pytest.raises(openai.BadRequestError, match="Supported values are"):
        running.client.responses.retrieve(response.id, include=["file_search_call.reslts"])  # type: ignore[list-item]
    with pytest.raises(openai.BadRequestError, match="Supported values are"):
        running.client.responses.create(model="m", input="x", include=["all"])  # type: ignore[list-item]


def test_a_search_is_limited(start: Start) -> None:
    """The number of results, the files' attributes and max_tool_calls limit what a model gets."""
    running = start(search_and_cite)
    store_id = store_of(running, ("old.md", b"dahlias old", {"year": 2020}), ("new.md", b"dahlias new", {"year": 2026}))
    filters = {"type": "gt", "key": "year", "value": 2024}
    tools: Any = [{"type": "file_search", "vector_store_ids": [store_id], "filters": filters, "max_num_results": 1}]
    running.client.responses.create(model="m", input="When?", tools=tools, max_tool_calls=1)
    first, second = running.responder.asked
    assert "new.md" in second.messages[-1].tool_outputs[0].output
    assert "old.md" not in second.messages[-1].tool_outputs[0].output
    assert [tool["function"]["name"] for tool in first.tools] == ["file_search"]
    assert second.tools == []


def test_calls_beyond_the_limit_are_not_made(start: Start) -> None:
    """Of parallel calls, those beyond `max_tool_calls` are not made; their items are incomplete."""

    async def search_thrice(conversation: Conversation) -> AsyncIterator[Part]:
        if outputs_of(conversation):
            yield TextDelta("Done.")
            yield Finish("stop")
            return
        for number in range(3):
            yield ToolCall(f"call_{number}", "file_search", '{"query": "dahlias"}')
        yield Finish("tool_calls")

    running = start(search_thrice)
    tools: Any = [{"type": "file_search", "vector_store_ids": [store_of(running)]}]
    response = running.client.responses.create(model="m", input="When?", tools=tools, max_tool_calls=2)
    calls: Any = response.output[:3]
    assert [(call.type, call.status) for call in calls] == [
        ("file_search_call", status) for status in ("completed", "completed", "incomplete")
    ]
    assert response.output_text == "Done."
    after = running.responder.asked[-1]
    assert "not made" in outputs_of(after)[-1]
    assert after.tools == []


@pytest.mark.parametrize("kind", ["web_search", "mcp", "image_generation", "custom"])
def test_other_tools_are_refused(start: Start, kind: str) -> None:
    """A tool that this server does not have is refused, and the offered ones are named."""
    running = start(search_and_cite)
    with pytest.raises(openai.BadRequestError, match="'function', 'file_search', 'code_interpreter'"):
        running.client.responses.create(model="m", input="x", tools=[{"type": kind}])  # type: ignore[list-item, misc]


def test_a_choice_must_be_offered(start: Start) -> None:
    """A tool choice that names a tool which the request does not have is refused."""
    client = start().client
    tools: Any = [{"type": "function", "name": "f", "parameters": {}, "strict": None}]
    with pytest.raises(openai.BadRequestError, match="Tool choice 'code_interpreter' not found"):
        client.responses.create(model="m", input="x", tools=tools, tool_choice={"type": "code_interpreter"})
    with pytest.raises(openai.BadRequestError, match="only allowed when 'tools' are specified"):
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}], tool_choice="required")


def test_what_a_tool_uses_must_exist(start: Start) -> None:
    """A vector store, a file or a container that does not exist is a 404."""
    create = start(search_and_cite).client.responses.create
    missing: Any = [
        {"type": "file_search", "vector_store_ids": ["vs_x"]},
        {"type": "code_interpreter", "container": "cntr_x"},
        {"type": "code_interpreter", "container": {"type": "auto", "file_ids": ["file-x"]}},
    ]
    for tool in missing:
        with pytest.raises(openai.NotFoundError, match=r"_x'|file-x"):
            create(model="m", input="x", tools=[tool])


async def compute(conversation: Conversation) -> AsyncIterator[Part]:
    """Run code in pieces, then answer with its output and the file that it wrote."""
    outputs = outputs_of(conversation)
    if not outputs:
        code = "text = open('numbers.txt').read()\nopen('sum.txt', 'w').write(text)\nprint(len(text))"
        arguments = json.dumps({"code": code})
        for start in range(0, len(arguments), 20):
            yield ToolCallDelta("call_1", "python", arguments[start : start + 20])
        yield ToolCall("call_1", "python", arguments)
        yield ToolCall("call_2", "weather", "{}")
        yield Finish("tool_calls")
        return
    yield TextDelta(f"{outputs[0].splitlines()[0]}, see sandbox:/mnt/data/sum.txt")
    yield Finish("stop")


@needs_sandbox
def test_code_interpreter(start: Start) -> None:
    """Code runs on the container's files, its pieces and outputs are reported, and the file that it writes is cited."""
    running = start(compute)
    client = running.client
    file = client.files.create(file=("numbers.txt", b"1 2 3"), purpose="assistants")
    tools: Any = [
        {"type": "code_interpreter", "container": {"type": "auto", "file_ids": [file.id]}},
        {"type": "function", **WEATHER["function"]},
    ]
    events: list[Any] = list(
        client.responses.create(
            model="m", input="Sum?", tools=tools, stream=True, include=["code_interpreter_call.outputs"]
        )
    )
    for event in events:
        validate(ResponseStreamEvent, event.model_dump_json())
    states = [event.type.removeprefix("response.code_interpreter_call") for event in events if ".code_" in event.type]
    assert list(dict.fromkeys(states)) == [
        ".in_progress", "_code.delta", "_code.done", ".interpreting", ".completed",
    ]  # fmt: skip
    deltas = "".join(event.delta for event in events if event.type == "response.code_interpreter_call_code.delta")
    code, function = events[-1].response.output
    assert code.code == deltas
    assert [(each.type, each.logs.strip()) for each in code.outputs] == [("logs", "5")]
    assert function.name == "weather"
    # The function's output continues; the container is used again by its id.
    tools[0]["container"] = code.container_id
    output: Any = [{"type": "function_call_output", "call_id": function.call_id, "output": "5"}]
    answer: Any = client.responses.create(
        model="m", input=output, previous_response_id=events[-1].response.id, tools=tools
    )
    part = answer.output[-1].content[0]
    assert part.text == "5, see sandbox:/mnt/data/sum.txt"
