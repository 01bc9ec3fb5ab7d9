"""The fast path for the requests of rows, from `AsyncOpenAI` to aiohttp, with less work than the SDK alone.

For each request the SDK and its HTTP client make four URL objects and six header objects, look for cookies,
authentication and redirects, and wrap aiohttp's reply twice: together 0.37 of 0.53 ms of CPU. On the fast path the SDK
builds only the first request of each kind; later ones are copies of it with their own body and headers. The reply is
read from aiohttp directly.

Every request still passes through `AsyncOpenAI.post`. The SDK alone sends what is not a plain POST of JSON and what
passes a proxy, and its HTTP client reads error statuses and compressed streams. The SDK alone sends everything if it
does not have what this module needs: the client's `_build_request`, and the aiohttp session of its transport.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

import aiohttp
import httpx2
import openai
import yarl
from multidict import CIMultiDict
from openai import AsyncAzureOpenAI, AsyncOpenAI

from batchrun.services.reply_size import MAX_REPLY_BYTES, bound, too_large

__all__ = ["LeanAzureOpenAI", "LeanHttpClient", "LeanOpenAI", "LeanRequest", "LeanResponse", "can_be_lean"]

_MAX_KINDS = 256
"""Kinds of requests that are kept: one for each path, model, key and timeout."""

_ENCODE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


@dataclass(frozen=True, slots=True)
class _Kind:
    """What the requests to one path have in common, taken from one that the SDK has built.

    Attributes:
        url: the address, with the query; `target` is the same for aiohttp.
        headers: without the length of the body.
        security: which credentials the SDK adds, as its options name them.
        timeout: of the request's options; `timeouts` is the same for aiohttp, in seconds.
    """

    url: httpx2.URL
    target: yarl.URL
    headers: CIMultiDict[str]
    security: object
    timeout: object
    timeouts: aiohttp.ClientTimeout
    extensions: Mapping[str, Any]


class LeanRequest(httpx2.Request):
    """A POST of JSON whose URL and headers are not parsed again. `full` makes the usual request of it."""

    def __init__(self, kind: _Kind, content: bytes) -> None:
        # Not the base class's initialisation, which is what costs time.
        self.method = "POST"
        self.url = kind.url
        self.headers = cast(httpx2.Headers, kind.headers.copy())
        self.extensions = {}
        self.kind: Final = kind
        self._bytes = content

    @property
    def content(self) -> bytes:
        """The body."""
        return self._bytes

    def full(self) -> httpx2.Request:
        """Return the same request as the HTTP client builds it."""
        return httpx2.Request(
            self.method,
            self.url,
            headers=list(self.headers.items()),
            content=self._bytes,
            extensions={**self.kind.extensions, **self.extensions},
        )


class LeanResponse(httpx2.Response):
    """A reply with status 200, over aiohttp's own. Read it by `aread` and `content`, or by `aiter_raw`, then close it.

    Mutable state: the body, once it has been read.
    """

    def __init__(self, request: LeanRequest, reply: aiohttp.ClientResponse) -> None:
        # Not the base class's initialisation, which is what costs time.
        self.status_code = reply.status
        self.headers = cast(httpx2.Headers, reply.headers)
        self._of: httpx2.Request = request
        self._reply = reply
        self._bytes: bytes | None = None

    @property
    def request(self) -> httpx2.Request:
        """The request that was answered."""
        return self._of

    @request.setter
    def request(self, value: httpx2.Request) -> None:
        self._of = value

    @property
    def content(self) -> bytes:
        """The body, decompressed."""
        if self._bytes is None:
            raise httpx2.ResponseNotRead()
        return self._bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.content.decode("utf-8", "replace")

    def raise_for_status(self) -> httpx2.Response:
        """Return the response: its status is 200."""
        return self

    async def aread(self) -> bytes:
        """Read the body to its end, and give the connection back.

        Raises:
            httpx2.TransportError: the connection broke, or nothing arrived in time.
            PermanentFault: the body is larger than `MAX_REPLY_BYTES`, even if only when decompressed.
        """
        if self._bytes is None:
            pieces = [piece async for piece in self.aiter_raw()]
            body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            self._reply.release()
            self._bytes = _gunzipped(body) if "content-encoding" in self.headers else body
        return self._bytes

    async def aiter_raw(self, chunk_size: int | None = None) -> AsyncGenerator[bytes]:  # noqa: ARG002 the base's
        """Yield the bytes as they arrive.

        Raises:
            httpx2.TransportError, PermanentFault: as `aread`.
        """
        size = 0
        content = self._reply.content
        try:
            while piece := await content.readany():
                size += len(piece)
                if size > MAX_REPLY_BYTES:
                    raise too_large()
                yield piece
        except _CONNECTION_ERRORS as exc:
            self._reply.close()
            raise mapped(exc) from exc
        except BaseException:
            self._reply.close()
            raise

    async def aclose(self) -> None:
        """Give the connection back if the body has been read to its end; else close it."""
        self._reply.release()


class LeanHttpClient(openai.DefaultAioHttpClient):
    """The SDK's HTTP client over aiohttp, which sends a `LeanRequest` without its own detours.

    Mutable state: `transport`, `before` and `after`, which are set once, before the first request.
    """

    transport: Any = None
    """The SDK's transport to the service, whose aiohttp session is used; None if there is no fast path."""

    before: Callable[[httpx2.Request], Awaitable[None]]
    """Waits until the request may be sent."""

    after: Callable[[int, Mapping[str, str]], None]
    """Sees the status and the headers of each reply."""

    async def send(self, request: httpx2.Request, *, stream: bool = False, **options: Any) -> httpx2.Response:
        """Send a request."""
        if not isinstance(request, LeanRequest):
            return await super().send(request, stream=stream, **options)
        if options or self.transport is None:
            return await super().send(request.full(), stream=stream, **options)
        await self.before(request)
        reply = await self._exchange(request)
        coding = reply.headers.get("content-encoding")
        is_plain = coding is None or (coding == "gzip" and not stream)
        response = LeanResponse(request, reply) if reply.status == 200 and is_plain else _full(request, reply)
        try:
            self.after(reply.status, reply.headers)
            if not stream:
                await response.aread()
        except BaseException:
            await response.aclose()
            raise
        return response

    async def _exchange(self, request: LeanRequest) -> aiohttp.ClientResponse:
        if not isinstance(self.transport.client, aiohttp.ClientSession):
            self.transport.client = self.transport.get_client()  # in the loop, as the transport itself does
        session: aiohttp.ClientSession = self.transport.client
        try:
            return await session.request(
                "POST",
                request.kind.target,
                headers=request.headers,
                data=request.content,
                allow_redirects=False,
                auto_decompress=False,
                compress=False,
                timeout=request.kind.timeouts,
            )
        except _CONNECTION_ERRORS as exc:
            raise mapped(exc) from exc


def can_be_lean(transport: object) -> bool:
    """Return whether the aiohttp session of one of the SDK's transports can be used directly.

    A proxy has addresses and headers of its own, so there is no fast path through one.
    """
    missing = object()
    return (
        getattr(transport, "proxy", missing) is None
        and hasattr(transport, "client")
        and hasattr(transport, "get_client")
    )


class _Lean:
    """A client of the SDK that builds a `LeanRequest` where it can.

    Mutable state: the kinds of requests that it has built.
    """

    _kinds: dict[object, _Kind] | None = None
    """None if there is no fast path."""

    def shorten(self) -> None:
        """Build lean requests from now on."""
        self._kinds = {}

    def _build_request(self, options: Any, **others: Any) -> httpx2.Request:
        if self._kinds is None or others.get("retries_taken") or not _is_plain(options):
            return self._built(options, **others)
        try:
            content = _ENCODE(options.json_data).encode()
        except (TypeError, ValueError):  # the SDK's encoder knows more types, or refuses the value in its own words
            return self._built(options, **others)
        model = options.json_data.get("model")  # Azure's path has it
        names = (options.url, tuple(options.headers), self.api_key, model if type(model) is str else None)  # type: ignore[attr-defined]
        kind = self._kinds.get(names)
        if kind is None or kind.timeout is not _timeout(options) or kind.security != options.security:
            request = self._built(options, **others)
            if request.content != content:  # the SDK does more to a body than is known here
                self._kinds = None
                return request
            if len(self._kinds) >= _MAX_KINDS:
                self._kinds.clear()
            self._kinds[names] = _kind_of(request, options)
            return request
        lean = LeanRequest(kind, content)
        for name, value in options.headers.items():
            lean.headers[name] = value
        return lean

    def _built(self, options: Any, **others: Any) -> httpx2.Request:
        request: httpx2.Request = super()._build_request(options, **others)  # type: ignore[misc]
        return request


class LeanOpenAI(_Lean, AsyncOpenAI):
    """`AsyncOpenAI` with lean requests."""


class LeanAzureOpenAI(_Lean, AsyncAzureOpenAI):
    """`AsyncAzureOpenAI` with lean requests."""


def _is_plain(options: Any) -> bool:
    """Return whether the SDK's options of a request are those of a plain POST of JSON."""
    return (
        options.method == "post"
        and type(options.json_data) is dict
        and options.files is None
        and options.content is None
        and options.extra_json is None
        and options.follow_redirects is None
        and not options.params
        and type(options.headers) is dict
        and all(type(value) is str for value in options.headers.values())
    )


def _timeout(options: Any) -> object:
    """Return the timeout of a request; `NotGiven` for the client's, of which each request has a copy of its own."""
    return openai.NotGiven if isinstance(options.timeout, openai.NotGiven) else options.timeout


def _kind_of(request: httpx2.Request, options: Any) -> _Kind:
    headers = CIMultiDict(request.headers.items())
    headers.popall("content-length", None)  # aiohttp adds it
    seconds = request.extensions.get("timeout", {})
    return _Kind(
        request.url,
        yarl.URL(str(request.url)),
        headers,
        options.security,
        _timeout(options),
        aiohttp.ClientTimeout(
            sock_connect=seconds.get("connect"), sock_read=seconds.get("read"), connect=seconds.get("pool")
        ),
        request.extensions,
    )


# -- replies that the HTTP client reads ----------------------------------------------------------------------


class _Stream(httpx2.AsyncByteStream):
    def __init__(self, reply: aiohttp.ClientResponse) -> None:
        self._reply = reply

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            while piece := await self._reply.content.readany():
                yield piece
        except _CONNECTION_ERRORS as exc:
            raise mapped(exc) from exc

    async def aclose(self) -> None:
        self._reply.release()


def _full(request: LeanRequest, reply: aiohttp.ClientResponse) -> httpx2.Response:
    """Return a reply as the HTTP client makes it, not read yet."""
    response = httpx2.Response(
        reply.status,
        headers=reply.raw_headers,
        stream=_Stream(reply),
        request=request.full(),
        extensions={"http_version": b"HTTP/1.1", "reason_phrase": (reply.reason or "").encode()},
    )
    bound(response)
    return response


def _gunzipped(body: bytes) -> bytes:
    """
    Raises:
        httpx2.DecodingError: the body is not one complete gzip stream.
        PermanentFault: it is larger than `MAX_REPLY_BYTES`.
    """
    decoder = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        plain = decoder.decompress(body, MAX_REPLY_BYTES + 1)
    except zlib.error as exc:
        raise httpx2.DecodingError(str(exc)) from exc
    if len(plain) > MAX_REPLY_BYTES:
        raise too_large()
    return plain


_CONNECTION_ERRORS = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError)
"""aiohttp's errors for which the HTTP client has its own, which the SDK knows. Others are raised as they are."""


def mapped(exc: aiohttp.ClientError) -> httpx2.TransportError:
    """Return the HTTP client's error for one of `_CONNECTION_ERRORS`, as the SDK's transport does."""
    if isinstance(exc, aiohttp.SocketTimeoutError):
        return httpx2.ReadTimeout(str(exc))
    return (httpx2.ReadError if isinstance(exc, aiohttp.ClientPayloadError) else httpx2.ConnectTimeout)(str(exc))
