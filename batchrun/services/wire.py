"""Lean reading: the SDK sends every request, we read the bytes.

The SDK's typed streams cost some 5 ms of CPU for a row of 20 deltas, nearly all of it in building objects
that nobody looks at. Here the frames of a stream are told apart by their first line, and only those are
decoded that carry ids, the final message, usage or the end.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from functools import lru_cache
from typing import Any, BinaryIO

import anyio
import httpx2
import openai
from openai import AsyncStream

from batchrun.engine.limits import Limits
from batchrun.errors import ServerFault, ServiceFault, Unavailable
from batchrun.services.client import Endpoint, open_client, timeouts
from batchrun.services.redaction import scrubbed
from batchrun.services.reply_fields import loaded
from batchrun.services.reply_size import UNBOUNDED
from batchrun.services.translation import HttpFailure, fault_of_error_body, fault_of_exception

__all__ = ["BETA", "EventReader", "Wire"]

BETA = {"OpenAI-Beta": "assistants=v2"}
"""The header of the endpoints of assistants, threads and vector stores."""

READ_OUT_TIMEOUT_S = 0.5


class EventReader:
    """Cuts a stream of server-sent events into (event, data), dropping by name, before decoding, what does not matter.

    Follows the WHATWG HTML standard, §9.2.6: events end with a blank line, lines with LF, CRLF or CR; `data`
    lines are joined by LF; lines that begin with a colon are comments.

    Every byte is looked at a fixed number of times, however small the pieces are in which an event comes.

    All state: the bytes of the event that is not whole yet, with all line ends as LF; and whether the last byte was a
    CR, whose LF may follow.
    """

    def __init__(self, kept: Iterable[str] = ()) -> None:
        """
        Args:
            kept: names of the events that matter. Without any, all do.
        """
        self._kept = _first_lines(tuple(kept))
        self._rest = bytearray()
        self._after_cr = False

    def feed(self, chunk: bytes) -> Iterator[tuple[str, bytes]]:
        """Take in bytes; yield every event that became whole."""
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
                return
            chunk = bytes(self._rest)
            self._rest.clear()
        frames = chunk.split(b"\n\n")
        self._rest += frames.pop()
        for frame in frames:
            # A frame that does not begin in the common form is decoded: its name may stand elsewhere.
            if not self._kept or frame.startswith(self._kept) or not frame.startswith(b"event: "):
                event = _decode(frame)
                if event is not None:
                    yield event


@lru_cache(maxsize=8)
def _first_lines(names: tuple[str, ...]) -> tuple[bytes, ...]:
    return tuple(f"event: {name}\n".encode() for name in names)


def _decode(frame: bytes) -> tuple[str, bytes] | None:
    if frame.startswith(b"data: ") and b"\n" not in frame:
        return "message", frame[6:]  # the whole of most events of Chat Completions
    event, data = "message", []
    for line in frame.split(b"\n"):
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            data.append(value)
        elif name == b"event":
            event = value.decode("utf-8", "replace")
    return (event, b"\n".join(data)) if data else None


class Wire:
    """One `AsyncOpenAI` client under the limits, with raw reading of its replies."""

    def __init__(
        self, endpoint: Endpoint, limits: Limits, *, silence_timeout_s: float, settings: Iterable[str] = ()
    ) -> None:
        """
        Args:
            silence_timeout_s: seconds without a byte after which a reply is given up.
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

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.close()

    def _fault(self, exc: Exception) -> ServiceFault:
        of_the_way = self._route.fault(exc, self.secrets)
        return of_the_way or self._route.told(fault_of_exception(exc, self.secrets, self._settings), exc)

    async def get(self, path: str, headers: Mapping[str, str], **params: Any) -> tuple[Any, Mapping[str, str]]:
        """GET a JSON object; returns it with the reply's headers.

        Raises:
            ServiceFault: as translated by `batchrun.services.translation`.
        """
        try:
            response = await self._client.get(
                path, cast_to=httpx2.Response, options={"headers": headers, "params": params}
            )
        except HttpFailure as exc:
            raise self._fault(exc) from exc
        return self._json(response), response.headers

    async def post(
        self, path: str, body: Mapping[str, Any], headers: Mapping[str, str], *, patient: bool = False
    ) -> Any:
        """POST a JSON object; returns the JSON reply.

        Args:
            patient: the reply comes when the model has written all of it; silence until then says nothing, and
                giving it up would have the answer paid for again. The row's own deadline ends it.

        Raises:
            ServiceFault: as translated by `batchrun.services.translation`.
        """
        try:
            response = await self._client.post(
                path,
                cast_to=httpx2.Response,
                body=body,
                options={"headers": headers, "timeout": self._patient if patient else self._usual},
            )
        except HttpFailure as exc:
            raise self._fault(exc) from exc
        return self._json(response)

    async def post_file(
        self, path: str, fields: Mapping[str, str], name: str, content: BinaryIO, headers: Mapping[str, str]
    ) -> Any:
        """POST a form with a file, which is read as it is sent; returns the JSON reply.

        Raises:
            ServiceFault: as translated by `batchrun.services.translation`.
        """
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
            raise self._fault(exc) from exc
        return self._json(response)

    @asynccontextmanager
    async def download(self, path: str, headers: Mapping[str, str]) -> AsyncIterator[AsyncIterator[bytes]]:
        """GET bytes, as they come. A redirect is followed: files are often kept elsewhere, at an address that needs
        no sign-in (see `Route.leads_away`).

        Raises:
            ServiceFault: also while they are read; a reply that breaks off is one.
        """
        try:
            response = await _unread(
                self._client.get(
                    path,
                    cast_to=httpx2.Response,
                    options={"headers": {"Accept": UNBOUNDED, **headers}, "follow_redirects": True},
                    stream=True,
                    stream_cls=AsyncStream[Any],
                )
            )
            try:
                async with aclosing(response.aiter_bytes()) as chunks:
                    yield chunks
            finally:
                await response.aclose()
        except HttpFailure as exc:
            raise self._fault(exc) from exc

    async def delete(self, path: str, headers: Mapping[str, str]) -> bool:
        """DELETE an object; False if the service says that there is none (any more).

        Raises:
            ServiceFault: as translated by `batchrun.services.translation`; also where the service has no such endpoint.
        """
        try:
            response = await self._client.delete(path, cast_to=httpx2.Response, options={"headers": headers})
        except openai.NotFoundError as exc:
            if _knows_the_endpoint(exc):
                return False
            raise self._fault(exc) from exc
        except HttpFailure as exc:
            raise self._fault(exc) from exc
        if response.status_code != 204:
            self._json(response)  # a page in its place, such as a proxy's, deletes nothing
        return True

    def post_stream(
        self, path: str, body: Mapping[str, Any], headers: Mapping[str, str]
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """POST and hand out the reply's bytes as they come; on leaving, the connection is kept for the next request.

        A server that does not stream and answers with a JSON object is read as one event named `json`.

        Raises:
            ServiceFault: also while the bytes are read.
        """
        return self._stream(
            self._client.post(
                path,
                cast_to=httpx2.Response,
                body=body,
                options={"headers": headers},
                stream=True,
                stream_cls=AsyncStream[Any],
            )
        )

    def get_stream(
        self, path: str, headers: Mapping[str, str], **params: Any
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """GET a stream, as `post_stream`.

        Raises:
            ServiceFault: also while the bytes are read.
        """
        return self._stream(
            self._client.get(
                path,
                cast_to=httpx2.Response,
                options={"headers": headers, "params": params},
                stream=True,
                stream_cls=AsyncStream[Any],
            )
        )

    @asynccontextmanager
    async def _stream(self, request: Awaitable[object]) -> AsyncIterator[AsyncIterator[bytes]]:
        try:
            response = await _unread(request)
            try:
                if not response.headers.get("content-type", "").startswith("text/event-stream"):
                    await response.aread()
                    yield _one_event(self._json(response))
                    return
                async with aclosing(response.aiter_raw()) as chunks:  # decompressed already
                    yield chunks
                    await _read_out(chunks)
            finally:
                await response.aclose()
        except HttpFailure as exc:
            raise self._fault(exc) from exc

    def _json(self, response: httpx2.Response) -> Any:
        """The object that a reply holds; one that holds none comes from something else than the API."""
        try:
            body = loaded(response.content)
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise self._route.told(self._not_an_object(response))
        if body.get("error") and "id" not in body:
            raise fault_of_error_body(body, self.secrets)  # an error with HTTP 200, as some proxies send it
        return body

    def _not_an_object(self, response: httpx2.Response) -> ServerFault | Unavailable:
        kind = response.headers.get("content-type", "no content type")
        start = " ".join(scrubbed(response.text, self.secrets)[:80].split())
        words = (
            f"the server answered {response.status_code} with {kind} where JSON or an event stream was due: {start!r}"
        )
        if "json" in kind:
            return ServerFault(words, error_type="bad_reply", status_code=response.status_code)
        # A page: of a gateway that is being serviced, of a network that wants a sign-in, or of another server.
        page = Unavailable(words, error_type="bad_reply", status_code=response.status_code)
        page.connected, page.sent = False, True
        return page


async def _unread(request: Awaitable[object]) -> httpx2.Response:
    """`cast_to=Response` wins over `stream_cls`: the SDK hands out the raw response, unread."""
    response = await request
    assert isinstance(response, httpx2.Response)
    return response


def _knows_the_endpoint(exc: openai.NotFoundError) -> bool:
    """Whether a 404 is about the object. OpenAI's about an endpoint that is gone is an error object too."""
    body = exc.body
    if not isinstance(body, Mapping) or "message" not in body or exc.code == "unknown_url":
        return False
    return not str(body["message"]).startswith(("Resource not found", "Invalid URL", "Unknown request URL"))


async def _read_out(chunks: AsyncIterator[bytes]) -> None:
    """Read what follows the last event that mattered: only a reply read to its end leaves its connection usable.

    The answer is whole by now, so neither a deadline nor a fault of the connection takes it away any more.
    """
    with anyio.move_on_after(READ_OUT_TIMEOUT_S, shield=True):
        try:
            async for _ in chunks:
                pass
        except HttpFailure:
            pass


async def _one_event(body: Any) -> AsyncIterator[bytes]:
    yield b"event: json\ndata: " + json.dumps(body).encode() + b"\n\n"
