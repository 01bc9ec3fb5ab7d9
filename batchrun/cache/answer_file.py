"""The SQLite file of a cache: the answers that batches have paid for, found by their keys.

Any number of processes may use a file at once. As in a journal, a write is one transaction in WAL mode, which survives
the death of the process at any moment.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeAlias

from batchrun.cache.row_keys import AnswerKey
from batchrun.errors import InputError
from batchrun.journal.database import connect_read_only
from batchrun.journal.write_ahead_log import WriteAheadLog, size_bytes

__all__ = ["AnswerFile", "KnownAnswer", "check_answer_file", "reason_of"]

APPLICATION_ID = 0x62617463
"""SQLite `application_id` of a cache ("batc")."""
VERSION = 1
"""SQLite `user_version`: the version of the table."""
PATIENCE_S = 1.0
"""A write waits so long for another process that has locked the file, on the event loop. Batches lock it for some 20 µs
at a time."""

_TABLE = """
    CREATE TABLE IF NOT EXISTS answers (
        key          BLOB NOT NULL,     -- hash of everything that was sent: see `row_keys`
        number       INTEGER NOT NULL,  -- from 1; counts the rows of a batch that ask the same
        completed_at TEXT NOT NULL,     -- UTC, ISO 8601
        batch        TEXT NOT NULL,     -- the batch that paid: its id, and the name of its output
        model        TEXT,
        response     TEXT NOT NULL,
        thread_id    TEXT,
        run_id       TEXT,
        turns        TEXT,              -- JSON: the answer of each turn by its number; NULL for a single turn
        extras       TEXT,              -- JSON: citations and the like
        PRIMARY KEY (key, number)
    )
"""
_FIND = "SELECT key, completed_at, batch, model, response, thread_id, run_id, turns, extras FROM answers "
_WRITE = (
    "INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
    "completed_at = excluded.completed_at, batch = excluded.batch, model = excluded.model, "
    "response = excluded.response, thread_id = excluded.thread_id, run_id = excluded.run_id, turns = excluded.turns, "
    "extras = excluded.extras WHERE excluded.completed_at > completed_at"
)


_SetUp: TypeAlias = Callable[[sqlite3.Connection], None]


@dataclass(frozen=True, slots=True)
class KnownAnswer:
    """An answer in a cache.

    Attributes:
        completed_at: when the service gave it, UTC.
        batch: the batch that paid for it.
        turns: JSON object of turn → answer; None for a single turn.
        extras: JSON object; None if there are none.
    """

    completed_at: datetime
    batch: str
    model: str | None
    response: str
    thread_id: str | None
    run_id: str | None
    turns: str | None
    extras: str | None


class AnswerFile:
    """A cache's file, open for one batch. After the constructor, every method raises sqlite3.Error if SQLite fails.

    Mutable state: the file.

    Attributes:
        unwritable: why nothing can be stored in the file; None if it can be written.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open a cache, which is created if it does not exist. One that cannot be written is opened for reading.

        Args:
            read_only: only look answers up. The file must exist, and is left as it is.

        Raises:
            InputError: the file is not a cache, has a later version, or cannot be created.
            sqlite3.OperationalError: it can be opened neither for writing nor for reading.
        """
        self.path = path
        self.unwritable: str | None = None
        if not read_only:
            try:
                _create(path)
                self._connection = sqlite3.connect(path, isolation_level=None, timeout=PATIENCE_S)
                self._open(_set_up)
                # Checkpoints fsync: they are made by `checkpoint`, off the event loop.
                self._log = WriteAheadLog(self._connection, path)
                return
            except (OSError, sqlite3.OperationalError) as exc:
                self.unwritable = reason_of(exc)
        if not path.exists():
            raise InputError(f"--cache: {path}: cannot be created ({self.unwritable})")
        try:
            self._connection = connect_read_only(path, PATIENCE_S, untouched=self.unwritable is not None)
            self._open(_set_up_for_reading)
        except sqlite3.OperationalError:  # there may be no space for the files that SQLite creates next to it
            self._connection = connect_read_only(path, PATIENCE_S, untouched=True)
            self._open(_set_up_for_reading)

    def _open(self, set_up: _SetUp) -> None:
        try:
            _check(self._connection, self.path)
            set_up(self._connection)
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the file. Nothing is pending: every write was a transaction."""
        self._connection.close()

    def find(self, key: AnswerKey) -> KnownAnswer | None:
        """Return an answer, None if there is none."""
        found = self._connection.execute(_FIND + "WHERE key = ? AND number = ?", (key.digest, key.number)).fetchone()
        if found is None or found[0] != key.digest:  # a file that changes although it was opened as immutable
            return None
        return KnownAnswer(datetime.fromisoformat(found[1]), *found[2:])

    def keep(self, key: AnswerKey, answer: KnownAnswer) -> None:
        """Store an answer, unless the file has a later one."""
        self._connection.execute(
            _WRITE,
            (
                key.digest,
                key.number,
                answer.completed_at.isoformat(timespec="milliseconds"),
                answer.batch,
                answer.model,
                answer.response,
                answer.thread_id,
                answer.run_id,
                answer.turns,
                answer.extras,
            ),
        )

    def stop_waiting(self) -> None:
        """Let later writes fail at once if another process has locked the file, instead of waiting for it."""
        self._connection.execute("PRAGMA busy_timeout=0")

    def checkpoint(self) -> None:
        """Move the write-ahead log into the file and fsync, on a connection of its own: call it from a thread."""
        if self.unwritable is None:
            self._log.checkpoint(PATIENCE_S)

    @property
    def log_bytes(self) -> int:
        """The size of the write-ahead log."""
        return 0 if self.unwritable is not None else size_bytes(self.path)

    def reuse_log(self) -> None:
        """Use the space of a large log again: see `WriteAheadLog.reuse`. Call it after `checkpoint`."""
        if self.unwritable is None:
            self._log.reuse()


def check_answer_file(path: Path) -> bool:
    """Return whether there is a cache at `path` that can be read; nothing is written. A missing file becomes one.

    Raises:
        InputError: the file cannot be a cache.
    """
    if path.is_dir():
        raise InputError(f"--cache: {path}: is a folder; name a file, which is created if it does not exist")
    if path.exists() and not path.is_file():
        raise InputError(f"--cache: {path}: is a device or a pipe; name a file")
    folder = next(each for each in path.absolute().parents if each.exists())
    if not folder.is_dir():
        raise InputError(f"--cache: {path}: cannot be created ({folder} is not a folder)")
    try:
        if not path.exists() or not path.stat().st_size:
            return False
    except OSError as exc:
        raise InputError(f"--cache: {path}: cannot be opened ({exc.strerror or exc})") from None
    try:
        AnswerFile(path, read_only=True).close()
    except sqlite3.OperationalError:
        return False  # such as a full disk: a run says so, and continues without the cache
    return True


def _create(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Like a journal, a cache holds answers: only its owner may read it.
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))


def _check(connection: sqlite3.Connection, path: Path) -> None:
    """
    Raises:
        InputError: the file is not a cache that this version can read.
    """
    try:
        # One transaction: another process may be making the table just now.
        connection.execute("BEGIN")
        try:
            tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            application_id = connection.execute("PRAGMA application_id").fetchone()[0]
            version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as exc:
        raise InputError(
            f"--cache: {path}: is not a cache, or is damaged ({exc}); name another file, or delete this one"
        ) from None
    if (tables or version) and application_id != APPLICATION_ID:
        raise InputError(f"--cache: {path}: is a database of another kind, not a cache; name another file")
    if version > VERSION:
        raise InputError(f"--cache: {path}: was written by a later version of batchrun; upgrade, or name another file")


def _set_up(connection: sqlite3.Connection) -> None:
    """Create the table of a new file. Of several processes that do so at once, the others wait for the first."""
    is_new = connection.execute("PRAGMA user_version").fetchone()[0] == 0
    try:
        connection.execute("BEGIN IMMEDIATE")  # fails here if the file cannot be written
        if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
            connection.execute(_TABLE)
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version={VERSION}")
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode=WAL")
    except sqlite3.OperationalError as exc:
        if "locked" not in str(exc) or (is_new and not connection.execute("PRAGMA user_version").fetchone()[0]):
            raise
    connection.execute("PRAGMA synchronous=NORMAL")


def _set_up_for_reading(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA query_only=ON")
    if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise sqlite3.OperationalError("it is empty")


def reason_of(exc: Exception) -> str:
    """Return why SQLite or the system fails, in a few words."""
    text = (exc.strerror or str(exc)) if isinstance(exc, OSError) else str(exc)
    if "disk I/O error" in text:
        return f"{text}; is the disk full?"
    return "the disk is full" if "disk is full" in text else text
