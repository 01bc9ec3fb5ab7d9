"""Stored replies: those of idempotency keys, and the events of finished streams."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

__all__ = ["Recorded", "Replies"]


@dataclass(frozen=True, slots=True)
class Recorded:
    """The reply to a request with an idempotency key.

    Attributes:
        digest: SHA-256 of the request's method, path and body.
        body: the JSON text of the reply; None for a stream.
        stream: id of the object whose events were streamed; None for JSON.
        segment: the segment of that stream's events; None for JSON.
    """

    digest: bytes
    status: int
    body: str | None
    stream: str | None = None
    segment: int | None = None


class Replies:
    """The tables `replies` and `events`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute

    def find(self, owner: str, key: str) -> Recorded | None:
        """Return the reply that is recorded for this key, or None."""
        row = self._execute(
            "SELECT digest, status, body, stream, segment FROM replies WHERE owner = ? AND key = ?", (owner, key)
        ).fetchone()
        return None if row is None else Recorded(*row)

    def record(self, owner: str, key: str, reply: Recorded, now: float) -> None:
        """Record the reply, in the transaction that does the work that it reports."""
        self._execute(
            "INSERT INTO replies (owner, key, digest, status, body, stream, segment, created) VALUES (?,?,?,?,?,?,?,?)",
            (owner, key, reply.digest, reply.status, reply.body, reply.stream, reply.segment, now),
        )

    def release(self, owner: str, stream: str) -> None:
        """Remove the key that was used for `stream`, so that it can be used again."""
        self._execute("DELETE FROM replies WHERE owner = ? AND stream = ?", (owner, stream))

    def keep_events(self, stream: str, segment: int, frames: bytes, now: float) -> None:
        """Store the events of a finished segment."""
        self._execute(
            "INSERT OR REPLACE INTO events (stream, segment, frames, created) VALUES (?,?,?,?)",
            (stream, segment, zlib.compress(frames, 1), now),
        )

    def events(self, stream: str, segment: int) -> list[bytes] | None:
        """Return the frames of a finished segment, or None if they are not stored or no longer stored."""
        row = self._execute("SELECT frames FROM events WHERE stream = ? AND segment = ?", (stream, segment)).fetchone()
        if row is None:
            return None
        return _split(row[0])

    def all_events(self, stream: str) -> list[tuple[int, list[bytes]]]:
        """Return (segment, frames) of all finished segments, in order."""
        rows = self._execute("SELECT segment, frames FROM events WHERE stream = ? ORDER BY segment", (stream,))
        return [(segment, _split(frames)) for segment, frames in rows]

    def forget(self, before: float) -> None:
        """Remove replies and events that are older than the time `before`."""
        self._execute(
            "DELETE FROM objects WHERE kind IN ('completion', 'unstored_response') AND active = 0"
            " AND id IN (SELECT stream FROM replies WHERE created < ?)",
            (before,),
        )
        self._execute("DELETE FROM replies WHERE created < ?", (before,))
        self._execute("DELETE FROM events WHERE created < ?", (before,))


def _split(compressed: bytes) -> list[bytes]:
    return [frame + b"\n\n" for frame in zlib.decompress(compressed).split(b"\n\n")[:-1]]
