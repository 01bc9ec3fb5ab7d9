from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import openai
import pytest

from batchrun.server.responders.base import Conversation, Finish, Part, ResponderError, TextDelta, TokenCount
from tests.integration.server.conftest import Running
from tests.integration.server.scripted import call_functions, echo, forever

Start = Callable[..., Running]

WEATHER: Any = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": False}


def test_a_response_is_made_in_one_request(start: Start) -> None:
    """create returns the whole response, which is stored, and retrieve returns it again."""
    client = start().client
    response = client.responses.create(model="m", input="Hello", metadata={"row": "1"})
    assert response.status == "completed"
    assert response.output_text == "You said: Hello"
    assert response.usage is not None
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens
    assert client.responses.retrieve(response.id) == response
    assert [item.type for item in client.responses.input_items.list(response.id)] == ["message"]
    client.responses.delete(response.id)
    with pytest.raises(openai.NotFoundError, match=f"Response with id '{response.id}' not found"):
        client.responses.retrieve(response.id)


def test_a_streamed_response_has_its_events_in_order(start: Start) -> None:
    """A streamed response numbers its events from 0 and ends with response.completed."""
    events = list(start().client.responses.create(model="m", input="Hello", stream=True))
    assert [event.type for event in events] == [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
        "response.output_text.delta", "response.output_text.delta", "response.output_text.delta",
        "response.output_text.done", "response.content_part.done", "response.output_item.done",
        "response.completed",
    ]  # fmt: skip
    assert [event.sequence_number for event in events] == list(range(len(events)))


def test_a_chain_of_responses_is_a_conversation(start: Start) -> None:
    """previous_response_id adds the earlier inputs and answers, but not the instructions."""
    running = start()
    first = running.client.responses.create(model="m", input="one", instructions="Be brief.")
    second = running.client.responses.create(model="m", input="two", previous_response_id=first.id)
    running.client.responses.create(model="m", input="three", previous_response_id=second.id)
    asked = running.responder.asked[-1]
    assert [message.text for message in asked.messages] == ["one", "You said: one", "two", "You said: two", "three"]
    assert asked.instructions == ""


def test_functions_are_called_and_answered(start: Start) -> None:
    """A response ends with its calls; the next one gets their outputs; a call without an output is refused."""
    running = start(call_functions)
    client = running.client
    first = client.responses.create(model="m", input="weather?", tools=[WEATHER])
    (call,) = first.output
    assert call.type == "function_call"
    assert (call.name, call.arguments, call.status) == ("weather", '{"city": "Bern"}', "completed")
    with pytest.raises(openai.BadRequestError, match=f"No tool output found for function call {call.call_id}"):
        client.responses.create(model="m", input="and?", previous_response_id=first.id)
    output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    second = client.responses.create(model="m", input=[output], previous_response_id=first.id)
    assert second.output_text == "sunny"
    with pytest.raises(openai.BadRequestError, match="No tool call found for function call output"):
        client.responses.create(model="m", input=[output])


def test_a_conversation_collects_its_items(start: Start) -> None:
    """A conversation gets each response's input and output, in order, and can be listed, changed and deleted."""
    client = start().client
    conversation = client.conversations.create(
        items=[{"type": "message", "role": "user", "content": "zero"}], metadata={"a": "b"}
    )
    client.responses.create(model="m", input="one", conversation=conversation.id)
    items: list[Any] = list(client.conversations.items.list(conversation.id, order="asc"))
    assert [item.content[0].text for item in items] == ["zero", "one", "You said: one"]
    assert client.conversations.items.retrieve(items[1].id, conversation_id=conversation.id) == items[1]
    client.conversations.items.delete(items[0].id, conversation_id=conversation.id)
    assert len(client.conversations.items.list(conversation.id).data) == 2
    assert client.conversations.update(conversation.id, metadata={"c": "d"}).metadata == {"a": "b", "c": "d"}
    assert client.conversations.delete(conversation.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.conversations.retrieve(conversation.id)


def test_a_conversation_is_locked_while_a_response_is_made(start: Start) -> None:
    """A second concurrent response on a conversation is refused with conversation_locked."""
    client = start(forever).client
    conversation = client.conversations.create()
    client.responses.create(model="m", input="one", conversation=conversation.id, background=True)
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="m", input="two", conversation=conversation.id)
    assert caught.value.code == "conversation_locked"


def test_a_background_response_can_be_polled_followed_and_cancelled(start: Start) -> None:
    """A background response returns at once; it can be cancelled, and its events can be followed from a number."""
    client = start(forever).client
    response = client.responses.create(model="m", input="one", background=True)
    assert response.status == "queued"
    stream: Any = client.responses.retrieve(response.id, stream=True)
    seen = []
    for event in stream:
        seen.append(event)
        if event.type == "response.output_text.delta":
            assert client.responses.cancel(response.id).status == "cancelled"
    assert client.responses.retrieve(response.id).status == "cancelled"
    later: Any = client.responses.retrieve(response.id, stream=True, starting_after=3)
    assert [event.sequence_number for event in later] == [event.sequence_number for event in seen][4:]


def test_only_background_responses_can_be_cancelled(start: Start) -> None:
    """The cancellation of a synchronous response is refused with the hosted API's text."""
    client = start().client
    response = client.responses.create(model="m", input="one")
    with pytest.raises(openai.BadRequestError, match="Cannot cancel a synchronous response"):
        client.responses.cancel(response.id)


def test_a_failed_response_is_answered_with_its_error(start: Start) -> None:
    """A responder's error makes the response fail, with HTTP 200 and the error's code."""

    async def refuse(conversation: Conversation) -> AsyncIterator[Part]:
        yield TextDelta("so f")
        raise ResponderError("too fast", code="rate_limit_exceeded")

    response = start(refuse).client.responses.create(model="m", input="one")
    assert response.status == "failed"
    assert response.error is not None
    assert (response.error.code, response.error.message) == ("rate_limit_exceeded", "too fast")
    assert response.output_text == "so f"


def test_a_cut_response_is_incomplete(start: Start) -> None:
    """An answer that max_output_tokens cuts off is incomplete, with its reason."""

    async def cut(conversation: Conversation) -> AsyncIterator[Part]:
        assert conversation.max_completion_tokens == 16
        yield TextDelta("so f")
        yield Finish("length", TokenCount(5, 16))

    response = start(cut).client.responses.create(model="m", input="one", max_output_tokens=16)
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"


def test_an_unstored_response_is_not_found(start: Start) -> None:
    """store=False stores nothing."""
    client = start().client
    response = client.responses.create(model="m", input="one", store=False)
    assert response.output_text == "You said: one"
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response.id)


def test_a_chat_completion(start: Start) -> None:
    """A chat completion has one choice and its usage; the responder gets the parameters."""
    running = start()
    completion = running.client.chat.completions.create(
        model="m", seed=7, temperature=0.5,
        messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}],
    )  # fmt: skip
    (choice,) = completion.choices
    assert (choice.message.content, choice.finish_reason) == ("You said: Hello", "stop")
    assert completion.usage is not None
    assert completion.usage.total_tokens > 0
    asked = running.responder.asked[-1]
    assert asked.instructions == "Be brief."
    assert asked.parameters == {"seed": 7, "temperature": 0.5}
    assert [message.role for message in asked.messages] == ["user"]


def test_a_streamed_chat_completion(start: Start) -> None:
    """The chunks joined are the answer; requested usage comes last."""
    chunks = list(
        start().client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "Hello"}], stream=True,
            stream_options={"include_usage": True},
        )
    )  # fmt: skip
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == "You said: Hello"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None


def test_chat_tools(start: Start) -> None:
    """Tool calls arrive complete, plain and streamed, and their outputs reach the responder."""
    running = start(call_functions)
    create = running.client.chat.completions.create
    question: Any = {"role": "user", "content": "weather?"}
    tools: Any = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    message = create(model="m", messages=[question], tools=tools).choices[0].message
    assert message.tool_calls is not None
    assert message.content is None
    chunks = list(create(model="m", messages=[question], tools=tools, stream=True))
    assert [c.choices[0].finish_reason for c in chunks][-1] == "tool_calls"
    assert chunks[1].choices[0].delta.tool_calls is not None
    output: Any = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "sunny"}
    called: Any = message.model_dump(exclude_none=True)
    assert create(model="m", messages=[question, called, output]).choices[0].message.content == "sunny"
    with pytest.raises(openai.BadRequestError, match="must be followed by tool messages"):
        create(model="m", messages=[question, called, question])


@pytest.mark.parametrize("stream", [False, True])
def test_a_chat_error_is_an_http_error(start: Start, stream: bool) -> None:
    """A responder's rate limit before the first word is an HTTP 429 with Retry-After, streamed or not."""

    async def refuse(conversation: Conversation) -> AsyncIterator[Part]:
        if conversation.messages:
            raise ResponderError("too fast", code="rate_limit_exceeded", retry_after_s=3)
        yield Finish("stop")

    with pytest.raises(openai.RateLimitError) as caught:
        start(refuse).client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "x"}], stream=stream
        )
    assert caught.value.response.headers["retry-after"] == "3"
    assert caught.value.code == "rate_limit_exceeded"


def test_a_chat_error_in_the_stream_is_an_event(start: Start) -> None:
    """After the first word an error is an event that the SDK raises."""

    async def break_off(conversation: Conversation) -> AsyncIterator[Part]:
        yield TextDelta("so f")
        raise ResponderError("gone")

    stream = start(break_off).client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "x"}], stream=True
    )
    with pytest.raises(openai.APIError, match="gone"):
        list(stream)


@pytest.mark.parametrize("stream", [False, True])
def test_keys_make_every_creation_repeatable(start: Start, stream: bool) -> None:
    """The same key and body return the same completion, response and run, without a second answer."""
    running = start(echo)
    key = {"Idempotency-Key": "row-1"}
    client = running.client

    def read(value: Any) -> list[Any]:
        return [each.model_dump() for each in value] if stream else [value.model_dump()]

    chat: Any = {"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": stream}
    once = read(client.chat.completions.create(**chat, extra_headers={"Idempotency-Key": "a"}))
    assert read(client.chat.completions.create(**chat, extra_headers={"Idempotency-Key": "a"})) == once
    for store in (True, False):
        body: Any = {"model": "m", "input": "x", "stream": stream, "store": store}
        headers = {"Idempotency-Key": f"b{store}"}
        once = read(client.responses.create(**body, extra_headers=headers))
        assert read(client.responses.create(**body, extra_headers=headers)) == once
    run: Any = {"assistant_id": running.assistant(), "stream": stream}
    once = read(client.beta.threads.create_and_run(**run, extra_headers=key))
    assert read(client.beta.threads.create_and_run(**run, extra_headers=key)) == once
    with pytest.raises(openai.ConflictError) as caught:
        client.beta.threads.create_and_run(**run, metadata={"a": "b"}, extra_headers=key)
    assert caught.value.type == "idempotency_error"
    threads: Any = client.get("/threads", cast_to=object, options={"headers": {"OpenAI-Beta": "assistants=v2"}})
    assert len(threads["data"]) == 1


def test_input_tokens_are_those_of_the_response(shared: Running) -> None:
    """The tokens of an input can be counted: as many as a response to it reports, with files and earlier turns."""
    client = shared.client
    file_id = client.files.create(file=("notes.md", b"Dahlias"), purpose="user_data").id
    content: Any = [{"type": "input_file", "file_id": file_id}, {"type": "input_text", "text": "What is this?"}]
    asked: Any = {"input": [{"role": "user", "content": content}], "instructions": "Be brief.", "tools": [WEATHER]}
    count = client.responses.input_tokens.count(**asked)
    assert count.object == "response.input_tokens"
    first = client.responses.create(model="m", **asked)
    assert first.usage is not None
    assert count.input_tokens == first.usage.input_tokens
    more = client.responses.input_tokens.count(model="m", input="And?", previous_response_id=first.id)
    second = client.responses.create(model="m", input="And?", previous_response_id=first.id)
    assert second.usage is not None
    assert more.input_tokens == second.usage.input_tokens


def test_a_count_is_refused_like_its_response(shared: Running) -> None:
    """What a response can't use has no count: the same errors name it."""
    count = shared.client.responses.input_tokens.count
    with pytest.raises(openai.BadRequestError, match="web_search"):
        count(input="x", tools=[{"type": "web_search"}])
    with pytest.raises(openai.BadRequestError, match="'resp_x' not found"):
        count(input="x", previous_response_id="resp_x")
    unreadable: Any = {
        "type": "input_file",
        "file_id": shared.client.files.create(file=("a.bin", b"\0\1\2"), purpose="user_data").id,
    }
    with pytest.raises(openai.BadRequestError, match=r"a\.bin"):
        count(input=[{"role": "user", "content": [unreadable]}])
