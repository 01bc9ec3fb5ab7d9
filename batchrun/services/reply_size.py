"""Limits the decompressed size of a reply, so that an endless reply or a gzip bomb fails one row only."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import httpx2

from batchrun.errors import PermanentFault

__all__ = ["MAX_REPLY_BYTES", "UNBOUNDED", "bound", "too_large"]

MAX_REPLY_BYTES = 64 * 1024 * 1024
UNBOUNDED = "application/binary"
"""The `Accept` header of file downloads, which are not limited: they are written to the disk as they arrive."""


def bound(response: httpx2.Response) -> None:
    """Limit a response that has not been read yet to `MAX_REPLY_BYTES` decompressed bytes.

    Reading more raises a `PermanentFault` (`reply_too_large`), and the connection is closed.
    """
    if response.request.headers.get("accept") == UNBOUNDED:
        return
    stream = response.stream
    assert isinstance(stream, httpx2.AsyncByteStream)
    coding = response.headers.get("content-encoding")
    if coding is not None:
        # The limited stream yields decompressed bytes, so the HTTP client must not decompress them again.
        del response.headers["content-encoding"]
    response.stream = _Bounded(stream, coding)


def too_large() -> PermanentFault:
    """Return the fault of a reply with more than `MAX_REPLY_BYTES`."""
    return PermanentFault(f"the reply is larger than {MAX_REPLY_BYTES // 2**20} MiB", error_type="reply_too_large")


class _Bounded(httpx2.AsyncByteStream):
    """Decompresses the bytes of another stream piece by piece, and counts them."""

    def __init__(self, stream: httpx2.AsyncByteStream, coding: str | None) -> None:
        self._stream = stream
        self._coding = coding

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async with aclosing(self._plain()) as pieces:
            async for piece in pieces:
                size += len(piece)
                if size > MAX_REPLY_BYTES:
                    raise too_large()
                yield piece

    async def _plain(self) -> AsyncGenerator[bytes]:
        if self._coding is None:
            async for piece in self._stream:
                yield piece
            return
        decoded = httpx2.Response(200, headers={"content-encoding": self._coding}, stream=self._stream)
        async with aclosing(decoded.aiter_bytes()) as pieces:
            async for piece in pieces:
                yield piece

    async def aclose(self) -> None:
        await self._stream.aclose()
