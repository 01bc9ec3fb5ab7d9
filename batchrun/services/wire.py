"""Lean reading: the SDK sends every request, we read the bytes.

The SDK's typed streams cost some 5 ms of CPU for a row of 20 deltas, nearly all of it in building objects
that nobody looks at. Here the frames of a stream are told apart by their first line, and only those are
decoded that carry ids, the final message, usage or the end.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
import openai
from openai import AsyncOpenAI, AsyncStream

from batchrun.engine.limits import Limits
from batchrun.errors import ServerFault
from batchrun.services.faults import HttpFailure, fault_of_exception, parse_retry_after

__all__ = ["Endpoint", "EventReader", "Wire"]

MAX_CONNECTIONS = 10_000
CONNECT_TIMEOUT_S = 15.0
MAX_FRAME_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a service is and how to sign in; the key never shows in a repr."""

    base_url: str | None
    api_key: str = field(repr=False)
    organization: str | None = None
    project: str | None = None


class EventReader:
    """Cuts a stream of server-sent events into (event, data), dropping events by name before decoding.

    Follows the WHATWG HTML standard, §9.2.6: events end with a blank line, lines with LF, CRLF or CR; `data`
    lines are joined by LF; lines that begin with a colon are comments.

    All state: the bytes of the event that is not whole yet.
    """

    def __init__(self, skipped: Iterable[str] = ()) -> None:
        self._skipped = tuple(f"event: {name}\n".encode() for name in skipped)
        self._rest = b""

    def feed(self, chunk: bytes) -> Iterator[tuple[str, bytes]]:
        """Take in bytes; yield every event that became whole."""
        buffer = self._rest + chunk
        if b"\r" in buffer:
            held = b"\r" if buffer.endswith(b"\r") else b""
            buffer = buffer.removesuffix(b"\r").replace(b"\r\n", b"\n").replace(b"\r", b"\n") + held
        frames = buffer.split(b"\n\n")
        self._rest = frames.pop()
        if len(self._rest) > MAX_FRAME_BYTES:
            raise ServerFault("the server sent an event without end", error_type="bad_stream")
        for frame in frames:
            if not frame.startswith(self._skipped):
                event = _decode(frame)
                if event is not None:
                    yield event


def _decode(frame: bytes) -> tuple[str, bytes] | None:
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

    def __init__(self, endpoint: Endpoint, limits: Limits, *, silence_timeout_s: float) -> None:
        async def before(_: httpx2.Request) -> None:
            await limits.request()

        async def after(response: httpx2.Response) -> None:
            limits.observe(response.headers)
            if response.status_code == 429:
                limits.cool_down(parse_retry_after(response.headers) or 0.0)

        self._secrets = (endpoint.api_key,)
        self.client = AsyncOpenAI(
            api_key=endpoint.api_key,
            base_url=endpoint.base_url,
            organization=endpoint.organization,
            project=endpoint.project,
            # The SDK's own retries go round the limits and send requests twice that must not be.
            max_retries=0,
            timeout=httpx2.Timeout(
                connect=CONNECT_TIMEOUT_S, read=silence_timeout_s, write=silence_timeout_s, pool=None
            ),
            http_client=openai.DefaultAioHttpClient(
                limits=httpx2.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS),
                event_hooks={"request": [before], "response": [after]},
            ),
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self.client.close()

    @property
    def secrets(self) -> tuple[str, ...]:
        """Strings that must not appear in any message."""
        return self._secrets

    async def get(self, path: str, headers: Mapping[str, str], **params: Any) -> tuple[Any, Mapping[str, str]]:
        """GET a JSON object; returns it with the reply's headers.

        Raises:
            ServiceFault: as translated by `batchrun.services.faults`.
        """
        try:
            response = await self.client.get(
                path, cast_to=httpx2.Response, options={"headers": headers, "params": params}
            )
        except HttpFailure as exc:
            raise fault_of_exception(exc, self._secrets) from exc
        return _json_body(response), response.headers

    async def post(self, path: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> Any:
        """POST a JSON object; returns the JSON reply.

        Raises:
            ServiceFault: as translated by `batchrun.services.faults`.
        """
        try:
            response = await self.client.post(path, cast_to=httpx2.Response, body=body, options={"headers": headers})
        except HttpFailure as exc:
            raise fault_of_exception(exc, self._secrets) from exc
        return _json_body(response)

    @asynccontextmanager
    async def post_stream(
        self, path: str, body: Mapping[str, Any], headers: Mapping[str, str]
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """POST and hand out the reply's bytes as they come; the connection is closed on leaving.

        A server that does not stream and answers with a JSON object is read as one event named `json`.

        Raises:
            ServiceFault: also while the bytes are read.
        """
        try:
            reply: object = await self.client.post(
                path,
                cast_to=httpx2.Response,
                body=body,
                options={"headers": headers},
                stream=True,
                stream_cls=AsyncStream[Any],
            )
            # `cast_to=Response` wins over `stream_cls`: the SDK hands out the raw response, unread.
            assert isinstance(reply, httpx2.Response)
            response = reply
            try:
                if not response.headers.get("content-type", "").startswith("text/event-stream"):
                    await response.aread()
                    yield _one_event(_json_body(response))
                elif "content-encoding" in response.headers:
                    yield response.aiter_bytes()
                else:
                    yield response.aiter_raw()
            finally:
                await response.aclose()
        except HttpFailure as exc:
            raise fault_of_exception(exc, self._secrets) from exc


async def _one_event(body: Any) -> AsyncIterator[bytes]:
    yield b"event: json\ndata: " + json.dumps(body).encode() + b"\n\n"


def _json_body(response: httpx2.Response) -> Any:
    try:
        return json.loads(response.content)
    except ValueError:
        raise _not_a_stream(response) from None


def _not_a_stream(response: httpx2.Response) -> ServerFault:
    kind = response.headers.get("content-type", "no content type")
    start = " ".join(response.text[:80].split())
    return ServerFault(
        f"the server answered {response.status_code} with {kind} where JSON or an event stream was due: {start!r}",
        error_type="bad_reply",
        status_code=response.status_code,
    )
