"""The SQLite file of a journal: how it is opened, checked, migrated, read, written and made durable.

In WAL mode with `synchronous=NORMAL` a committed transaction survives the death of the process at any moment. A power
failure may take the time since the last checkpoint. Every write is a transaction of its own, except inside of
`transaction` and `grouped`.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final, TypeAlias

from batchrun.errors import OutputError
from batchrun.journal.group_commit import GroupCommit, rolled_back
from batchrun.journal.schema import APPLICATION_ID, STEPS
from batchrun.journal.write_ahead_log import WriteAheadLog
from batchrun.records import JsonDict, JsonObject

__all__ = ["Database", "connect_read_only", "has_shards", "no_journal"]


_Statements: TypeAlias = tuple[str, str, tuple[str, ...]]
"""Those that begin writes that belong together, end them, and undo them."""
_ALONE: Final[_Statements] = ("BEGIN IMMEDIATE", "COMMIT", ("ROLLBACK",))
_IN_GROUP: Final[_Statements] = ("SAVEPOINT part", "RELEASE part", ("ROLLBACK TO part", "RELEASE part"))


class Database:
    """A journal's file, open for writing by one process or for reading by any number.

    Every method raises OutputError if SQLite fails.

    Mutable state: `_groups`, the group commit inside of `grouped`; None outside.

    Attributes:
        version: the version of the tables. A file of an earlier version is migrated unless it is opened read-only.
    """

    def __init__(self, path: Path, *, read_only: bool = False, untouched: bool = False, patience_s: float = 10) -> None:
        """
        Args:
            path: the file.
            read_only: nothing is written, and a file of an earlier version is not migrated.
            untouched: with `read_only`: create no file next to the journal either, not even while it is read.
            patience_s: how long to wait for another process that has locked the file.

        Raises:
            OutputError: the file cannot be opened, is not a journal, or has a later version.
        """
        self.path = path
        self._groups: GroupCommit | None = None
        try:
            self._connection = (
                connect_read_only(path, patience_s, untouched=untouched) if read_only else _connect(path, patience_s)
            )
        except sqlite3.Error as exc:
            raise self._error(exc) from exc
        try:
            self.version = self._checked_version(read_only)
            if not read_only:
                self._configure()
                self._migrate()
        except sqlite3.Error as exc:
            self.close()
            raise self._error(exc) from exc
        except BaseException:
            self.close()
            raise

    def _checked_version(self, read_only: bool) -> int:
        if read_only:
            self._connection.execute("PRAGMA query_only=ON")
        application_id = self._connection.execute("PRAGMA application_id").fetchone()[0]
        version = int(self._connection.execute("PRAGMA user_version").fetchone()[0])
        tables = self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if (tables or version) and application_id != APPLICATION_ID:
            raise OutputError(f"{self.path}: is a database of another program, not a journal; move it away")
        if version > len(STEPS):
            raise OutputError(f"{self.path}: was written by a later version of batchrun; upgrade to read it")
        if read_only and version == 0:
            raise no_journal(self.path)
        return version

    def _configure(self) -> None:
        # Half of SQLite's usual page: a row's writes touch a few hundred bytes, and every page that they touch is
        # written whole. Takes effect in a new file only.
        self._connection.execute("PRAGMA page_size=2048")
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=NORMAL")
        # Checkpoints fsync: they are made by `checkpoint`, off the event loop.
        self._log = WriteAheadLog(self._connection, self.path)

    def _migrate(self) -> None:
        for number, step in enumerate(STEPS[self.version :], start=self.version + 1):
            self._connection.executescript(
                f"BEGIN IMMEDIATE; {step}; PRAGMA application_id={APPLICATION_ID}; "
                f"PRAGMA user_version={number}; COMMIT;"
            )
        self.version = len(STEPS)

    def close(self) -> None:
        """Close the file. Nothing is pending: every write was committed. An open transaction is rolled back."""
        self._connection.close()

    @property
    def rows_written(self) -> int:
        """Number of rows that this connection has written so far."""
        return self._connection.total_changes

    def write(self, sql: str, values: tuple[Any, ...] | JsonObject = ()) -> int:
        """Execute a statement; return the number of rows that it has changed. A fault rolls back the transaction that
        it is part of."""
        groups = self._groups
        try:
            if groups is not None:
                groups.begin()
            return self._connection.execute(sql, values).rowcount
        except sqlite3.Error as exc:
            raise self._failed(exc) from exc

    def write_soon(self, sql: str, values: tuple[Any, ...]) -> None:
        """Execute a statement before any other one: inside of `grouped`, together with equal ones of other rows.

        Those that are written without another statement between them are committed together.
        """
        groups = self._groups
        if groups is None:
            self.write(sql, values)
            return
        try:
            groups.keep(sql, values)
        except sqlite3.Error as exc:
            raise self._failed(exc) from exc

    def write_many(self, sql: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """Execute a statement once for each row of values. A fault rolls back the transaction that it is part of."""
        groups = self._groups
        try:
            if groups is not None:
                groups.begin()
            self._connection.executemany(sql, rows)
        except sqlite3.Error as exc:
            raise self._failed(exc) from exc

    def _failed(self, exc: sqlite3.Error) -> OutputError:
        if self._groups is not None:
            return self._groups.fail(exc)
        rolled_back(self._connection)
        return self._error(exc)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make the writes inside all or none. They must not wait for anything."""
        groups = self._groups
        begin, end, undo = _ALONE if groups is None else _IN_GROUP
        self.write(begin)
        with groups.held() if groups is not None else nullcontext():
            try:
                yield
            except BaseException:
                if groups is not None:
                    groups.drop_kept()
                if self._connection.in_transaction:  # else a failed write has rolled all of it back
                    for statement in undo:
                        self._connection.execute(statement)
                raise
            self.write(end)

    @contextmanager
    def grouped(self, clock: Callable[[], float] = time.monotonic) -> Iterator[None]:
        """Let all writes of one turn of the running event loop share a transaction, while the context lasts.

        Wait for `committed` before you rely on a write. At the end of the context everything is committed.

        Args:
            clock: seconds, for the age of a group.
        """
        self._groups = groups = GroupCommit(self._connection, self._error, clock)
        try:
            yield
        finally:
            self._groups = None
            groups.flush()

    async def committed(self) -> None:
        """Return when everything that has been written until now is committed."""
        if self._groups is not None:
            await self._groups.committed()

    def flush(self) -> None:
        """Commit what `grouped` has not committed yet."""
        if self._groups is not None:
            self._groups.flush()

    def _execute_kept(self) -> None:
        if self._groups is not None and self._groups.has_kept:
            self._groups.execute_kept()

    def one(self, sql: str, values: tuple[Any, ...] = ()) -> Any:
        """Return the first row of a query, None if it has no rows."""
        self._execute_kept()
        try:
            return self._connection.execute(sql, values).fetchone()
        except sqlite3.Error as exc:
            raise self._error(exc) from exc

    def all(self, sql: str, values: tuple[Any, ...] = ()) -> list[Any]:
        """Return all rows of a query."""
        self._execute_kept()
        try:
            return self._connection.execute(sql, values).fetchall()
        except sqlite3.Error as exc:
            raise self._error(exc) from exc

    def records(self, sql: str, values: tuple[Any, ...] = ()) -> Iterator[JsonDict]:
        """Yield the rows of a query one by one, with their values by column name."""
        self._execute_kept()
        try:
            cursor = self._connection.execute(sql, values)
            names = [column[0] for column in cursor.description]
            for row in cursor:
                yield dict(zip(names, row, strict=True))
        except sqlite3.Error as exc:
            raise self._error(exc) from exc

    @contextmanager
    def attached(self, path: Path) -> Iterator[sqlite3.Connection]:
        """Make the journal at `path` the schema `shard` of this connection; all writes inside are one transaction.

        What `grouped` has not committed is committed before. A file that another process writes stays free for it as
        long as it is only read here.

        Raises:
            OutputError: the file does not exist, or one of the two journals cannot be used.
        """
        self.flush()
        if not path.exists():
            raise OutputError(f"{path}: this journal does not exist")
        connection = self._connection
        try:
            connection.execute("ATTACH ? AS shard", (str(path),))
            try:
                connection.execute("PRAGMA shard.synchronous=NORMAL")
                connection.execute("BEGIN")
                yield connection
                connection.execute("COMMIT")
            finally:
                rolled_back(connection)
                connection.execute("DETACH shard")
        except sqlite3.Error as exc:
            raise OutputError(f"{path}, while it is copied from or into {self.path.name}: {_reason(exc)}") from exc

    def checkpoint(self) -> None:
        """Move the write-ahead log into the file and fsync, on a connection of its own: call it from a thread."""
        try:
            self._log.checkpoint(10)
        except sqlite3.Error as exc:
            raise self._error(exc) from exc

    def reuse_log(self) -> int:
        """Let the next write begin a large log from its start: see `WriteAheadLog.reuse`."""
        self.flush()
        try:
            return self._log.reuse()
        except sqlite3.Error as exc:
            raise self._error(exc) from exc

    def settle(self) -> bool:
        """Empty the write-ahead log into the file and fsync it, so that reported answers survive a power failure.

        It is not enough to fsync the log: if its end were lost, its beginning would hide newer content of the file.

        Returns:
            False if another process reads the journal and does not stop.
        """
        return not self.one("PRAGMA wal_checkpoint(TRUNCATE)")[0]

    def _error(self, exc: Exception) -> OutputError:
        return OutputError(f"{self.path}: {_reason(exc)}")


def has_shards(path: Path) -> bool:
    """Return whether workers have left journals in the folder next to the journal of their batch."""
    return any(path.with_name(path.name + ".d").glob("*.journal"))


def no_journal(path: Path) -> OutputError:
    """Return the error for an output without a journal; it names a batch that was most likely meant."""
    output = path.with_name(path.name.removesuffix(".journal"))
    meant = output.parent / "outputs" / output.name
    remedy = (
        f"did you mean {meant}?"
        if (meant.with_name(meant.name + ".journal")).exists()
        else "name the output of a batch, or the job file that it was run with"
    )
    state = "is empty" if path.exists() else "does not exist"
    if has_shards(path):
        return OutputError(
            f"{output}: its journal {path} {state}, and the answers of workers in {path.name}.d cannot be taken in "
            "without it; put a copy of the journal back"
        )
    return OutputError(f"{output}: no batch has written this output, since its journal {path} {state}; {remedy}")


def _connect(path: Path, patience_s: float) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, timeout=patience_s)


def connect_read_only(path: Path, patience_s: float, *, untouched: bool) -> sqlite3.Connection:
    if not path.exists():
        raise no_journal(path)
    # A connection that may write, under query_only, removes the files that SQLite creates next to a journal while it
    # reads; a connection without the right to write leaves them.
    mode = "rw" if not untouched and os.access(path, os.W_OK) and os.access(path.parent, os.W_OK) else "ro"
    log = path.with_name(path.name + "-wal")
    if mode == "ro" and not (log.exists() and log.stat().st_size > 0):
        # SQLite has to create files next to a journal to read it; without a log there is nothing that it could miss.
        mode = "ro&immutable=1"
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None, timeout=patience_s
    )


def _reason(exc: Exception) -> str:
    """Return one line with the reason of a failure of SQLite, or of a value for it, and its remedy."""
    text = str(exc)
    if "disk is full" in text or "disk I/O error" in text:
        problem = "the disk is full" if "full" in text else f"the disk refuses ({text}; is it full, or over a quota?)"
        return f"{problem}; every answer that was journalled is safe: make space and run the same command again"
    if "not a database" in text or "malformed" in text:
        return f"is not a readable journal ({text}); move it away, or start over with --fresh"
    if "readonly" in text or "unable to open" in text:
        return f"cannot be written ({text}); the journal needs a writable folder"
    if "locked" in text:
        return f"another program has locked the journal ({text}); close it, and run the same command again"
    return f"the journal cannot be used ({text})"
