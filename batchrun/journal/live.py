"""A journal read while it is written: every try, and what has changed since the last look."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from batchrun.journal.journal import Journal
from batchrun.records import OUTPUT_COLUMNS

__all__ = ["Changes", "CoolDown", "FollowedJournal", "RecordedAttempt", "RecordedOutcome", "RecordedRun"]

_TRIES = (
    "SELECT row_key, number, started_at, fingerprint, thread_id, run_id, run_ended, fault_type, fault FROM attempts"
)
_OUTCOMES = f"SELECT rowid, row_key, fingerprint, {', '.join(OUTPUT_COLUMNS)} FROM outcomes"
_IDENTITY = ("batch_id", "input", "key", "input_fingerprint", "rows", "columns", "settings")
"""Entries of the manifest that say which rows there are and what they ask."""


@dataclass(frozen=True, slots=True)
class RecordedAttempt:
    """One try at a row, as recorded.

    Attributes:
        number: from 1.
        started_at: UTC, ISO 8601.
        fingerprint: of the prompt that it asked.
        run_ended: the run failed for good.
        fault_type, fault: how the try ended badly; None while it runs, or when it ended well.
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
        """Whether its run may still be going on: no fault ended it, or the fault left the run behind."""
        return self.fault_type is None or (self.run_id is not None and not self.run_ended)


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """One run of a row that took more than one.

    Attributes:
        turn: from 1; the same again for a round of functions, or a correction.
        asked: the user message, or the outputs of functions.
        response: what was said.
        calls: (name, arguments) of the functions that it asked for; what they returned is what is asked next.
        tool_outputs: outputs of the functions that it waited for.
        extras: `citations` and `files`, where there are any.
    """

    turn: int
    asked: str
    response: str
    calls: Sequence[tuple[str, str]] = ()
    tool_outputs: Sequence[str] = ()
    extras: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CoolDown:
    """Nobody sent anything for a while.

    Attributes:
        started_at: UTC, ISO 8601.
        wait_s: how long it was to last; a later one may have begun meanwhile.
        reason: an error type, or what was used up.
    """

    started_at: str
    wait_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class RecordedOutcome:
    """How a row ended.

    Attributes:
        fingerprint: of the prompt that it answers.
        cells: with the keys of `OUTPUT_COLUMNS`.
    """

    row_key: str
    fingerprint: str
    cells: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Changes:
    """What a look at the journal found.

    Attributes:
        is_new_batch: this is the first look, or the journal holds another batch than at the last one: forget
            everything read before.
        outcomes: of the rows that ended since.
        tries: row → its tries, oldest first: of the rows in `outcomes`, and of all that have not ended; of all rows
            if `is_new_batch`.
        spoken: row → its runs, oldest first, of the rows in `outcomes` that took more than one.
    """

    is_new_batch: bool
    outcomes: Sequence[RecordedOutcome]
    attempts: Mapping[str, Sequence[RecordedAttempt]]
    runs: Mapping[str, Sequence[RecordedRun]]


@dataclass(slots=True)
class _Marks:
    """How far the journal was read: SQLite's data version, the last outcome, the last superseded one."""

    version: int | None = None
    outcome: int = 0
    superseded: int = 0
    identity: Mapping[str, Any] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)


class FollowedJournal(Journal):
    """A journal open for reading, that tells what is new.

    Mutable state beside the file: the marks up to which it was read.
    """

    def __init__(self, path: Path) -> None:
        """
        Raises:
            OutputError: the file cannot be opened, is no journal, or is of a later version.
        """
        super().__init__(path, read_only=True)
        self._marks = _Marks()
        # A journal of an earlier version is not brought up to date by those who only read it.
        tables = {name for (name,) in self._all("SELECT name FROM sqlite_master WHERE type = 'table'")}
        self._has_exchanges = "exchanges" in tables
        self._has_outputs = "outputs" in tables
        self._has_cool_downs = "cool_downs" in tables

    def __enter__(self) -> FollowedJournal:
        return self

    def all_attempts(self) -> dict[str, list[RecordedAttempt]]:
        """Row → its tries, oldest first."""
        return _by_row(self._all(f"{_TRIES} ORDER BY row_key, number"))

    def all_runs(self) -> dict[str, list[RecordedRun]]:
        """Row → its runs, oldest first, of rows that took more than one; as far as its outcome's prompt asked them."""
        return self._spoken("")

    def _spoken(self, condition: str, values: tuple[Any, ...] = ()) -> dict[str, list[RecordedRun]]:
        if not self._has_exchanges:
            return {}
        rows = self._all(
            "SELECT row_key, exchanges.run_id, turn, asked, exchanges.response, calls, exchanges.extras FROM exchanges "
            f"JOIN outcomes USING (row_key, fingerprint) {condition} ORDER BY row_key, number",
            values,
        )
        heard = self._heard(condition, values)
        found: dict[str, list[RecordedRun]] = defaultdict(list)
        for row_key, run_id, turn, asked, response, calls, extras in rows:
            named = tuple((name, arguments) for _, name, arguments in json.loads(calls or "[]"))
            returned = heard.get((row_key, run_id), ())
            found[row_key].append(RecordedRun(turn, asked, response, named, returned, json.loads(extras or "{}")))
        return {row_key: runs for row_key, runs in found.items() if len(runs) > 1 or runs[0].tool_outputs}

    def _heard(self, condition: str, values: tuple[Any, ...]) -> dict[tuple[str, str], list[str]]:
        """(row, run that waited) → what functions returned to it."""
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
        """All cool-downs, oldest first; None where the journal's version did not record them."""
        if not self._has_cool_downs:
            return None
        return [CoolDown(*row) for row in self._all("SELECT started_at, wait_s, reason FROM cool_downs ORDER BY rowid")]

    def ended_at(self) -> dict[str, str]:
        """Row → when it ended, as recorded."""
        return dict(self._all("SELECT row_key, completed_at FROM outcomes"))

    def changes(self) -> Changes | None:
        """What is new since the last call; None if nothing was written meanwhile."""
        marks = self._marks
        version = self._one("PRAGMA data_version")[0]
        if version == marks.version:
            return None
        manifest = self.read_manifest()
        identity = {name: manifest.get(name) for name in _IDENTITY}
        is_new_batch = marks.version is None or identity != marks.identity
        if is_new_batch:
            marks = self._marks = _Marks(identity=identity)
        marks.version = version
        outcomes = self._new_outcomes(marks)
        if is_new_batch:
            return Changes(True, outcomes, self.all_attempts(), self.all_runs())
        tries = _by_row(
            self._all(
                f"{_TRIES} WHERE NOT EXISTS (SELECT 1 FROM outcomes WHERE outcomes.row_key = attempts.row_key) "
                "ORDER BY row_key, number"
            )
        )
        spoken: dict[str, list[RecordedRun]] = {}
        for outcome in outcomes:
            tries.update(_by_row(self._all(f"{_TRIES} WHERE row_key = ? ORDER BY number", (outcome.row_key,))))
            spoken.update(self._spoken("WHERE row_key = ?", (outcome.row_key,)))
        return Changes(False, outcomes, tries, spoken)

    def _new_outcomes(self, marks: _Marks) -> list[RecordedOutcome]:
        """Rows that ended since; moves the marks.

        Outcomes get growing numbers, except that SQLite may give a number again when the outcome that had the
        largest one is superseded: then the numbers of all rows are compared.
        """
        superseded = self._one("SELECT coalesce(max(rowid), 0) FROM superseded")[0]
        if superseded == marks.superseded:
            rows = self._all(f"{_OUTCOMES} WHERE rowid > ? ORDER BY rowid", (marks.outcome,))
        else:
            replaced = self._all("SELECT row_key FROM superseded WHERE rowid > ?", (marks.superseded,))
            places: dict[str, int] = dict(self._all("SELECT row_key, rowid FROM outcomes"))
            moved = (key for key, place in places.items() if marks.places.get(key) != place)
            keys = dict.fromkeys([*moved, *(key for (key,) in replaced)])
            rows = [row for key in keys for row in self._all(f"{_OUTCOMES} WHERE row_key = ?", (key,))]
            marks.superseded = superseded
        found = []
        for place, row_key, fingerprint, *cells in rows:
            marks.places[row_key] = place
            found.append(RecordedOutcome(row_key, fingerprint, dict(zip(OUTPUT_COLUMNS, cells, strict=True))))
        marks.outcome = max(marks.places.values(), default=0)
        return found


def _by_row(rows: Iterable[Sequence[Any]]) -> dict[str, list[RecordedAttempt]]:
    found: dict[str, list[RecordedAttempt]] = defaultdict(list)
    for row_key, number, started_at, fingerprint, thread_id, run_id, run_ended, fault_type, fault in rows:
        found[row_key].append(
            RecordedAttempt(
                row_key, number, started_at, fingerprint, thread_id, run_id, bool(run_ended), fault_type, fault
            )
        )
    return dict(found)
