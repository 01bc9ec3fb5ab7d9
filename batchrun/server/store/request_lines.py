"""The request lines of service batches that have not ended, and their result lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from batchrun.server.replies.encoding import dumps, loads

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from batchrun.server.protocol.bodies import Body

__all__ = ["LineCounts", "RequestLine", "RequestLines"]

_PAGE_LINES = 100


@dataclass(frozen=True, slots=True)
class RequestLine:
    """One line of an input file.

    Attributes:
        number: line of the file, from 1.
        body: body of the request.
    """

    number: int
    custom_id: str
    body: Body


@dataclass(slots=True)
class LineCounts:
    """The number of lines of a service batch: all, with an answer, and with an error."""

    total: int = 0
    completed: int = 0
    failed: int = 0


class RequestLines:
    """The `request_lines` table. Lines are read in pages, so that a file of any size needs little memory."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute

    def add(self, batch_id: str, line: RequestLine) -> bool:
        """Store a line. Return False, and store nothing, if its custom id is not unique in the batch."""
        cursor = self._execute(
            "INSERT INTO request_lines (batch, number, custom_id, body) VALUES (?,?,?,?)"
            " ON CONFLICT (batch, custom_id) DO NOTHING",
            (batch_id, line.number, line.custom_id, dumps(line.body)),
        )
        return cursor.rowcount == 1

    def pending(self, batch_id: str) -> Iterator[RequestLine]:
        """Yield the lines without a result, in the order of the file."""
        after = 0
        while page := self._execute(
            "SELECT number, custom_id, body FROM request_lines"
            " WHERE batch = ? AND number > ? AND result IS NULL ORDER BY number LIMIT ?",
            (batch_id, after, _PAGE_LINES),
        ).fetchall():
            for number, custom_id, body in page:
                after = number
                yield RequestLine(number, custom_id, loads(body))

    def begin(self, batch_id: str, number: int, reply_id: str) -> None:
        """Store which response answers a line, in the transaction that creates it."""
        self._execute("UPDATE request_lines SET reply = ? WHERE batch = ? AND number = ?", (reply_id, batch_id, number))

    def begun(self, batch_id: str) -> list[tuple[int, str, str]]:
        """Return (number, custom id, id of the reply) of the lines that were begun and have no result."""
        return self._execute(
            "SELECT number, custom_id, reply FROM request_lines"
            " WHERE batch = ? AND result IS NULL AND reply IS NOT NULL",
            (batch_id,),
        ).fetchall()

    def end(self, batch_id: str, number: int, result: str, *, is_answer: bool) -> None:
        """Store the result line of a line."""
        self._execute(
            "UPDATE request_lines SET result = ?, is_answer = ? WHERE batch = ? AND number = ?",
            (result, is_answer, batch_id, number),
        )

    def counts(self, batch_id: str) -> LineCounts:
        """Return how many lines there are, and how many ended in which way."""
        row = self._execute(
            "SELECT count(*), coalesce(sum(is_answer = 1), 0), coalesce(sum(is_answer = 0), 0)"
            " FROM request_lines WHERE batch = ?",
            (batch_id,),
        ).fetchone()
        return LineCounts(*row)

    def results(self, batch_id: str, *, is_answer: bool, shuffled: bool = False) -> Iterator[tuple[RequestLine, str]]:
        """Yield the lines of the output file or the error file with their result lines.

        Args:
            shuffled: not in the order of the input file, but in another, which is always the same.
        """
        numbers = self._execute(
            "SELECT number FROM request_lines WHERE batch = ? AND is_answer = ? ORDER BY number", (batch_id, is_answer)
        ).fetchall()
        if shuffled:
            numbers.sort(key=lambda row: row[0] * 7919 % 50_021)
        for (number,) in numbers:
            custom_id, body, result = self._execute(
                "SELECT custom_id, body, result FROM request_lines WHERE batch = ? AND number = ?", (batch_id, number)
            ).fetchone()
            yield RequestLine(number, custom_id, loads(body)), result

    def remove(self, batch_id: str) -> None:
        """Remove the lines of a service batch."""
        self._execute("DELETE FROM request_lines WHERE batch = ?", (batch_id,))
