"""History that clients send again: references to stored items, and items that a model can't read."""

from __future__ import annotations

import typing
from collections.abc import AsyncIterator, Callable
from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types.responses import response_input_item_param

from batchrun.server.protocol.requests.base import validate
from batchrun.server.protocol.requests.items import CreateItems
from batchrun.server.responders.base import Conversation, Finish, Part, TextDelta
from tests.integration.server.conftest import Running
from tests.integration.server.scripted import WEATHER, call_functions

Start = Callable[..., Running]

UNREADABLE: list[dict[str, Any]] = [
    {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": "x"},
    {"type": "file_search_call", "id": "fs_1", "queries": ["a"], "status": "completed", "results": None},
    {
        "type": "code_interpreter_call", "id": "ci_1", "code": "1", "container_id": "c", "outputs": None,
        "status": "completed",
    },
    {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "a"}},
    {"type": "compaction", "encrypted_content": "x"},
]  # fmt: skip


async def count(conversation: Conversation) -> AsyncIterator[Part]:
    """Answer with the number of messages."""
    yield TextDelta(f"{len(conversation.messages)} messages")
    yield Finish("stop")


def test_every_type_of_item_is_known() -> None:
    """Each item that the SDK can send is accepted by its type, except the calls of a computer."""
    for shape in typing.get_args(response_input_item_param.ResponseInputItemParam):
        kind = typing.get_type_hints(shape)["type"]
        name = next(each for each in typing.get_args(kind) for each in typing.get_args(each) or (each,))
        fields = {
            "call_id": "c", "name": "n", "arguments": "{}", "input": "x", "output": "y", "id": "i",
            "role": "user", "content": "hello", "type": name,
        }  # fmt: skip
        if name.startswith("computer_call"):
            continue
        wanted = set(typing.get_type_hints(shape))
        validate(CreateItems, {"items": [{key: value for key, value in fields.items() if key in wanted}]})


def test_a_reference_stands_for_its_item(start: Start) -> None:
    """Items of earlier responses, output and input, are found by their ids, with no other context."""
    running = start(call_functions)
    create = running.client.responses.create
    tools: Any = [{"type": "function", **WEATHER["function"]}]
    first = create(model="m", input="weather?", tools=tools)
    (asked,) = running.client.responses.input_items.list(first.id).data
    call: Any = first.output[0]
    again: Any = [
        {"type": "item_reference", "id": asked.id},
        {"id": call.id},
        {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"},
    ]
    second = create(model="m", input=again, tools=tools)
    assert second.output_text == "sunny"
    messages = running.responder.asked[-1].messages
    assert [message.role for message in messages] == ["user", "assistant", "tool"]
    listed = running.client.responses.input_items.list(second.id, order="asc").data
    assert [item.id for item in listed[:2]] == [asked.id, call.id]
    # In a conversation they become items of their own, even if they are sent twice.
    conversation = running.client.conversations.create()
    for _ in range(2):
        create(model="m", input=again[:1], conversation=conversation.id)
    items = running.client.conversations.items.list(conversation.id).data
    assert len({item.id for item in items}) == len(items) == 4
    create(model="m", input=[{"type": "item_reference", "id": items[-1].id or ""}])


def test_a_reference_belongs_to_its_key(start: Start) -> None:
    """An unknown item, one that was not stored, and one of another key are a 404 that says what to do."""
    running = start(count, api_keys=("one", "two"), key="one")
    create = running.client.responses.create
    stored, unstored = create(model="m", input="hi"), create(model="m", input="hi", store=False)
    reference: Any = [{"type": "item_reference", "id": stored.output[0].id}]
    assert create(model="m", input=reference).output_text == "1 messages"
    for item_id in ("msg_x", unstored.output[0].id):
        missing: Any = [{"type": "item_reference", "id": item_id}]
        with pytest.raises(openai.NotFoundError, match="not persisted when `store` is set to false"):
            create(model="m", input=missing)
    with (
        OpenAI(base_url=running.url, api_key="two", max_retries=0) as other,
        pytest.raises(openai.NotFoundError, match="not found"),
    ):
        other.responses.create(model="m", input=reference)


@pytest.mark.parametrize("item", UNREADABLE, ids=lambda item: item["type"])
def test_items_that_a_model_cannot_read_are_given_back(start: Start, item: Any) -> None:
    """Such an item is stored as it is, in a response's input and in a conversation; the model does not see it."""
    running = start(count)
    client = running.client
    response = client.responses.create(model="m", input=[item, {"role": "user", "content": "hi"}])
    assert response.output_text == "1 messages"
    stored = client.responses.input_items.list(response.id, order="asc").data[0]
    conversation = client.conversations.create(items=[item])
    kept = client.conversations.items.list(conversation.id).data[0]
    for each in (stored, kept):
        data = each.model_dump(exclude_unset=True)
        assert {key: value for key, value in data.items() if key != "id"} == {
            key: value for key, value in item.items() if key != "id"
        }


def test_images_and_files_in_a_calls_output(start: Start) -> None:
    """The text of a file is part of the output, and an image is given to the model next to it."""
    running = start(count)
    file = running.client.files.create(file=("a.txt", b"forty-two"), purpose="assistants")
    history: Any = [
        {"role": "user", "content": "look"},
        {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"},
        {
            "type": "function_call_output", "call_id": "c1",
            "output": [
                {"type": "input_text", "text": "seen"},
                {"type": "input_image", "image_url": "https://x/y.png"},
                {"type": "input_file", "file_id": file.id},
            ],
        },
        {"type": "custom_tool_call", "call_id": "c2", "name": "shell", "input": "ls"},
        {"type": "custom_tool_call_output", "call_id": "c2", "output": "a.txt"},
    ]  # fmt: skip
    running.client.responses.create(model="m", input=history)
    _, called, returned, custom, custom_output = running.responder.asked[-1].messages
    assert called.tool_calls[0].name == "look"
    assert "seen" in returned.tool_outputs[0].output
    assert "forty-two" in returned.tool_outputs[0].output
    assert returned.content is not None
    assert returned.content[0]["image_url"]["url"] == "https://x/y.png"
    assert custom.tool_calls[0].arguments == '{"input": "ls"}'
    assert custom_output.tool_outputs[0].output == "a.txt"
    with pytest.raises(openai.BadRequestError, match="No tool output found for custom tool call c2"):
        running.client.responses.create(model="m", input=history[3:4])
