"""A server on a loopback socket whose replies, good or bad, are bytes that a test chooses."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, TypeAlias
from urllib.parse import parse_qs, urlsplit

__all__ = ["Answer", "Request", "Routes", "ScriptedHttp", "Served", "event", "html", "json_answer", "stream"]


@dataclass(frozen=True, slots=True)
class Request:
    """A received request. Header names are in lower case; the body is decoded JSON, or text for text and form types."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any


@dataclass(frozen=True, slots=True)
class Answer:
    """Bytes to send, and what happens next: another request, the end of the connection, or silence."""

    data: bytes
    then: Literal["keep", "close", "silence"] = "keep"


Routes: TypeAlias = Mapping[str, Answer | Iterable[Answer]]
"""`METHOD /path` without the base path → its answer, or its answers in order, of which the last is repeated."""


def json_answer(body: Any, status: int = 200, **headers: str) -> Answer:
    """Return a JSON reply; underscores in header names become dashes."""
    return _whole(status, "application/json", json.dumps(body).encode(), headers)


def html(text: str = "<html><title>Sign in</title></html>", status: int = 200, **headers: str) -> Answer:
    """Return an HTML page; underscores in header names become dashes."""
    return _whole(status, "text/html; charset=utf-8", text.encode(), headers)


def _whole(status: int, kind: str, body: bytes, headers: Mapping[str, str]) -> Answer:
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n{more}\r\n"
    return Answer(head.encode() + body)


def event(name: str, data: Any) -> bytes:
    """Return one server-sent event."""
    text = data if isinstance(data, str) else json.dumps(data)
    return f"event: {name}\ndata: {text}\n\n".encode()


def stream(
    *frames: bytes, end: Literal["whole", "cut", "silence"] = "whole", kind: str = "text/event-stream"
) -> Answer:
    """Return a chunked reply with one chunk per frame.

    Args:
        end: whether the last chunk is sent (`whole`), the connection closes without it (`cut`), or nothing more is sent.
    """
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    body = b"".join(b"%x\r\n%s\r\n" % (len(frame), frame) for frame in frames)
    if end == "whole":
        return Answer(head + body + b"0\r\n\r\n")
    return Answer(head + body, "close" if end == "cut" else "silence")


@dataclass(slots=True)
class ScriptedHttp:
    """A server that runs `script` in threads; use it as a context manager.

    Mutable state: `requests`, the listener, its connections and their threads.

    Attributes:
        script: from a request to its answer; may be replaced while the server runs.
        requests: all received requests, in order.
        lists_models: `script` answers GET /models. Otherwise a 404 does, and the request is not recorded: every batch
            makes it once, beside its rows.
        port: to listen on; 0 chooses a free port.
        tls: the TLS context; None for plain HTTP.
    """

    script: Callable[[Request], Answer]
    requests: list[Request] = field(default_factory=list)
    port: int = 0
    tls: ssl.SSLContext | None = None
    lists_models: bool = False
    _listener: socket.socket = field(init=False)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _connections: list[socket.socket] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)

    @classmethod
    def answering(cls, routes: Routes) -> ScriptedHttp:
        """Return a server that answers by route, and any other request with status 418."""
        left = {route: [each] if isinstance(each, Answer) else list(each) for route, each in routes.items()}

        def script(request: Request) -> Answer:
            answers = left.get(f"{request.method} {request.path.removeprefix('/v1')}")
            if answers is None:
                return json_answer({"error": {"message": f"unscripted: {request.path}", "code": None}}, 418)
            return answers.pop(0) if len(answers) > 1 else answers[0]

        return cls(script, lists_models="GET /models" in routes)

    @property
    def url(self) -> str:
        scheme = "http" if self.tls is None else "https"
        return f"{scheme}://127.0.0.1:{self.port}/v1"

    @property
    def connections(self) -> int:
        """The number of accepted connections, used or not."""
        return len(self._connections)

    def paths(self) -> list[str]:
        """Return `METHOD /path` of every request."""
        return [f"{request.method} {request.path.removeprefix('/v1')}" for request in self.requests]

    def __enter__(self) -> ScriptedHttp:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        self._spawn(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join()

    def _spawn(self, target: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._stopped.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            self._spawn(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.suppress(OSError))
            stack.enter_context(connection)
            if self.tls is not None:
                connection = stack.enter_context(self.tls.wrap_socket(connection, server_side=True))
            file = stack.enter_context(connection.makefile("rb"))
            while (request := _read(file)) is not None:
                if request.method == "GET" and request.path.endswith("/models") and not self.lists_models:
                    connection.sendall(json_answer({"error": {"message": "no such endpoint"}}, 404).data)
                    continue
                self.requests.append(request)
                answer = self.script(request)
                connection.sendall(answer.data)
                if answer.then == "silence":
                    self._stopped.wait()
                if answer.then != "keep":
                    return


def _read(file: Any) -> Request | None:
    line = file.readline().decode("latin-1").split()
    if len(line) != 3:
        return None
    headers: dict[str, str] = {}
    while (text := file.readline().decode("latin-1").strip()) != "":
        name, _, value = text.partition(":")
        headers[name.lower()] = value.strip()
    raw = file.read(int(headers.get("content-length", "0")))
    url = urlsplit(line[1])
    query = {name: values[-1] for name, values in parse_qs(url.query).items()}
    plain = headers.get("content-type", "").startswith(("text/plain", "multipart/form-data"))
    body = raw.decode(errors="replace") if plain else json.loads(raw) if raw else None
    return Request(line[0], url.path, query, headers, body)


Served: TypeAlias = Callable[[Routes], ScriptedHttp]
"""Starts a server that answers by route."""
