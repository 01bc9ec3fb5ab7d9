"""The replies of the fast path, read from aiohttp: a whole body, its pieces, and replies that the HTTP client reads."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator
from typing import Self

import aiohttp
import httpx2

from batchrun.services.lean_exchange import Reply
from batchrun.services.reply_size import MAX_REPLY_BYTES, bound, too_large

__all__ = ["CONNECTION_ERRORS", "LeanResponse", "full_response", "mapped"]


class LeanResponse(httpx2.Response):
    """A reply with status 200, over aiohttp's own. Read it by `aread` and `content`, or by `aiter_raw`, then close it.

    Mutable state: the body, once it has been read.
    """

    def __init__(self, request: httpx2.Request, reply: Reply) -> None:
        # Not the base class's initialisation, which is what costs time.
        self.status_code = reply.status
        self.headers = reply.headers  # type: ignore[assignment] # has the same methods
        self._of = request
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
            content, pieces = self._reply.content, _Pieces(self._reply)
            if content.is_eof() and content.exception() is None:  # it came in one piece with its head
                body = pieces.counted(content.read_nowait())
            else:
                body = b"".join([piece async for piece in pieces])
            self._reply.release()
            self._bytes = _gunzipped(body) if "content-encoding" in self.headers else body
        return self._bytes

    def aiter_raw(self, chunk_size: int | None = None) -> _Pieces:  # type: ignore[override] # noqa: ARG002 the base's
        """Return the bytes as they arrive. Reading them raises as `aread`."""
        return _Pieces(self._reply)

    @property
    def is_at_end(self) -> bool:
        """Whether all bytes have been read, so that the connection is free already."""
        return self._reply.content.at_eof()

    async def aclose(self) -> None:
        """Give the connection back if the body has been read to its end; else close it."""
        self._reply.release()


class _Pieces:
    """The body of a reply as it arrives. Not a generator: the event loop keeps a list of those that have begun.

    Mutable state: the bytes so far.
    """

    __slots__ = ("_reply", "_size")

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._size = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            piece = await self._reply.content.readany()
        except CONNECTION_ERRORS as exc:
            self._reply.close()
            raise mapped(exc) from exc
        except BaseException:
            self._reply.close()
            raise
        if not piece:
            raise StopAsyncIteration
        return self.counted(piece)

    def counted(self, piece: bytes) -> bytes:
        """Return the piece, if the body is not too large with it."""
        self._size += len(piece)
        if self._size > MAX_REPLY_BYTES:
            self._reply.close()
            raise too_large()
        return piece

    async def aclose(self) -> None:
        """Do nothing: the reply is closed by its response."""


class _Stream(httpx2.AsyncByteStream):
    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _Pieces(self._reply)

    async def aclose(self) -> None:
        self._reply.release()


def full_response(request: httpx2.Request, reply: Reply) -> httpx2.Response:
    """Return a reply as the HTTP client makes it, not read yet."""
    response = httpx2.Response(
        reply.status,
        headers=reply.raw_headers,
        stream=_Stream(reply),
        request=request,
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


CONNECTION_ERRORS = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError)
"""aiohttp's errors for which the HTTP client has its own, which the SDK knows. Others are raised as they are."""


def mapped(exc: aiohttp.ClientError) -> httpx2.TransportError:
    """Return the HTTP client's error for one of `CONNECTION_ERRORS`, as the SDK's transport does."""
    if isinstance(exc, aiohttp.SocketTimeoutError):
        return httpx2.ReadTimeout(str(exc))
    return (httpx2.ReadError if isinstance(exc, aiohttp.ClientPayloadError) else httpx2.ConnectTimeout)(str(exc))
