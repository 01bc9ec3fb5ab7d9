"""Reports start and end of a batch to a monitor: healthchecks.io, or a service with the same convention.

At the start `/start` is added to the path of the URL, at a failed end `/fail`; at a successful end the URL is called
unchanged. A query stays after the path (`https://hc-ping.com/<key>/<slug>?create=1`). The start is a GET request, the
end a POST request with one line as its body. Source: https://healthchecks.io/docs/http_api/.

A redirect is not followed: it would send the URL's secret elsewhere, and turn the POST into a GET without the line.

The URL is a secret: everybody who has it can report success. It appears in no message, and in no log of the HTTP
library.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Literal, TypeAlias
from urllib.parse import urlsplit, urlunsplit

from batchrun.batch.run_summary import SUBMITTED
from batchrun.errors import BatchrunError, InputError, OutputHeld
from batchrun.version import __version__

__all__ = ["FinalStatus", "Pinger", "apinged", "ping_url", "pinged"]

MAX_ATTEMPTS = 2
PAUSE_S = 1.0
TIMEOUT_S = 5.0
LONGEST_S = 15.0
"""Bound of a whole ping: neither name resolution nor a reply that arrives byte by byte obeys `TIMEOUT_S`."""
LEAVING_S = 2.0
"""The same bound when the process is about to quit."""
MAX_BODY_BYTES = 10_000
"""healthchecks.io and its self-hosted versions store at least this much."""

Moment: TypeAlias = Literal["start", "end", "fail"]
"""When a ping is sent; "end" is a successful end."""


def ping_url(url: str, moment: Moment) -> str:
    """Return the URL to call: the suffix follows the path, before a query."""
    parts = urlsplit(url)
    path = parts.path if moment == "end" else f"{parts.path.rstrip('/')}/{moment}"
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


@dataclass(slots=True)
class FinalStatus:
    """How the batch ends, as far as known.

    Mutable state: both attributes, until the end is reported.

    Attributes:
        exit_code: exit code of the process; only 0 is a success.
        line: one line for the body of the last ping.
    """

    exit_code: int = 1
    line: str = ""


class Pinger:
    """Calls a URL at the start and at the end, from threads, so that a slow monitor does not delay the batch.

    A ping that fails leads to a warning at the end and to nothing else.

    Mutable state: `_start_thread`; `_is_ended`, set once the end was reported; `_failures`, one line per failed ping.
    """

    def __init__(
        self, url: str, warn: Callable[[str], None], *, pause_s: float = PAUSE_S, timeout_s: float = TIMEOUT_S
    ) -> None:
        """
        Args:
            warn: shows one line for each failed ping.
            pause_s: seconds between two attempts.
            timeout_s: seconds for the connection, and again for each part of the reply.

        Raises:
            InputError: the URL is invalid.
        """
        try:
            parts = urlsplit(url)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable or not url.isprintable() or " " in url:
            # The value is not shown: it may be the secret URL with a typing error.
            raise InputError("--ping: expected a URL that begins with https:// or http://")
        self._url = url
        self._warn = warn
        self._pause_s = pause_s
        self._timeout_s = timeout_s
        self._start_thread: threading.Thread | None = None
        self._is_ended = False
        self._failures: list[str] = []

    def start(self) -> None:
        """Report the start; return at once."""
        self._start_thread = threading.Thread(
            target=self._call, args=("start", "", MAX_ATTEMPTS), daemon=True, name="ping"
        )
        self._start_thread.start()

    def end(self, status: FinalStatus, *, quitting: bool = False) -> None:
        """Report the end, after the start; wait for the reply for a bounded time. Only the first call has an effect.

        A batch that has submitted its requests and does not wait has neither succeeded nor failed: nothing is reported.

        Args:
            quitting: allows one attempt and `LEAVING_S` seconds.
        """
        if self._is_ended:
            return
        self._is_ended = True
        if status.exit_code == SUBMITTED:
            return
        moment: Moment = "end" if status.exit_code == 0 else "fail"
        last = threading.Thread(
            target=self._call, args=(moment, status.line, 1 if quitting else MAX_ATTEMPTS), daemon=True, name="ping"
        )
        last.start()
        last.join(LEAVING_S if quitting else LONGEST_S)
        if last.is_alive():
            self._failures.append(_failure(moment, "no reply in time"))
        for failure in self._failures:
            self._warn(failure)

    def _call(self, moment: Moment, line: str, max_attempts: int) -> None:
        """Send one ping, in its own thread. The end waits for the start: monitors expect them in order."""
        if moment != "start" and self._start_thread is not None:
            self._start_thread.join(LONGEST_S)
        pause = threading.Event()
        reason: str | None = None
        is_post = moment != "start"
        for number in range(1, max_attempts + 1):
            try:
                status, text = _request(ping_url(self._url, moment), line if is_post else None, self._timeout_s)
            except Exception as exc:  # noqa: BLE001 - no failure of a monitor, proxy or resolver may end the batch
                reason = _reason(exc, self._url)
            else:
                reason = _refusal(status, text)
                # Some monitors accept GET only: they lose the line, not the ping.
                is_post = is_post and status not in (405, 501)
            if reason is None:
                return
            if number < max_attempts:
                pause.wait(self._pause_s)
        self._failures.append(_failure(moment, str(reason)))


def _request(url: str, line: str | None, timeout_s: float) -> tuple[int, str]:
    """Return (status, start of the body); POST with a line, GET without."""
    import httpx2

    body = None if line is None else line.encode("utf-8", "replace")[:MAX_BODY_BYTES].decode("utf-8", "ignore").encode()
    headers = {"User-Agent": f"batchrun/{__version__}"}
    if body is not None:
        headers["Content-Type"] = "text/plain; charset=utf-8"
    with _unlogged(url), httpx2.Client(timeout=timeout_s, follow_redirects=False, headers=headers) as client:  # noqa: SIM117 - the stream needs the client
        with client.stream("GET" if body is None else "POST", url, content=body) as response:
            chunk = next(response.iter_bytes(200), b"")
            return response.status_code, chunk.decode("utf-8", "replace").strip()


@contextmanager
def _unlogged(url: str) -> Iterator[None]:
    """Keep the URL out of the log of httpx2, which logs every URL at level INFO."""
    host = urlsplit(url).hostname or ""

    def passes(record: logging.LogRecord) -> bool:
        return host not in record.getMessage().lower()

    logger = logging.getLogger("httpx2")
    logger.addFilter(passes)
    try:
        yield
    finally:
        logger.removeFilter(passes)


def _refusal(status: int, text: str) -> str | None:
    """Return the reason for which a reply is not a success, None if it is one.

    healthchecks.io answers with status 200 even to a ping that it ignores: `OK (not found)`, `OK (rate limited)`.
    """
    if 300 <= status < 400:
        return f"it redirects (status {status}), and redirects are not followed; give the URL that it redirects to"
    if not 200 <= status < 300:
        return f"it answered with status {status}"
    return f"it answered {text[:40]!r}" if text.startswith("OK (") else None


def _reason(exc: Exception, url: str) -> str:
    """Return the cause of an exception in one line without the URL and its parts."""
    import httpx2

    if isinstance(exc, httpx2.TimeoutException):
        return "no reply in time"
    cause: BaseException = exc
    while cause.__cause__ is not None:
        cause = cause.__cause__
    text = " ".join(str(cause).split()) or type(cause).__name__
    parts = urlsplit(url)
    for secret in (url, parts.path, parts.query, parts.netloc, *parts.path.split("/")):
        if len(secret) > 3:
            text = text.replace(secret, "***")
    return text[:200]


def _failure(moment: Moment, reason: str) -> str:
    which = {"start": "start", "end": "success", "fail": "failure"}[moment]
    return f"--ping: the monitor did not accept the {which} ping: {reason}"


# -- around a batch -------------------------------------------------------------------------------------------


@contextmanager
def pinged(
    url: str | None, warn: Callable[[str], None], *, with_start: bool = True
) -> Iterator[tuple[FinalStatus, Callable[[int], None]]]:
    """Report the context to a monitor. Yields the final status, to be filled in, and a function to call before
    `os._exit`.

    An exception, a signal that ends the process and a status that was not filled in are failures. Without a URL
    nothing happens.

    Args:
        with_start: report the start. A batch with --no-wait does not: its end may be days and many runs away.

    Raises:
        InputError: the URL is invalid.
    """
    status = FinalStatus()
    if url is None:
        yield status, lambda _exit_code: None
        return
    pinger = Pinger(url, warn)
    if with_start:
        pinger.start()
    try:
        yield status, lambda exit_code: pinger.end(FinalStatus(exit_code, "interrupted twice"), quitting=True)
    except OutputHeld:
        raise  # another batch took the lock since the check: its own end will be reported
    except BaseException as exc:
        pinger.end(_status_of(exc))
        raise
    pinger.end(status)


@asynccontextmanager
async def apinged(
    url: str | None, warn: Callable[[str], None], *, with_start: bool = True
) -> AsyncIterator[FinalStatus]:
    """Report the context to a monitor like `pinged`, without blocking the event loop.

    Raises:
        InputError: the URL is invalid.
    """
    import anyio
    import anyio.to_thread

    status = FinalStatus()
    if url is None:
        yield status
        return
    pinger = Pinger(url, warn)
    if with_start:
        pinger.start()
    try:
        yield status
    except BaseException as exc:
        status = _status_of(exc)
        raise
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(pinger.end, status)


def _status_of(exc: BaseException) -> FinalStatus:
    """Return the status that reports an exception. The text of a bug may contain cells of the table: only its type is
    sent."""
    if isinstance(exc, BatchrunError):
        return FinalStatus(exc.exit_code, str(exc))
    if isinstance(exc, Exception):
        return FinalStatus(1, f"internal error: {type(exc).__name__}")
    return FinalStatus(1, "interrupted")
