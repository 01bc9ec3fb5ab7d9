"""The upstream responder with a real HTTP server on loopback that sends recorded replies."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.abc
import pytest

from batchrun.server.responders.base import (
    Conversation,
    Finish,
    Message,
    Part,
    ResponderError,
    TextDelta,
    TokenCount,
    ToolCall,
    ToolCallDelta,
    ToolOutput,
)
from batchrun.server.responders.upstream import UpstreamResponder

pytestmark = pytest.mark.anyio

KEY = "sk-upstream-secret"


@dataclass
class Endpoint:
    """A server that sends the same reply to every request and records the requests.

    Attributes:
        reply: bytes after the status line; with None it never answers.
        closed: set when a client disconnects in the middle of an endless reply.
    """

    url: str = ""
    reply: bytes | None = b""
    endless: bool = False
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[bytes] = field(default_factory=list)
    closed: anyio.Event = field(default_factory=anyio.Event)

    async def serve(self, stream: anyio.abc.SocketStream) -> None:
        async with stream:
            try:
                await self._one_request(stream)
            except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                self.closed.set()

    async def _one_request(self, stream: anyio.abc.SocketStream) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            data += await stream.receive()
        head, _, body = data.partition(b"\r\n\r\n")
        length = next(int(h[15:]) for h in head.split(b"\r\n") if h.lower().startswith(b"content-length:"))
        while len(body) < length:
            body += await stream.receive()
        self.headers.append(head)
        self.requests.append(json.loads(body))
        if self.reply is None:
            await stream.receive()
            return
        await stream.send(b"HTTP/1.1 " + self.reply)
        if self.endless:
            await stream.receive()


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    state = Endpoint()
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    state.url = f"http://127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}/v1"
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, state.serve)
        yield state
        tasks.cancel_scope.cancel()


def stream_of(*events: Any, done: bool = True) -> bytes:
    body = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)
    return (
        b"200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\nconnection: close\r\n\r\n"
        + body
        + (b"data: [DONE]\n\n" if done else b"")
    )


def reply_of(status: str, body: str, *headers: str, kind: str = "application/json") -> bytes:
    lines = [status, f"content-type: {kind}", f"content-length: {len(body.encode())}", *headers, "", body]
    return "\r\n".join(lines).encode()


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {"model": "real-model", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}


def asked(text: str = "hi", **options: Any) -> Conversation:
    return Conversation("my-model", "", (Message("user", text),), **options)


async def parts(endpoint: Endpoint, conversation: Conversation, **options: Any) -> list[Part]:
    responder = UpstreamResponder(endpoint.url, KEY, **options)
    try:
        return [part async for part in responder.respond(conversation)]
    finally:
        await responder.aclose()


async def failure(endpoint: Endpoint, **options: Any) -> ResponderError:
    with pytest.raises(ResponderError) as caught:
        await parts(endpoint, asked(), **options)
    assert KEY not in str(caught.value)
    assert "\n" not in str(caught.value)
    return caught.value


async def test_text_usage_and_model(endpoint: Endpoint) -> None:
    """Text arrives piece by piece, with the endpoint's token count and model name."""
    endpoint.reply = stream_of(
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "Grüß "}),
        chunk({"content": "dich"}),
        chunk({}, "stop"),
        {
            "choices": [],
            "usage": {
                "prompt_tokens": 9,
                "completion_tokens": 4,
                "prompt_tokens_details": {"cached_tokens": 3},
                "completion_tokens_details": {"reasoning_tokens": 1},
            },
        },
    )
    assert await parts(endpoint, asked()) == [
        TextDelta("Grüß "),
        TextDelta("dich"),
        Finish("stop", TokenCount(9, 4, cached_tokens=3, reasoning_tokens=1), "real-model"),
    ]


async def test_the_request(endpoint: Endpoint) -> None:
    """The whole conversation is sent in the form of Chat Completions, including images, calls and parameters."""
    endpoint.reply = stream_of(chunk({"content": "ok"}, "stop"))
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    picture: list[dict[str, Any]] = [
        {"type": "text", "text": "see"},
        {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
    ]
    conversation = Conversation(
        "my-model",
        "Be brief.",
        (
            Message("user", "see", content=picture),
            Message("assistant", "", tool_calls=(ToolCall("call_1", "f", "{}"), ToolCall("call_2", "f", "{}"))),
            Message("tool", "", tool_outputs=(ToolOutput("call_1", "one"), ToolOutput("call_2", "two"))),
        ),
        tools=tools,
        tool_choice="required",
        parallel_tool_calls=False,
        response_format={"type": "json_object"},
        max_completion_tokens=77,
        parameters={"temperature": 0.5, "top_p": None, "seed": 3, "stream": False, "n": 4},
        metadata={"row": "1"},
    )
    await parts(endpoint, conversation)
    await parts(endpoint, asked(max_completion_tokens=5), max_tokens_parameter="max_tokens", include_usage=False)
    calls = [{"id": f"call_{n}", "type": "function", "function": {"name": "f", "arguments": "{}"}} for n in (1, 2)]
    assert endpoint.requests == [
        {
            "model": "my-model",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": picture},
                {"role": "assistant", "content": None, "tool_calls": calls},
                {"role": "tool", "tool_call_id": "call_1", "content": "one"},
                {"role": "tool", "tool_call_id": "call_2", "content": "two"},
            ],
            "tools": tools,
            "tool_choice": "required",
            "parallel_tool_calls": False,
            "response_format": {"type": "json_object"},
            "max_completion_tokens": 77,
            "temperature": 0.5,
            "seed": 3,
            "stream": True,
            "stream_options": {"include_usage": True},
        },
        {
            "model": "my-model",
            "messages": [{"role": "user", "content": "hi"}],
            "max_tokens": 5,
            "stream": True,
        },
    ]
    assert f"authorization: Bearer {KEY}".lower() in endpoint.headers[0].decode().lower()


async def test_environment_is_not_sent(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """Organization and project from the environment are not sent to another service's endpoint."""
    monkeypatch.setenv("OPENAI_ORG_ID", "org-private")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-private")
    endpoint.reply = stream_of(chunk({"content": "ok"}, "stop"))
    await parts(endpoint, asked())
    assert b"private" not in endpoint.headers[0]


async def test_tool_calls_from_fragments(endpoint: Endpoint) -> None:
    """Fragments of calls, also of parallel ones, are passed on as they come; the whole calls precede the Finish."""

    def fragment(index: int, arguments: str, **first: Any) -> dict[str, Any]:
        name = first.pop("name", None)
        function = {"arguments": arguments} | ({"name": name} if name else {})
        return {"tool_calls": [{"index": index, "function": function, **first}]}

    endpoint.reply = stream_of(
        chunk({"content": "Looking."}),
        chunk(fragment(0, "", id="call_a", name="f", type="function")),
        chunk(fragment(0, '{"x"')),
        chunk(fragment(1, "", id="call_b", name="g", type="function")),
        chunk(fragment(0, ": 1}")),
        chunk({}, "tool_calls"),
    )
    assert await parts(endpoint, asked()) == [
        TextDelta("Looking."),
        ToolCallDelta("call_a", "f", '{"x"'),
        ToolCallDelta("call_a", "f", ": 1}"),
        ToolCall("call_a", "f", '{"x": 1}'),
        ToolCall("call_b", "g", "{}"),
        Finish("tool_calls", None, "real-model"),
    ]


async def test_tool_calls_of_sloppy_servers(endpoint: Endpoint) -> None:
    """Whole calls without an index, arguments as an object, and the reason `stop` still make two calls."""
    calls = [{"id": f"call_{n}", "function": {"name": "f", "arguments": {"n": n}}} for n in (1, 2)]
    endpoint.reply = stream_of(chunk({"tool_calls": calls}, "stop"))
    assert await parts(endpoint, asked()) == [
        ToolCallDelta("call_1", "f", '{"n": 1}'),
        ToolCallDelta("call_2", "f", '{"n": 2}'),
        ToolCall("call_1", "f", '{"n": 1}'),
        ToolCall("call_2", "f", '{"n": 2}'),
        Finish("tool_calls", None, "real-model"),
    ]


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ("length", "length"),
        ("model_length", "length"),
        ("content_filter", "content_filter"),
        ("SAFETY", "content_filter"),
        ("eos", "stop"),
        ("tool_calls", "stop"),
    ],
)
async def test_finish_reasons(endpoint: Endpoint, sent: str, expected: str) -> None:
    """Finish reasons are mapped to the four known ones; `tool_calls` without a call becomes `stop`."""
    endpoint.reply = stream_of(chunk({"content": "x"}, sent))
    finish = (await parts(endpoint, asked()))[-1]
    assert isinstance(finish, Finish)
    assert finish.reason == expected


async def test_an_answer_that_was_broken_off(endpoint: Endpoint) -> None:
    """An answer that the endpoint itself calls broken off is a server error, not an answer."""
    endpoint.reply = stream_of(chunk({"content": "half an ans"}, "insufficient_system_resource"))
    error = await failure(endpoint)
    assert (error.code, error.status_code) == ("server_error", 502)


async def test_calls_cut_by_length(endpoint: Endpoint) -> None:
    """A call whose arguments were cut is not made."""
    fragment = {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": '{"x'}}]}
    endpoint.reply = stream_of(chunk(fragment), chunk({}, "length"))
    assert await parts(endpoint, asked()) == [
        ToolCallDelta("c", "f", '{"x'),
        Finish("length", None, "real-model"),
    ]


@pytest.mark.parametrize(
    ("names", "announced"),
    [
        (["get_weather", None, None], ["", "{", "}"]),  # offered, so whole: announced before its arguments
        (["get_weather", "get_weather", "get_weather"], ["", "{", "}"]),  # repeated
        (["get", None, None], ["{", "}"]),  # perhaps the beginning of the other name
        (["get_", "weather", None], ["{", "}"]),  # in fragments
        (["other", None, None], ["{", "}"]),  # not offered
    ],
)
async def test_names_of_calls(endpoint: Endpoint, names: list[str | None], announced: list[str]) -> None:
    """A call is passed on as soon as its name is known to be whole."""
    fragments = [
        {"tool_calls": [{"index": 0, "id": "c", "function": {"name": name, "arguments": arguments}}]}
        for name, arguments in zip(names, ("", "{", "}"), strict=True)
    ]
    endpoint.reply = stream_of(*map(chunk, fragments), chunk({}, "tool_calls"))
    tools = [{"type": "function", "function": {"name": name}} for name in ("get", "get_weather")]
    found = await parts(endpoint, asked(tools=tools))
    name = "get_weather" if names[1] == "weather" else str(names[0])
    assert found[:-2] == [ToolCallDelta("c", name, arguments) for arguments in announced]
    assert found[-2] == ToolCall("c", name, "{}")


async def test_server_that_does_not_stream(endpoint: Endpoint) -> None:
    """A plain JSON completion is accepted too."""
    completion = {
        "model": "m",
        "choices": [{"index": 0, "message": {"content": "whole"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2},
    }
    endpoint.reply = reply_of("200 OK", json.dumps(completion))
    assert await parts(endpoint, asked()) == [TextDelta("whole"), Finish("stop", TokenCount(1, 2), "m")]


@pytest.mark.parametrize("done", [True, False])
async def test_stream_without_an_end(endpoint: Endpoint, done: bool) -> None:
    """A stream that stops without a finish_reason is a server error, not an answer."""
    endpoint.reply = stream_of(chunk({"content": "half an ans"}), done=done)
    error = await failure(endpoint)
    assert (error.code, error.status_code) == ("server_error", 502)


async def test_connection_lost_in_the_middle(endpoint: Endpoint) -> None:
    """A connection that breaks in the middle of the body is a server error."""
    body = b'data: {"choices": [{"index": 0, "delta": {"content": "x"}}]}\n\n'
    endpoint.reply = (
        b"200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 9999\r\nconnection: close\r\n\r\n" + body
    )
    error = await failure(endpoint)
    assert (error.code, error.status_code) == ("server_error", 502)
    assert "connection" in str(error)


@pytest.mark.parametrize(
    ("status", "headers", "code", "expected_status", "retry_after_s"),
    [
        ("429 Too Many", ("retry-after: 7",), "rate_limit_exceeded", 429, 7.0),
        ("429 Too Many", ("retry-after-ms: 250", "retry-after: 1"), "rate_limit_exceeded", 429, 0.25),
        (
            "429 Too Many",
            ("date: Mon, 02 Nov 2026 10:00:00 GMT", "retry-after: Mon, 02 Nov 2026 10:00:09 GMT"),
            "rate_limit_exceeded",
            429,
            9.0,
        ),
        ("429 Too Many", ("retry-after: soon",), "rate_limit_exceeded", 429, None),
        ("500 Oops", (), "server_error", 500, None),
        ("503 Busy", ("retry-after: 3",), "server_error", 503, 3.0),
        ("408 Slow", (), "server_error", 500, None),
        ("401 No", (), "upstream_refused", 500, None),
        ("400 Bad", (), "invalid_prompt", 400, None),
        ("404 None", (), "invalid_prompt", 404, None),
    ],
)
async def test_refusals(
    endpoint: Endpoint,
    status: str,
    headers: tuple[str, ...],
    code: str,
    expected_status: int,
    retry_after_s: float | None,
) -> None:
    """Each refusal becomes the code and status of the protocol, in one line with the endpoint's reason."""
    body = json.dumps({"error": {"message": f"some\nreason about {KEY}", "code": None}})
    endpoint.reply = reply_of(status, body, *headers)
    error = await failure(endpoint)
    assert (error.code, error.status_code, error.retry_after_s) == (code, expected_status, retry_after_s)
    assert "some reason about …" in str(error)


async def test_nothing_is_sent_twice(endpoint: Endpoint) -> None:
    """A failed request is not repeated."""
    endpoint.reply = reply_of("500 Oops", "{}")
    await failure(endpoint)
    assert len(endpoint.requests) == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ({"message": "slow down", "code": "rate_limit_exceeded"}, "rate_limit_exceeded"),
        ({"message": "too long", "code": "context_length_exceeded"}, "invalid_prompt"),
        ({"message": "crashed", "code": 500}, "server_error"),
        ("crashed", "server_error"),
    ],
)
async def test_error_inside_the_stream(endpoint: Endpoint, error: Any, code: str) -> None:
    """An error in the middle of a stream fails the answer with the error's code."""
    endpoint.reply = stream_of(chunk({"content": "x"}), {"error": error})
    assert (await failure(endpoint)).code == code


@pytest.mark.parametrize(
    "reply",
    [
        reply_of("200 OK", "<html>hello</html>", kind="text/html"),
        reply_of("200 OK", "[]"),
        reply_of("200 OK", "{"),
        reply_of("502 Bad", "<html>hello</html>", kind="text/html"),
        b"200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\ndata: nonsense\n\n",
        b"nonsense\r\n\r\n",
    ],
)
async def test_replies_that_make_no_sense(endpoint: Endpoint, reply: bytes) -> None:
    """HTML, invalid JSON and malformed HTTP become server errors in one line."""
    endpoint.reply = reply
    error = await failure(endpoint)
    assert (error.code, error.status_code) == ("server_error", 502)
    assert "upstream endpoint" in str(error)


async def test_silence(endpoint: Endpoint) -> None:
    """A request to an endpoint that never answers fails after the timeout."""
    endpoint.reply = None
    error = await failure(endpoint, silence_timeout_s=0.05)
    assert (error.code, error.status_code) == ("server_error", 504)


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
async def test_a_redirect_is_not_followed(endpoint: Endpoint, status: str) -> None:
    """Key and prompts are for this endpoint only: a redirect is an error, and nothing is sent to its target."""
    endpoint.reply = reply_of(status, "", f"location: {endpoint.url}/elsewhere?key={KEY}")
    error = await failure(endpoint)
    assert (error.code, error.status_code) == ("upstream_refused", 500)
    assert f"answered {status[:3]}, a redirect, which is not followed; check its URL." in str(error)
    assert len(endpoint.requests) == 1


async def test_nobody_listens(free_tcp_port: int) -> None:
    """A refused connection is a server error."""
    error = await failure(Endpoint(url=f"http://127.0.0.1:{free_tcp_port}/v1"))
    assert (error.code, error.status_code) == ("server_error", 502)


async def test_leaving_closes_the_connection(endpoint: Endpoint) -> None:
    """The cancellation of a run in the middle of its answer closes the connection to the endpoint."""
    endpoint.reply = stream_of(chunk({"content": "first"}), done=False)
    endpoint.endless = True
    responder = UpstreamResponder(endpoint.url, None)
    answer: Any = responder.respond(asked())
    async with aclosing(answer) as pieces:
        assert await anext(pieces) == TextDelta("first")
    with anyio.fail_after(5):
        await endpoint.closed.wait()
    await responder.aclose()


async def test_uploaded_image(endpoint: Endpoint) -> None:
    """An image that is given by a file id is refused before anything is sent; the error states what to do."""
    message = Message("user", "", content=[{"type": "image_file", "image_file": {"file_id": "file-1"}}])
    with pytest.raises(ResponderError, match="by URL") as caught:
        await parts(endpoint, Conversation("m", "", (message,)))
    assert caught.value.code == "invalid_prompt"
    assert endpoint.requests == []
