"""The write-ahead log of a SQLite file that one process writes at full speed: moved into the file, and kept small.

SQLite's own checkpoints are off (`wal_autocheckpoint=0`), because they fsync inside a write. `checkpoint` moves the log
in a thread, but leaves what is written meanwhile. SQLite uses the space of a log again only when all of it has been
moved, so on a busy file `reuse` has to move that rest, between two writes.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

__all__ = ["LOG_BYTES", "checkpoint", "configure", "reuse", "size_bytes"]

LOG_BYTES = 16 * 1024 * 1024
"""A larger log is moved at once, and its space is used again."""


def configure(connection: sqlite3.Connection) -> None:
    """Leave the log of a writer's connection to `checkpoint` and `reuse`.

    A log that is used again is cut to a quarter of `LOG_BYTES`, so that its size says how much is in it.
    """
    connection.execute("PRAGMA wal_autocheckpoint=0")
    connection.execute(f"PRAGMA journal_size_limit={LOG_BYTES // 4}")


def size_bytes(path: Path) -> int:
    """Return the size of the log of the file at `path`; 0 without one."""
    try:
        return path.with_name(f"{path.name}-wal").stat().st_size
    except FileNotFoundError:
        return 0


def checkpoint(path: Path, timeout_s: float) -> None:
    """Move the log into the file and fsync, on a connection of its own: call it from a thread.

    A file that has been deleted is not created again.

    Raises:
        sqlite3.Error: SQLite fails.
    """
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=timeout_s)
    try:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
    finally:
        connection.close()


def reuse(connection: sqlite3.Connection, path: Path) -> None:
    """Let the next write begin a large log from its start, unless another process reads it just now.

    Call it on the writer's thread, outside of a transaction, and right after `checkpoint`: then little is left to move.

    Raises:
        sqlite3.Error: SQLite fails.
    """
    if size_bytes(path) > LOG_BYTES:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
