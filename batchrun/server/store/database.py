"""The connection to the SQLite file, and its transactions.

The connection belongs to the server's event loop. Every decision is one synchronous function inside one
transaction, so decisions do not interleave, and a killed process leaves only complete ones. With write-ahead
logging and synchronous=NORMAL a commit survives the end of the process, but not a power cut at the same moment.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from batchrun.server.errors import StoreError
from batchrun.server.store.schema import APPLICATION_ID, STEPS

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Database"]


class Database:
    """The open data file.

    Mutable state: `connection`, which knows whether a transaction is open.
    """

    def __init__(self, path: Path | None) -> None:
        """Open `path`, and create it if it does not exist; None opens a private temporary file.

        Raises:
            StoreError: the file cannot be read or written, belongs to another program or a newer version, or is in use
                by another server.
        """
        self._temporary = None
        if path is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="batchrun-")
            path = Path(self._temporary.name) / "server.sqlite3"
        self.path = path
        try:
            # Threads are private, so only the owner may read the file, whatever the umask. -wal and -shm copy its mode.
            # A file that exists is not opened: to close it would release the lock of another server in this process.
            with suppress(FileExistsError):
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            self.connection = sqlite3.connect(path, isolation_level=None, timeout=0)
            try:
                self._prepare()
            except BaseException:
                self.connection.close()
                raise
        except (sqlite3.Error, OSError) as exc:
            self.discard()
            raise StoreError(_explain(path, exc)) from exc
        except BaseException:
            self.discard()
            raise

    def _prepare(self) -> None:
        execute = self.connection.execute
        # EXCLUSIVE keeps the lock until close: two servers on one file would each execute the other's runs.
        execute("PRAGMA locking_mode = EXCLUSIVE")
        application_id = execute("PRAGMA application_id").fetchone()[0]
        tables = execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        if tables and application_id != APPLICATION_ID:
            raise StoreError(f"{self.path} is a database of another program; give another file.")
        version = execute("PRAGMA user_version").fetchone()[0]
        if version > len(STEPS):
            raise StoreError(
                f"{self.path} was written by a newer batchrun (format {version}; this version reads up to "
                f"{len(STEPS)}); update batchrun or give another file."
            )
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = NORMAL")
        execute("PRAGMA foreign_keys = ON")
        with self.transaction():
            execute(f"PRAGMA application_id = {APPLICATION_ID}")
            for number, step in enumerate(STEPS[version:], start=version + 1):
                for statement in _statements(step):
                    execute(statement)
                execute(f"PRAGMA user_version = {number}")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit all writes of the block, or none. Never `await` inside, because all requests share the connection.

        Raises:
            StoreError: the file cannot be written.
        """
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            yield
            self.connection.execute("COMMIT")
        except BaseException as exc:
            # On a full disk SQLite may have rolled back already.
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            if isinstance(exc, sqlite3.OperationalError):
                full = "The server's disk is full." if "disk is full" in str(exc) else "The server cannot store this."
                raise StoreError(_explain(self.path, exc), full) from exc
            raise

    def close(self) -> None:
        """Close the file and merge its write-ahead log; remove a temporary file."""
        self.connection.close()
        self.discard()

    def discard(self) -> None:
        """Remove a temporary file."""
        if self._temporary is not None:
            self._temporary.cleanup()


def _statements(script: str) -> Iterator[str]:
    """Yield the statements of a script one by one, because `executescript` would commit the open transaction."""
    buffered = ""
    for line in script.splitlines():
        buffered += line + "\n"
        if sqlite3.complete_statement(buffered):
            yield buffered
            buffered = ""


def _explain(path: Path, error: Exception) -> str:
    text = str(error)
    if "locked" in text:
        return f"{path} is in use by another server; stop that server or give another file."
    if "not a database" in text:
        return f"{path} is not an SQLite database; give another file."
    if "unable to open" in text or isinstance(error, OSError):
        return f"{path} cannot be opened or created; check that its folder exists and is writable."
    if "disk is full" in text:
        return f"{path}: the disk is full; free some space and try again. Data already stored is safe."
    return f"{path} cannot be used: {text}."
