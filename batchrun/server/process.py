"""The server as a thread (`EmbeddedServer`) and as a process (`serve_forever`)."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import signal
import socket
import sqlite3
import threading
import time
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import uvicorn
from anyio.abc import AsyncResource

from batchrun.server.clock import Clock, SystemClock
from batchrun.server.errors import SettingsError, StoreError
from batchrun.server.execution.core import Core
from batchrun.server.execution.parts import Parts
from batchrun.server.execution.rate_limits import RateLimits
from batchrun.server.http.app import build_app
from batchrun.server.http.line_calls import LineCalls
from batchrun.server.search.file_search import EmbeddedIndex, SearchIndex
from batchrun.server.search.text_reader import TextReader
from batchrun.server.store import Blobs, Database, Objects, Replies, RequestLines

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from types import FrameType, TracebackType

    from batchrun.server.responders.base import Responder
    from batchrun.server.responders.fault_injection import FaultPlan
    from batchrun.server.search.file_search import Embedder
    from batchrun.server.settings import ServerSettings

__all__ = ["EmbeddedServer", "serve_forever"]

_CLOSING_S = 2
"""Seconds that connections and workers get to close, after the grace period of runs."""

_RELEASE_S = 0.5
"""The last part of them: in it the data file is closed, if something else in the server does not end."""

logger = logging.getLogger("batchrun.server")


class EmbeddedServer:
    """A server in a separate thread, with its own event loop, on a real socket.

    Use it as a context manager; `url` is valid inside. On exit the server stops accepting requests, gives active runs
    `shutdown_grace_s` to finish and leaves the rest in the data file for the next start.

    With an `embedder`, files are embedded when they are added to a vector store, and searches rank by meaning as
    well as by words. An embedder that is an `anyio.abc.AsyncResource` is closed with the server.

    Mutable state: the thread, its events, the uvicorn server, the failure and `port`.
    """

    def __init__(
        self,
        settings: ServerSettings,
        responder: Responder,
        *,
        clock: Clock | None = None,
        faults: FaultPlan | None = None,
        embedder: Embedder | None = None,
    ) -> None:
        self._settings = settings
        self._faults = faults
        self._embedder = embedder
        self._responder = responder
        self._clock = clock or SystemClock()
        self._thread: threading.Thread | None = None
        self._started = threading.Event()
        self._ended = threading.Event()  # up to Python 3.12 an interrupted `join` marks its thread as ended
        self._server: _Uvicorn | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._failure: BaseException | None = None
        self.port = 0

    def __repr__(self) -> str:
        state = "running" if self._thread is not None else "stopped"
        return f"<EmbeddedServer {state} {self.url if self.port else ''}>"

    @property
    def url(self) -> str:
        """The base URL for clients, such as `http://127.0.0.1:40123/v1`."""
        return _url(self._settings.host, self.port)

    def __enter__(self) -> EmbeddedServer:
        """Start the server and return when it answers requests.

        Raises:
            SettingsError: the server cannot listen on the address.
            StoreError: the data file cannot be used.
        """
        listener = bind(self._settings)
        self.port = listener.getsockname()[1]
        # New ones: a thread that an earlier stop has left may still set the old ones.
        self._started, self._ended = threading.Event(), threading.Event()
        self._failure = None
        arguments = (listener, self._started, self._ended)
        self._thread = threading.Thread(target=self._run, args=arguments, name="batchrun-server", daemon=True)
        self._thread.start()
        try:
            self._started.wait()
        except BaseException:
            self.stop()
            raise
        self._check()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if error is None:
            self._check()

    def stop(self) -> None:
        """Stop the server, as on exit, and return when everything is closed. It may be called again.

        It returns within 2 s more than `shutdown_grace_s` in any case: whatever does not end in time, such as a name
        lookup in a thread, keeps the server's thread, and the log says so.
        """
        interrupted: BaseException | None = None
        limit = time.monotonic() + self._settings.shutdown_grace_s + _CLOSING_S - _RELEASE_S
        is_left = False
        while self._thread is not None and not (self._ended.is_set() or is_left):
            try:
                self._started.wait(limit - time.monotonic())
                if self._server is not None:
                    self._server.stop()
                is_left = not self._ended.wait(limit - time.monotonic())
            except KeyboardInterrupt as exc:  # raised at the end: otherwise the thread would keep the file open
                interrupted = exc
        if is_left:
            self._ended = threading.Event()  # what the thread raises from now on concerns nobody
            self._leave()
        elif self._thread is not None:
            self._thread.join()
        self._thread = self._server = self._loop = None
        if interrupted is not None:
            raise interrupted

    def _leave(self) -> None:
        """Close the data file without the rest of the server."""
        logger.error("something did not end in time, so the server's thread is left; its next start continues all runs")
        closed = threading.Event()

        def close(database: Database) -> None:
            database.close()
            closed.set()

        if self._loop is not None and self._server is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and so is the file
                self._loop.call_soon_threadsafe(close, self._server.core.parts.database)
                closed.wait(_RELEASE_S)

    def _check(self) -> None:
        if self._failure is not None:
            self.stop()
            raise self._failure

    def _run(self, listener: socket.socket, started: threading.Event, ended: threading.Event) -> None:
        try:
            with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                runner.run(self._serve(listener, started))
        except BaseException as exc:  # noqa: BLE001 -- raised in the thread that started the server
            if ended is self._ended:
                self._failure = exc
        finally:
            listener.close()
            started.set()
            ended.set()

    async def _serve(self, listener: socket.socket, started: threading.Event) -> None:
        async with open_core(self._settings, self._responder, self._clock, self._faults, self._embedder) as core:
            self._loop = asyncio.get_running_loop()
            self._server = _Uvicorn(core, on_started=started.set, signals=False)
            await self._server.serve(sockets=[listener])


def serve_forever(
    settings: ServerSettings,
    responder: Responder,
    *,
    faults: FaultPlan | None = None,
    embedder: Embedder | None = None,
    on_started: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve until SIGINT or SIGTERM, then return. For a separate process.

    Args:
        faults: planned faults of HTTP requests; a `FaultyResponder` makes those of runs.
        embedder: see `EmbeddedServer`.
        on_started: called with the base URL when the server answers requests.

    Raises:
        SettingsError: the server cannot listen on the address.
        StoreError: the data file cannot be used.
    """
    listener = bind(settings)
    url = _url(settings.host, listener.getsockname()[1])

    served: list[_Uvicorn] = []

    async def serve() -> None:
        async with open_core(settings, responder, SystemClock(), faults, embedder) as core:
            served.append(_Uvicorn(core, on_started=lambda: on_started(url), signals=True))
            await served[0].serve([listener])

    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(serve())
    finally:
        listener.close()
        for server in served:
            server.closed()


class _Uvicorn(uvicorn.Server):
    """A uvicorn server that reports its start, stops at once, and lets runs finish before it closes connections.

    Mutable state: `_stopping`, set when it is to stop.
    """

    def __init__(self, core: Core, *, on_started: Callable[[], None], signals: bool) -> None:
        super().__init__(
            uvicorn.Config(
                build_app(core),
                lifespan="off",
                ws="none",
                # Operations log their own errors; the remaining ones are planned drops of connections.
                log_config=None,
                log_level="critical",
                access_log=False,
                server_header=False,
                # Longer than clients keep idle connections, so that no connection closes during a request.
                timeout_keep_alive=75,
                backlog=4096,
                # A client that reads nothing must not delay the shutdown.
                timeout_graceful_shutdown=_CLOSING_S // 2,
            )
        )
        self.core = core
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._on_started = on_started
        self._signals = signals
        self._last_resort = threading.Timer(core.parts.settings.shutdown_grace_s + _CLOSING_S, _end_process, [core])
        self._last_resort.daemon = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop a separate process on SIGINT and SIGTERM. They are not raised again, so that everything is closed."""
        if not self._signals:
            yield
            return
        before = {each: signal.signal(each, self.handle_exit) for each in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop. Whatever does not end in time, such as a name lookup in a thread, ends with the process."""
        if not self.should_exit:
            self._last_resort.start()
        super().handle_exit(sig, frame)
        self.stop()

    def stop(self) -> None:
        """Begin to stop. It may be called from any thread, and again."""
        self.should_exit = True
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._stopping.set)

    def closed(self) -> None:
        """Note that everything is closed."""
        self._last_resort.cancel()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_started()

    async def main_loop(self) -> None:
        for tenth in itertools.count():
            if await self.on_tick(tenth):
                return
            with anyio.move_on_after(0.1):
                await self._stopping.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await _drain(self.core)
        for server in self.servers:
            server.close()
        if self.server_state.connections or self.server_state.tasks:  # otherwise uvicorn would sleep all the same
            await super().shutdown(sockets)


@contextlib.asynccontextmanager
async def open_core(
    settings: ServerSettings, responder: Responder, clock: Clock, plan: FaultPlan | None, embedder: Embedder | None
) -> AsyncIterator[Core]:
    """Open the data file, resume what was active in it, and yield the started server."""
    database = Database(settings.data)
    try:
        async with anyio.create_task_group() as tasks:
            connection = database.connection
            index = SearchIndex(connection)
            parts = Parts(
                settings=settings,
                responder=responder,
                clock=clock,
                database=database,
                objects=Objects(connection),
                replies=Replies(connection),
                blobs=Blobs(connection),
                request_lines=RequestLines(connection),
                index=index,
                embedded=None if embedder is None else EmbeddedIndex(index, embedder),
                reader=TextReader(),
                limits=RateLimits(settings.requests_per_minute, settings.tokens_per_minute, clock),
                tasks=tasks,
                slots=anyio.Semaphore(settings.max_concurrent_runs, fast_acquire=True),
            )
            core = Core.over(parts, plan)
            core.service_batches.recover(LineCalls(core))
            for worker in (core.ingestion, core.runs, core.responses, core.chats):
                worker.recover()
            tasks.start_soon(_keep_house, core)
            yield core
            tasks.cancel_scope.cancel()
    finally:
        # Called in reverse order; each one is called even if another fails.
        async with contextlib.AsyncExitStack() as closing:
            closing.callback(database.close)
            resource: object = embedder  # mypy assumes that a protocol's instance has no other base class
            if isinstance(resource, AsyncResource):
                closing.push_async_callback(resource.aclose)
            closing.push_async_callback(responder.aclose)


def _end_process(core: Core) -> None:
    """End this process at once. The data file survives that, and the next start continues what was active."""
    logger.error("something did not end in time, so the server ended without it; its next start continues all runs")
    core.parts.database.discard()
    os._exit(1)


async def _drain(core: Core) -> None:
    """Wait up to `shutdown_grace_s` for live work to finish, then leave the rest to the next start."""
    core.service_batches.interrupt()
    with anyio.move_on_after(core.parts.settings.shutdown_grace_s):
        while logs := core.live_logs():
            await logs[0].changed()
            await anyio.lowlevel.checkpoint()
    core.runs.interrupt()
    core.responses.interrupt()
    for log in core.live_logs():
        log.close(done=False)


async def _keep_house(core: Core) -> None:
    """Between requests, expire runs, keep silent streams alive and delete replies older than `retention_s`."""
    interval_s = min(1.0, core.parts.settings.keep_alive_s)
    next_wake = next_sweep = 0.0
    while True:
        now = anyio.current_time()
        try:
            core.runs.expire_due()
        except (StoreError, sqlite3.Error):
            logger.exception("an expired run could not be stored")
        if now >= next_wake:
            next_wake = now + core.parts.settings.keep_alive_s
            for log in core.live_logs():
                log.wake()
        if now >= next_sweep:
            next_sweep = now + 600
            try:
                with core.parts.database.transaction():
                    core.parts.replies.forget(core.parts.clock.now() - core.parts.settings.retention_s)
            except (StoreError, sqlite3.Error):
                logger.exception("old replies could not be removed")
        await anyio.sleep(interval_s)


def bind(settings: ServerSettings) -> socket.socket:
    """Return a socket that is bound to the address of the settings.

    Raises:
        SettingsError: the address is in use, belongs to another machine, or is unknown.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except OSError as exc:
        raise SettingsError(
            f"cannot listen on {settings.host} port {settings.port}: {exc.strerror or exc}. "
            "Choose another host or port (port 0 takes a free one)."
        ) from exc
    return listener


def _url(host: str, port: int) -> str:
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{port}/v1"


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's factory; None if uvloop is not installed, as on Windows."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
