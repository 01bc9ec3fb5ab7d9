"""The live page of a batch, served to the browsers of this machine."""

from __future__ import annotations

import asyncio
import secrets
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from batchrun.clock import WallClock
from batchrun.errors import BatchrunError, InputError
from batchrun.reporting.html import Policy, embedded_json, live_page
from batchrun.reporting.live_batch import MOST_ROWS, FollowedBatch
from batchrun.reporting.note_request import NoteRefused, limited_body, other_sender, read_note
from batchrun.scoring.evaluate import ScoringSpec

__all__ = ["view_app", "view_forever"]

_HOST: Final = "127.0.0.1"
_LOOK_EVERY_S: Final = 0.5
"""Shortest time between two looks at the journal; requests in between get the result of the last look."""


def view_app(batch: FollowedBatch, name: str, token: str) -> Starlette:
    """Return the application: the page at `/TOKEN/`, its news at `/TOKEN/facts`, what it notes about a row at
    `/TOKEN/note`, and nothing else.

    Another site cannot reach it by pointing its host name to this machine (DNS rebinding): the Host header must be this
    machine's, and only those who know the address know the token.
    """
    page = live_page(name)
    looked_s = -_LOOK_EVERY_S

    async def page_response(_request: Request) -> Response:
        return _response(page, "text/html; charset=utf-8")

    async def news_response(request: Request) -> Response:
        nonlocal looked_s
        began_s = time.monotonic()
        try:
            names = ("generation", "after", "notes")
            generation, after, notes = (int(request.query_params.get(each, "0")) for each in names)
        except ValueError:
            return _refused("generation, after and notes: expected numbers", 400)
        try:
            if began_s - looked_s >= _LOOK_EVERY_S:
                batch.look()
                looked_s = time.monotonic()
            news = batch.news(generation, after, notes)
        except BatchrunError as exc:
            return _refused(str(exc), 503)
        took_ms = round(1000 * (time.monotonic() - began_s))
        return _response(embedded_json({**news, "took_ms": took_ms}).encode(), "application/json")

    async def note_response(request: Request) -> Response:
        if (refusal := other_sender(request.headers)) is not None:
            return _refused(refusal, 403)
        try:
            note = read_note(await limited_body(request))
            batch.note(note.generation, note.position, note.rating, note.comment)
        except NoteRefused as exc:
            return _refused(str(exc), 400)
        except BatchrunError as exc:
            return _refused(str(exc), 409)
        return _response(b"{}", "application/json")

    return Starlette(
        routes=[
            Route(f"/{token}/", page_response),
            Route(f"/{token}/facts", news_response),
            Route(f"/{token}/note", note_response, methods=["POST"]),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=[_HOST, "localhost"], www_redirect=False)],
    )


def _refused(reason: str, status: int) -> Response:
    return _response(f"{reason}\n".encode(), "text/plain; charset=utf-8", status)


def _response(body: bytes, kind: str, status: int = 200) -> Response:
    return Response(
        body,
        status,
        {
            "Content-Security-Policy": f"{Policy(live=True)}; frame-ancestors 'none'",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cache-Control": "no-store",
        },
        kind,
    )


def view_forever(
    output: Path,
    port: int,
    clock: WallClock,
    on_started: Callable[[str], None],
    spec: ScoringSpec | None = None,
    most_rows: int = MOST_ROWS,
) -> None:
    """Serve the page of a batch until SIGINT or SIGTERM, then return.

    Args:
        output: the batch's output, or its journal.
        port: port to listen on; 0 selects a free one.
        clock: the wall clock.
        on_started: called with the address when the server accepts requests.
        spec: how to score the rows; None, or a spec without scorers, for no scores.
        most_rows: maximum number of rows on the page.

    Raises:
        InputError: the port is in use, or the batch's input is missing or cannot be scored.
        OutputError: there is no journal, or it cannot be read.
    """
    with closing(FollowedBatch(output, clock, spec, most_rows)) as batch, closing(_bound(port)) as listener:
        token = secrets.token_urlsafe(16)
        url = f"http://{_HOST}:{listener.getsockname()[1]}/{token}/"
        server = _Server(view_app(batch, output.name, token), lambda: on_started(url))
        with asyncio.Runner() as runner:
            runner.run(server.serve([listener]))


def _bound(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((_HOST, port))
    except OSError as exc:
        listener.close()
        raise InputError(
            f"--port {port}: cannot listen on this port: {exc.strerror or exc}; use another, or 0 for a free one"
        ) from exc
    return listener


class _Server(uvicorn.Server):
    """uvicorn that reports when it has started, and ends on a signal without raising it again."""

    def __init__(self, app: Starlette, on_started: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                lifespan="off",
                ws="none",
                log_config=None,
                log_level="critical",
                access_log=False,
                server_header=False,
                # A browser that keeps its connection open must not delay the end.
                timeout_graceful_shutdown=1,
            )
        )
        self._on_started = on_started

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {each: signal.signal(each, self.handle_exit) for each in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_started()
