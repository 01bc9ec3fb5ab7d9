"""Failures of temporary files, whose folder may be full."""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import suppress
from typing import Protocol

from batchrun.errors import OutputError

__all__ = ["close", "not_written"]


class _Closable(Protocol):
    def close(self) -> None: ...


def not_written(exc: OSError | sqlite3.Error) -> OutputError:
    """Return the error for a temporary file that cannot be created or written."""
    reason = exc.strerror if isinstance(exc, OSError) else exc
    return OutputError(
        f"{tempfile.tempdir or 'TMPDIR'}: a temporary file cannot be written: {reason}; make space, or set TMPDIR to "
        "another folder"
    )


def close(file: _Closable) -> None:
    """Close a temporary file; bytes that could not be written to it are lost with it."""
    with suppress(OSError, sqlite3.Error):
        file.close()
