"""A proxy between batch and server that loses, breaks and delays requests as planned."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import math
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

import anyio
import anyio.lowlevel
from anyio.from_thread import start_blocking_portal

__all__ = ["Fault", "Proxy", "Request", "planned"]

Fault: TypeAlias = Literal["reset", "lost_reply", "429", "500", "html", "stall"]
"""What happens to a request:

- `reset`: forwarded; RST in the middle of the reply.
- `lost_reply`: forwarded; the reply is thrown away and 502 answered, as by a gateway that lost its patience.
- `429`, `500`, `html`: not forwarded, answered so.
- `stall`: forwarded; the start of the reply comes, and then nothing.
"""

HTML = b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it arrived; header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Proxy:
    """Forwards each request over its own connection; use as a context manager.

    Attributes:
        target: base URL of the server.
        decide: returns the fault for a request, None for none.
        without: headers (lower case) that are not passed on.
        retry_after_s: seconds in the Retry-After header of a 429.
        stall_s: seconds of silence before the connection of a stalled reply ends.
        requests: all requests that arrived, except for the list of models, which no row needs and no fault meets.
        faults: kind → number of faults.
    """

    target: str
    decide: Callable[[Request], Fault | None] = lambda _: None
    without: frozenset[str] = frozenset()
    retry_after_s: float = 0.1
    stall_s: float = 60.0
    requests: list[Request] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    def __enter__(self) -> Proxy:
        portal = self._stack.enter_context(start_blocking_portal())
        self._port = self._stack.enter_context(portal.wrap_async_context_manager(self._serving()))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @contextlib.asynccontextmanager
    async def _serving(self) -> AsyncIterator[int]:
        async with anyio.create_task_group() as connections:

            def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                connections.start_soon(self._connection, reader, writer)

            server = await asyncio.start_server(accept, "127.0.0.1", 0, backlog=1_024)
            yield server.sockets[0].getsockname()[1]
            server.close()
            # A connection that asyncio has just accepted is owned by nobody until the task that serves it has begun.
            for _ in range(2):
                await anyio.lowlevel.checkpoint()
            connections.cancel_scope.cancel()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await _read_request(reader)
            is_beside = (request.method, request.path) == ("GET", "/v1/models")
            fault = None
            if not is_beside:
                self.requests.append(request)
                fault = self.decide(request)
            if fault is not None:
                self.faults[fault] += 1
            if fault in ("429", "500", "html"):
                writer.write(self._refusal(fault))
                await writer.drain()
            else:
                await self._forward(request, writer, fault)
        except (OSError, asyncio.IncompleteReadError):
            pass  # one of the two sides has gone, which is what these tests are about
        finally:
            writer.close()

    async def _forward(self, request: Request, writer: asyncio.StreamWriter, fault: Fault | None) -> None:
        where = urlsplit(self.target)
        reader, upstream = await asyncio.open_connection(where.hostname, where.port)
        try:
            headers = {name: value for name, value in request.headers.items() if name not in self.without}
            head = "".join(f"{name}: {value}\r\n" for name, value in {**headers, "connection": "close"}.items())
            upstream.write(f"{request.method} {request.path} HTTP/1.1\r\n{head}\r\n".encode() + request.body)
            if fault == "lost_reply":
                await reader.read()
                writer.write(_reply(502, "text/html", HTML))
                return
            # Inside the head, in front of the ids or behind them: each request breaks elsewhere, always the same.
            left = 100 + _number(request.headers.get("idempotency-key", request.path).partition("-")[2]) % 3_000
            while chunk := await reader.read(65_536):
                if fault is None:
                    writer.write(chunk)
                    await writer.drain()
                    continue
                writer.write(chunk[:left])
                await writer.drain()
                left -= len(chunk)
                if left <= 0:
                    break
            if fault == "reset":
                _reset(writer)
            elif fault == "stall":
                await anyio.sleep(self.stall_s)
        finally:
            upstream.close()

    def _refusal(self, fault: Fault) -> bytes:
        if fault == "html":
            return _reply(502, "text/html", HTML)
        if fault == "500":
            return _reply(500, "application/json", b'{"error": {"message": "Planned.", "type": "server_error"}}')
        body = b'{"error": {"message": "Planned.", "type": "requests", "code": "rate_limit_exceeded"}}'
        return _reply(429, "application/json", body, f"retry-after: {self.retry_after_s:g}\r\n")


def planned(seed: int, rates: dict[Fault, float], tries: float = math.inf) -> Callable[[Request], Fault | None]:
    """Return a plan by which each request meets at most one fault, at these rates; a row meets the same faults in any
    order of rows.

    Args:
        tries: a request that was made more often than this meets no further fault.
    """
    seen: Counter[str] = Counter()

    def decide(request: Request) -> Fault | None:
        # The key has the batch, new each time, before its first dash, and the row and its run after it.
        key = request.headers.get("idempotency-key", "").partition("-")[2]
        name = f"{request.method} {request.path} {key}"
        seen[name] += 1
        if seen[name] > tries:
            return None
        drawn = _number(f"{seed} {name} {seen[name]}") % 10_000 / 10_000
        for fault, rate in rates.items():
            if drawn < rate:
                return fault
            drawn -= rate
        return None

    return decide


def _number(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest())


def _reply(status: int, kind: str, body: bytes, more: str = "") -> bytes:
    head = (
        f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n{more}\r\n"
    )
    return head.encode() + body


def _reset(writer: asyncio.StreamWriter) -> None:
    """End the connection with RST instead of FIN."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _read_request(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = head[0].split(" ")
    pairs: Iterator[tuple[str, str, str]] = (line.partition(":") for line in head[1:] if line)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method, path, headers, body)
