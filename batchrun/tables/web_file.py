"""A table at an `http://` or `https://` address, which is always one file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from batchrun.errors import InputError
from batchrun.local_paths import shown_url

if TYPE_CHECKING:
    import httpx2

__all__ = ["UNKNOWN_SIZE", "WEB_TIMEOUT_S", "WebFile"]

WEB_TIMEOUT_S: Final = 60.0
"""The longest wait for a connection, and for more bytes."""
UNKNOWN_SIZE: Final = -1
_UNCHANGED: Final = ("etag", "last-modified")
"""Headers by which a file is known to be the same."""


@dataclass(frozen=True, slots=True)
class WebFile:
    """The file, with as much of the interface of `pyarrow.fs.FileSystem` as a copy needs.

    Attributes:
        address: the URL with its query.
    """

    address: str

    def entry(self) -> tuple[str, int, str]:
        """Return its name, its size in bytes (or `UNKNOWN_SIZE`), and what changes with its content (empty if nothing
        does).

        Raises:
            InputError: the server cannot be reached, or does not have it.
        """
        name = unquote(urlsplit(self.address).path).rpartition("/")[2] or "table"
        with self.open_input_stream(name) as body:
            headers = body.response.headers
            length = headers.get("content-length")
            is_plain = length is not None and "content-encoding" not in headers
            time = next((f"{each}: {headers[each]}" for each in _UNCHANGED if each in headers), "")
            return name, int(length) if is_plain and length is not None else UNKNOWN_SIZE, time

    def open_input_stream(self, _name: str) -> _Body:
        """Return the content as a stream of bytes.

        Raises:
            InputError: as for `entry`.
        """
        import httpx2

        with _told(self.address):
            client = httpx2.Client(follow_redirects=True, timeout=WEB_TIMEOUT_S)
            try:
                request = client.build_request("GET", self.address, headers={"Accept-Encoding": "identity"})
                response = client.send(request, stream=True)
            except BaseException:
                client.close()
                raise
        body = _Body(self.address, client, response)
        if response.is_success:
            return body
        with body:
            raise _refused(self.address, f"the server answers {response.status_code} {response.reason_phrase}".rstrip())


class _Body:
    """The content of a reply, in chunks of any size. Mutable state: the position in it."""

    __slots__ = ("_address", "_chunks", "_client", "response")

    def __init__(self, address: str, client: httpx2.Client, response: httpx2.Response) -> None:
        self.response = response
        self._address, self._client, self._chunks = address, client, response.iter_bytes()

    def read(self, _bytes: int) -> bytes:
        """Return the next chunk, empty at the end."""
        with _told(self._address):
            return next(self._chunks, b"")

    def __enter__(self) -> _Body:
        return self

    def __exit__(self, *_error: object) -> None:
        self.response.close()
        self._client.close()


@contextmanager
def _told(address: str) -> Iterator[None]:
    """Turn errors of the client into an InputError."""
    import httpx2

    try:
        yield
    except (httpx2.HTTPError, httpx2.InvalidURL) as exc:
        raise _refused(address, f"the request fails: {str(exc) or type(exc).__name__}") from exc


def _refused(address: str, reason: str) -> InputError:
    return InputError(f"{shown_url(address)}: cannot be read ({reason})")
