"""The fast path for the requests of rows: the same requests and the same faults as with the SDK alone."""

from __future__ import annotations

import gc
import gzip
import io
import json
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import datetime
from types import MappingProxyType
from typing import Any

import aiohttp
import anyio
import anyio.abc
import httpx2
import pytest
from openai import AsyncOpenAI

from batchrun.engine.limits import Limits
from batchrun.errors import OutputError, ServiceFault
from batchrun.services import lean_client, lean_exchange, lean_reply
from batchrun.services.client import Endpoint, open_client
from batchrun.services.lean_client import LeanHttpClient, LeanRequest
from batchrun.services.lean_reply import CONNECTION_ERRORS, mapped
from batchrun.services.wire import Wire
from tests.support.scripted_http import Answer, Request, ScriptedHttp, event, html, json_answer, stream

pytestmark = pytest.mark.anyio

KEY = "sk-secret-0123456789"
BODY = {"model": "m-1", "messages": [{"role": "user", "content": "Grüße, „Ω“\n"}], "n": 1.5}


@asynccontextmanager
async def opened(endpoint: Endpoint, *, lean: bool, limits: Limits | None = None) -> AsyncIterator[Wire]:
    """Open a wire that sends on the fast path, or by the SDK alone."""
    async with aclosing(Wire(endpoint, limits or Limits(), silence_timeout_s=0.4)) as wire:
        client: Any = wire._client
        assert client._kinds == {}, "the fast path is not used with this version of the SDK"
        if not lean:
            client._kinds = None
        yield wire


def counted(wire: Wire) -> list[str]:
    """Return a list to which the HTTP client adds how it sends each request."""
    ways: list[str] = []
    http_client: Any = wire._client._client
    send = http_client.send

    async def counting(request: httpx2.Request, **options: Any) -> httpx2.Response:
        ways.append("lean" if isinstance(request, LeanRequest) else "usual")
        reply: httpx2.Response = await send(request, **options)
        return reply

    http_client.send = counting
    return ways


def chat(name: str) -> bytes:
    """Return the bytes of a reply with this id."""
    return json_answer({"id": name}).data


def plain(request: Request) -> tuple[str, str, Mapping[str, str], dict[str, str], Any]:
    """Return what a server sees of a request."""
    return request.method, request.path, request.query, dict(sorted(request.headers.items())), request.body


ENDPOINTS: Mapping[str, Callable[[str], Endpoint]] = MappingProxyType(
    {
        "key": lambda url: Endpoint(url, KEY, organization="org-1", project="proj-1"),
        "no key": lambda url: Endpoint(url, None),
        "headers and query": lambda url: Endpoint(
            url,
            KEY,
            headers={"Authorization": "Basic Zm9v", "X-Team": "a b", "idempotency-key": "x"},
            query={"t": "1 ü"},
        ),
        "azure": lambda url: Endpoint(url.removesuffix("/v1"), KEY, azure=True, api_version="2025-04-01-preview"),
        "azure with a deployment": lambda url: Endpoint(
            url.removesuffix("/v1") + "/openai/deployments/d-1", KEY, azure=True, api_version="v"
        ),
    }
)


@pytest.mark.parametrize("name", ENDPOINTS)
@pytest.mark.parametrize("way", ["post", "patient", "stream"])
async def test_the_same_requests(name: str, way: str) -> None:
    """A server receives the same method, path, query, headers and body as with the SDK alone."""
    received = {}
    for lean in (True, False):
        with ScriptedHttp(lambda _: json_answer({"id": "x"})) as server:
            async with opened(ENDPOINTS[name](server.url), lean=lean) as wire:
                ways = counted(wire)
                for number in range(3):
                    headers = {"Idempotency-Key": f"key-{number}", "OpenAI-Beta": "assistants=v2"}
                    body = {**BODY, "number": number}
                    if way == "stream":
                        async with wire.post_stream("/chat/completions", body, headers) as chunks:
                            assert b'{"id": "x"}' in b"".join([chunk async for chunk in chunks])
                    else:
                        assert await wire.post("/responses", body, headers, patient=way == "patient") == {"id": "x"}
            assert ways == (["usual", "lean", "lean"] if lean else ["usual"] * 3)
            sent = [plain(request) for request in server.requests]
        for _, _, _, named, _ in sent:
            named["host"] = ""  # its port differs
        received[lean] = sent
    assert received[True] == received[False]
    assert [body["number"] for *_, body in received[True]] == [0, 1, 2]


async def test_cookies_are_sent_back() -> None:
    """A cookie that the service sets is sent with the next requests, as with the SDK alone."""
    received = {}
    for lean in (True, False):
        answers = [json_answer({"id": "x"}), json_answer({"id": "x"}, set_cookie='a="b c"; Path=/v1; HttpOnly')] * 2
        with ScriptedHttp(lambda _, answers=answers: answers.pop()) as server:  # type: ignore[misc]
            url = server.url.replace("127.0.0.1", "localhost")  # aiohttp keeps no cookies of addresses
            async with opened(Endpoint(url, KEY), lean=lean) as wire:
                for _ in range(4):
                    await wire.post("/responses", BODY, {})
            received[lean] = [request.headers.get("cookie") for request in server.requests]
    assert received[True] == received[False]
    assert received[True][0] is None
    assert received[True][1] == 'a="b c"'


@pytest.mark.parametrize(
    ("body", "own"),
    [
        ({**BODY, "more": "ü" * lean_exchange.LARGE_BODY}, {"X-Own": "a"}),
        (BODY, {"X-Own": "ü€"}),
        (BODY, {"X-Own": "a\r\nX-Injected: b"}),
    ],
    ids=["a large body", "a header that is not ASCII", "a header that may not be sent"],
)
async def test_requests_that_aiohttp_writes(body: dict[str, Any], own: dict[str, str]) -> None:
    """Requests that are not written at once arrive, or are refused, as with the SDK alone."""
    ends = []
    for lean in (True, False):
        with ScriptedHttp(lambda _: json_answer({"id": "x"})) as server:
            async with opened(Endpoint(server.url, KEY), lean=lean) as wire:
                await wire.post("/responses", BODY, {"X-Own": "first"})
                try:
                    await wire.post("/responses", body, own)
                except Exception as exc:
                    ends.append(f"{type(exc)}: {exc}")
            ends.append(str([(each.headers.get("x-own"), each.body) for each in server.requests]))
    assert ends[: len(ends) // 2] == ends[len(ends) // 2 :]
    assert "X-Injected" not in ends[-1]


async def test_an_aiohttp_without_the_parts_for_the_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    """If aiohttp's connector or protocol has changed, its session sends the same requests."""
    with monkeypatch.context() as changed:
        changed.delattr("aiohttp.client_proto.ResponseHandler.start_timeout")
        assert not lean_exchange.is_possible()
    assert lean_exchange.is_possible()
    monkeypatch.setattr(lean_client, "_HAS_EXCHANGE", False)
    with ScriptedHttp(lambda _: json_answer({"id": "x"})) as server:
        async with opened(Endpoint(server.url, KEY), lean=True) as wire:
            for number in range(3):
                assert await wire.post("/responses", {**BODY, "number": number}, {"X-Own": "a"}) == {"id": "x"}
        assert [request.body["number"] for request in server.requests] == [0, 1, 2]
        assert server.connections == 1


async def test_other_requests_are_sent_by_the_sdk() -> None:
    """Files, GET and DELETE, and bodies that only the SDK's encoder knows, are sent as before."""
    with ScriptedHttp(lambda _: json_answer({"id": "x", "deleted": True})) as server:
        async with opened(Endpoint(server.url, KEY), lean=True) as wire:
            ways = counted(wire)
            for _ in range(2):
                await wire.get("/threads/t", {})
                await wire.delete("/threads/t", {})
                await wire.post_file("/files", {"purpose": "assistants"}, "a.txt", io.BytesIO(b"text"), {})
                await wire.post("/threads", {"at": datetime(2026, 1, 2)}, {})  # only the SDK's encoder knows this type
    assert ways == ["usual"] * 8


async def test_a_new_key_is_sent_at_once() -> None:
    """A function that returns another key for each request is called for each, and its key is sent."""
    keys = iter(f"sk-turn-{number}" for number in range(10))

    async def next_key() -> str:
        return next(keys)

    with ScriptedHttp(lambda _: json_answer({"id": "x"})) as server:
        async with opened(Endpoint(server.url, next_key), lean=True) as wire:
            ways = counted(wire)
            for _ in range(4):
                await wire.post("/responses", BODY, {})
        sent = [request.headers["authorization"] for request in server.requests]
    assert len(set(sent)) == 4
    assert all(header.startswith("Bearer sk-turn-") for header in sent)
    assert ways[0] == "usual"


async def test_models_that_differ_by_row_are_one_request_each() -> None:
    """Each row's own model is in its own body, however many models there are."""
    with ScriptedHttp(lambda _: json_answer({"id": "x"})) as server:
        async with opened(Endpoint(server.url, KEY), lean=True) as wire:
            for number in range(2 * lean_client._MAX_KINDS + 5):
                await wire.post("/responses", {"model": f"m-{number % (lean_client._MAX_KINDS + 2)}"}, {})
            kinds: Any = wire._client
            assert len(kinds._kinds) <= lean_client._MAX_KINDS
        assert [request.body["model"] for request in server.requests[:3]] == ["m-0", "m-1", "m-2"]


# -- replies ----------------------------------------------------------------------------------------------------

PACKED = gzip.compress(json.dumps({"id": "x", "text": "ü" * 5_000}).encode())


def packed(body: bytes, coding: str = "gzip") -> Answer:
    head = f"HTTP/1.1 200 X\r\ncontent-type: application/json\r\ncontent-encoding: {coding}\r\n"
    return Answer(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)


def refused(status: int, **headers: str) -> Answer:
    return json_answer({"error": {"message": "not now", "code": "some_code"}}, status, **headers)


REPLIES: Mapping[str, Answer] = MappingProxyType(
    {
        "gzip": packed(PACKED),
        "two gzip members": packed(PACKED + PACKED),
        "deflate": packed(zlib.compress(b'{"id": "x"}'), "deflate"),
        "an unknown coding": packed(b'{"id": "x"}', "rot13"),
        "gzip that is not": packed(b'{"id": "x"}'),
        "gzip cut off": packed(PACKED[:-40]),
        "empty": packed(b""),
        "chunked": stream(b'{"id":', b' "x"}', kind="application/json"),
        "chunked and cut": stream(b'{"id":', end="cut", kind="application/json"),
        "chunked and silent": stream(b'{"id":', end="silence", kind="application/json"),
        "cut": Answer(json_answer({"id": "x"}).data[:-3], "close"),
        "closed": Answer(b"", "close"),
        "silence": Answer(b"", "silence"),
        "not HTTP": Answer(b"SSH-2.0-OpenSSH_9.2\r\n", "close"),
        "a page": html(),
        "not UTF-8": packed(gzip.compress(b'{"id": "\xff"}')),
        "201": json_answer({"id": "x"}, 201),
        "204": Answer(b"HTTP/1.1 204 No Content\r\n\r\n"),
        "302": json_answer({}, 302, location="https://example.com/v1/responses"),
        "304": Answer(b"HTTP/1.1 304 Not Modified\r\n\r\n"),
        "400": refused(400),
        "401": refused(401),
        "404": refused(404),
        "429": refused(429, retry_after="0.01"),
        "500": refused(500),
        "503": html(status=503),
    }
)


async def end_of(wire: Wire, streamed: bool) -> object:
    """Return the reply to a request, or its fault in full."""
    try:
        if not streamed:
            return await wire.post("/responses", BODY, {})
        async with wire.post_stream("/responses", BODY, {}) as chunks:
            return b"".join([chunk async for chunk in chunks])
    except ServiceFault as fault:
        return type(fault), str(fault), fault.error_type, fault.status_code, fault.unseen


@pytest.mark.parametrize("streamed", [None, 600], ids=["whole", "streamed"])
@pytest.mark.parametrize("name", REPLIES)
async def test_the_same_end(name: str, streamed: bool) -> None:
    """Every reply, good or bad, ends in the same answer or the same fault as with the SDK alone."""
    ends = []
    for lean in (True, False):
        first = [json_answer({"id": "first"})]
        with ScriptedHttp(lambda _, first=first: first.pop() if first else REPLIES[name]) as server:  # type: ignore[misc]
            async with opened(Endpoint(server.url, KEY), lean=lean) as wire:
                await wire.post("/responses", BODY, {})
                ends.append(str(await end_of(wire, streamed)).replace(str(server.port), "PORT"))
    assert ends[0] == ends[1]


@pytest.mark.parametrize("streamed", [None, 600], ids=["whole", "streamed"])
async def test_damaged_compression(streamed: bool) -> None:
    """A reply that cannot be decompressed is a fault of the connection, after which the row is sent again."""
    with ScriptedHttp(lambda _: packed(b'{"id": "x"}')) as server:
        async with opened(Endpoint(server.url, KEY), lean=True) as wire:
            assert str(await end_of(wire, streamed)).startswith("(<class 'batchrun.errors.ConnectionLost'>")


async def test_a_media_type_in_capitals() -> None:
    """The media type of a stream is recognised in upper and lower case (RFC 9110, section 8.3.1)."""
    with ScriptedHttp(lambda _: stream(event("a", {}), kind="Text/Event-Stream")) as server:
        async with opened(Endpoint(server.url, KEY), lean=True) as wire:
            assert await end_of(wire, True) == event("a", {})


async def test_the_same_events() -> None:
    """A stream's bytes arrive in order, and its connection is used for the next request."""
    frames = [event("a", {"n": number}) for number in range(50)]
    with ScriptedHttp(lambda _: stream(*frames)) as server:
        async with opened(Endpoint(server.url, KEY), lean=True) as wire:
            for _ in range(3):
                async with wire.post_stream("/responses", BODY, {}) as chunks:
                    assert b"".join([chunk async for chunk in chunks]) == b"".join(frames)
        assert server.connections == 1


async def test_a_reply_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reply beyond the limit fails its row, whether it is sent whole, packed or in pieces."""
    monkeypatch.setattr(lean_reply, "MAX_REPLY_BYTES", 1_000)
    large = json.dumps({"id": "x" * 2_000}).encode()
    for answer in (
        json_answer({"id": "x" * 2_000}),
        packed(gzip.compress(large)),
        stream(large, kind="application/json"),
    ):
        first = [json_answer({"id": "first"})]
        with ScriptedHttp(lambda _, first=first, answer=answer: first.pop() if first else answer) as server:  # type: ignore[misc]
            async with opened(Endpoint(server.url, KEY), lean=True) as wire:
                await wire.post("/responses", BODY, {})
                with pytest.raises(ServiceFault, match="larger than") as caught:
                    await wire.post("/responses", BODY, {})
                assert caught.value.error_type == "reply_too_large"


async def test_limits_are_seen() -> None:
    """Limits in a reply's headers are adopted, and a 429 makes all rows wait."""
    answers = [
        json_answer({"id": "x"}),
        json_answer({"id": "x"}, x_ratelimit_limit_requests="600"),
        json_answer({"id": "x"}, x_ratelimit_limit_requests="600"),
        refused(429, retry_after="7"),
    ]
    with ScriptedHttp(lambda _: answers.pop(0)) as server:
        limits = Limits()
        async with opened(Endpoint(server.url, KEY), lean=True, limits=limits) as wire:
            await wire.post("/responses", BODY, {})
            paced = [limits.statistics().max_requests_per_minute]
            await wire.post("/responses", BODY, {})
            await wire.post("/responses", BODY, {})
            paced.append(limits.statistics().max_requests_per_minute)
            assert paced == [None, 600]
            with pytest.raises(ServiceFault):
                await wire.post("/responses", BODY, {})
            assert 6 < limits._cool_down_s() <= 7


@pytest.mark.parametrize("lean", [True, False])
async def test_a_journal_that_cannot_be_written(lean: bool) -> None:
    """If a cool-down cannot be recorded, that error ends the request, and the connection is closed."""

    def full_disk(wait_s: float, reason: str) -> None:
        raise OutputError(f"no space for {reason}, {wait_s}")

    answers = [json_answer({"id": "x"}), refused(429, retry_after="7")]
    with ScriptedHttp(lambda _: answers.pop(0)) as server:
        async with opened(Endpoint(server.url, KEY), lean=lean, limits=Limits(on_cool_down=full_disk)) as wire:
            await wire.post("/responses", BODY, {})
            with pytest.raises(OutputError, match="no space"):
                await wire.post("/responses", BODY, {})
            gc.collect()  # a reply that nobody has closed warns


async def test_a_cancelled_request_closes_its_connection() -> None:
    """A request that is given up leaves no connection behind, whose late reply the next request would read."""
    answers = [json_answer({"id": "first"}), Answer(b"", "silence"), json_answer({"id": "last"})]
    with ScriptedHttp(lambda _: answers.pop(0)) as server:
        async with opened(Endpoint(server.url, KEY), lean=True) as wire:
            await wire.post("/responses", BODY, {})
            with anyio.move_on_after(0.2) as given_up:
                await wire.post("/responses", BODY, {})
            assert given_up.cancelled_caught
            assert await wire.post("/responses", BODY, {}) == {"id": "last"}
        assert server.connections == 2


# -- an SDK or a route without the parts for the fast path ------------------------------------------------------


def test_no_fast_path_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests through a proxy are sent as before; those to addresses in NO_PROXY are not."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "direct.test")
    for url, lean in (("https://service.test/v1", False), ("https://direct.test/v1", True)):
        client, _ = open_client(Endpoint(url, KEY), Limits(), silence_timeout_s=5)
        assert (getattr(client, "_kinds", None) is not None) is lean


async def test_an_sdk_that_encodes_otherwise() -> None:
    """If the SDK changes bodies in a way that this module does not know, its own requests are sent."""

    class Changed(AsyncOpenAI):
        def _build_request(self, options: Any, **others: Any) -> httpx2.Request:
            options.json_data = {**options.json_data, "more": 1}
            return super()._build_request(options, **others)

    class Client(lean_client._Lean, Changed):
        pass

    with ScriptedHttp(lambda _: json_answer({"id": "x"})) as server:
        client = Client(api_key=KEY, base_url=server.url, http_client=LeanHttpClient())
        client.shorten()
        async with client:
            for _ in range(2):
                await client.post("/responses", cast_to=httpx2.Response, body={"a": 1}, options={"headers": {}})
        assert [request.body for request in server.requests] == [{"a": 1, "more": 1}] * 2


def test_errors_are_mapped_as_the_sdk_maps_them() -> None:
    """Each of aiohttp's errors becomes the HTTP client's error that the SDK's transport makes of it."""
    theirs: Mapping[Any, Any] = pytest.importorskip("openai._vendor.httpx_aiohttp.transport").AIOHTTP_EXC_MAP
    compared = 0
    for kind in _below(aiohttp.ClientError):
        chosen: type[Exception] | None = None
        for base, error in theirs.items():
            # The SDK's rule: the first that matches, or a later one that is derived from it.
            if issubclass(kind, base) and (chosen is None or issubclass(error, chosen)):
                chosen = error
        if chosen in (httpx2.UnsupportedProtocol, httpx2.ProxyError):  # of URLs and of proxies
            continue
        is_mapped = issubclass(kind, CONNECTION_ERRORS)
        own = type(mapped(_bare(kind))) if is_mapped else None
        assert (kind, own) == (kind, chosen)
        compared += 1
    assert compared > 12


def _bare(kind: type[aiohttp.ClientError]) -> aiohttp.ClientError:
    """Return an error of this kind that needs no arguments and has a text."""
    bare = type(kind.__name__, (kind,), {"__str__": lambda _: "bare", "__init__": lambda _: None})
    error: aiohttp.ClientError = bare()
    return error


def _below(kind: type[aiohttp.ClientError]) -> list[type[aiohttp.ClientError]]:
    return [each for direct in kind.__subclasses__() for each in (direct, *_below(direct))]


@pytest.mark.parametrize(
    "late",
    [chat("the answer to nobody"), b"HTTP/1.1 408 Request Timeout\r\n\r\n", b"garbage"],
    ids=["answer", "timeout", "garbage"],
)
@pytest.mark.parametrize("lean", [False, True])
async def test_a_late_reply_answers_no_other_request(lean: bool, late: bytes) -> None:
    """What arrives on a kept connection between two requests is not taken for the reply to the second one."""
    connections, may_be_late = 0, anyio.Event()

    async def serve_one(stream: anyio.abc.SocketStream) -> None:
        nonlocal connections
        connections += 1
        number = connections
        async with stream:
            with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                while True:
                    await stream.receive()
                    await stream.send(chat(f"from connection {number}"))
                    if number == 1:
                        await may_be_late.wait()
                        await stream.send(late)

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve_one)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with opened(Endpoint(f"http://127.0.0.1:{port}/v1", KEY), lean=lean) as wire:
            assert (await wire.post("/chat/completions", BODY, {}))["id"] == "from connection 1"
            client: Any = wire._client._client
            ((kept, _),) = next(iter(client.transport.client.connector._conns.values()))
            may_be_late.set()
            with anyio.fail_after(10):
                while kept.is_connected() and not kept.should_close:
                    await anyio.sleep(0.01)
            assert (await wire.post("/chat/completions", BODY, {}))["id"] == "from connection 2"
        tasks.cancel_scope.cancel()
