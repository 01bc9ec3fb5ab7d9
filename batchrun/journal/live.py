"""A journal that is read while a batch writes it: every attempt, and the changes since the last look."""

from __future__ import annotations

import json
from array import array
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import Any, Final

from batchrun.journal.attempt_ids import attempts_with_ids
from batchrun.journal.journal import Journal
from batchrun.records import OUTPUT_COLUMNS, Cells, JsonObject

__all__ = ["Changes", "CoolDown", "FollowedJournal", "Past", "RecordedAttempt", "RecordedOutcome", "RecordedRun"]

_TRIES = "SELECT row_key, number, started_at, fingerprint, thread_id, run_id, run_ended, fault_type, fault FROM"
_OUTCOMES = f"SELECT rowid, row_key, fingerprint, {', '.join(OUTPUT_COLUMNS)} FROM outcomes"
_IDENTITY = (
    *("batch_id", "input", "key", "input_fingerprint", "rows", "columns", "settings"),
    *("selection", "keep", "carried", "cache"),
)
"""Entries of the manifest that identify a batch: its rows, their prompts and the columns of its output."""

_PORTION: Final = 2_000
"""Most outcomes in one portion of changes."""

_CHUNK: Final = 250
"""Rows whose past is read at once."""


@dataclass(frozen=True, slots=True)
class RecordedAttempt:
    """One attempt at a row, as recorded.

    Attributes:
        number: from 1.
        started_at: UTC, ISO 8601.
        fingerprint: fingerprint of the prompt that it sent.
        run_ended: its run has failed.
        fault_type, fault: the fault that ended it; None while it runs, and if it ended well.
    """

    row_key: str
    number: int
    started_at: str
    fingerprint: str
    thread_id: str | None
    run_id: str | None
    run_ended: bool
    fault_type: str | None
    fault: str | None

    @property
    def may_be_running(self) -> bool:
        """Whether its run may still be running: no fault ended the attempt, or the fault left the run behind."""
        return self.fault_type is None or (self.run_id is not None and not self.run_ended)


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """One run of a row that took more than one run.

    Attributes:
        turn: from 1; the same number again for a round of function calls or a correction.
        asked: the user message, or the outputs of functions.
        response: the text of the answer.
        calls: (name, arguments) of the functions that it asked for. The next run sends their outputs.
        tool_outputs: outputs of the functions that it waited for.
        extras: `citations` and `files`, if there are any.
    """

    turn: int
    asked: str
    response: str
    calls: Sequence[tuple[str, str]] = ()
    tool_outputs: Sequence[str] = ()
    extras: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CoolDown:
    """A time in which no row sent requests.

    Attributes:
        started_at: UTC, ISO 8601.
        wait_s: its planned length in seconds; a later one may have begun meanwhile.
        reason: an error type, or the limit that was used up.
    """

    started_at: str
    wait_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class RecordedOutcome:
    """A row's outcome.

    Attributes:
        fingerprint: fingerprint of the prompt that it answers.
        cells: cells of the output, by the keys of `OUTPUT_COLUMNS`.
    """

    row_key: str
    fingerprint: str
    cells: Cells


@dataclass(frozen=True, slots=True)
class Changes:
    """Changes of the journal since the last look.

    Attributes:
        is_new_batch: this is the first look, or the journal holds another batch than at the last one; everything read
            before is void.
        outcomes: outcomes since the last look.
        attempts: row → its attempts, oldest first, for the rows in `outcomes`, and all rows that have not ended unless
            there is more.
        runs: row → its runs, oldest first, for the rows in `outcomes` that took more than one.
        has_more: there are more outcomes, which the next look returns.
    """

    is_new_batch: bool
    outcomes: Sequence[RecordedOutcome]
    attempts: Mapping[str, Sequence[RecordedAttempt]]
    runs: Mapping[str, Sequence[RecordedRun]]
    has_more: bool = False


@dataclass(frozen=True, slots=True)
class Past:
    """The recorded past of some rows, by their keys.

    Attributes:
        attempts: oldest first.
        runs: oldest first, for rows that took more than one run.
        ended_at: when the row ended; without those that have not.
    """

    attempts: Mapping[str, Sequence[RecordedAttempt]]
    runs: Mapping[str, Sequence[RecordedRun]]
    ended_at: Mapping[str, str]


@dataclass(slots=True)
class _Marks:
    """How far the journal has been read: SQLite's data version, the last outcome, the last superseded outcome.

    Attributes:
        hashes: for each row id of an outcome, the hash of its row's key.
    """

    version: int | None = None
    has_more: bool = False
    outcome: int = 0
    superseded: int = 0
    identity: JsonObject = field(default_factory=dict)
    hashes: array[int] = field(default_factory=lambda: array("q"))


class FollowedJournal(Journal):
    """A journal open for reading, which reports changes.

    Mutable state: `_marks`, how far the journal has been read.
    """

    def __init__(self, path: Path) -> None:
        """
        Raises:
            OutputError: the file cannot be opened, is not a journal, or has a later version.
        """
        super().__init__(path, read_only=True)
        self._marks = _Marks()
        self._tries = f"{_TRIES} {attempts_with_ids(self._db.version)}"
        # A journal of an earlier version is not migrated by those who only read it.
        self._has_exchanges = self._has_cool_downs = self._db.version >= 3
        self._has_outputs = self._db.version >= 4

    def __enter__(self) -> FollowedJournal:
        return self

    def _runs(self, condition: str, values: tuple[Any, ...]) -> dict[str, list[RecordedRun]]:
        """Return row → the runs of its outcome's prompt, oldest first, for rows that took more than one run."""
        if not self._has_exchanges:
            return {}
        rows = self._all(
            "SELECT row_key, exchanges.run_id, turn, asked, exchanges.response, calls, exchanges.extras FROM exchanges "
            f"JOIN outcomes USING (row_key, fingerprint) {condition} ORDER BY row_key, number",
            values,
        )
        outputs = self._tool_outputs(condition, values)
        found: dict[str, list[RecordedRun]] = defaultdict(list)
        for row_key, run_id, turn, asked, response, calls, extras in rows:
            named = tuple((name, arguments) for _, name, arguments in json.loads(calls or "[]"))
            returned = outputs.get((row_key, run_id), ())
            found[row_key].append(RecordedRun(turn, asked, response, named, returned, json.loads(extras or "{}")))
        return {row_key: runs for row_key, runs in found.items() if len(runs) > 1 or runs[0].tool_outputs}

    def _tool_outputs(self, condition: str, values: tuple[Any, ...]) -> dict[tuple[str, str], list[str]]:
        """Return (row, run that waited) → outputs of the functions that it waited for."""
        found: dict[tuple[str, str], list[str]] = defaultdict(list)
        if self._has_outputs:
            for row_key, run, output in self._all(
                "SELECT row_key, run, output FROM outputs JOIN outcomes USING (row_key, fingerprint) "
                f"{condition} ORDER BY row_key, position",
                values,
            ):
                found[row_key, run].append(output)
        return found

    def cool_downs(self) -> list[CoolDown] | None:
        """Return all cool-downs, oldest first; None if the journal's version does not record them."""
        if not self._has_cool_downs:
            return None
        return [CoolDown(*row) for row in self._all("SELECT started_at, wait_s, reason FROM cool_downs ORDER BY rowid")]

    def past(self, row_keys: Sequence[str]) -> Past:
        """Return the recorded past of some rows, at most some hundreds."""
        condition, values = f"WHERE row_key IN ({', '.join('?' * len(row_keys))})", tuple(row_keys)
        return Past(
            attempts=_by_row(self._all(f"{self._tries} {condition} ORDER BY row_key, number", values)),
            runs=self._runs(condition, values),
            ended_at=dict(self._all(f"SELECT row_key, completed_at FROM outcomes {condition}", values)),
        )

    def changes(self) -> Changes | None:
        """Return the changes since the last call, None if nothing was written meanwhile.

        Many outcomes come in several portions.
        """
        marks = self._marks
        version = self._one("PRAGMA data_version")[0]
        if version == marks.version and not marks.has_more:
            return None
        manifest = self.read_manifest()
        identity = {name: manifest.get(name) for name in _IDENTITY}
        is_new_batch = marks.version is None or identity != marks.identity
        if is_new_batch:
            marks = self._marks = _Marks(identity=identity, superseded=self._last_superseded())
        marks.version = version
        outcomes = self._new_outcomes(marks)
        attempts: dict[str, Sequence[RecordedAttempt]] = {}
        runs: dict[str, Sequence[RecordedRun]] = {}
        if not marks.has_more:
            unfinished = "NOT EXISTS (SELECT 1 FROM outcomes WHERE outcomes.row_key = attempts.row_key)"
            attempts.update(_by_row(self._all(f"{self._tries} WHERE {unfinished} ORDER BY row_key, number")))
        for begin in range(0, len(outcomes), _CHUNK):
            past = self.past([outcome.row_key for outcome in outcomes[begin : begin + _CHUNK]])
            attempts.update(past.attempts)
            runs.update(past.runs)
        return Changes(is_new_batch, outcomes, attempts, runs, marks.has_more)

    def _last_superseded(self) -> int:
        return int(self._one("SELECT coalesce(max(rowid), 0) FROM superseded")[0])

    def _new_outcomes(self, marks: _Marks) -> list[RecordedOutcome]:
        """Return the outcomes since the marks, at most a portion, and move the marks.

        Outcomes get growing row ids, except that SQLite may use an id again when the outcome with the largest one is
        superseded: then the ids of all rows are compared.
        """
        rows = self._all(f"{_OUTCOMES} WHERE rowid > ? ORDER BY rowid LIMIT {_PORTION}", (marks.outcome,))
        marks.has_more = len(rows) == _PORTION
        superseded = self._last_superseded()
        if superseded != marks.superseded:
            replaced = self._all("SELECT row_key FROM superseded WHERE rowid > ?", (marks.superseded,))
            keys = dict.fromkeys([*self._moved(marks), *(key for (key,) in replaced)])
            earlier = f"{_OUTCOMES} WHERE row_key = ? AND rowid <= ?"
            rows = [*(row for key in keys for row in self._all(earlier, (key, marks.outcome))), *rows]
            marks.superseded = superseded
        found = []
        for place, row_key, fingerprint, *cells in rows:
            if place >= len(marks.hashes):
                marks.hashes.extend(repeat(0, place + 1 - len(marks.hashes)))
            marks.hashes[place] = hash(row_key)
            marks.outcome = max(marks.outcome, place)
            found.append(RecordedOutcome(row_key, fingerprint, dict(zip(OUTPUT_COLUMNS, cells, strict=True))))
        return found

    def _moved(self, marks: _Marks) -> list[str]:
        """Return the rows whose outcome has got an id that was another row's at the last look."""
        moved, after, most = list[str](), 0, marks.outcome
        while places := self._all(
            f"SELECT row_key, rowid FROM outcomes WHERE rowid > ? AND rowid <= ? ORDER BY rowid LIMIT {_PORTION}",
            (after, most),
        ):
            moved += [row_key for row_key, place in places if marks.hashes[place] != hash(row_key)]
            after = places[-1][1]
        return moved


def _by_row(rows: Iterable[Sequence[Any]]) -> dict[str, list[RecordedAttempt]]:
    found: dict[str, list[RecordedAttempt]] = defaultdict(list)
    for row_key, number, started_at, fingerprint, thread_id, run_id, run_ended, fault_type, fault in rows:
        found[row_key].append(
            RecordedAttempt(
                row_key, number, started_at, fingerprint, thread_id, run_id, bool(run_ended), fault_type, fault
            )
        )
    return dict(found)
