"""The replies of operations, and how each is sent over ASGI."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio.lowlevel

from batchrun.server.errors import ApiError
from batchrun.server.replies.encoding import DONE, KEEP_ALIVE, dumps

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from starlette.types import Send

    from batchrun.server.replies.event_log import EventLog

__all__ = ["Binary", "HttpReply", "Json", "Pieces", "Stream", "Waiting", "error_reply", "json_reply"]


@dataclass(slots=True)
class HttpReply:
    """Base of all replies.

    Attributes:
        headers: further headers, names in lower case.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    async def send(self, send: Send) -> None:
        """Send the reply."""
        raise NotImplementedError

    async def _start(self, send: Send, content_type: str, length: int | None) -> None:
        headers = [(b"content-type", content_type.encode("latin-1"))]
        if length is not None:
            headers.append((b"content-length", str(length).encode()))
        headers += [(name.encode("latin-1"), value.encode("latin-1")) for name, value in self.headers.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})


@dataclass(slots=True)
class Json(HttpReply):
    """A JSON body, given as text."""

    text: str = "{}"

    async def send(self, send: Send) -> None:
        data = self.text.encode("utf-8", "replace")
        await self._start(send, "application/json", len(data))
        await send({"type": "http.response.body", "body": data})


@dataclass(slots=True)
class Binary(HttpReply):
    """The content of a file."""

    data: bytes = b""
    content_type: str = "application/octet-stream"

    async def send(self, send: Send) -> None:
        await self._start(send, self.content_type, len(self.data))
        await send({"type": "http.response.body", "body": self.data})


@dataclass(slots=True)
class Pieces(HttpReply):
    """The content of a file that is never in memory as a whole.

    Attributes:
        size: bytes of all pieces together.
    """

    size: int = 0
    pieces: Iterable[bytes] = ()

    async def send(self, send: Send) -> None:
        await self._start(send, "application/octet-stream", self.size)
        left = self.size
        for piece in self.pieces:
            left -= len(piece)
            await send({"type": "http.response.body", "body": piece, "more_body": left > 0})
        if not self.size:
            await send({"type": "http.response.body", "body": b""})


@dataclass(slots=True)
class Stream(HttpReply):
    """The events of one log, as they arrive. A client that disconnects ends its own stream only.

    Attributes:
        before: frames of earlier segments, which are sent first.
        skip: number of frames, including `before`, that the client already has.
        tail: bytes that follow the last frame of a complete log.
        numbered: text before the number in each frame's `id`; None for frames without an id.
    """

    log: EventLog | None = None
    before: Sequence[bytes] = ()
    skip: int = 0
    numbered: str | None = None
    tail: bytes = DONE

    async def send(self, send: Send) -> None:
        log = self.log
        assert log is not None
        # Yield once to the event loop, so that events which the run can produce at once are part of the first write.
        await anyio.lowlevel.checkpoint()
        while log.single and not log.frames and not log.closed:
            await log.changed()
        if log.single and not log.frames and log.failure is not None:
            await error_reply(log.failure, self.headers).send(send)
            return
        await self._start(send, "text/event-stream; charset=utf-8", None)
        pending = self._render(self.before[self.skip :], self.skip)
        position = max(0, self.skip - len(self.before))
        while True:
            pending += self._render(log.frames[position:], position + len(self.before))
            position = len(log.frames)
            if log.closed:
                break
            if pending:
                await send({"type": "http.response.body", "body": pending, "more_body": True})
                pending = b""
                if len(log.frames) > position or log.closed:
                    continue
            await log.changed()
            if len(log.frames) == position and not log.closed:
                pending = KEEP_ALIVE
        if log.done:
            pending += self.tail
        await send({"type": "http.response.body", "body": pending})

    def _render(self, frames: Sequence[bytes], first: int) -> bytes:
        if self.numbered is None:
            return b"".join(frames)
        numbers = range(first + 1, first + 1 + len(frames))
        return b"".join(
            b"id: %s%d\n%s" % (self.numbered.encode(), number, frame)
            for number, frame in zip(numbers, frames, strict=True)
        )


@dataclass(slots=True)
class Waiting(HttpReply):
    """The JSON result of a log, sent when the log is closed."""

    log: EventLog | None = None

    async def send(self, send: Send) -> None:
        log = self.log
        assert log is not None
        while not log.closed:
            await log.changed()
        if log.failure is not None:
            reply: Json = error_reply(log.failure, self.headers)
        elif not log.done:
            reply = error_reply(ApiError(503, "The server is stopping.", type="server_error"), self.headers)
        else:
            reply = Json(status=self.status, headers=self.headers, text=log.result or "{}")
        await reply.send(send)


def json_reply(data: Any, status: int = 200) -> Json:
    """Return a JSON reply with plain data."""
    return Json(status=status, text=dumps(data))


def error_reply(error: ApiError, headers: Mapping[str, str] | None = None) -> Json:
    """Return the error as a JSON reply."""
    reply = Json(status=error.status, text=dumps(error.body()))
    reply.headers.update(error.headers)
    reply.headers.update(headers or {})
    return reply
