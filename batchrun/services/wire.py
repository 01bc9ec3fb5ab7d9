"""Sends requests by the SDK and reads the bytes of their replies.

The SDK's typed streams take some 5 ms of CPU for a row of 20 deltas, nearly all of it to build objects that nobody
uses. Here the first line of each event decides whether the event is decoded: only those with ids, the final message,
usage or the end are.
"""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from functools import lru_cache
from types import TracebackType
from typing import Any, BinaryIO, TypeAlias

import anyio
import httpx2
import openai
from openai import AsyncStream

from batchrun.engine.limits import Limits
from batchrun.errors import PermanentFault, ServerFault, ServiceFault, Unavailable
from batchrun.records import JsonObject
from batchrun.services.client import Endpoint, open_client, timeouts
from batchrun.services.lean_reply import LeanResponse
from batchrun.services.redaction import scrubbed
from batchrun.services.reply_fields import loaded
from batchrun.services.reply_size import UNBOUNDED
from batchrun.services.translation import HttpFailure, fault_of_error_body, fault_of_exception, is_error_body

__all__ = ["BETA", "EventReader", "RequestBody", "Wire", "says_nothing"]

RequestBody: TypeAlias = dict[str, Any]
"""The JSON object of a request, while it is built. The user's `--param` may add any field to it."""

BETA = {"OpenAI-Beta": "assistants=v2"}
"""The header of the endpoints of assistants, threads and vector stores."""

_STREAM = AsyncStream[Any]
"""The class that the SDK wants to be named for a stream; see `_unread`."""

READ_OUT_TIMEOUT_S = 0.5
"""For the rest of a stream after its last event that matters."""


class EventReader:
    """Cuts a stream of server-sent events into (event, data). Events that are not needed are dropped undecoded.

    Follows the WHATWG HTML standard, §9.2.6: events end with a blank line, lines with LF, CRLF or CR; `data`
    lines are joined by LF; lines that begin with a colon are comments; a byte order mark at the very beginning is
    passed over.

    Every byte is read a fixed number of times, however small the chunks of an event are.

    Mutable state: the bytes of the event that is not complete yet, with all line ends as LF; whether the stream has
    begun, past its byte order mark; and whether the last byte was a CR, whose LF may follow.
    """

    def __init__(self, kept: Iterable[str] = ()) -> None:
        """
        Args:
            kept: names of the events that are needed; empty for all.
        """
        self._kept = _first_lines(tuple(kept))
        self._rest = bytearray()
        self._has_begun = False
        self._after_cr = False

    def feed(self, chunk: bytes) -> Sequence[tuple[str, bytes]]:
        """Add bytes; return every event that is now complete."""
        if not self._has_begun:
            chunk = bytes(self._rest) + chunk
            self._rest.clear()
            if len(chunk) < len(BOM_UTF8) and BOM_UTF8.startswith(chunk):
                self._rest += chunk
                return ()
            chunk = chunk.removeprefix(BOM_UTF8)
            self._has_begun = True
        if self._after_cr and chunk:
            chunk = chunk.removeprefix(b"\n")
            self._after_cr = False
        if b"\r" in chunk:
            self._after_cr = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if self._rest:
            across = self._rest.endswith(b"\n") and chunk.startswith(b"\n")
            self._rest += chunk
            if not across and b"\n\n" not in chunk:
                return ()
            chunk = bytes(self._rest)
            self._rest.clear()
        frames = chunk.split(b"\n\n")
        self._rest += frames.pop()
        if kept := self._kept:
            # A frame that does not begin with "event: " is decoded: its name may be on another line.
            frames = [frame for frame in frames if frame.startswith(kept) or not frame.startswith(b"event: ")]
        return [event for event in map(_decode, frames) if event is not None]


@lru_cache(maxsize=8)
def _first_lines(names: tuple[str, ...]) -> tuple[bytes, ...]:
    return tuple(f"event: {name}\n".encode() for name in names)


def _decode(frame: bytes) -> tuple[str, bytes] | None:
    head, _, last = frame.rpartition(b"\n")
    if last.startswith(b"data: ") and b"\n" not in head:  # nearly every event is of one or two lines
        if not head:
            return "message", last[6:]
        if head.startswith(b"event: "):
            return head[7:].decode("utf-8", "replace"), last[6:]
    event, data = "message", []
    for line in frame.split(b"\n"):
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            data.append(value)
        elif name == b"event":
            event = value.decode("utf-8", "replace")
    return (event, b"\n".join(data)) if data else None


def says_nothing(event: str, data: bytes) -> bool:
    """Return whether an event only keeps the connection open: it is empty, or it is named `ping` or the like and is not
    an object."""
    return not data or (event not in ("message", "error") and not data.startswith((b"{", b"[")))


class Wire:
    """Sends requests by one `AsyncOpenAI` client under the rate limits, and reads the bytes of the replies.

    Every method raises a `ServiceFault` as translated by `batchrun.services.translation`.
    """

    def __init__(
        self, endpoint: Endpoint, limits: Limits, *, silence_timeout_s: float, settings: Iterable[str] = ()
    ) -> None:
        """
        Args:
            silence_timeout_s: seconds without a byte after which a request fails.
            settings: names of the parameters that the user set: a refusal that names one concerns every row.
        """
        self._endpoint = endpoint
        self._settings = frozenset(settings)
        self._client, self._route = open_client(endpoint, limits, silence_timeout_s=silence_timeout_s)
        self._usual = timeouts(silence_timeout_s, read_s=silence_timeout_s)
        self._patient = timeouts(silence_timeout_s, read_s=None)

    @property
    def secrets(self) -> tuple[str, ...]:
        """Strings that must not appear in any message."""
        return self._endpoint.secrets

    @property
    def is_azure(self) -> bool:
        """Whether the service is Azure's."""
        return self._endpoint.azure

    @property
    def settings(self) -> frozenset[str]:
        """Names of the parameters that the user set."""
        return self._settings

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.close()

    def fault(self, exc: Exception) -> ServiceFault:
        """Return the fault of an error of the SDK or of the HTTP client."""
        route_fault = self._route.fault(exc, self.secrets)
        return route_fault or self._route.explained(fault_of_exception(exc, self.secrets, self._settings), exc)

    async def get(
        self, path: str, headers: Mapping[str, str], **params: str | int
    ) -> tuple[JsonObject, Mapping[str, str]]:
        """GET a JSON object; return it with the reply's headers."""
        try:
            response = await self._client.get(
                path, cast_to=httpx2.Response, options={"headers": headers, "params": params}
            )
        except HttpFailure as exc:
            raise self.fault(exc) from exc
        return self._json(response), response.headers

    async def get_beside(self, path: str, max_bytes: int) -> bytes:
        """GET bytes that no row needs (see `client.is_beside`), over a connection that is closed afterwards.

        A server that answers one connection at a time does not have to wait for this one.

        Raises:
            ServiceFault: the reply has more than `max_bytes`.
            Exception: the request failed; the exception is that of the SDK, the HTTP client or the caller's key.
        """
        headers = {"Connection": "close"}
        request = self._client.get(
            path, cast_to=httpx2.Response, options={"headers": headers}, stream=True, stream_cls=_STREAM
        )
        response = await _unread(request)
        content = bytearray()
        try:
            async with aclosing(response.aiter_bytes()) as chunks:
                async for chunk in chunks:
                    content += chunk
                    if len(content) > max_bytes:
                        raise PermanentFault(f"more than {max_bytes:,} bytes", error_type="reply_too_large")
        finally:
            await response.aclose()
        return bytes(content)

    async def post(
        self, path: str, body: JsonObject, headers: Mapping[str, str], *, patient: bool = False
    ) -> JsonObject:
        """POST a JSON object; return the JSON reply.

        Args:
            patient: wait for the reply without a timeout for silence. It comes only when the model has written the
                whole answer, which would have to be paid for again after a timeout. The row's own deadline still
                applies.
        """
        try:
            response = await self._client.post(
                path,
                cast_to=httpx2.Response,
                body=body,
                options={"headers": headers, "timeout": self._patient if patient else self._usual},
            )
        except HttpFailure as exc:
            raise self.fault(exc) from exc
        return self._json(response)

    async def post_file(
        self, path: str, fields: Mapping[str, str], name: str, content: BinaryIO, headers: Mapping[str, str]
    ) -> JsonObject:
        """POST a form with a file, which is read while it is sent; return the JSON reply."""
        try:
            response = await self._client.post(
                path,
                cast_to=httpx2.Response,
                body=dict(fields),
                files=[("file", (name, content))],
                # The SDK adds the boundary.
                options={"headers": {"Content-Type": "multipart/form-data", **headers}},
            )
        except HttpFailure as exc:
            raise self.fault(exc) from exc
        return self._json(response)

    @asynccontextmanager
    async def download(self, path: str, headers: Mapping[str, str]) -> AsyncIterator[AsyncIterator[bytes]]:
        """GET bytes as they arrive. Redirects are followed: services often keep files at another address, which needs
        no credentials (see `Route.leads_away`).

        Raises:
            ServiceFault: also while the bytes are read, for example if the reply breaks off.
        """
        try:
            response = await _unread(
                self._client.get(
                    path,
                    cast_to=httpx2.Response,
                    options={"headers": {"Accept": UNBOUNDED, **headers}, "follow_redirects": True},
                    stream=True,
                    stream_cls=_STREAM,
                )
            )
            try:
                async with aclosing(response.aiter_bytes()) as chunks:
                    yield chunks
            finally:
                await response.aclose()
        except HttpFailure as exc:
            raise self.fault(exc) from exc

    async def delete(self, path: str, headers: Mapping[str, str]) -> bool:
        """DELETE an object; return False if the service does not have it.

        Raises:
            ServiceFault: also if the service has no such endpoint.
        """
        try:
            response = await self._client.delete(path, cast_to=httpx2.Response, options={"headers": headers})
        except openai.NotFoundError as exc:
            if _knows_the_endpoint(exc):
                return False
            raise self.fault(exc) from exc
        except HttpFailure as exc:
            raise self.fault(exc) from exc
        if response.status_code != 204:
            self._json(response)  # raises if the reply is a page, such as a proxy's: then nothing was deleted
        return True

    def post_stream(
        self, path: str, body: JsonObject, headers: Mapping[str, str]
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """POST and yield the reply's bytes as they arrive; at the end, the connection is kept for the next request.

        If the server does not stream but answers with a JSON object, the object becomes one event named `json`.

        Raises:
            ServiceFault: also while the bytes are read.
        """
        return _Streamed(
            self,
            self._client.post(
                path,
                cast_to=httpx2.Response,
                body=body,
                options={"headers": headers},
                stream=True,
                stream_cls=_STREAM,
            ),
        )

    def get_stream(
        self, path: str, headers: Mapping[str, str], **params: str | int
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """GET a stream; like `post_stream`.

        Raises:
            ServiceFault: also while the bytes are read.
        """
        return _Streamed(
            self,
            self._client.get(
                path,
                cast_to=httpx2.Response,
                options={"headers": headers, "params": params},
                stream=True,
                stream_cls=_STREAM,
            ),
        )

    async def whole(self, response: httpx2.Response) -> JsonObject:
        """Read a whole reply that came in place of a stream; return its JSON object."""
        try:
            await response.aread()
            return self._json(response)
        except HttpFailure as exc:
            raise self.fault(exc) from exc
        finally:
            await response.aclose()

    def _json(self, response: httpx2.Response) -> JsonObject:
        """Return the JSON object of a reply. A reply without one does not come from the API."""
        try:
            body = loaded(response.content)
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise self._route.explained(self._not_an_object(response))
        if is_error_body(body) and "id" not in body:
            raise fault_of_error_body(body, self.secrets)  # an error with HTTP 200, as some proxies send it
        return body

    def _not_an_object(self, response: httpx2.Response) -> ServerFault | Unavailable:
        kind = response.headers.get("content-type", "no content type")
        start = " ".join(scrubbed(response.text, self.secrets)[:80].split())
        message = (
            f"the server answered {response.status_code} with {kind}, expected JSON or an event stream; the reply "
            f"begins with {start!r}"
        )
        if "json" in kind:
            return ServerFault(message, error_type="bad_reply", status_code=response.status_code)
        # A page: of a gateway under maintenance, of a network that requires a login, or of another server.
        page = Unavailable(message, error_type="bad_reply", status_code=response.status_code)
        page.connected, page.sent = False, True
        return page


class _Streamed:
    """The reply to a request, as an asynchronous context manager over its bytes.

    Mutable state: the response and its bytes, once the block has begun.
    """

    __slots__ = ("_chunks", "_request", "_response", "_wire")

    def __init__(self, wire: Wire, request: Awaitable[object]) -> None:
        self._wire = wire
        self._request = request
        self._response: httpx2.Response
        self._chunks: AsyncGenerator[bytes]

    async def __aenter__(self) -> AsyncIterator[bytes]:
        try:
            response = await self._request
        except HttpFailure as exc:
            raise self._wire.fault(exc) from exc
        assert isinstance(response, httpx2.Response)
        self._response = response
        if response.headers.get("content-type", "").lower().startswith("text/event-stream"):
            self._chunks = response.aiter_raw()  # already decompressed: see reply_size
        else:
            self._chunks = _one_event(await self._wire.whole(response))
        return self._chunks

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        response = self._response
        try:
            if error is None and not (isinstance(response, LeanResponse) and response.is_at_end):
                await _read_out(self._chunks)
        finally:
            await self._chunks.aclose()
            await response.aclose()
        if isinstance(error, HttpFailure):
            raise self._wire.fault(error) from error


async def _unread(request: Awaitable[object]) -> httpx2.Response:
    """Return the raw response, unread: for the SDK, `cast_to=Response` takes precedence over `stream_cls`."""
    response = await request
    assert isinstance(response, httpx2.Response)
    return response


def _knows_the_endpoint(exc: openai.NotFoundError) -> bool:
    """Return whether a 404 is about the object. For an endpoint that was removed, OpenAI sends an error object too."""
    body = exc.body
    if not isinstance(body, Mapping) or "message" not in body or exc.code == "unknown_url":
        return False
    return not str(body["message"]).startswith(("Resource not found", "Invalid URL", "Unknown request URL"))


async def _read_out(chunks: AsyncIterator[bytes]) -> None:
    """Read the rest of a stream: only a reply read to its end leaves its connection usable.

    The answer is complete by now, so neither a deadline nor a fault of the connection may lose it.
    """
    with anyio.move_on_after(READ_OUT_TIMEOUT_S, shield=True):
        try:
            async for _ in chunks:
                pass
        except HttpFailure:
            pass


async def _one_event(body: JsonObject) -> AsyncGenerator[bytes]:
    yield b"event: json\ndata: " + json.dumps(body).encode() + b"\n\n"
