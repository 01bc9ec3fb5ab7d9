"""The fast path for the requests of rows, from `AsyncOpenAI` to aiohttp, with less work than the SDK alone.

For each request the SDK and its HTTP client make a model of the options, four URL objects and six header objects, look
for cookies, authentication and redirects, and wrap aiohttp's reply twice: together 0.4 of 0.53 ms of CPU. On the fast
path the SDK builds only the first request of each kind; later ones are copies of it with their own body and headers.
The reply is read from aiohttp directly.

Rows call `AsyncOpenAI.post`, as before: this module derives the client. If the client's key is fixed, `post` sends the
copy at once; if not, the SDK asks for the key and then builds the copy. The SDK alone sends what is not a plain POST
of JSON and what passes a proxy; it makes the errors, and its HTTP client reads error statuses and compressed streams.
The SDK alone sends everything if it does not have what this module needs: the client's `_build_request` and
`_make_status_error_from_response`, and the aiohttp session of its transport.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import aiohttp
import httpx2
import openai
import yarl
from multidict import CIMultiDict
from openai import AsyncAzureOpenAI, AsyncOpenAI

from batchrun.services.lean_exchange import Target, exchange, is_possible
from batchrun.services.lean_reply import CONNECTION_ERRORS, LeanResponse, full_response, mapped

__all__ = ["LeanAzureOpenAI", "LeanHttpClient", "LeanOpenAI", "LeanRequest", "can_be_lean"]

_MAX_KINDS = 256
"""Kinds of requests that are kept: one for each path, model, key and timeout."""

_HAS_EXCHANGE = is_possible()
_NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})
_OF_ROWS = frozenset({"headers", "timeout"})
"""Options of the requests of rows; with others, the SDK builds the request."""
_OF_STREAMS = frozenset({"stream", "stream_cls"})
"""Further arguments of the requests of rows."""

_ENCODE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


@dataclass(frozen=True, slots=True)
class _Kind:
    """What the requests to one path have in common, taken from one that the SDK has built.

    Attributes:
        url: the address, with the query.
        target: the same for aiohttp, with the headers and the timeouts.
        timeout: of the request's options.
    """

    url: httpx2.URL
    target: Target
    timeout: object
    extensions: Mapping[str, Any]


class LeanRequest(httpx2.Request):
    """A POST of JSON whose URL and headers are not parsed again. `full` makes the usual request of it.

    Attributes:
        own: the headers of this request alone.
    """

    def __init__(self, kind: _Kind, own: Mapping[str, str], content: bytes) -> None:
        # Not the base class's initialisation, which is what costs time.
        self.method = "POST"
        self.url = kind.url
        self.extensions = {}
        self.kind: Final = kind
        self.own: Final = own
        self._bytes = content

    @property
    def headers(self) -> httpx2.Headers:  # type: ignore[override]
        """All headers, without the length of the body."""
        headers = self.kind.target.headers.copy()
        headers.update(self.own)
        return httpx2.Headers(list(headers.items()))

    @property
    def content(self) -> bytes:
        """The body."""
        return self._bytes

    def full(self) -> httpx2.Request:
        """Return the same request as the HTTP client builds it."""
        return httpx2.Request(
            self.method,
            self.url,
            headers=self.headers,
            content=self._bytes,
            extensions={**self.kind.extensions, **self.extensions},
        )


class LeanHttpClient(openai.DefaultAioHttpClient):
    """The SDK's HTTP client over aiohttp, which sends a `LeanRequest` without its own detours.

    Mutable state: `transport`, `before` and `after`, which are set once, before the first request.
    """

    transport: Any = None
    """The SDK's transport to the service, whose aiohttp session is used; None if there is no fast path."""

    before: Callable[[httpx2.Request], Awaitable[None]]
    """Waits until the request may be sent."""

    after: Callable[[int, Mapping[str, str]], None]
    """Sees the status and the headers of each reply."""

    async def send(self, request: httpx2.Request, *, stream: bool = False, **options: Any) -> httpx2.Response:
        """Send a request."""
        if not isinstance(request, LeanRequest):
            return await super().send(request, stream=stream, **options)
        if options or self.transport is None:
            return await super().send(request.full(), stream=stream, **options)
        await self.before(request)
        try:
            reply = await exchange(
                self._session(), request.kind.target, request.own, request.content, lean=_HAS_EXCHANGE
            )
        except CONNECTION_ERRORS as exc:
            raise mapped(exc) from exc
        coding = reply.headers.get("content-encoding")
        is_plain = coding is None or (coding == "gzip" and not stream)
        is_lean = reply.status == 200 and is_plain
        response = LeanResponse(request, reply) if is_lean else full_response(request.full(), reply)
        try:
            self.after(reply.status, reply.headers)
            if not stream:
                await response.aread()
        except BaseException:
            await response.aclose()
            raise
        return response

    def _session(self) -> aiohttp.ClientSession:
        found = self.transport.client
        if isinstance(found, aiohttp.ClientSession):
            return found
        made: aiohttp.ClientSession = self.transport.get_client()  # in the loop, as the transport itself does
        self.transport.client = made
        return made


def can_be_lean(transport: object) -> bool:
    """Return whether the aiohttp session of one of the SDK's transports can be used directly.

    A proxy has addresses and headers of its own, so there is no fast path through one.
    """
    missing = object()
    return (
        getattr(transport, "proxy", missing) is None
        and hasattr(transport, "client")
        and hasattr(transport, "get_client")
    )


class _Lean:
    """A client of the SDK that builds a `LeanRequest` where it can, and sends it at once if its key is fixed.

    Mutable state: `_kinds`, the kinds of requests that it has built; `_direct`, the HTTP client for requests that are
    sent at once, None for none.
    """

    _kinds: dict[object, _Kind] | None = None
    """None if there is no fast path."""
    _direct: httpx2.AsyncClient | None = None

    def shorten(self, direct: httpx2.AsyncClient | None = None) -> None:
        """Build lean requests from now on.

        Args:
            direct: this client's HTTP client if the key is the same for all requests; None if the SDK has to ask for
                it, or to log.
        """
        self._kinds = {}
        if hasattr(self, "_make_status_error_from_response"):
            self._direct = direct

    async def post(
        self, path: str, *, cast_to: Any, body: Any = None, options: Any = _NO_OPTIONS, **others: Any
    ) -> Any:
        """POST as the SDK does; see the module's docstring."""
        request = None
        if self._direct is not None and cast_to is httpx2.Response and _is_rows(body, options, others):
            request = self._lean(path, body, options.get("headers", {}), options.get("timeout", openai.NotGiven))
        if request is None or self._direct is None:
            return await super().post(path, cast_to=cast_to, body=body, options=options, **others)  # type: ignore[misc]
        try:
            response = await self._direct.send(request, stream=others.get("stream", False))
        except httpx2.TimeoutException as exc:
            raise openai.APITimeoutError(request=request) from exc
        except (httpx2.RequestError, ssl.SSLError) as exc:
            raise openai.APIConnectionError(request=request) from exc
        try:
            response.raise_for_status()
        except httpx2.HTTPStatusError:
            if not response.is_closed:
                await response.aread()
            raise self._make_status_error_from_response(response) from None  # type: ignore[attr-defined]
        return response

    def _build_request(self, options: Any, **others: Any) -> httpx2.Request:
        if self._kinds is None or others.get("retries_taken") or not _is_plain(options):
            return self._built(options, **others)
        path, body, own, timeout = options.url, options.json_data, options.headers, _timeout(options)
        lean = self._lean(path, body, own, timeout)
        if lean is not None:
            return lean
        request = self._built(options, **others)
        content = _encoded(body)
        if content is not None:
            if request.content != content:  # the SDK does more to a body than is known here
                self._kinds = self._direct = None
                return request
            if len(self._kinds) >= _MAX_KINDS:
                self._kinds.clear()
            self._kinds[self._name(path, body, own, timeout)] = _kind_of(request, timeout)
        return request

    def _lean(self, path: str, body: dict[str, Any], own: Mapping[str, str], timeout: object) -> LeanRequest | None:
        """Return a copy of an earlier request of the same kind with another body; None if the SDK has to build it."""
        kind = self._kinds.get(self._name(path, body, own, timeout)) if self._kinds is not None else None
        if kind is None or kind.timeout is not timeout or not "".join(own.values()).isascii():
            return None
        content = _encoded(body)
        return None if content is None else LeanRequest(kind, own, content)

    def _name(self, path: str, body: dict[str, Any], own: Mapping[str, str], timeout: object) -> object:
        model = body.get("model")  # Azure's path has it
        return path, *own, self.api_key, model if type(model) is str else None, id(timeout)  # type: ignore[attr-defined]

    def _built(self, options: Any, **others: Any) -> httpx2.Request:
        request: httpx2.Request = super()._build_request(options, **others)  # type: ignore[misc]
        return request


def _is_rows(body: object, options: Mapping[str, Any], others: Mapping[str, Any]) -> bool:
    """Return whether the arguments of `post` are those of a row: a plain POST of JSON."""
    return type(body) is dict and options.keys() <= _OF_ROWS and others.keys() <= _OF_STREAMS


def _encoded(body: dict[str, Any]) -> bytes | None:
    """Return the body as the SDK encodes it; None if only its encoder knows a type, or has to refuse a value."""
    try:
        return _ENCODE(body).encode()
    except (TypeError, ValueError):
        return None


class LeanOpenAI(_Lean, AsyncOpenAI):
    """`AsyncOpenAI` with lean requests."""


class LeanAzureOpenAI(_Lean, AsyncAzureOpenAI):
    """`AsyncAzureOpenAI` with lean requests."""


def _is_plain(options: Any) -> bool:
    """Return whether the SDK's options of a request are those of a plain POST of JSON."""
    return (
        options.method == "post"
        and type(options.json_data) is dict
        and options.files is None
        and options.content is None
        and options.extra_json is None
        and options.follow_redirects is None
        and not options.params
        and options.security == type(options).model_fields["security"].default
        and type(options.headers) is dict
        and all(type(value) is str for value in options.headers.values())
    )


def _timeout(options: Any) -> object:
    """Return the timeout of a request; `NotGiven` for the client's, of which each request has a copy of its own."""
    return openai.NotGiven if isinstance(options.timeout, openai.NotGiven) else options.timeout


def _kind_of(request: httpx2.Request, timeout: object) -> _Kind:
    headers = CIMultiDict(request.headers.items())
    headers.popall("content-length", None)
    seconds = request.extensions.get("timeout", {})
    timeouts = aiohttp.ClientTimeout(
        sock_connect=seconds.get("connect"), sock_read=seconds.get("read"), connect=seconds.get("pool")
    )
    return _Kind(request.url, Target(yarl.URL(str(request.url)), headers, timeouts), timeout, request.extensions)
