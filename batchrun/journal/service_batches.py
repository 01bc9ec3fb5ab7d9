"""The service batches of the Batch API, and which request line of which row is in which of them.

A request line is one request of a row, in the file that is uploaded for a service batch; a result line is its reply, in
the file that is downloaded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Literal, TypeAlias

from batchrun.journal.database import Database
from batchrun.journal.part import JournalPart
from batchrun.journal.row_records import stamp

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

LineState: TypeAlias = Literal["waiting", "open", "ended"]
"""`waiting`: in no service batch; `open`: its service batch is not collected; `ended`: it has a result, or never gets
one."""

UNSENT = ("prepared", "uploading", "uploaded", "creating")
"""Statuses of a service batch that the service has not confirmed: its lines are chosen; the file was sent; the file's
id is known; the creation was sent. Every other status is the service's own word, or `dropped`: its lines left it."""

_SINCE = 6
"""The first version of the journal with these tables."""
_CUSTOM_ID = re.compile(r"row\d+-turn\d+-attempt\d+-(\d+)", re.ASCII)
_CHUNK = 500
"""Lines in one statement."""


def is_custom_id(text: str | None) -> bool:
    """Return whether the id of a run is the custom id of a request line, which no service can look up."""
    return text is not None and _CUSTOM_ID.fullmatch(text) is not None


def line_of(custom_id: object) -> int | None:
    """Return the number of the request line that a custom id names, None if it is not one of batchrun's."""
    found = _CUSTOM_ID.fullmatch(custom_id) if isinstance(custom_id, str) else None
    return int(found[1]) if found is not None and len(found[1]) < 19 else None


@dataclass(frozen=True, slots=True)
class ServiceBatch:
    """One batch at the service.

    Attributes:
        number: within the journal, from 1.
        place: see `batchrun.journal.place_of`.
        endpoint: path of the requests, such as `/v1/responses`.
        model: of all its lines; None if they name none.
        lines: number of its request lines.
        status: one of `UNSENT`, the service's own word, or `dropped`.
        since: when the status changed (UTC, ISO 8601).
        is_repeat: its lines were in a service batch that failed without naming a line.
        batch_id, input_file_id, output_file_id, error_file_id: the service's ids, None until they are known.
        created_at: when the service accepted it (UTC, ISO 8601).
        total, completed, failed: the service's own counts of lines, which may be wrong; None if unknown.
        collected_at: when its results were in the journal, or its lines left it (UTC, ISO 8601); None while it is open.
        answers, errors: result lines of its request lines, by their kind.
        unknown: result lines that belong to none of its request lines.
        missing: request lines without a result.
        lacking: error type of the request lines without a result, None if each has one.
        reason: one line for a person about its failure, None if it has not failed.
        deleted_at: when its files were deleted at the service (UTC, ISO 8601).
    """

    number: int
    place: str
    endpoint: str
    model: str | None
    lines: int
    status: str
    since: str
    is_repeat: bool = False
    batch_id: str | None = None
    input_file_id: str | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    created_at: str | None = None
    total: int | None = None
    completed: int | None = None
    failed: int | None = None
    collected_at: str | None = None
    answers: int = 0
    errors: int = 0
    unknown: int = 0
    missing: int = 0
    lacking: str | None = None
    reason: str | None = None
    deleted_at: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether results are still to come."""
        return self.collected_at is None

    @property
    def file_ids(self) -> tuple[str, ...]:
        """The files that it has at the service."""
        return tuple(each for each in (self.input_file_id, self.output_file_id, self.error_file_id) if each is not None)


_COLUMNS = tuple(field.name for field in fields(ServiceBatch))


@dataclass(frozen=True, slots=True)
class NewLine:
    """A request line that waits for a service batch.

    Attributes:
        request: the line as it is sent, JSON without a line end.
    """

    line: int
    custom_id: str
    row_key: str
    attempt: int
    endpoint: str
    model: str | None
    request: bytes


@dataclass(frozen=True, slots=True)
class WaitingLine:
    """What decides into which service batch a request line goes.

    Attributes:
        size: bytes of its request, without the line end.
    """

    line: int
    endpoint: str
    model: str | None
    size: int


@dataclass(frozen=True, slots=True)
class FoundLine:
    """A request line, as it is looked up.

    Attributes:
        result: its result line as the service sent it; None if there is none yet.
        lacking, reason: why there will never be a result, as for `ServiceBatch`; None while one may come.
        place: of its service batch, as for `ServiceBatch`; None if it is in none.
    """

    line: int
    state: LineState
    result: bytes | None
    lacking: str | None = None
    reason: str | None = None
    place: str | None = None


@dataclass(frozen=True, slots=True)
class StoredResult:
    """A result line for the journal.

    Attributes:
        rank: of several results of a line, the one with the highest rank counts, and the first of these.
    """

    line: int
    custom_id: str
    rank: int
    result: bytes


class ServiceBatches(JournalPart):
    """The tables `service_batches` and `request_lines`.

    What is written about service batches is committed at once: a request to the service follows.

    Mutable state: `_last_line`, the number of the last request line; None until it is read.
    """

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._database = database
        self._last_line: int | None = None

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
                "UPDATE request_lines SET batch = ? WHERE line = ?", ((number, line) for line in lines)
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
        self._write(
            "INSERT INTO request_lines (line, custom_id, row_key, attempt, endpoint, model, request) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (new.line, new.custom_id, new.row_key, new.attempt, new.endpoint, new.model, new.request),
        )

    def find(self, custom_id: str | None) -> FoundLine | None:
        """Return the request line with a custom id, None if the journal has none."""
        line = line_of(custom_id)
        if line is None or self._database.version < _SINCE:
            return None
        found = self._database.one(
            "SELECT custom_id, batch, result, collected_at, lacking, reason, place FROM request_lines "
            "LEFT JOIN service_batches ON number = batch WHERE line = ?",
            (line,),
        )
        if found is None or found[0] != custom_id:
            return None
        _, batch, result, collected_at, lacking, reason, place = found
        if result is None and batch is None:
            return FoundLine(line, "waiting", None)
        if result is None and collected_at is None:
            return FoundLine(line, "open", None, place=place)
        return FoundLine(line, "ended", result, lacking, reason, place)

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
