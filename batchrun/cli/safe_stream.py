"""SafeStream: a text stream that never raises an error and escapes outside text; standard streams are wrapped in it."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import sys
from collections.abc import Iterator
from typing import Final, TextIO, cast

from batchrun.wording import visible

__all__ = ["SafeStream", "safe_streams"]


PATIENCE_S: Final = 30.0
"""Seconds that a line for people waits for a terminal or pipe that accepts nothing."""


_CHUNK_CHARS: Final = 1_000
"""Characters per write: at most 4,000 bytes, which a pipe that is ready for writing accepts without blocking."""


_GONE: Final = frozenset({errno.EPIPE, errno.EIO, errno.ENXIO, errno.EBADF})
"""Errors of a stream without a reader, for whom the text would be missing."""


class SafeStream(io.TextIOBase):
    """A text stream that never raises an error, and escapes characters that a terminal would execute.

    Mutable state: `failure`, set by the first failure; text after it is dropped. `patience_s`.

    Attributes:
        failure: reason why the stream failed; "" if it has no reader, None if it has not failed.
        patience_s: seconds to wait for a stream that accepts nothing; None: without limit.
    """

    def __init__(self, stream: TextIO, *, escape: bool = True, patience_s: float | None = None) -> None:
        """
        Args:
            stream: the stream to write to.
            escape: False for a display that draws with terminal sequences.
            patience_s: see the attribute.
        """
        self.failure: str | None = None
        self.patience_s = patience_s
        self._stream = stream
        self._escape = escape

    @property
    def encoding(self) -> str:  # type: ignore[override] # typeshed has a variable
        """The encoding of the wrapped stream."""
        return self._stream.encoding or "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override] # as above
        """Characters that the stream cannot encode are written as escapes."""
        return "backslashreplace"

    def isatty(self) -> bool:
        """Return whether the stream is a terminal."""
        with contextlib.suppress(OSError, ValueError):
            return self._stream.isatty()
        return False

    def fileno(self) -> int:
        """Return the descriptor of the wrapped stream."""
        return self._stream.fileno()

    def writable(self) -> bool:
        """Return True."""
        return True

    def flush(self) -> None:
        """Do nothing: every write is flushed."""

    def unescaped(self) -> SafeStream:
        """Return a safe stream over the same stream that does not escape terminal sequences."""
        return SafeStream(self._stream, escape=False, patience_s=PATIENCE_S)

    def is_ready(self, wait_s: float | None = 0.0) -> bool:
        """Return whether the stream accepts text within `wait_s` seconds. None waits without limit."""
        try:
            descriptor = self._stream.fileno()
            poll = select.poll()
        except (OSError, ValueError, AttributeError):
            return True  # the stream is not a file, or the system (Windows) has no poll
        poll.register(descriptor, select.POLLOUT)
        return bool(poll.poll(None if wait_s is None else wait_s * 1000))

    def write(self, text: str) -> int:
        """Write the text, or drop it if the stream has failed."""
        if not isinstance(text, str):
            raise TypeError(f"expected text, not {type(text).__name__}")
        shown = visible(text) if self._escape else text
        shown = shown.encode(self.encoding, "backslashreplace").decode(self.encoding, "replace")
        for start in range(0, len(shown), _CHUNK_CHARS):
            if self.failure is not None:
                break
            self._write_chunk(shown[start : start + _CHUNK_CHARS])
        return len(text)

    def _write_chunk(self, chunk: str) -> None:
        try:
            if not self.is_ready(self.patience_s):
                self._fail(f"it accepted nothing for {self.patience_s:g} s")
                return
            self._stream.write(chunk)
            self._stream.flush()
        except OSError as exc:
            self._fail("" if exc.errno in _GONE else (exc.strerror or str(exc)).lower())
        except ValueError:
            self._fail("")  # the stream was closed

    def _fail(self, reason: str) -> None:
        self.failure = reason
        # Text in the stream's buffer would fail again when the interpreter exits, and change the exit code. It goes to
        # the null device instead.
        with contextlib.suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)


@contextlib.contextmanager
def safe_streams() -> Iterator[None]:
    """Replace the standard streams by safe streams, and missing ones by the null device."""
    _open_missing()
    before = sys.stdin, sys.stdout, sys.stderr
    with open(os.devnull, encoding="utf-8") as nothing, open(os.devnull, "w", encoding="utf-8") as nowhere:
        # A stream that was closed when the interpreter started is None.
        sys.stdin = before[0] or nothing
        sys.stdout = cast(TextIO, SafeStream(before[1] or nowhere))
        sys.stderr = cast(TextIO, SafeStream(before[2] or nowhere, patience_s=PATIENCE_S))
        try:
            yield
        finally:
            sys.stdin, sys.stdout, sys.stderr = before


def _open_missing() -> None:
    """Open the null device for closed standard descriptors.

    Otherwise the next opened file would get the descriptor, and printed text could be written into a journal.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            # `open` returns the lowest free descriptor, which is this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
