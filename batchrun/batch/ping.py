"""Telling a watch over jobs how a batch went: healthchecks.io, and the services that follow its convention.

The URL is called with `/start` behind its path at the start, as it is at a good end, and with `/fail` at any other
end; a query stays behind the path (`https://hc-ping.com/<key>/<slug>?create=1`). The start is a GET, the ends are POSTs
with one line as their body. Source: https://healthchecks.io/docs/http_api/.

The URL is a secret: whoever has it can say that all is well. It appears in no message, and in no log of the HTTP
library.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Literal, TypeAlias
from urllib.parse import urlsplit, urlunsplit

from batchrun.errors import BatchrunError, InputError, OutputHeld

__all__ = ["Pinger", "Verdict", "apinged", "ping_url", "pinged"]

TRIES = 2
PAUSE_S = 1.0
TIMEOUT_S = 5.0
LONGEST_S = 15.0
"""A name that is not looked up, or a reply that drips, keeps nobody longer than this."""
LEAVING_S = 2.0
MAX_BODY_BYTES = 10_000
"""What healthchecks.io and its self-hosted versions keep at least."""

Moment: TypeAlias = Literal["start", "end", "fail"]


def ping_url(url: str, moment: Moment) -> str:
    """The URL to call: the suffix goes on the path, before a query."""
    parts = urlsplit(url)
    path = parts.path if moment == "end" else f"{parts.path.rstrip('/')}/{moment}"
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


@dataclass(slots=True)
class Verdict:
    """How it went, as known so far.

    Attributes:
        exit_code: of the process; only 0 is a good end.
        line: one line for the body of the last call.
    """

    exit_code: int = 1
    line: str = ""


class Pinger:
    """Calls a URL at the start and at the end, from threads, so that a slow watch keeps no batch waiting.

    A call that fails is one warning, given at the end, and nothing else.

    All state: `_begun`, the thread of the first call; `_over`, set once the end was told; `_failures`, the reasons
    of calls that failed.
    """

    def __init__(
        self, url: str, warn: Callable[[str], None], *, pause_s: float = PAUSE_S, timeout_s: float = TIMEOUT_S
    ) -> None:
        """
        Args:
            warn: is given one line for each call that failed.
            pause_s: seconds between two tries.
            timeout_s: seconds for a connection, and for the reply.

        Raises:
            InputError: it is no URL.
        """
        try:
            parts = urlsplit(url)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable or not url.isprintable() or " " in url:
            # The value is not shown: it may be a good URL but for one character.
            raise InputError("--ping: a URL that begins with https:// or http:// is needed")
        self._url = url
        self._warn = warn
        self._pause_s = pause_s
        self._timeout_s = timeout_s
        self._begun: threading.Thread | None = None
        self._over = False
        self._failures: list[str] = []

    def start(self) -> None:
        """Tell the start; returns at once."""
        self._begun = threading.Thread(target=self._call, args=("start", "", TRIES), daemon=True, name="ping")
        self._begun.start()

    def end(self, verdict: Verdict, *, hurry: bool = False) -> None:
        """Tell the end, behind the start; waits for the reply, but not for long. Only the first call does anything.

        Args:
            hurry: one try, two seconds.
        """
        if self._over:
            return
        self._over = True
        moment: Moment = "end" if verdict.exit_code == 0 else "fail"
        last = threading.Thread(
            target=self._call, args=(moment, verdict.line, 1 if hurry else TRIES), daemon=True, name="ping"
        )
        last.start()
        last.join(LEAVING_S if hurry else LONGEST_S)
        if last.is_alive():
            self._failures.append(_failure(moment, "no answer in time"))
        for failure in self._failures:
            self._warn(failure)

    def _call(self, moment: Moment, line: str, tries: int) -> None:
        """One call with its tries, in a thread of its own. An end waits for the start: a watch counts them in order."""
        if moment != "start" and self._begun is not None:
            self._begun.join(LONGEST_S)
        pause = threading.Event()
        reason: str | None = None
        posting = moment != "start"
        for number in range(1, tries + 1):
            try:
                status, text = _request(ping_url(self._url, moment), line if posting else None, self._timeout_s)
            except Exception as exc:  # noqa: BLE001 - whatever a watch, a proxy or a resolver does, the batch goes on
                reason = _reason(exc, self._url)
            else:
                reason = _refusal(status, text)
                # Some watches take GET alone; they lose the line, not the ping.
                posting = posting and status not in (405, 501)
            if reason is None:
                return
            if number < tries:
                pause.wait(self._pause_s)
        self._failures.append(_failure(moment, str(reason)))


def _request(url: str, line: str | None, timeout_s: float) -> tuple[int, str]:
    """(status, start of the body); POST with a line, else GET."""
    import httpx2

    body = None if line is None else line.encode("utf-8", "replace")[:MAX_BODY_BYTES].decode("utf-8", "ignore").encode()
    headers = {"User-Agent": f"batchrun/{version('batchrun')}"}
    if body is not None:
        headers["Content-Type"] = "text/plain; charset=utf-8"
    with _unlogged(url), httpx2.Client(timeout=timeout_s, follow_redirects=True, headers=headers) as client:  # noqa: SIM117 - the stream needs the client
        with client.stream("GET" if body is None else "POST", url, content=body) as response:
            chunk = next(response.iter_bytes(200), b"")
            return response.status_code, chunk.decode("utf-8", "replace").strip()


@contextmanager
def _unlogged(url: str) -> Iterator[None]:
    """httpx2 logs every URL at level INFO, where a program that uses batchrun has logging on."""
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
    """Why a reply is no success. healthchecks.io says with status 200 that it knows no such check, or that it
    ignored the call: `OK (not found)`, `OK (rate limited)`."""
    if not 200 <= status < 300:
        return f"it answered {status}"
    return f"it answered {text[:40]!r}" if text.startswith("OK (") else None


def _reason(exc: Exception, url: str) -> str:
    import httpx2

    if isinstance(exc, httpx2.TimeoutException):
        return "no answer in time"
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
    which = {"start": "of the start", "end": "of the good end", "fail": "of the failure"}[moment]
    return f"the ping {which} was not taken: {reason}"


# -- around a batch -------------------------------------------------------------------------------------------


@contextmanager
def pinged(url: str | None, warn: Callable[[str], None]) -> Iterator[tuple[Verdict, Callable[[int], None]]]:
    """Tell a watch how what is inside goes. Yields the verdict, to be filled in, and what to call before `os._exit`.

    An exception, a signal that ends the process and a verdict that nobody filled in are bad ends. Without a URL nothing
    happens.

    Raises:
        InputError: it is no URL.
    """
    verdict = Verdict()
    if url is None:
        yield verdict, lambda _exit_code: None
        return
    pinger = Pinger(url, warn)
    pinger.start()
    try:
        yield verdict, lambda exit_code: pinger.end(Verdict(exit_code, "interrupted twice"), hurry=True)
    except OutputHeld:
        raise  # another batch began between the look and the lock: the watch will hear of its end
    except BaseException as exc:
        pinger.end(_verdict_of(exc))
        raise
    pinger.end(verdict)


@asynccontextmanager
async def apinged(url: str | None, warn: Callable[[str], None]) -> AsyncIterator[Verdict]:
    """`pinged` for code in an event loop, which goes on meanwhile.

    Raises:
        InputError: it is no URL.
    """
    import anyio
    import anyio.to_thread

    verdict = Verdict()
    if url is None:
        yield verdict
        return
    pinger = Pinger(url, warn)
    pinger.start()
    try:
        yield verdict
    except BaseException as exc:
        verdict = _verdict_of(exc)
        raise
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(pinger.end, verdict)


def _verdict_of(exc: BaseException) -> Verdict:
    """What is told of an exception. A bug's text may hold anything, also of the table: only its name goes out."""
    if isinstance(exc, BatchrunError):
        return Verdict(exc.exit_code, str(exc))
    if isinstance(exc, Exception):
        return Verdict(1, f"internal error: {type(exc).__name__}")
    return Verdict(1, "interrupted")
