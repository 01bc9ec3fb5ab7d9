"""KeyPlaces: the positions of rows by their keys, outside of memory."""

from __future__ import annotations

import sqlite3
import weakref
from collections.abc import Iterable, Iterator
from typing import Final

from batchrun.on_disk.temporary import close, not_written

__all__ = ["KeyPlaces"]

_AT_ONCE: Final = 1_000


class KeyPlaces:
    """Keys, each at the position at which it was added. They are in a temporary SQLite database.

    Mutable state: the database, and the last keys, which are not in it yet.

    Example:
        >>> keys = KeyPlaces()
        >>> keys.append("a"), keys.append("b"), keys.append("a")
        (None, None, None)
        >>> keys.places(["a", "c"]), list(keys)
        ({'a': 0}, ['a', 'b', 'a'])
    """

    def __init__(self) -> None:
        # An empty name is a database in a temporary file, which SQLite removes.
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        weakref.finalize(self, close, self._database)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("CREATE TABLE keys (position INTEGER PRIMARY KEY, key BLOB)")
        self._database.execute("CREATE INDEX by_key ON keys (key)")
        self._database.execute("BEGIN")
        self._stored = 0
        self._last: list[bytes] = []

    def append(self, key: str) -> None:
        """Add the key of the next position."""
        self._last.append(_bytes(key))
        if len(self._last) >= _AT_ONCE:
            self._store()

    def _store(self) -> None:
        try:
            self._database.executemany("INSERT INTO keys VALUES (?, ?)", enumerate(self._last, self._stored))
        except sqlite3.Error as exc:
            raise not_written(exc) from exc
        self._stored += len(self._last)
        self._last.clear()

    def __len__(self) -> int:
        return self._stored + len(self._last)

    def place(self, key: str) -> int | None:
        """Return the first position of a key; None if there is none."""
        if self._last:
            self._store()
        query = "SELECT position FROM keys WHERE key = ? ORDER BY position LIMIT 1"
        found = self._database.execute(query, (_bytes(key),)).fetchone()
        return None if found is None else int(found[0])

    def places(self, keys: Iterable[str]) -> dict[str, int]:
        """Return key → its first position; without keys that have none."""
        found = ((key, self.place(key)) for key in keys)
        return {key: place for key, place in found if place is not None}

    def __iter__(self) -> Iterator[str]:
        if self._last:
            self._store()
        for (key,) in self._database.execute("SELECT key FROM keys ORDER BY position"):
            yield key.decode("utf-8", "surrogatepass")


def _bytes(key: str) -> bytes:
    return key.encode("utf-8", "surrogatepass")
