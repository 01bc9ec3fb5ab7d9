"""One connection to one SQLite file, and transactions on it.

The connection belongs to the server's event loop: every decision is one synchronous function inside one
transaction, so nothing interleaves and a killed process leaves whole decisions only. With write-ahead
logging and synchronous=NORMAL a commit survives the death of the process (not a power cut in the same moment).
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from batchrun.server.errors import StoreError
from batchrun.server.store.schema import APPLICATION_ID, STEPS

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Database"]


class Database:
    """The open data file.

    Mutable state: `connection`, and whether a transaction is open (asked from SQLite).
    """

    def __init__(self, path: Path | None) -> None:
        """Open `path`, creating it where it does not exist; None opens a private temporary file.

        Raises:
            StoreError: not readable, not writable, not ours, of a newer version, or held by another server.
        """
        self._temporary = None
        if path is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="batchrun-")
            path = Path(self._temporary.name) / "server.sqlite3"
        self.path = path
        try:
            # The file holds threads: its owner's business only, whatever the umask; -wal and -shm take its mode.
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            self.connection = sqlite3.connect(path, isolation_level=None, timeout=0)
            try:
                self._prepare()
            except BaseException:
                self.connection.close()
                raise
        except (sqlite3.Error, OSError) as exc:
            self._discard()
            raise StoreError(_explain(path, exc)) from exc
        except BaseException:
            self._discard()
            raise

    def _prepare(self) -> None:
        execute = self.connection.execute
        # EXCLUSIVE keeps the lock until close: two servers on one file would each run the other's runs.
        execute("PRAGMA locking_mode = EXCLUSIVE")
        application_id = execute("PRAGMA application_id").fetchone()[0]
        tables = execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        if tables and application_id != APPLICATION_ID:
            raise StoreError(f"{self.path} is a database of another program; name a new file for the server.")
        version = execute("PRAGMA user_version").fetchone()[0]
        if version > len(STEPS):
            raise StoreError(
                f"{self.path} was written by a newer batchrun (format {version}, this one knows {len(STEPS)}); "
                "update batchrun or name another file."
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
        """All or nothing. Never `await` inside: the connection is shared by all requests.

        Raises:
            StoreError: the file cannot be written.
        """
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            yield
            self.connection.execute("COMMIT")
        except BaseException as exc:
            # On a full disk SQLite may have rolled back by itself.
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            if isinstance(exc, sqlite3.OperationalError):
                full = "The server's disk is full." if "disk is full" in str(exc) else "The server cannot store this."
                raise StoreError(_explain(self.path, exc), full) from exc
            raise

    def close(self) -> None:
        """Close the file, folding the log into it; a temporary one is removed."""
        self.connection.close()
        self._discard()

    def _discard(self) -> None:
        if self._temporary is not None:
            self._temporary.cleanup()


def _statements(script: str) -> Iterator[str]:
    """The statements of a script one by one (`executescript` would commit the open transaction)."""
    buffered = ""
    for line in script.splitlines():
        buffered += line + "\n"
        if sqlite3.complete_statement(buffered):
            yield buffered
            buffered = ""


def _explain(path: Path, error: Exception) -> str:
    text = str(error)
    if "locked" in text:
        return f"{path} is in use by another server; stop it or name another file."
    if "not a database" in text:
        return f"{path} is not an SQLite database; name another file for the server."
    if "unable to open" in text or isinstance(error, OSError):
        return f"{path} cannot be opened or created: check that its folder exists and can be written."
    if "disk is full" in text:
        return f"{path}: the disk is full; what was stored is safe: make space and try again."
    return f"{path} cannot be used: {text}."
