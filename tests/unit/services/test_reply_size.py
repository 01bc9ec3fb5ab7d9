"""Replies that are larger than any answer."""

from __future__ import annotations

import gzip

import httpx2
import pytest

from batchrun.errors import PermanentFault
from batchrun.services import reply_size
from batchrun.services.reply_size import UNBOUNDED, bound

pytestmark = pytest.mark.anyio

LIMIT = 100_000


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reply_size, "MAX_REPLY_BYTES", LIMIT)


class Pieces(httpx2.AsyncByteStream):
    """Bytes in pieces; counts the pieces that were read, and whether the stream was closed."""

    def __init__(self, data: bytes, size: int = 1_000) -> None:
        self.pieces = [data[start : start + size] for start in range(0, len(data), size)]
        self.taken, self.closed = 0, False

    async def __aiter__(self):  # type: ignore[no-untyped-def]
        for piece in self.pieces:
            self.taken += 1
            yield piece

    async def aclose(self) -> None:
        self.closed = True


def reply(stream: Pieces, status: int = 200, accept: str = "application/json", **headers: str) -> httpx2.Response:
    request = httpx2.Request("POST", "http://127.0.0.1/v1", headers={"accept": accept})
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    made = httpx2.Response(status, headers=named, stream=stream, request=request)
    bound(made)
    return made


@pytest.mark.parametrize("status", [200, 500])
async def test_an_endless_reply_is_left(status: int) -> None:
    """Beyond the limit nothing more is read, of answers and of errors, and the connection is closed."""
    stream = Pieces(b" " * 10 * LIMIT)
    with pytest.raises(PermanentFault) as caught:
        await reply(stream, status).aread()
    assert caught.value.error_type == "reply_too_large"
    assert stream.taken <= LIMIT // 1_000 + 1
    assert stream.closed


async def test_the_message_names_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is given in MiB."""
    monkeypatch.setattr(reply_size, "MAX_REPLY_BYTES", 2 * 1_048_576)
    with pytest.raises(PermanentFault, match="the reply is larger than 2 MiB"):
        await reply(Pieces(b" " * 3_000_000, size=1_000_000)).aread()


async def test_a_bomb_is_counted_decompressed() -> None:
    """A reply of a few bytes that decompresses to megabytes is too large."""
    with pytest.raises(PermanentFault, match="is larger than"):
        await reply(Pieces(gzip.compress(b" " * 100 * LIMIT)), content_encoding="gzip").aread()


async def test_compressed_replies_are_read() -> None:
    """Within the limit, a compressed reply is read as usual, streamed or not."""
    packed = gzip.compress(b"data: 1" * 100)
    assert await reply(Pieces(packed, 7), content_encoding="gzip").aread() == b"data: 1" * 100
    streamed = reply(Pieces(packed, 7), content_encoding="gzip").aiter_raw()
    assert b"".join([piece async for piece in streamed]) == b"data: 1" * 100


async def test_files_have_no_bound() -> None:
    """A download to the disk may have any size."""
    assert len(await reply(Pieces(b" " * 10 * LIMIT), accept=UNBOUNDED).aread()) == 10 * LIMIT
