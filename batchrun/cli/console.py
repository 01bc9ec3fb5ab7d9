"""Everything that the commands print goes through here: outside text is made harmless, and a display that fails harms
nothing.

Lines for people go to standard error (`note`, `warn`), results to standard output (`say`, `deliver`). `main` runs its
command inside `safe_streams`, which puts an `Outlet` before both streams, so that what libraries print (warnings, logs,
the usage of a command) passes there too.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import select
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final, TextIO, cast

from batchrun.errors import OutputError
from batchrun.wording import visible, visible_line

__all__ = [
    "Outlet",
    "deliver",
    "facts_line",
    "note",
    "progress",
    "safe_streams",
    "say",
    "terminal",
    "warn",
    "warn_of_losses",
]

PATIENCE_S: Final = 30.0
"""How long a line for people waits for a terminal or pipe that takes nothing."""
_CHUNK_CHARS: Final = 1_000
"""At most 4,000 bytes: what a pipe that reports room takes without blocking."""
_GONE: Final = frozenset({errno.EPIPE, errno.EIO, errno.ENXIO, errno.EBADF})
"""The reader went away, or there never was one: nobody is there to miss the text."""


class Outlet(io.TextIOBase):
    """A text stream that never raises, and escapes what a terminal would obey.

    All state: `lost`, set by the first failure; what is written after it is dropped.

    Attributes:
        lost: why nothing can be written any more; "" if the reader went away, None while all is well.
    """

    def __init__(self, stream: TextIO, *, escape: bool = True, patience_s: float | None = None) -> None:
        """
        Args:
            stream: the stream behind it.
            escape: False for a display that draws with terminal sequences of its own.
            patience_s: seconds to wait for a stream that takes nothing; None: for ever.
        """
        self.lost: str | None = None
        self.patience_s = patience_s
        self._stream = stream
        self._escape = escape

    @property
    def encoding(self) -> str:  # type: ignore[override] # typeshed has a variable
        """That of the stream behind it."""
        return self._stream.encoding or "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override] # as above
        """What the stream cannot encode is written as an escape."""
        return "backslashreplace"

    def isatty(self) -> bool:
        """Whether a person sees it at once."""
        with contextlib.suppress(OSError, ValueError):
            return self._stream.isatty()
        return False

    def fileno(self) -> int:
        """The descriptor of the stream behind it."""
        return self._stream.fileno()

    def writable(self) -> bool:
        """Always."""
        return True

    def flush(self) -> None:
        """Every write is flushed."""

    def undressed(self) -> Outlet:
        """An outlet over the same stream that passes terminal sequences on."""
        return Outlet(self._stream, escape=False, patience_s=PATIENCE_S)

    def ready(self, wait_s: float | None = 0.0) -> bool:
        """Whether the stream takes something now, or within so many seconds (None: whenever)."""
        try:
            descriptor = self._stream.fileno()
            poll = select.poll()
        except (OSError, ValueError, AttributeError):
            return True  # no file, or (Windows) nothing that could be asked
        poll.register(descriptor, select.POLLOUT)
        return bool(poll.poll(None if wait_s is None else wait_s * 1000))

    def write(self, text: str) -> int:
        """Write the text; where that fails, drop it."""
        if not isinstance(text, str):
            raise TypeError(f"text is expected, not {type(text).__name__}")
        shown = visible(text) if self._escape else text
        shown = shown.encode(self.encoding, "backslashreplace").decode(self.encoding, "replace")
        for start in range(0, len(shown), _CHUNK_CHARS):
            if self.lost is not None:
                break
            self._put(shown[start : start + _CHUNK_CHARS])
        return len(text)

    def _put(self, chunk: str) -> None:
        try:
            if not self.ready(self.patience_s):
                self._lose(f"it took nothing for {self.patience_s:g} s")
                return
            self._stream.write(chunk)
            self._stream.flush()
        except OSError as exc:
            self._lose("" if exc.errno in _GONE else (exc.strerror or str(exc)).lower())
        except ValueError:
            self._lose("")  # it was closed

    def _lose(self, reason: str) -> None:
        self.lost = reason
        # What the stream's buffer still holds would fail once more when the interpreter ends, and change the exit code.
        with contextlib.suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)


@contextlib.contextmanager
def safe_streams() -> Iterator[None]:
    """Standard streams that are there and harm nothing, for as long as the context lasts."""
    _open_missing()
    before = sys.stdin, sys.stdout, sys.stderr
    with open(os.devnull, encoding="utf-8") as nothing, open(os.devnull, "w", encoding="utf-8") as nowhere:
        # A stream that was closed when the interpreter started is None.
        sys.stdin = before[0] or nothing
        sys.stdout = cast(TextIO, Outlet(before[1] or nowhere))
        sys.stderr = cast(TextIO, Outlet(before[2] or nowhere, patience_s=PATIENCE_S))
        try:
            yield
        finally:
            sys.stdin, sys.stdout, sys.stderr = before


def _open_missing() -> None:
    """Put the null device where a standard descriptor is closed: the next file opened would take its place, and what
    is printed would be written into a journal."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free descriptor: this one


# -- what commands call -------------------------------------------------------------------------------------------


def note(*lines: str) -> None:
    """Lines for people, on standard error."""
    _print(sys.stderr, *lines)


def warn(text: str) -> None:
    """One line for people about something that went wrong."""
    note(f"batchrun: {text}")


def say(*lines: str) -> None:
    """Lines on standard output about work that has another result: the output file, the exit code. They stand whatever
    becomes of the lines."""
    with _patient(sys.stdout):
        _print(sys.stdout, *lines)


def deliver(*lines: str) -> None:
    """Lines on standard output that are all that the command was called for.

    Raises:
        OutputError: they could not be written.
        BrokenPipeError: nobody reads them.
    """
    _print(sys.stdout, *lines)
    lost = _lost(sys.stdout)
    if lost == "":
        raise BrokenPipeError
    if lost is not None:
        raise OutputError(f"standard output: cannot be written ({lost})")


def progress(line: str, *, for_people: bool = True) -> None:
    """A line that another one follows soon: left out where the reader is not ready for it.

    Args:
        for_people: on standard error; else on standard output.
    """
    stream = sys.stderr if for_people else sys.stdout
    if not isinstance(stream, Outlet) or stream.ready():
        _print(stream, line)


def facts_line(facts: Mapping[str, Any]) -> str:
    """An object for machines, on one line."""
    return json.dumps(facts, ensure_ascii=False)


def terminal() -> Outlet:
    """Standard error for a display that draws with terminal sequences, and shows no outside text but through
    `visible`."""
    stream = sys.stderr
    return stream.undressed() if isinstance(stream, Outlet) else Outlet(stream, escape=False)


def warn_of_losses() -> None:
    """Say on standard error that standard output could not be written; that a reader went away is no loss."""
    lost = _lost(sys.stdout)
    if lost:
        warn(f"standard output could not be written ({lost}); nothing else is missing")


def _lost(stream: object) -> str | None:
    return stream.lost if isinstance(stream, Outlet) else None


@contextlib.contextmanager
def _patient(stream: object) -> Iterator[None]:
    if not isinstance(stream, Outlet):
        yield
        return
    before, stream.patience_s = stream.patience_s, PATIENCE_S
    try:
        yield
    finally:
        stream.patience_s = before


def _print(stream: TextIO, *lines: str) -> None:
    stream.write("".join(f"{visible_line(line)}\n" for line in lines))
    stream.flush()
