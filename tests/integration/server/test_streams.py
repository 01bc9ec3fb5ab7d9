"""The bytes on the wire: forms of objects, followed streams, keep-alive comments, clients that disconnect."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import httpx2
import pytest
from openai.types import FileObject, Model, VectorStore, VectorStoreSearchResponse
from openai.types.beta import Assistant, Thread
from openai.types.beta.assistant_stream_event import AssistantStreamEvent
from openai.types.beta.threads import Message, Run
from openai.types.beta.threads.runs import RunStep
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.conversations import Conversation as ConversationBody
from openai.types.conversations import ConversationItem
from openai.types.responses import Response, ResponseStreamEvent
from openai.types.vector_stores import VectorStoreFile, VectorStoreFileBatch

from batchrun.server.responders.base import Conversation, Finish, Part, ResponderError, TextDelta
from tests.integration.server.conftest import Running
from tests.integration.server.scripted import WEATHER, call_functions, echo, forever
from tests.integration.server.sdk_types import validate

Start = Callable[..., Running]
BETA = {"OpenAI-Beta": "assistants=v2"}


def strictly(shape: Any, data: Any) -> Any:
    """Validate `data` strictly as the SDK's type, and return it."""
    validate(shape, json.dumps(data))
    return data


class Wire:
    """Sends raw requests to a server and validates every JSON reply strictly."""

    def __init__(self, running: Running) -> None:
        self.url = running.url

    def send(self, method: str, path: str, shape: Any, body: Any = None, **options: Any) -> Any:
        reply = httpx2.request(method, self.url + path, json=body, headers=BETA, **options)
        assert reply.status_code == 200, reply.text
        return strictly(shape, reply.json())

    def stream(self, path: str, body: Any = None, headers: dict[str, str] | None = None) -> list[tuple[str, str, Any]]:
        """Return (id, event, data) of a stream up to its end."""
        method = "GET" if body is None else "POST"
        reply = httpx2.request(method, self.url + path, json=body, headers={**BETA, **(headers or {})})
        assert reply.status_code == 200, reply.text
        return frames(reply.text)


def frames(text: str) -> list[tuple[str, str, Any]]:
    found = []
    for block in text.split("\n\n"):
        fields = dict(re.findall(r"^(id|event|data): (.*)$", block, re.M))
        if fields:
            data = fields["data"]
            found.append(
                (fields.get("id", ""), fields.get("event", ""), data if data == "[DONE]" else json.loads(data))
            )
    return found


def ended(text: str) -> Any:
    """Return a responder that ends its answers in a certain way."""

    async def script(conversation: Conversation) -> AsyncIterator[Part]:
        yield TextDelta("some text")
        if text == "error":
            raise ResponderError("no", code="invalid_prompt")
        yield Finish("length" if text == "length" else "content_filter")

    return script


async def refuse(conversation: Conversation) -> AsyncIterator[Part]:
    """Refuse, in two pieces."""
    yield TextDelta("I can't ", refusal=True)
    yield TextDelta("answer that.", refusal=True)
    yield Finish("stop")


@pytest.mark.parametrize(
    "script", [echo, call_functions, refuse, ended("error"), ended("length"), ended("content_filter")]
)
def test_every_run_object_and_event_is_of_the_sdks_types(start: Start, script: Any) -> None:
    """Assistants, threads, messages, runs, steps and all stream events validate strictly for every end of a run."""
    wire = Wire(start(script))
    assistant = wire.send("POST", "/assistants", Assistant, {"model": "m", "tools": [WEATHER]})
    body = {
        "assistant_id": assistant["id"], "stream": True,
        "thread": {"messages": [{"role": "user", "content": "hi"}]},
    }  # fmt: skip
    events = wire.stream("/threads/runs", body)
    assert events[-1][1:] == ("done", "[DONE]")
    for _, event, data in events[:-1]:
        strictly(AssistantStreamEvent, {"event": event, "data": data})
    run = wire.send("GET", f"/threads/{events[-2][2]['thread_id']}/runs/{events[-2][2]['id']}", Run)
    if run["status"] == "requires_action":
        outputs = {"tool_outputs": [{"tool_call_id": "call_0", "output": "x"}], "stream": True}
        for _, event, data in wire.stream(f"/threads/{run['thread_id']}/runs/{run['id']}/submit_tool_outputs", outputs)[
            :-1
        ]:
            strictly(AssistantStreamEvent, {"event": event, "data": data})
    strictly(Thread, wire.send("GET", f"/threads/{run['thread_id']}", Thread))
    for message in wire.send("GET", f"/threads/{run['thread_id']}/messages", Any)["data"]:
        strictly(Message, message)
    for step in wire.send("GET", f"/threads/{run['thread_id']}/runs/{run['id']}/steps", Any)["data"]:
        strictly(RunStep, step)
    strictly(list[Model], wire.send("GET", "/models", Any)["data"])


@pytest.mark.parametrize("script", [echo, call_functions, refuse, ended("error"), ended("length")])
def test_every_response_and_chat_object_is_of_the_sdks_types(start: Start, script: Any) -> None:
    """Responses with their events, conversations with their items, completions and chunks validate strictly."""
    wire = Wire(start(script))
    conversation = wire.send("POST", "/conversations", ConversationBody, {})
    tool = {"type": "function", "name": "weather", "parameters": {"type": "object"}}
    body = {"model": "m", "input": "hi", "tools": [tool], "conversation": conversation["id"]}
    wire.send("POST", "/responses", Response, body)
    for item in wire.send("GET", f"/conversations/{conversation['id']}/items", Any)["data"]:
        strictly(ConversationItem, item)
    events = wire.stream("/responses", {"model": "m", "input": "hi", "tools": [tool], "stream": True})
    for _, event, data in events:
        assert strictly(ResponseStreamEvent, data)["type"] == event
    chat = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "tools": [WEATHER]}
    if script in (echo, call_functions, refuse):
        strictly(ChatCompletion, wire.send("POST", "/chat/completions", ChatCompletion, chat))
        for _, _, data in wire.stream("/chat/completions", {**chat, "stream": True})[:-1]:
            strictly(ChatCompletionChunk, data)


def test_a_refusal_is_a_separate_part(start: Start) -> None:
    """In every protocol, plain and streamed, a refusal is not a text part; the next run reads its words."""
    said, wire = "I can't answer that.", Wire(start(refuse))
    assistant = wire.send("POST", "/assistants", Assistant, {"model": "m"})
    thread = {"messages": [{"role": "user", "content": "hi"}]}
    events = wire.stream("/threads/runs", {"assistant_id": assistant["id"], "stream": True, "thread": thread})
    deltas = [data["delta"]["content"][0] for _, event, data in events if event == "thread.message.delta"]
    assert "".join(part["refusal"] for part in deltas) == said
    (message,) = [data for _, event, data in events if event == "thread.message.completed"]
    assert message["content"] == [{"type": "refusal", "refusal": said}]
    again = {"assistant_id": assistant["id"], "stream": True}
    assert wire.stream(f"/threads/{message['thread_id']}/runs", again)[-2][1] == "thread.run.completed"

    response = wire.send("POST", "/responses", Response, {"model": "m", "input": "hi"})
    assert response["output"][0]["content"] == [{"type": "refusal", "refusal": said}]
    chain = {"model": "m", "input": "hi", "previous_response_id": response["id"], "stream": True}
    events = wire.stream("/responses", chain)
    assert "".join(data["delta"] for _, event, data in events if event == "response.refusal.delta") == said
    assert [data["refusal"] for _, event, data in events if event == "response.refusal.done"] == [said]

    chat = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    answer = wire.send("POST", "/chat/completions", ChatCompletion, chat)["choices"][0]["message"]
    assert (answer["content"], answer["refusal"]) == (None, said)
    more = {"model": "m", "messages": [*chat["messages"], answer, *chat["messages"]], "stream": True}
    chunks = [data["choices"][0]["delta"] for _, _, data in wire.stream("/chat/completions", more)[:-1]]
    assert "".join(chunk.get("refusal") or "" for chunk in chunks) == said


def test_every_file_object_is_of_the_sdks_types(start: Start) -> None:
    """Files, vector stores, their files, batches and search results validate strictly."""
    running = start()
    wire = Wire(running)
    reply = httpx2.post(f"{running.url}/files", files={"file": ("a.txt", b"dahlias")}, data={"purpose": "assistants"})
    file = strictly(FileObject, reply.json())
    store = wire.send("POST", "/vector_stores", VectorStore, {"name": "s"})
    wire.send("POST", f"/vector_stores/{store['id']}/files", VectorStoreFile, {"file_id": file["id"]})
    running.client.vector_stores.files.poll(file["id"], vector_store_id=store["id"], poll_interval_ms=20)
    wire.send("POST", f"/vector_stores/{store['id']}/file_batches", VectorStoreFileBatch, {"file_ids": [file["id"]]})
    running.client.vector_stores.files.poll(file["id"], vector_store_id=store["id"], poll_interval_ms=20)
    for found in wire.send("POST", f"/vector_stores/{store['id']}/search", Any, {"query": "dahlias"})["data"]:
        strictly(VectorStoreSearchResponse, found)
    wire.send("GET", f"/vector_stores/{store['id']}", VectorStore)


@pytest.mark.parametrize("position", range(0, 16, 3))
def test_a_run_can_be_followed_from_any_position(start: Start, position: int) -> None:
    """After its end a run's events can be requested from any position, each with its id, over all its segments."""
    running = start(call_functions)
    wire = Wire(running)
    body = {"assistant_id": running.assistant(tools=[WEATHER]), "stream": True}
    first = wire.stream("/threads/runs", body)[:-1]
    run = first[-1][2]
    url = f"/threads/{run['thread_id']}/runs/{run['id']}"
    outputs = {"tool_outputs": [{"tool_call_id": "call_0", "output": "x"}], "stream": True}
    whole = first + wire.stream(f"{url}/submit_tool_outputs", outputs)[:-1]
    followed = wire.stream(f"{url}/events?after={position}")
    assert followed[-1][1:] == ("done", "[DONE]")
    assert [frame[1:] for frame in followed[:-1]] == [frame[1:] for frame in whole[position:]]
    if followed[0][0]:
        assert followed[0][0] == f"1.{position + 1}"
        assert wire.stream(f"{url}/events", headers={"Last-Event-ID": followed[0][0]}) == followed[1:]


def test_a_client_that_disconnects_does_not_stop_the_run(start: Start) -> None:
    """A run continues when its streaming client disconnects, and another client can follow it live."""
    left = threading.Event()

    async def patient(conversation: Conversation) -> AsyncIterator[Part]:
        yield TextDelta("before")
        while not left.is_set():
            await anyio.sleep(0.005)
        yield TextDelta(" after")
        yield Finish("stop")

    running = start(patient)
    stream: Any = running.client.beta.threads.create_and_run(assistant_id=running.assistant(), stream=True)
    run = next(event.data for event in stream if event.event == "thread.run.created")
    next(event for event in stream if event.event == "thread.message.delta")
    stream.close()
    url = f"{running.url}/threads/{run.thread_id}/runs/{run.id}/events"
    with httpx2.stream("GET", url, headers=BETA) as following:
        text = ""
        for piece in following.iter_text():
            text += piece
            if "before" in text:
                left.set()
    assert frames(text)[-2][1] == "thread.run.completed"
    (message,) = running.client.beta.threads.messages.list(run.thread_id).data
    assert message.content[0].text.value == "before after"  # type: ignore[union-attr]  # it is text


def test_silent_streams_are_kept_alive(start: Start) -> None:
    """While a responder is silent the stream sends comments, which are not events."""
    running = start(forever, keep_alive_s=0.02)
    body = {"assistant_id": running.assistant(), "stream": True}
    with httpx2.stream("POST", f"{running.url}/threads/runs", json=body, headers=BETA) as reply:
        text = ""
        for piece in reply.iter_text():
            text += piece
            if text.count(": keep-alive\n\n") == 3:
                break
    assert frames(text)[-1][1] == "thread.message.delta"


def test_a_live_run_is_joined_by_its_key(start: Start) -> None:
    """During a run the same key and body return the same events from the start."""
    running = start(forever)
    options: Any = {
        "assistant_id": running.assistant(), "stream": True, "extra_headers": {"Idempotency-Key": "row"},
    }  # fmt: skip
    create: Any = running.client.beta.threads.create_and_run
    seen: list[list[str]] = []
    with create(**options) as first, create(**options) as second:
        for stream in (first, second):
            names = []
            for event in stream:
                names.append(event.event)
                if event.event == "thread.message.delta":
                    break
            seen.append(names)
    assert seen[0] == seen[1]
    assert len(running.responder.asked) == 1


def test_a_stopping_server_ends_streams_without_done(start: Start) -> None:
    """A run that the server's stop interrupts sends no terminal event, so that no client mistakes it for finished."""
    running = start(forever)
    stream: Any = running.client.beta.threads.create_and_run(assistant_id=running.assistant(), stream=True)
    next(event for event in stream if event.event == "thread.message.delta")
    stopping = threading.Thread(target=running.server.stop)
    stopping.start()
    assert [event.event for event in stream] == []
    stopping.join()
