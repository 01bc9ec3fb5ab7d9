from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx2
import openai
import pytest
from openai import OpenAI

from tests.integration.server.conftest import Running
from tests.integration.server.scripted import echo

Start = Callable[..., Running]
BETA = {"OpenAI-Beta": "assistants=v2"}


def test_every_path_is_served_with_and_without_v1(start: Start) -> None:
    """The same operations are served below /v1 and at the root."""
    url = start().url
    for base in (url, url.removesuffix("/v1")):
        assert httpx2.get(f"{base}/assistants", headers=BETA).json()["object"] == "list"


def test_the_beta_header_is_required(start: Start) -> None:
    """Without OpenAI-Beta the assistants endpoints return the hosted API's error text and code."""
    reply = httpx2.get(f"{start().url}/assistants")
    assert reply.status_code == 400
    assert reply.json() == {
        "error": {
            "message": "You must provide the 'OpenAI-Beta' header to access the Assistants API. "
            "Please try again by setting the header 'OpenAI-Beta: assistants=v2'.",
            "type": "invalid_request_error", "param": None, "code": "invalid_beta",
        }
    }  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing", 404), ("DELETE", "/assistants", 405), ("GET", "/threads/t/runs/r/steps/s/more", 404)],
)
def test_unknown_urls_have_the_error_body(start: Start, method: str, path: str, status: int) -> None:
    """The reply to an unknown path or method has all four keys of the error body."""
    reply = httpx2.request(method, start().url + path, headers=BETA)
    assert reply.status_code == status
    assert reply.json()["error"].keys() == {"message", "type", "param", "code"}
    assert path in reply.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "body", "param", "code"),
    [
        ("/assistants", {}, "model", "missing_required_parameter"),
        ("/assistants", {"model": "m", "nmae": "x"}, "nmae", "unknown_parameter"),
        ("/assistants", {"model": 5}, "model", "invalid_type"),
        ("/assistants", {"model": "m", "name": "x" * 257}, "name", "string_above_max_length"),
        ("/assistants", {"model": "m", "description": "x" * 513}, "description", "string_above_max_length"),
        ("/assistants", {"model": "m", "instructions": "x" * 256_001}, "instructions", "string_above_max_length"),
        ("/assistants", {"model": "m", "temperature": 2.1}, "temperature", "decimal_above_maximum_value"),
        ("/assistants", {"model": "m", "tools": [{"type": "retrieval"}]}, "tools[0].type", "invalid_value"),
        ("/assistants", {"model": "m", "tools": [{}]}, "tools[0].type", "missing_required_parameter"),
        ("/assistants", {"model": "m", "tools": [{"type": "function"}]}, "tools[0].function",
         "missing_required_parameter"),
        ("/assistants", {"model": "m", "tools": [{"type": "code_interpreter"}] * 129}, "tools",
         "array_above_max_length"),
        ("/assistants", {"model": "m", "metadata": {str(n): "" for n in range(17)}}, "metadata",
         "object_above_max_length"),
        ("/assistants", {"model": "m", "metadata": {"k": "x" * 513}}, "metadata.k", "string_above_max_length"),
        ("/assistants", {"model": "m", "metadata": {"k": 1}}, "metadata.k", "invalid_type"),
        ("/assistants",
         {"model": "m", "tools": [{"type": "file_search", "file_search": {"max_num_results": 51}}]},
         "tools[0].file_search.max_num_results", "integer_above_maximum_value"),
        ("/assistants", {"model": "m", "tool_resources": {"code_interpreter": {"file_ids": ["f"] * 21}}},
         "tool_resources.code_interpreter.file_ids", "array_above_max_length"),
        ("/assistants", {"model": "m", "tool_resources": {"file_search": {"vector_store_ids": ["a", "b"]}}},
         "tool_resources.file_search.vector_store_ids", "array_above_max_length"),
        ("/threads/runs", {"assistant_id": "a", "max_prompt_tokens": 255}, "max_prompt_tokens",
         "integer_below_minimum_value"),
        ("/threads/runs", {"assistant_id": "a", "tools": [{"type": "code_interpreter"}] * 21}, "tools",
         "array_above_max_length"),
        ("/threads/runs", {"assistant_id": "a", "truncation_strategy": {"type": "last_messages", "last_messages": 0}},
         "truncation_strategy.last_messages", "integer_below_minimum_value"),
        ("/threads/runs", {"assistant_id": "a", "thread": {"messages": [{"role": "robot", "content": "x"}]}},
         "thread.messages[0].role", "invalid_value"),
        ("/threads/runs", {"assistant_id": "a", "stream": "yes"}, "stream", "invalid_type"),
        ("/chat/completions", {"model": "m", "messages": []}, "messages", "array_below_min_length"),
        ("/chat/completions", {"model": "m", "messages": [{"role": "user", "content": "x"}], "n": 2}, "n",
         "integer_above_maximum_value"),
        ("/responses", {"model": "m", "input": [{"type": "computer_call"}]}, "input[0].type", "invalid_value"),
        ("/vector_stores", {"chunking_strategy":
         {"type": "static", "static": {"max_chunk_size_tokens": 99, "chunk_overlap_tokens": 0}}},
         "chunking_strategy.static.max_chunk_size_tokens", "integer_below_minimum_value"),
    ],
)  # fmt: skip
def test_limits_of_the_reference_name_the_parameter(
    shared: Running, path: str, body: dict[str, Any], param: str, code: str
) -> None:
    """A body beyond the limits of the API reference is a 400 that names parameter and error."""
    reply = httpx2.post(shared.url + path, json=body, headers=BETA)
    assert reply.status_code == 400, reply.text
    error = reply.json()["error"]
    assert (error["param"], error["code"]) == (param, code)
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "raw",
    [b"{", b"[]", b'"text"', b"\xff\xfe", b'{"model": NaN}', b'{"model": "\\ud800"}', b'{"model":' + b"[" * 100_000,
     b'{"model": "m", "temperature": 1e999}', b"null"],
)  # fmt: skip
def test_bodies_that_are_not_a_json_object_are_refused(shared: Running, raw: bytes) -> None:
    """The reply to a body of any bytes is a 400 with a message, never a 500."""
    headers = {**BETA, "Content-Type": "application/json"}
    reply = httpx2.post(f"{shared.url}/assistants", content=raw, headers=headers)
    assert reply.status_code == 400, reply.text
    assert reply.json()["error"]["message"]


def test_bodies_are_bounded(start: Start) -> None:
    """A body over the limit is refused with 413, with or without Content-Length."""
    url = start(max_body_bytes=1000).url
    headers = {**BETA, "Content-Type": "application/json"}
    body = json.dumps({"model": "m", "instructions": "x" * 2000}).encode()
    assert httpx2.post(f"{url}/assistants", content=body, headers=headers).status_code == 413
    chunks = iter([body[:500], body[500:]])
    assert httpx2.post(f"{url}/assistants", content=chunks, headers=headers).status_code == 413


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=x", "limit"),
        ("limit=%D9%A3", "limit"),
        ("order=up", "order"),
    ],
)
def test_list_parameters_are_checked(shared: Running, query: str, param: str) -> None:
    """limit is 1 to 100 and order is asc or desc; any other value is a 400 that names the parameter."""
    reply = httpx2.get(f"{shared.url}/assistants?{query}", headers=BETA)
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == param


@pytest.mark.parametrize("path", ["thread", "assistant", "run"])
def test_missing_objects_have_the_exact_text(shared: Running, path: str) -> None:
    """404s of threads, assistants and runs have the text that clients match."""
    thread = shared.client.beta.threads.create()
    url = {
        "thread": "/threads/thread_x",
        "assistant": "/assistants/assistant_x",
        "run": f"/threads/{thread.id}/runs/run_x",
    }[path]
    reply = httpx2.get(shared.url + url, headers=BETA)
    assert reply.status_code == 404
    assert reply.json()["error"] == {
        "message": f"No {path} found with id '{path}_x'.", "type": "invalid_request_error", "param": None, "code": None,
    }  # fmt: skip


def test_keys_are_checked(start: Start) -> None:
    """A wrong key is a 401 that shows only its ends; the error for a missing key states what to do."""
    running = start(key="sk-right", api_keys=("sk-right", "sk-second"))
    assert running.client.models.list().data[0].id == "scripted-1"
    wrong = "sk-wrong-secret-middle-part-1234"
    with (
        OpenAI(base_url=running.url, api_key=wrong, max_retries=0) as other,
        pytest.raises(openai.AuthenticationError) as caught,
    ):
        other.models.list()
    assert caught.value.code == "invalid_api_key"
    assert "Incorrect API key provided: sk-w" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert httpx2.get(f"{running.url}/models").status_code == 401
    assert httpx2.get(f"{running.url}/models", headers={"Authorization": "Basic x"}).status_code == 401


def test_each_key_sees_only_its_own(start: Start) -> None:
    """Another key cannot find, list, change or use the objects of a key."""
    running = start(key="one", api_keys=("one", "two"))
    mine = running.client
    theirs = OpenAI(base_url=running.url, api_key="two", max_retries=0)
    assistant_id = running.assistant()
    file = mine.files.create(file=("a.txt", b"a"), purpose="assistants")
    store = mine.vector_stores.create()
    run = mine.beta.threads.create_and_run_poll(assistant_id=assistant_id)
    response = mine.responses.create(model="m", input="x")
    attempts: list[Callable[[], Any]] = [
        lambda: theirs.beta.assistants.retrieve(assistant_id),
        lambda: theirs.beta.assistants.delete(assistant_id),
        lambda: theirs.beta.threads.retrieve(run.thread_id),
        lambda: theirs.beta.threads.runs.retrieve(run.id, thread_id=run.thread_id),
        lambda: theirs.beta.threads.create_and_run(assistant_id=assistant_id),
        lambda: theirs.files.content(file.id),
        lambda: theirs.vector_stores.search(store.id, query="x"),
        lambda: theirs.responses.retrieve(response.id),
    ]
    for attempt in attempts:
        with pytest.raises(openai.NotFoundError):
            attempt()
    assert theirs.beta.assistants.list().data == []
    assert theirs.files.list().data == []
    theirs.close()


def test_keys_of_one_owner_repeat_nothing_for_another(start: Start) -> None:
    """The same idempotency key of two API keys belongs to two requests."""
    running = start(key="one", api_keys=("one", "two"))
    headers = {"Idempotency-Key": "same"}
    first = running.client.beta.threads.create(extra_headers=headers)
    with OpenAI(base_url=running.url, api_key="two", max_retries=0) as other:
        assert other.beta.threads.create(extra_headers=headers).id != first.id


def test_what_is_served_is_documented(shared: Running) -> None:
    """The OpenAPI document names every path with its body, and /docs shows it."""
    paths = httpx2.get(f"{shared.url}/openapi.json", timeout=60).json()["paths"]
    assert paths["/v1/threads/runs"]["post"]["requestBody"]
    assert len(paths) > 35
    page = httpx2.get(f"{shared.url.removesuffix('/v1')}/docs", timeout=60)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "/v1/threads/runs" in page.text


def test_an_assistant_is_changed_as_the_hosted_one(start: Start) -> None:
    """Tools are replaced, defaults are returned, functions get `strict`, and code_interpreter gets its file list."""
    client = start(echo).client
    assistants = client.beta.assistants
    assistant = assistants.create(model="m", tools=[{"type": "code_interpreter"}], metadata={"a": "b"})
    assert assistant.model_dump()["tool_resources"] == {"code_interpreter": {"file_ids": []}, "file_search": None}
    function: Any = {"type": "function", "function": {"name": "f"}}
    changed = assistants.update(assistant.id, tools=[function, {"type": "file_search"}], name="N")
    assert changed.model_dump()["tools"][0]["function"] == {
        "name": "f", "description": None, "parameters": None, "strict": False,
    }  # fmt: skip
    assert changed.model_dump()["tools"][1]["file_search"] == {
        "max_num_results": None, "ranking_options": {"score_threshold": 0.0, "ranker": "default_2024_08_21"},
    }  # fmt: skip
    assert (changed.name, changed.metadata, changed.model) == ("N", {"a": "b"}, "m")
    assert assistants.delete(assistant.id).deleted


def test_messages_are_kept_as_they_were_sent(start: Start) -> None:
    """Text, image and attachment parts, metadata and order are returned; changes and deletions take effect."""
    client = start(echo).client
    messages = client.beta.threads.messages
    thread = client.beta.threads.create()
    image: Any = {"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}}
    first = messages.create(thread.id, role="user", content=[{"type": "text", "text": "look"}, image])
    assert [part.type for part in first.content] == ["text", "image_url"]
    assert first.status == "completed"
    second = messages.create(thread.id, role="assistant", content="nice")
    assert [each.id for each in messages.list(thread.id)] == [second.id, first.id]
    assert messages.update(first.id, thread_id=thread.id, metadata={"a": "b"}).metadata == {"a": "b"}
    assert messages.delete(second.id, thread_id=thread.id).deleted
    with pytest.raises(openai.NotFoundError, match="No message found"):
        messages.retrieve(second.id, thread_id=thread.id)


def test_metadata_updates_merge_in_every_kind_of_object(start: Start) -> None:
    """An update sets and removes single keys of assistants, threads, messages, runs, vector stores and conversations."""
    running = start()
    client = running.client
    first: Any = {"metadata": {"a": "1", "b": "2", "c": "3"}}
    change: Any = {"metadata": {"a": None, "b": "", "d": "4"}}
    assistant = client.beta.assistants.create(model="m", **first)
    thread = client.beta.threads.create(**first)
    message = client.beta.threads.messages.create(thread.id, role="user", content="x", **first)
    run = client.beta.threads.runs.create_and_poll(
        thread_id=thread.id, assistant_id=assistant.id, poll_interval_ms=20, **first
    )
    store, conversation = client.vector_stores.create(**first), client.conversations.create(**first)
    for values, expected in (
        (change, {"c": "3", "d": "4"}),
        ({"metadata": {}}, {"c": "3", "d": "4"}),
        ({"metadata": {"c": "9"}}, {"c": "9", "d": "4"}),
    ):
        changed: list[Any] = [
            client.beta.assistants.update(assistant.id, **values),
            client.beta.threads.update(thread.id, **values),
            client.beta.threads.messages.update(message.id, thread_id=thread.id, **values),
            client.beta.threads.runs.update(run.id, thread_id=thread.id, **values),
            client.vector_stores.update(store.id, **values),
            client.conversations.update(conversation.id, **values),
        ]
        assert [each.metadata for each in changed] == [expected] * 6


def test_web_pages_cannot_use_a_server_without_keys(start: Callable[..., Running]) -> None:
    """A foreign page, a rebound name and a body that is not declared as JSON are refused; an allowed page gets CORS."""
    url = start(allowed_origins=("http://app.example",)).url
    body = b'{"model": "scripted-1", "messages": [{"role": "user", "content": "hi"}]}'

    def post(**headers: str) -> httpx2.Response:
        sent = {"Content-Type": "application/json", **headers}
        return httpx2.post(f"{url}/chat/completions", content=body, headers=sent)

    assert post().status_code == 200
    assert post(Origin="https://evil.example").json()["error"]["code"] == "origin_not_allowed"
    assert post(Host="evil.example").json()["error"]["code"] == "host_not_allowed"
    assert post(**{"Content-Type": "text/plain"}).json()["error"]["code"] == "unsupported_content_type"
    allowed = post(Origin="http://app.example")
    assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, "http://app.example")
    asked = {"Origin": "http://app.example", "Access-Control-Request-Method": "POST"}
    assert httpx2.options(f"{url}/assistants", headers=asked).status_code == 200
    assert httpx2.get(f"{url}/docs", headers={"Host": "evil.example"}).status_code == 403
