"""The journal: what is known about each row, on disk the moment it is known.

One SQLite file beside the output. Every write is one transaction, made inline: in WAL mode with
`synchronous=NORMAL` it costs some 20 µs and survives the death of the process at any moment. What a power
cut may take is the time since the last checkpoint, which `Journal.checkpoint` (called from a thread every few
seconds) bounds.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from batchrun.errors import OutputError, ServiceFault
from batchrun.journal.created_objects import CreatedObjects
from batchrun.journal.duplicates import Duplicates
from batchrun.journal.exchanges import Exchanges
from batchrun.journal.row_records import (
    INSERT_OUTCOME,
    OUTCOME_COLUMNS,
    attempt_of,
    outcome_of,
    outcome_values,
    stamp,
    storable,
)
from batchrun.journal.schema import APPLICATION_ID, STEPS
from batchrun.journal.uploads import UploadedFiles
from batchrun.records import EMPTY_ANSWER, OUTPUT_COLUMNS, Attempt, Outcome, Prompt, RunEnd, Usage

__all__ = ["Carried", "Counts", "Journal", "RowHistory"]

_MAY_GO_ON = "(fault_type IS NULL OR run_id IS NOT NULL AND NOT run_ended)"
"""Whether the run of a try may still be going on: no fault ended the try, or it ended with the run left behind."""
_UNSEEN_SINCE = 5
"""The version of the journal that has the column `unseen`."""
_ONCE_UNSEEN = (
    "connection_error",
    "timeout",
    "row_timeout",
    "suspended",
    "http_408",
    "http_502",
    "http_504",
    "bad_reply",
)
"""How tries ended behind which a request may have been acted on, for journals that do not say it themselves."""
_UNSEEN = f"coalesce({{unseen}}, fault_type IS NULL OR fault_type IN {_ONCE_UNSEEN})"
"""Whether the service may have acted on the request of a try without our seeing its answer."""
_CELLS = f"SELECT {', '.join(OUTPUT_COLUMNS)}, fingerprint FROM outcomes WHERE row_key = ?"


@dataclass(frozen=True, slots=True)
class RowHistory:
    """What an earlier run left of a row: how it ended, if it did, and its last try, which may be a later one.

    Attributes:
        status: how the row ended, None while it has no outcome.
        fingerprint: of the prompt that the outcome belongs to, None where there is no outcome.
        last: the last try, None where the row failed before any.
        last_fingerprint: of the prompt that the last try asked.
        completed_at: when it ended, None where there is no outcome.
        attempts: tries that the outcome took, 0 where there is none.
        has_open_attempt: the last try is later than the outcome: the row was being asked (again) when the run ended.
    """

    status: str | None
    fingerprint: str | None
    last: Attempt | None
    last_fingerprint: str | None
    completed_at: datetime | None
    attempts: int
    has_open_attempt: bool

    @property
    def answered(self) -> bool:
        """The row has an answer, whole or cut short."""
        return self.status in ("completed", "incomplete")


@dataclass(frozen=True, slots=True)
class Carried:
    """What the runs took that a row's new outcome has in common with its earlier one, US dollars included."""

    usage: Usage
    cost_usd: float | None


@dataclass(frozen=True, slots=True)
class Counts:
    """Totals over the journal. Sums leave out what services did not tell; `cost_usd` is None if no cost is known."""

    completed: int = 0
    incomplete: int = 0
    failed: int = 0
    in_flight: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = None


class Journal:
    """The journal of one batch, open for writing by one process or for reading by any number.

    All state is in the file, but for `_lookups`: False while no row can have a history, so that a fresh batch
    asks nothing.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """
        Raises:
            OutputError: the file cannot be opened, is no journal, or is of a later version.
        """
        self.path = path
        try:
            self._db = self._connect(read_only)
        except sqlite3.Error as exc:
            raise OutputError(f"{path}: {_reason(exc)}") from exc
        try:
            version = self._check(read_only)
        except sqlite3.Error as exc:
            self._db.close()
            raise OutputError(f"{path}: {_reason(exc)}") from exc
        except BaseException:
            self._db.close()
            raise
        # A journal of an earlier version is not brought up to date by those who only read it.
        self._unseen = _UNSEEN.format(unseen="unseen" if version >= _UNSEEN_SINCE else "NULL")
        self.created = CreatedObjects(self._write, self._all)
        self.exchanges = Exchanges(self._write, self._all)
        self.duplicates = Duplicates(self._write, self._all)
        self.uploads = UploadedFiles(self._write, self._all)
        self._lookups = self._one("SELECT EXISTS (SELECT 1 FROM attempts) OR EXISTS (SELECT 1 FROM outcomes)")[0]

    def _connect(self, read_only: bool) -> sqlite3.Connection:
        if read_only:
            if not self.path.exists():
                raise OutputError(f"{self.path}: no journal here")
            # A connection that could write and is told not to clears away the files that SQLite puts beside a journal
            # while it reads; one without the right to write leaves them.
            mode = "rw" if os.access(self.path, os.W_OK) and os.access(self.path.parent, os.W_OK) else "ro"
            log = self.path.with_name(self.path.name + "-wal")
            if mode == "ro" and not (log.exists() and log.stat().st_size > 0):
                # SQLite wants to make files beside a journal to read it; without a log there is nothing it could miss.
                mode = "ro&immutable=1"
            uri = f"{self.path.absolute().as_uri()}?mode={mode}"
            return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=10)
        return sqlite3.connect(self.path, isolation_level=None, timeout=10)

    def _check(self, read_only: bool) -> int:
        """Whether it is a journal; brings one of an earlier version up to date. Returns the version that it has now."""
        if read_only:
            self._db.execute("PRAGMA query_only=ON")
        application_id = self._db.execute("PRAGMA application_id").fetchone()[0]
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        tables = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if (tables or version) and application_id != APPLICATION_ID:
            raise OutputError(f"{self.path}: is a database of another program, not a journal; move it away")
        if version > len(STEPS):
            raise OutputError(f"{self.path}: was written by a later version of batchrun; upgrade to read it")
        if read_only:
            if version == 0:
                raise OutputError(f"{self.path}: no journal here")
            return int(version)
        # Half of SQLite's usual page: a row's writes touch a few hundred bytes, and every page that they touch is
        # written whole. Takes effect in a new file only.
        self._db.execute("PRAGMA page_size=2048")
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        # Checkpoints fsync: they are made by `checkpoint`, off the event loop.
        self._db.execute("PRAGMA wal_autocheckpoint=0")
        for number, step in enumerate(STEPS[version:], start=version + 1):
            self._db.executescript(
                f"BEGIN IMMEDIATE; {step}; PRAGMA application_id={APPLICATION_ID}; "
                f"PRAGMA user_version={number}; COMMIT;"
            )
        return len(STEPS)

    def close(self) -> None:
        """Close the file. Nothing is pending: every write was a transaction."""
        self._db.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- manifest -----------------------------------------------------------------------------------

    def read_manifest(self) -> dict[str, Any]:
        """Everything written by `write_manifest`; empty for a new journal."""
        rows = self._all("SELECT name, value FROM manifest")
        return {name: json.loads(value) for name, value in rows}

    def write_manifest(self, entries: Mapping[str, Any]) -> None:
        """Store JSON-able values under their names, all at once."""
        self._write("BEGIN IMMEDIATE")
        for name, value in entries.items():
            self._write("INSERT OR REPLACE INTO manifest VALUES (?, ?)", (name, json.dumps(value)))
        self._write("COMMIT")

    # -- one row ------------------------------------------------------------------------------------

    def history(self, row_key: str) -> RowHistory | None:
        """What an earlier run of this batch left of the row, None for a row never tried."""
        if not self._lookups:
            return None
        outcome = self._one(
            "SELECT status, fingerprint, attempts, completed_at FROM outcomes WHERE row_key = ?", (row_key,)
        )
        last = self._one(
            f"SELECT fingerprint, number, generation, idempotency_key, thread_id, run_id, run_ended, {self._unseen} "
            "FROM attempts WHERE row_key = ? ORDER BY number DESC LIMIT 1",
            (row_key,),
        )
        if outcome is None and last is None:
            return None
        return RowHistory(
            status=outcome[0] if outcome else None,
            fingerprint=outcome[1] if outcome else None,
            last=attempt_of(last[1:]) if last else None,
            last_fingerprint=last[0] if last else None,
            completed_at=datetime.fromisoformat(outcome[3]) if outcome else None,
            attempts=outcome[2] if outcome else 0,
            has_open_attempt=last is not None and (outcome is None or last[1] > outcome[2]),
        )

    def begin_attempt(
        self,
        prompt: Prompt,
        attempt: Attempt,
        started_at: datetime,
        turn: int = 1,
        *,
        redo_from_turn: int | None = None,
    ) -> None:
        """A try at a turn of the row is about to be sent.

        Args:
            redo_from_turn: the first turn to run again; its finished runs and all later ones no longer count.
        """
        if redo_from_turn is not None:
            self._write("BEGIN IMMEDIATE")
            self.exchanges.set_aside(prompt.row_key, prompt.fingerprint, redo_from_turn, attempt.number)
        self._write(
            "INSERT INTO attempts (row_key, number, generation, idempotency_key, fingerprint, started_at, "
            "thread_id, run_id, turn) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                prompt.row_key,
                attempt.number,
                attempt.generation,
                attempt.key,
                prompt.fingerprint,
                stamp(started_at),
                attempt.thread_id,
                attempt.run_id,
                turn,
            ),
        )
        if redo_from_turn is not None:
            self._write("COMMIT")

    def set_ids(self, row_key: str, number: int, thread_id: str | None, run_id: str | None) -> None:
        """The service named the thread and the run of this try."""
        self._write(
            "UPDATE attempts SET thread_id = ?, run_id = ? WHERE row_key = ? AND number = ?",
            (thread_id, run_id, row_key, number),
        )

    def record_fault(self, row_key: str, number: int, fault: ServiceFault) -> None:
        """This try ended badly."""
        self._write(
            "UPDATE attempts SET fault_type = ?, fault = ?, run_ended = ?, unseen = ? WHERE row_key = ? AND number = ?",
            (fault.error_type, storable(str(fault)), fault.run_ended, fault.unseen, row_key, number),
        )

    def was_empty(self, row_key: str, fingerprint: str, turn: int) -> bool:
        """Whether a try at this turn, since the row ended last, brought an empty answer."""
        found = self._one(
            "SELECT EXISTS (SELECT 1 FROM attempts WHERE row_key = ? AND fingerprint = ? AND turn = ? "
            "AND fault_type = ? AND number > coalesce((SELECT attempts FROM outcomes WHERE row_key = ?), 0))",
            (row_key, fingerprint, turn, EMPTY_ANSWER, row_key),
        )
        return bool(found[0])

    def run_ended(self, row_key: str, fingerprint: str, end: RunEnd, *, with_ids: bool = False) -> None:
        """A run of a row that may need more than one has ended.

        Args:
            with_ids: the ids of its try came with its end, and are written with it.
        """
        self._write("BEGIN IMMEDIATE")
        if with_ids:
            self.set_ids(row_key, end.attempt, end.thread_id, end.run_id)
        self.exchanges.add(row_key, fingerprint, end)
        self._write("COMMIT")

    def finish(
        self, outcome: Outcome, fingerprint: str, *, with_ids: bool = False, carried: Carried | None = None
    ) -> None:
        """The row has ended. An earlier outcome of the row is kept among the superseded.

        Args:
            with_ids: the ids of its last try came with the outcome, and are written with it.
            carried: what the row took over from its earlier outcome, which bears it no longer.
        """
        values = outcome_values(outcome, fingerprint)
        if not self._lookups and not with_ids:
            self._write(INSERT_OUTCOME, values)
            return
        self._write("BEGIN IMMEDIATE")
        if with_ids:
            self.set_ids(outcome.row_key, outcome.attempts, outcome.thread_id, outcome.run_id)
        if self._lookups:
            self._write("INSERT INTO superseded SELECT * FROM outcomes WHERE row_key = ?", (outcome.row_key,))
            if carried is not None:
                self._unburden(carried)
            self._write("DELETE FROM outcomes WHERE row_key = ?", (outcome.row_key,))
        self._write(INSERT_OUTCOME, values)
        self._write("COMMIT")

    def _unburden(self, carried: Carried) -> None:
        """Take what was carried over from the outcome that was superseded last."""
        usage = carried.usage
        number, raw = self._one("SELECT rowid, raw_usage FROM superseded ORDER BY rowid DESC LIMIT 1")
        names = ("prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens", "reasoning_tokens", "cost_usd")
        less = ", ".join(f"{name} = max(0, {name} - ?)" for name in names)
        counts = (
            usage.prompt_tokens,
            usage.completion_tokens,
            usage.total_tokens,
            usage.cached_tokens,
            usage.reasoning_tokens,
            carried.cost_usd,
        )
        self._write(
            f"UPDATE superseded SET {less}, raw_usage = ? WHERE rowid = ?",
            (*(count or 0 for count in counts), _raw_without(raw, usage), number),
        )

    def cooled_down(self, started_at: datetime, wait_s: float, reason: str) -> None:
        """All rows wait from now on, for this many seconds or until a later cool-down ends."""
        self._write("INSERT INTO cool_downs VALUES (?, ?, ?)", (stamp(started_at), wait_s, reason))

    # -- reading ------------------------------------------------------------------------------------

    def outcome(self, row_key: str) -> tuple[Outcome, str] | None:
        """How the row ended, and the fingerprint of the prompt that it answers."""
        found = self._one(f"SELECT {OUTCOME_COLUMNS} FROM outcomes WHERE row_key = ?", (row_key,))
        return None if found is None else (outcome_of(found), found[1])

    def cells(self, row_key: str, fingerprint: str) -> dict[str, Any]:
        """The row as cells of the output: the keys of `OUTPUT_COLUMNS`, in order.

        An outcome that answers another prompt than `fingerprint` says is not joined: the row is pending then.
        """
        found = self._one(_CELLS, (row_key,))
        if found is not None and found[-1] == fingerprint:
            return dict(zip(OUTPUT_COLUMNS, found, strict=False))
        cells: dict[str, Any] = dict.fromkeys(OUTPUT_COLUMNS)
        last = self._one(
            f"SELECT {_MAY_GO_ON}, thread_id, run_id, number FROM attempts WHERE row_key = ? AND fingerprint = ? "
            "ORDER BY number DESC LIMIT 1",
            (row_key, fingerprint),
        )
        if last is None:
            cells["status"] = "pending"
        else:
            cells["status"] = "in_flight" if last[0] else "pending"
            cells["thread_id"], cells["run_id"], cells["attempts"] = last[1:]
        return cells

    def extras(self, row_key: str) -> dict[str, Any]:
        """What the row's outcome has beside its text: `citations`, `files`, `tool_calls`, `tool_errors`."""
        found = self._one("SELECT extras FROM outcomes WHERE row_key = ?", (row_key,))
        return json.loads(found[0]) if found is not None and found[0] else {}

    def attempts(self, row_key: str) -> Iterator[dict[str, Any]]:
        """Every try of the row, oldest first, as the columns of the table `attempts`."""
        cursor = self._db.execute("SELECT * FROM attempts WHERE row_key = ? ORDER BY number", (row_key,))
        names = [column[0] for column in cursor.description]
        for row in cursor:
            yield dict(zip(names, row, strict=True))

    def last_turn(self, row_key: str) -> int:
        """The turn that the row's last try was at."""
        found = self._one("SELECT turn FROM attempts WHERE row_key = ? ORDER BY number DESC LIMIT 1", (row_key,))
        return int(found[0]) if found is not None else 1

    def has_answers(self) -> bool:
        """A row has an answer, whole or cut short."""
        return bool(self._one("SELECT EXISTS (SELECT 1 FROM outcomes WHERE status IN ('completed', 'incomplete'))")[0])

    def is_empty(self) -> bool:
        """Nothing is known about any row."""
        return not self._one("SELECT EXISTS (SELECT 1 FROM attempts) OR EXISTS (SELECT 1 FROM outcomes)")[0]

    def may_have_cost(self) -> bool:
        """Whether anything was answered or paid for, or may have been: an answer, usage, or a run that may exist."""
        paid = "coalesce(response, '') != '' OR coalesce(prompt_tokens, completion_tokens, total_tokens, cost_usd) > 0"
        outcomes = f"SELECT 1 FROM {{table}} WHERE status IN ('completed', 'incomplete') OR {paid}"
        return bool(
            self._one(
                f"SELECT EXISTS (SELECT 1 FROM attempts WHERE run_id IS NOT NULL OR NOT run_ended AND {self._unseen}) "
                f"OR EXISTS ({outcomes.format(table='outcomes')}) OR EXISTS ({outcomes.format(table='superseded')})"
            )[0]
        )

    def forget_failures(self) -> None:
        """Rows that ended are to be asked again; how they ended is kept among the superseded."""
        self._write("BEGIN IMMEDIATE")
        self._write("INSERT INTO superseded SELECT * FROM outcomes")
        self._write("DELETE FROM outcomes")
        self._write("COMMIT")

    def counts(self) -> Counts:
        """Totals over all rows."""
        by_status: dict[str, int] = dict(self._all("SELECT status, count(*) FROM outcomes GROUP BY status"))
        prompt_tokens, completion_tokens, cost_usd = self._one(
            "SELECT total(prompt_tokens), total(completion_tokens), sum(cost_usd) FROM outcomes"
        )
        in_flight = self._one(
            f"SELECT count(*) FROM attempts WHERE {_MAY_GO_ON} "
            "AND number = (SELECT max(number) FROM attempts AS same WHERE same.row_key = attempts.row_key) "
            "AND NOT EXISTS (SELECT 1 FROM outcomes WHERE outcomes.row_key = attempts.row_key)"
        )[0]
        completed, incomplete = by_status.pop("completed", 0), by_status.pop("incomplete", 0)
        return Counts(
            completed=completed,
            incomplete=incomplete,
            failed=sum(by_status.values()),
            in_flight=in_flight,
            # Not sum(), which fails where the sum is no integer of SQLite's any more.
            prompt_tokens=int(prompt_tokens),
            completion_tokens=int(completion_tokens),
            cost_usd=cost_usd,
        )

    def failures(self) -> dict[str, int]:
        """error_type → number of failed rows, the most frequent first."""
        return dict(
            self._all(
                "SELECT error_type, count(*) AS number FROM outcomes "
                "WHERE status NOT IN ('completed', 'incomplete') GROUP BY error_type ORDER BY number DESC, error_type"
            )
        )

    def spent_usd(self) -> float:
        """What all runs of this batch cost as far as it is known, answers that others replaced included."""
        spent = self._one(
            "SELECT (SELECT coalesce(sum(cost_usd), 0) FROM outcomes) "
            "+ (SELECT coalesce(sum(cost_usd), 0) FROM superseded)"
        )
        return float(spent[0])

    def checkpoint(self) -> None:
        """Move the write-ahead log into the file and fsync. Opens its own connection: call it from a thread."""
        try:
            db = sqlite3.connect(self.path, timeout=10)
            try:
                db.execute("PRAGMA wal_checkpoint(PASSIVE)")
            finally:
                db.close()
        except sqlite3.Error as exc:
            raise OutputError(f"{self.path}: {_reason(exc)}") from exc

    def settle(self) -> bool:
        """Make the file whole without its write-ahead log, and fsync it: what is told from now on stays known.

        Not only synced but emptied: the beginning of a log that lost its end would stand in front of what the file has.
        False where another process reads the journal and does not stop.
        """
        return not self._one("PRAGMA wal_checkpoint(TRUNCATE)")[0]

    # -- SQLite ---------------------------------------------------------------------------------------

    def _write(self, sql: str, values: tuple[Any, ...] | Mapping[str, Any] = ()) -> None:
        try:
            self._db.execute(sql, values)
        except sqlite3.Error as exc:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise OutputError(f"{self.path}: {_reason(exc)}") from exc

    def _one(self, sql: str, values: tuple[Any, ...] = ()) -> Any:
        try:
            return self._db.execute(sql, values).fetchone()
        except sqlite3.Error as exc:
            raise OutputError(f"{self.path}: {_reason(exc)}") from exc

    def _all(self, sql: str, values: tuple[Any, ...] = ()) -> list[Any]:
        try:
            return self._db.execute(sql, values).fetchall()
        except sqlite3.Error as exc:
            raise OutputError(f"{self.path}: {_reason(exc)}") from exc


def _reason(exc: sqlite3.Error) -> str:
    """One line on what SQLite could not do, and what to do about it."""
    text = str(exc)
    if "disk is full" in text or "disk I/O error" in text:
        what = "the disk is full" if "full" in text else f"the disk refuses ({text}; is it full, or over a quota?)"
        return f"{what}; every answer that was journalled is safe: make space and run the same command again"
    if "not a database" in text or "malformed" in text:
        return f"is no readable journal ({text}); move it away, or start over with --fresh"
    if "readonly" in text or "unable to open" in text:
        return f"cannot be written ({text}); the journal needs a folder that can be written"
    return f"the journal cannot be used ({text})"


def _raw_runs(raw: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    """The objects of which `records.sum_usage` made one."""
    if raw is not None and isinstance(raw.get("runs"), list):
        for run in raw["runs"]:
            yield from _raw_runs(run if isinstance(run, dict) else None)
    elif raw is not None:
        yield raw


def _raw_without(raw: str | None, carried: Usage) -> str | None:
    """The services' own usage objects of an outcome but for those of some of its runs; None where none is left."""
    gone, left = list(_raw_runs(carried.raw)), []
    for run in _raw_runs(json.loads(raw) if raw else None):
        if run in gone:
            gone.remove(run)
        else:
            left.append(run)
    return json.dumps(left[0] if len(left) == 1 else {"runs": left}) if left else None
