"""One POST over a connection from an aiohttp session, with less work than the session's own `request`.

For each request, aiohttp's session builds the headers and a request object, starts a task that writes the body, and
keeps a second copy of the headers for its errors: about half of its CPU. Here the head of a kind of requests is
built once, by aiohttp's own request class, and head and body are written together. The connection comes from the
session's connector, and aiohttp's parser reads the reply, so pooling, TLS, timeouts and limits on headers stay
aiohttp's.

The connector and its protocol are public, but not documented as an interface. `is_possible` looks for what is
needed; without it, and for large bodies and unusual headers, `aiohttp.ClientSession.request` sends the request.
"""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Awaitable, Mapping
from typing import Any, Final, TypeAlias
from weakref import WeakSet

import aiohttp
import yarl
from aiohttp.abc import AbstractCookieJar
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDict, CIMultiDictProxy

__all__ = ["LeanReply", "Reply", "Target", "exchange", "is_possible", "with_clean_connections"]

LARGE_BODY = 64 * 1024
"""Bytes up to which a body is written at once. aiohttp writes larger ones in a task that waits for the network."""

_FORBIDDEN = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
"""Characters that may not be in a header: aiohttp refuses them in its own words."""


class Target:
    """Where requests of one kind go, and the part of their heads that is the same for all of them.

    Mutable state: `_session`, `_request` and `_head`, made for the first request that a session sends.
    """

    def __init__(self, url: yarl.URL, headers: CIMultiDict[str], timeouts: aiohttp.ClientTimeout) -> None:
        """
        Args:
            url: with the query.
            headers: of all requests of this kind, without the length of the body.
            timeouts: in seconds.
        """
        self.url: Final = url
        self.headers: Final = headers
        self.timeouts: Final = timeouts
        self._session: aiohttp.ClientSession | None = None
        self._request: aiohttp.ClientRequest
        self._head = ""

    def request(self, session: aiohttp.ClientSession) -> aiohttp.ClientRequest:
        """Return aiohttp's request of this kind, by which the connector chooses a connection."""
        if self._session is not session:
            self._session = session
            self._request = _KindOfRequest(
                "POST", self.url, headers=self.headers, loop=asyncio.get_running_loop(), session=session
            )
            self._head = ""
        return self._request

    def head(self, own: Mapping[str, str], size: int, cookies: str | None) -> bytes | None:
        """Return the head of a request, after `request`; None if it has to be written by aiohttp.

        Args:
            own: the headers of this request alone, in place of any of the same names.
            size: bytes of the body.
            cookies: the value of the `Cookie` header; None for none.
        """
        if not self._head:
            headers = self._request.headers.copy()
            for name in ("content-length", *own):
                headers.popall(name, None)
            lines = [f"POST {self.url.raw_path_qs} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
            if any(map(_FORBIDDEN.search, lines)):
                return None
            self._head = "\r\n".join(lines) + "\r\n"
        if cookies is not None and "cookie" in self.headers:  # aiohttp joins them
            return None
        head = self._head
        for name, value in own.items():
            if _FORBIDDEN.search(value) is not None:
                return None
            head += f"{name}: {value}\r\n"
        if cookies is not None:
            head += f"Cookie: {cookies}\r\n"
        return f"{head}Content-Length: {size}\r\n\r\n".encode()


class _KindOfRequest(aiohttp.ClientRequest):
    """aiohttp's request, which finds the key of its connections once."""

    _key: Any = None

    @property
    def connection_key(self) -> Any:
        if self._key is None:
            self._key = super().connection_key
        return self._key


class LeanReply:
    """A reply whose head has been read; the names are those of `aiohttp.ClientResponse`.

    Attributes:
        content: the body, as it arrives. At its end the connection is free for the next request.
    """

    __slots__ = ("_connection", "content", "headers", "raw_headers", "reason", "status")

    def __init__(self, connection: Any, message: Any, content: aiohttp.StreamReader) -> None:
        self._connection = connection
        self.status: int = message.code
        self.reason: str | None = message.reason
        self.headers: CIMultiDictProxy[str] = message.headers
        self.raw_headers: tuple[tuple[bytes, bytes], ...] = message.raw_headers
        self.content = content
        content.on_eof(connection.release)

    def release(self) -> None:
        """Give the connection back if the body has been read to its end; else close it."""
        self._connection.release()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


Reply: TypeAlias = LeanReply | aiohttp.ClientResponse


def is_possible() -> bool:
    """Return whether this version of aiohttp has what `exchange` uses."""
    try:
        inspect.signature(aiohttp.BaseConnector.connect).bind(None, None, traces=[], timeout=None)
        inspect.signature(ResponseHandler.set_response_params).bind(
            None, read_until_eof=True, auto_decompress=False, read_timeout=None
        )
        inspect.signature(ResponseHandler.start_timeout).bind(None)
        inspect.signature(ResponseHandler.read).bind(None)
    except (AttributeError, TypeError):
        return False
    return (
        hasattr(aiohttp, "ConnectionTimeoutError")
        and hasattr(aiohttp.ClientRequest, "connection_key")
        and hasattr(AbstractCookieJar, "update_cookies_from_headers")
    )


def with_clean_connections(session: aiohttp.ClientSession) -> aiohttp.ClientSession:
    """Return the session, which from now on closes a kept connection on which something has arrived since its last
    reply: aiohttp would take that for the reply to the next request, and so give a row the answer to another one."""
    connector = session.connector
    assert connector is not None
    connect, used = connector.connect, WeakSet[ResponseHandler]()

    async def connect_clean(*args: Any, **options: Any) -> Any:
        while True:
            connection = await connect(*args, **options)
            protocol = connection.protocol
            if protocol is None or protocol not in used or not protocol.should_close:
                if protocol is not None:
                    used.add(protocol)
                return connection
            connection.close()

    connector.connect = connect_clean  # type: ignore[method-assign] # it has no hook for this
    return session


def exchange(
    session: aiohttp.ClientSession, target: Target, own: Mapping[str, str], body: bytes, *, lean: bool
) -> Awaitable[Reply]:
    """Send a POST, and return its reply when the head has arrived.

    Args:
        own: the headers of this request alone.
        lean: False to leave everything to the session.

    Raises:
        aiohttp.ClientError, and others: as `aiohttp.ClientSession.request`.
    """
    connector = session.connector
    if lean and connector is not None and not session.closed and len(body) <= LARGE_BODY:
        request = target.request(session)
        jar = session.cookie_jar
        head = target.head(own, len(body), _cookies(jar, target.url) if len(jar) else None)
        if head is not None:
            return _sent(connector, request, target, jar, head + body)
    headers = target.headers.copy()
    headers.update(own)
    return session.request(
        "POST",
        target.url,
        headers=headers,
        data=body,
        allow_redirects=False,
        auto_decompress=False,
        compress=False,
        timeout=target.timeouts,
    )


def _cookies(jar: AbstractCookieJar, url: yarl.URL) -> str | None:
    """Return the value of the `Cookie` header for this address; None for no header."""
    found = jar.filter_cookies(url)
    return "; ".join(f"{name}={found[name].coded_value}" for name in sorted(found)) or None


async def _sent(
    connector: aiohttp.BaseConnector,
    request: aiohttp.ClientRequest,
    target: Target,
    jar: AbstractCookieJar,
    data: bytes,
) -> LeanReply:
    timeouts = target.timeouts
    try:
        connection = await connector.connect(request, traces=[], timeout=timeouts)
    except TimeoutError as exc:
        raise aiohttp.ConnectionTimeoutError(f"Connection timeout to host {request.url}") from exc
    except aiohttp.ClientError:
        raise
    except OSError as exc:
        raise aiohttp.ClientOSError(*exc.args) from exc
    try:
        protocol = connection.protocol
        assert protocol is not None
        protocol.set_response_params(read_until_eof=True, auto_decompress=False, read_timeout=timeouts.sock_read)
        transport = protocol.transport
        if transport is None or transport.is_closing():
            raise aiohttp.ClientConnectionResetError("Cannot write to closing transport")
        transport.write(data)
        protocol.start_timeout()
        message, content = await protocol.read()
        while 100 <= message.code <= 199 and message.code != 101:
            message, content = await protocol.read()
    except HttpProcessingError as exc:
        connection.close()
        raise aiohttp.ClientResponseError(
            request.request_info, (), status=exc.code, message=exc.message, headers=exc.headers
        ) from exc
    except OSError as exc:
        connection.close()
        if isinstance(exc, aiohttp.ClientError) or (exc.errno is None and isinstance(exc, TimeoutError)):
            raise
        raise aiohttp.ClientOSError(*exc.args) from exc
    except BaseException:
        connection.close()
        raise
    if "set-cookie" in message.headers:
        jar.update_cookies_from_headers(message.headers.getall("set-cookie"), target.url)
    return LeanReply(connection, message, content)
