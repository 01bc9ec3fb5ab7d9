"""The write-ahead log of a SQLite file that one process writes at full speed: moved into the file, and kept small.

SQLite's own checkpoints are off (`wal_autocheckpoint=0`), because they fsync inside a write. `checkpoint` moves the log
in a thread, but leaves what is written meanwhile. SQLite uses the space of a log again only when all of it has been
moved, so on a busy file `reuse` has to move that rest, between two writes. `checkpoint` therefore moves the log again
and again, each time what was written during the time before, until so little is left that it holds nobody up.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

__all__ = ["LARGE_LOG_BYTES", "LOG_BYTES", "REST_PAGES", "WriteAheadLog", "size_bytes"]

LOG_BYTES: Final = 16 * 1024 * 1024
"""A larger log is moved at once, and its space is used again."""
LARGE_LOG_BYTES: Final = 2 * LOG_BYTES
"""A larger log is moved to its end, however many pages are left."""
REST_PAGES: Final = 256
"""Most pages of a smaller log that `reuse` moves: half a megabyte in a journal."""
_ROUNDS: Final = 10
"""Most times that one `checkpoint` moves the log."""
_FRAME_BYTES: Final = 24
"""What a page in the log has before its content; https://www.sqlite.org/fileformat2.html#walformat"""


class WriteAheadLog:
    """The log of a writer's connection. Its size says how much is in it once it is larger than `LOG_BYTES`: a log that
    is used again is cut to a quarter of that.

    Mutable state: `_moved`, the pages at the beginning of the log that `checkpoint` has moved.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        """Leave the log of `connection`, which writes the file at `path`, to `checkpoint` and `reuse`."""
        self._connection = connection
        self._path = path
        self._moved = 0
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute(f"PRAGMA journal_size_limit={LOG_BYTES // 4}")
        self._frame_bytes: int = _FRAME_BYTES + connection.execute("PRAGMA page_size").fetchone()[0]

    def checkpoint(self, timeout_s: float) -> None:
        """Move the log into the file and fsync, on a connection of its own: call it from a thread.

        A file that has been deleted is not created again.

        Raises:
            sqlite3.Error: SQLite fails.
        """
        uri = f"{self._path.absolute().as_uri()}?mode=rw"
        with closing(sqlite3.connect(uri, uri=True, timeout=timeout_s)) as connection:
            self._moved = 0
            for _ in range(_ROUNDS):
                _, logged, moved = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                before, self._moved = self._moved, moved
                is_large = (
                    LOG_BYTES < size_bytes(self._path) <= LARGE_LOG_BYTES
                )  # else `reuse` does not look at the rest
                # A short round leaves little. A reader may keep a round from moving all; then more do not help.
                if logged - before <= REST_PAGES or moved < logged or not is_large:
                    break

    def reuse(self) -> int:
        """Let the next write begin a large log from its start, unless another process reads it just now; return the
        number of pages that had to be moved for that.

        Call it on the writer's thread, outside of a transaction, and right after `checkpoint`. If more than
        `REST_PAGES` are left to move, it does nothing until the log is larger than `LARGE_LOG_BYTES`.

        Raises:
            sqlite3.Error: SQLite fails.
        """
        size = size_bytes(self._path)
        if size <= LOG_BYTES:
            return 0
        rest = size // self._frame_bytes - self._moved
        if rest > REST_PAGES and size <= LARGE_LOG_BYTES:
            return 0
        self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        return rest


def size_bytes(path: Path) -> int:
    """Return the size of the log of the file at `path`; 0 without one."""
    try:
        return path.with_name(f"{path.name}-wal").stat().st_size
    except FileNotFoundError:
        return 0
