"""The log of a command: `--verbose` and `--log-file`, which the commands that send requests have.

Without them only warnings and errors are printed, as lines without a date. The loggers are children of `batchrun`.
"""

from __future__ import annotations

import functools
import logging
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click

from batchrun.cli.console import PrintedRecords, terminal, warn, warn_of_error
from batchrun.cli.options import LocalPath, SectionedOption
from batchrun.errors import BatchrunError, InputError, OutputError
from batchrun.version import __version__
from batchrun.wording import visible, visible_line

__all__ = ["is_verbose", "with_log"]

logger = logging.getLogger("batchrun")

_DAMAGED: Mapping[str, str] = {
    **dict.fromkeys((".journal", ".lock", ".store"), "a file of a batch"),
    ".toml": "a job file",
    ".py": "a Python file",
}
"""File extension → what a log under this name could damage, because it is appended; tables are known to `tables`."""
_DATE = re.compile(rb"\d{4}-\d\d-\d\dT")
_VERBOSE = "batchrun.verbose"


class _UtcFormatter(logging.Formatter):
    """Writes `2026-11-29T14:31:26.123Z INFO batchrun.engine: message`, with outside text escaped."""

    converter = time.gmtime  # type: ignore[assignment] # typeshed has a static method; Python's documentation assigns it so
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


class _LogFile(logging.FileHandler):
    """Appends records to a file. A disk that is full must not end the batch.

    Mutable state: `has_failed`, set by the first record that could not be written.
    """

    has_failed = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - the signature of logging
        """Print one warning."""
        if not self.has_failed:
            self.has_failed = True
            exc = sys.exc_info()[1]
            reason = exc.strerror if isinstance(exc, OSError) else exc
            warn(f"--log-file {self.baseFilename}: cannot be written ({reason}); the command continues")

    def close(self) -> None:
        """Close the file. What its buffer still holds was reported as lost."""
        with suppress(OSError):
            super().close()


def with_log(*, dates_errors: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that adds `--verbose` and `--log-file` to a command.

    Args:
        dates_errors: put the date and time before the error that ends the command, if standard error is not a terminal.
    """

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def logged(*arguments: Any, verbose: bool, log_file: Path | None, **options: Any) -> Any:
            if verbose and options.get("quiet"):
                raise click.UsageError("--quiet and --verbose cannot be combined; give one of them")
            click.get_current_context().meta[_VERBOSE] = verbose
            try:
                with _logging(log_file, verbose=verbose):
                    return command(*arguments, **options)
            except BatchrunError as exc:
                if not dates_errors or terminal().isatty():
                    raise
                warn_of_error(exc, is_dated=True)
                return exc.exit_code

        for option in reversed(_OPTIONS):
            logged = option(logged)
        return logged

    return add


_OPTIONS = (
    click.option(
        "--verbose", is_flag=True, help="Print every request, retry and wait on standard error", cls=SectionedOption
    ),
    click.option(
        "--log-file",
        type=LocalPath(path_type=Path),
        metavar="PATH",
        help="File to append every request, retry and wait to, with time (UTC), row, attempt, status and duration",
        cls=SectionedOption,
    ),
)


def is_verbose() -> bool:
    """Return whether this command prints its log, so that nothing may be drawn in place."""
    return bool(click.get_current_context().meta.get(_VERBOSE))


@contextmanager
def _logging(log_file: Path | None, *, verbose: bool) -> Iterator[None]:
    """Log everything to a file, to standard error, or to both."""
    handlers: list[logging.Handler] = []
    if verbose:
        handlers.append(PrintedRecords())
    if log_file is not None:
        handlers.append(_open(log_file))
    if not handlers:
        yield
        return
    # What prints warnings is left out: they would be printed twice.
    before, level = list(logger.handlers), logger.level
    kept = [handler for handler in before if not (verbose and isinstance(handler, PrintedRecords))]
    for handler in handlers:
        handler.setFormatter(_UtcFormatter())
    logger.handlers[:] = [*kept, *handlers]
    logger.setLevel(logging.DEBUG)
    try:
        with _ends_logged():
            yield
    finally:
        logger.handlers[:] = before
        logger.setLevel(level)
        for handler in handlers:
            handler.close()


@contextmanager
def _ends_logged() -> Iterator[None]:
    """Log what runs, and the error that ends it."""
    context = click.get_current_context()
    logger.info("batchrun %s %s, Python %s", __version__, context.info_name, platform.python_version())
    try:
        yield
    except BatchrunError as exc:
        logger.info("ended: %s", visible_line(str(exc)))
        raise
    except Exception:
        logger.info("ended by a bug", exc_info=True)
        raise


def _is_log(path: Path) -> bool:
    """Return whether a log can be appended to a file: it is new, or text; a .txt has the date of a log's first line.

    A .txt may be a list of prompts, and a file of any name may be a workbook or an archive.
    """
    try:
        if not path.is_file():
            return True
        with path.open("rb") as file:
            head = file.read(4_096)
    except OSError:
        return True  # opening it for the log reports the problem
    return b"\0" not in head and (path.suffix.lower() != ".txt" or not head or _DATE.match(head) is not None)


def _open(path: Path) -> logging.Handler:
    """
    Raises:
        InputError: the path looks like a table or another file that the log would damage.
        OutputError: the file cannot be written.
    """
    from batchrun.tables.compression import COMPRESSIONS
    from batchrun.tables.table_options import KINDS

    ending = path.suffix.lower()
    # Logs are often called .txt, as are lists of prompts.
    is_table = ending != ".txt" and (ending in KINDS or ending in COMPRESSIONS)
    damaged = "a table" if is_table else _DAMAGED.get(ending)
    if damaged is not None:
        raise InputError(f"--log-file {path}: is the name of {damaged}; give the log a name such as batch.log")
    if not _is_log(path):
        raise InputError(f"--log-file {path}: exists and is not a log; give the log another name, such as batch.log")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The log holds row keys and the service's messages: only its owner may read it.
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600))
        return _LogFile(path, encoding="utf-8", errors="backslashreplace")
    except OSError as exc:
        raise OutputError(f"--log-file {path}: cannot be written ({exc.strerror or exc})") from None
