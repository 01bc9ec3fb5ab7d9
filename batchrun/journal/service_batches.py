"""The service batches of the Batch API, and which request line of which row is in which of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from datetime import datetime
from typing import Any

from batchrun.journal.database import Database
from batchrun.journal.part import JournalPart
from batchrun.journal.row_records import stamp
from batchrun.journal.service_batch_records import (
    FoundLine,
    LineState,
    NewLine,
    ServiceBatch,
    StoredResult,
    WaitingLine,
    is_custom_id,
    line_of,
)

__all__ = [
    "UNSENT",
    "FoundLine",
    "LineState",
    "NewLine",
    "ServiceBatch",
    "ServiceBatches",
    "StoredResult",
    "WaitingLine",
    "is_custom_id",
    "line_of",
]

UNSENT = ("prepared", "uploading", "uploaded", "creating")
"""Statuses of a service batch that the service has not confirmed: its lines are chosen; the file was sent; the file's
id is known; the creation was sent. Every other status is the service's own word, or `dropped`: its lines left it."""

_SINCE = 6
"""The first version of the journal with these tables."""
_CHUNK = 500
"""Lines in one statement."""
_COLUMNS = tuple(field.name for field in fields(ServiceBatch))
_FOUND = (
    "SELECT custom_id, line, batch, result, collected_at, lacking, reason, place FROM request_lines "
    "LEFT JOIN service_batches ON number = batch WHERE line"
)
"""Selects the values of `_found_line`."""


class ServiceBatches(JournalPart):
    """The tables `service_batches` and `request_lines`.

    What is written about service batches is committed at once: a request to the service follows.

    Mutable state: `_last_line`, the number of the last request line; None until it is read; `_looked_up`, request lines
    by custom id that were looked up together, until they are found.
    """

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._database = database
        self._last_line: int | None = None
        self._looked_up: dict[str, FoundLine] = {}

    # -- service batches ----------------------------------------------------------------------------

    def all(self) -> list[ServiceBatch]:
        """Return all service batches, oldest first; none for a journal of an earlier version."""
        return self._batches("")

    def open(self, place: str) -> list[ServiceBatch]:
        """Return the service batches at `place` whose results are not in the journal, oldest first."""
        return self._batches("WHERE collected_at IS NULL AND place = ?", (place,))

    def get(self, number: int) -> ServiceBatch:
        """Return one service batch."""
        return self._batches("WHERE number = ?", (number,))[0]

    def _batches(self, condition: str, values: tuple[Any, ...] = ()) -> list[ServiceBatch]:
        if self._database.version < _SINCE:
            return []
        rows = self._read(f"SELECT {', '.join(_COLUMNS)} FROM service_batches {condition} ORDER BY number", values)
        found = [dict(zip(_COLUMNS, row, strict=True)) for row in rows]
        return [ServiceBatch(**{**each, "is_repeat": bool(each["is_repeat"])}) for each in found]

    def prepare(
        self,
        place: str,
        endpoint: str,
        model: str | None,
        lines: Sequence[int],
        at: datetime,
        *,
        is_repeat: bool = False,
    ) -> ServiceBatch:
        """Record in one transaction which lines the next service batch has, before anything is sent."""
        with self._transaction():
            number = int(self._read("SELECT coalesce(max(number), 0) + 1 FROM service_batches")[0][0])
            self._write(
                "INSERT INTO service_batches (number, place, endpoint, model, lines, status, since, is_repeat) "
                "VALUES (?, ?, ?, ?, ?, 'prepared', ?, ?)",
                (number, place, endpoint, model, len(lines), stamp(at), is_repeat),
            )
            self._database.write_many(
                "UPDATE request_lines SET batch = ? WHERE line BETWEEN ? AND ?",
                ((number, first, last) for first, last in _runs(lines)),
            )
        self._database.flush()
        return self.get(number)

    def record(self, number: int, at: datetime, **changed: object) -> ServiceBatch:
        """Write some attributes of a service batch, in one transaction; return it.

        Args:
            at: becomes `since` if the status is among them.
        """
        self._change(number, at, changed)
        self._database.flush()
        return self.get(number)

    def _change(self, number: int, at: datetime, changed: dict[str, object]) -> None:
        if "status" in changed:
            changed["since"] = stamp(at)
        assert changed.keys() <= set(_COLUMNS)
        names = ", ".join(f"{name} = ?" for name in changed)
        self._write(f"UPDATE service_batches SET {names} WHERE number = ?", (*changed.values(), number))

    def drop(
        self, batch: ServiceBatch, at: datetime, reason: str | None, refused: Iterable[tuple[int, bytes]] = ()
    ) -> None:
        """Record in one transaction that a service batch did nothing; its lines wait again.

        Args:
            reason: one line for a person, None if it did not fail.
            refused: (line, result line in place of the service's) of lines that it refused: these do not wait.
        """
        with self._transaction():
            self._database.write_many(
                "UPDATE request_lines SET result = ?, rank = 0, request = NULL WHERE line = ? AND batch = ?",
                ((result, line, batch.number) for line, result in refused),
            )
            self._write("UPDATE request_lines SET batch = NULL WHERE batch = ? AND result IS NULL", (batch.number,))
            self._change(batch.number, at, {"status": "dropped", "reason": reason, "collected_at": stamp(at)})
        self._database.flush()

    def repeat(self, batch: ServiceBatch, at: datetime, reason: str) -> ServiceBatch:
        """Record that a service batch failed without naming a line, and prepare another with the same lines."""
        lines = self.lines_in(batch.number)
        self.drop(batch, at, reason)
        return self.prepare(batch.place, batch.endpoint, batch.model, lines, at, is_repeat=True)

    # -- request lines ------------------------------------------------------------------------------

    def next_line(self) -> int:
        """Return the number of the next request line. A number is never used twice."""
        if self._last_line is None:
            self._last_line = int(self._read("SELECT coalesce(max(line), 0) FROM request_lines")[0][0])
        self._last_line += 1
        return self._last_line

    def add(self, new: NewLine) -> None:
        """Record a request line."""
        self._database.write_soon(
            "INSERT INTO request_lines (line, custom_id, row_key, attempt, endpoint, model, request) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (new.line, new.custom_id, new.row_key, new.attempt, new.endpoint, new.model, new.request),
        )

    def find(self, custom_id: str | None) -> FoundLine | None:
        """Return the request line with a custom id, None if the journal has none."""
        if self._looked_up and custom_id in self._looked_up:
            return self._looked_up.pop(custom_id)
        line = line_of(custom_id)
        if line is None or self._database.version < _SINCE:
            return None
        found = self._database.one(f"{_FOUND} = ?", (line,))
        return None if found is None or found[0] != custom_id else _found_line(*found[1:])

    @contextmanager
    def looked_up(self, custom_ids: Iterable[str | None]) -> Iterator[None]:
        """Look some request lines up together, for one `find` of each while the context lasts; at most some hundreds,
        since their results are in memory."""
        lines = [line for line in map(line_of, custom_ids) if line is not None]
        if lines:
            found = self._read(f"{_FOUND} IN ({', '.join('?' * len(lines))})", tuple(lines))
            self._looked_up = {row[0]: _found_line(*row[1:]) for row in found}
        try:
            yield
        finally:
            self._looked_up = {}

    def line_state(self, custom_id: str | None) -> LineState | None:
        """Return how far a request line is, None if the journal has none with this custom id."""
        found = self.find(custom_id)
        return None if found is None else found.state

    def line_states(self, custom_ids: Iterable[str | None]) -> dict[str, LineState]:
        """Return custom id → how far its request line is, for those that the journal has."""
        found: dict[str, LineState] = {}
        wanted = {line_of(custom_id): custom_id for custom_id in custom_ids} if self._database.version >= _SINCE else {}
        lines = [line for line in wanted if line is not None]
        for start in range(0, len(lines), _CHUNK):
            some = lines[start : start + _CHUNK]
            rows = self._read(
                "SELECT line, custom_id, CASE WHEN result IS NOT NULL OR collected_at IS NOT NULL THEN 'ended' "
                "WHEN batch IS NULL THEN 'waiting' ELSE 'open' END FROM request_lines "
                f"LEFT JOIN service_batches ON number = batch WHERE line IN ({', '.join('?' * len(some))})",
                tuple(some),
            )
            found.update((custom_id, state) for line, custom_id, state in rows if wanted[line] == custom_id)
        return found

    def waiting(self, lines: Sequence[int]) -> Iterator[WaitingLine]:
        """Yield those of the lines that are in no service batch, in the order of their numbers."""
        ordered = sorted(set(lines))
        for start in range(0, len(ordered), _CHUNK):
            some = ordered[start : start + _CHUNK]
            rows = self._read(
                "SELECT line, endpoint, model, length(request) FROM request_lines WHERE batch IS NULL "
                f"AND result IS NULL AND line IN ({', '.join('?' * len(some))}) ORDER BY line",
                tuple(some),
            )
            for row in rows:
                yield WaitingLine(*row)

    def requests(self, number: int) -> Iterator[list[bytes]]:
        """Yield the requests of a service batch in the order of their numbers, some at a time."""
        after = 0
        while True:
            rows = self._read(
                "SELECT line, request FROM request_lines WHERE batch = ? AND line > ? AND result IS NULL "
                f"ORDER BY line LIMIT {_CHUNK}",
                (number, after),
            )
            if not rows:
                return
            after = rows[-1][0]
            yield [request for _, request in rows]

    def sizes(self, number: int) -> Iterator[WaitingLine]:
        """Yield the lines of a service batch that have no result, in the order of its file."""
        rows = self._read(
            "SELECT line, endpoint, model, length(request) FROM request_lines WHERE batch = ? AND result IS NULL "
            "ORDER BY line",
            (number,),
        )
        return (WaitingLine(*row) for row in rows)

    def lines_in(self, number: int) -> list[int]:
        """Return the numbers of the lines of a service batch, in the order of its file."""
        rows = self._read("SELECT line FROM request_lines WHERE batch = ? AND result IS NULL ORDER BY line", (number,))
        return [line for (line,) in rows]

    # -- results ------------------------------------------------------------------------------------

    def keep_results(self, number: int, results: Sequence[StoredResult]) -> int:
        """Record result lines in one transaction; return how many belong to no line of the service batch."""
        known: dict[int, tuple[str, int]] = {}
        for start in range(0, len(results), _CHUNK):
            some = [each.line for each in results[start : start + _CHUNK]]
            rows = self._read(
                "SELECT line, custom_id, coalesce(rank, -1) FROM request_lines WHERE batch = ? "
                f"AND line IN ({', '.join('?' * len(some))})",
                (number, *some),
            )
            known.update((line, (custom_id, rank)) for line, custom_id, rank in rows)
        kept: dict[int, StoredResult] = {}
        unknown = 0
        for each in results:
            custom_id, rank = known.get(each.line, ("", 0))
            if custom_id != each.custom_id:
                unknown += 1
            elif each.rank > (kept[each.line].rank if each.line in kept else rank):
                kept[each.line] = each
        with self._transaction():
            self._database.write_many(
                "UPDATE request_lines SET result = ?, rank = ?, request = NULL WHERE line = ?",
                ((each.result, each.rank, each.line) for each in kept.values()),
            )
        self._database.flush()
        return unknown

    def tally(self, number: int) -> tuple[int, int, int]:
        """Return (answers, errors, request lines without a result) of a service batch."""
        rows = dict(
            self._read("SELECT coalesce(rank, -1), count(*) FROM request_lines WHERE batch = ? GROUP BY 1", (number,))
        )
        missing = rows.pop(-1, 0)
        errors = rows.pop(0, 0)
        return sum(rows.values()), errors, missing

    def due_rows(self) -> set[str]:
        """Return the keys of the rows whose line has ended and was not taken yet."""
        if self._database.version < _SINCE:
            return set()
        rows = self._read(
            "SELECT row_key FROM request_lines JOIN service_batches ON number = batch "
            "WHERE NOT taken AND (collected_at IS NOT NULL OR result IS NOT NULL)"
        )
        return {row_key for (row_key,) in rows}

    def tidy(self) -> None:
        """Forget the requests and results of lines that their rows have taken: the row has its outcome, or another
        attempt."""
        self._write(
            "UPDATE request_lines SET taken = 1, request = NULL, result = NULL WHERE NOT taken AND batch IN "
            "(SELECT number FROM service_batches WHERE collected_at IS NOT NULL) AND NOT EXISTS ("
            "SELECT 1 FROM attempts WHERE attempts.row_key = request_lines.row_key "
            "AND attempts.number >= request_lines.attempt AND run_id = custom_id AND NOT run_ended "
            "AND NOT EXISTS (SELECT 1 FROM outcomes WHERE outcomes.row_key = attempts.row_key "
            "AND outcomes.attempts >= attempts.number))"
        )

    def custom_ids(self, number: int, lines: Sequence[int]) -> dict[int, str]:
        """Return line → custom id, for some lines of a service batch."""
        found: dict[int, str] = {}
        for start in range(0, len(lines), _CHUNK):
            some = lines[start : start + _CHUNK]
            found.update(
                self._read(
                    "SELECT line, custom_id FROM request_lines WHERE batch = ? "
                    f"AND line IN ({', '.join('?' * len(some))})",
                    (number, *some),
                )
            )
        return found


def _found_line(
    line: int,
    batch: int | None,
    result: bytes | None,
    collected_at: str | None,
    lacking: str | None,
    reason: str | None,
    place: str | None,
) -> FoundLine:
    if result is None and batch is None:
        return FoundLine(line, "waiting", None)
    if result is None and collected_at is None:
        return FoundLine(line, "open", None, place=place)
    return FoundLine(line, "ended", result, lacking, reason, place)


def _runs(lines: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield (first, last) of the runs of successive numbers among ordered numbers.

    >>> [*_runs([1, 2, 3, 7, 9, 10])]
    [(1, 3), (7, 7), (9, 10)]
    """
    first = last = None
    for line in lines:
        if first is None or last is None:
            first = last = line
        elif line == last + 1:
            last = line
        else:
            yield first, last
            first = last = line
    if first is not None and last is not None:
        yield first, last
