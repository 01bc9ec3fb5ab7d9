"""Printing: all output of commands, with outside text escaped and without errors if a stream fails.

Lines for people go to standard error (`note`, `warn`), results to standard output (`print_summary`, `print_result`).
`main` runs its command inside `safe_streams`, which wraps both streams in a `SafeStream`. Everything that libraries
print, such as warnings, logs and usage errors, goes through it too.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

from batchrun.cli.safe_stream import PATIENCE_S, SafeStream
from batchrun.errors import BatchrunError, OutputError, lines_of
from batchrun.wording import visible_line

if TYPE_CHECKING:
    from batchrun.records import Settings

__all__ = [
    "PrintedRecords",
    "facts_line",
    "note",
    "now_text",
    "print_result",
    "print_summary",
    "print_warnings",
    "progress_line",
    "terminal",
    "terminal_width",
    "waiting_line",
    "warn",
    "warn_of_error",
    "warn_of_failed_output",
]


def note(*lines: str) -> None:
    """Print lines for people on standard error."""
    _print(sys.stderr, *lines)


def warn(text: str) -> None:
    """Print one line about a problem on standard error."""
    note(f"batchrun: {text}")


def warn_of_error(error: BatchrunError, *, is_dated: bool = False) -> None:
    """Print the line of the error that ends a command, and those of its notes; dated if the lines go to a log."""
    for line in lines_of(error):
        text = _LONG_WORD.sub(lambda word: f"{word[1]}…", line)
        warn(f"{now_text()} · {text}" if is_dated else text)


_LONG_WORD = re.compile(r"(\S{1000})\S+")
"""Matches a word of an input that is too long to be repeated in a message."""


class PrintedRecords(logging.Handler):
    """Prints records of the log on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record; a traceback takes several lines."""
        note(*self.format(record).splitlines())


@contextlib.contextmanager
def print_warnings() -> Iterator[None]:
    """Print what batchrun logs as a warning or an error."""
    logger, handler = logging.getLogger("batchrun"), PrintedRecords()
    handler.setLevel(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def now_text() -> str:
    """Return the date and time in the time zone of this machine, with its offset. Lines of a log begin with it."""
    from batchrun.clock import utc_now  # imports asyncio, which --help does without
    from batchrun.wording import local_time

    return local_time(utc_now())


def print_summary(*lines: str) -> None:
    """Print lines on standard output in a command that also has another result, such as an output file.

    If the lines cannot be written, the command succeeds anyway; see `warn_of_failed_output`.
    """
    with _limited_patience(sys.stdout):
        _print(sys.stdout, *lines)


def print_result(*lines: str) -> None:
    """Print lines on standard output that are the only result of the command.

    Raises:
        OutputError: the lines could not be written.
        BrokenPipeError: the reader has closed standard output.
    """
    _print(sys.stdout, *lines)
    failure = _failure_of(sys.stdout)
    if failure == "":
        raise BrokenPipeError
    if failure is not None:
        raise OutputError(f"standard output: cannot be written ({failure})")


def progress_line(line: str, *, for_people: bool = True) -> None:
    """Print a line of progress, unless the stream does not accept it now: another line follows soon.

    Args:
        line: the line.
        for_people: print on standard error, otherwise on standard output.
    """
    stream = sys.stderr if for_people else sys.stdout
    if not isinstance(stream, SafeStream) or stream.is_ready():
        _print(stream, line)


def terminal_width() -> int | None:
    """Return the cells in a line of standard output if it is a terminal, otherwise None."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def facts_line(facts: Settings | Sequence[Settings]) -> str:
    """Return JSON on one line."""
    return json.dumps(facts, ensure_ascii=False)


def terminal() -> SafeStream:
    """Return standard error for a display that draws with terminal sequences. It must escape outside text itself."""
    stream = sys.stderr
    return stream.unescaped() if isinstance(stream, SafeStream) else SafeStream(stream, escape=False)


@contextlib.contextmanager
def waiting_line(text: str) -> Iterator[None]:
    """Show a line on the terminal while the block runs, then erase it. Nothing is shown without a terminal."""
    stream = terminal()
    if not stream.isatty():
        yield
        return
    stream.write(f"{visible_line(text)[: shutil.get_terminal_size().columns - 1]}\r")
    stream.flush()
    try:
        yield
    finally:
        stream.write("\x1b[K")
        stream.flush()


def warn_of_failed_output() -> None:
    """Print a warning if standard output could not be written. A reader that closed it needs no warning."""
    failure = _failure_of(sys.stdout)
    if failure:
        warn(f"standard output could not be written ({failure}); all other results are complete")


def _failure_of(stream: object) -> str | None:
    return stream.failure if isinstance(stream, SafeStream) else None


@contextlib.contextmanager
def _limited_patience(stream: object) -> Iterator[None]:
    if not isinstance(stream, SafeStream):
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
