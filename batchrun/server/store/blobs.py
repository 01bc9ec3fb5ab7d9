"""The contents of files, in the same SQLite file."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from typing import BinaryIO

__all__ = ["Blobs"]

_PIECE_BYTES = 1 << 20


class Blobs:
    """The `blobs` table. Contents are copied in pieces, so a large file is never in memory as a whole."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def add(self, file_id: str, source: BinaryIO, size: int) -> None:
        """Store `size` bytes from `source`."""
        cursor = self._connection.execute("INSERT INTO blobs (id, data) VALUES (?, zeroblob(?))", (file_id, size))
        rowid = cursor.lastrowid
        assert rowid is not None
        with self._connection.blobopen("blobs", "data", rowid) as blob:
            while piece := source.read(_PIECE_BYTES):
                blob.write(piece)

    def put(self, key: str, data: bytes) -> None:
        """Store data from memory, and replace the key's earlier content."""
        self._connection.execute("INSERT OR REPLACE INTO blobs (id, data) VALUES (?, ?)", (key, data))

    def read(self, file_id: str) -> bytes:
        """Return a file's content; empty if there is none."""
        row = self._connection.execute("SELECT data FROM blobs WHERE id = ?", (file_id,)).fetchone()
        return b"" if row is None else bytes(row[0])

    def size(self, file_id: str) -> int:
        """Return a file's size in bytes; 0 if there is none."""
        row = self._connection.execute("SELECT length(data) FROM blobs WHERE id = ?", (file_id,)).fetchone()
        return 0 if row is None else int(row[0])

    def pieces(self, file_id: str) -> Iterator[bytes]:
        """Yield a file's content in pieces of 1 MiB, and end early if the file is removed meanwhile.

        Each piece is read when it is requested, and nothing is held open in between.
        """
        position = 0
        while row := self._connection.execute("SELECT rowid FROM blobs WHERE id = ?", (file_id,)).fetchone():
            with self._connection.blobopen("blobs", "data", row[0], readonly=True) as blob:
                blob.seek(position)
                piece = blob.read(_PIECE_BYTES)
            if not piece:
                return
            position += len(piece)
            yield piece

    def remove(self, file_id: str) -> None:
        """Remove a file's content."""
        self._connection.execute("DELETE FROM blobs WHERE id = ?", (file_id,))

    def remove_below(self, store_id: str) -> None:
        """Remove all contents whose keys begin with `store_id/`."""
        self._connection.execute("DELETE FROM blobs WHERE id >= ? AND id < ?", (f"{store_id}/", f"{store_id}0"))
