"""The journal: everything known about each row, on disk as soon as it is known.

One SQLite file next to the output (see `database`). A write is committed when the method returns; inside of `grouped`,
when `committed` returns.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from types import TracebackType

from batchrun.errors import ServiceFault
from batchrun.journal.attempt_ids import attempts_with_ids, ids_to_attempts
from batchrun.journal.cached_rows import CachedRows
from batchrun.journal.created_objects import CreatedObjects
from batchrun.journal.database import Database
from batchrun.journal.deferred_rows import DeferredRows
from batchrun.journal.duplicates import Duplicates
from batchrun.journal.exchanges import Exchanges
from batchrun.journal.histories import Histories
from batchrun.journal.models import Models
from batchrun.journal.row_cells import RowCells
from batchrun.journal.row_history import Carried, Counts, RowHistory
from batchrun.journal.row_records import (
    INSERT_FIRST_OUTCOME,
    INSERT_OUTCOME,
    OUTCOME_COLUMNS,
    outcome_of,
    outcome_values,
    raw_without,
    stamp,
    storable,
    usage_text,
)
from batchrun.journal.service_batches import ServiceBatches
from batchrun.journal.spending import Spending
from batchrun.journal.sums import counts_after, counts_of, failures_of, last_moment, spent_usd
from batchrun.journal.uploads import UploadedFiles
from batchrun.journal.write_ahead_log import size_bytes
from batchrun.records import EMPTY_ANSWER, Attempt, JsonDict, JsonObject, Outcome, Prompt, RunEnd

__all__ = ["Journal"]

_UNSEEN_SINCE = 5
"""The first version of the journal with the column `unseen`."""
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
"""Faults after which the service may have acted on the request, for journals without the column `unseen`."""
_UNSEEN = f"coalesce({{unseen}}, fault_type IS NULL OR fault_type IN {_ONCE_UNSEEN})"
"""Whether the service may have acted on the request of an attempt without our seeing its answer."""
_INSERT_ATTEMPT = (
    "INSERT INTO attempts (row_key, number, generation, idempotency_key, fingerprint, started_at, thread_id, run_id, "
    "turn, reserved_usd) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


class Journal:
    """The journal of one batch, open for writing by one process or for reading by any number.

    Mutable state: the file. `_has_history` is False while no row can have a history, so that a new batch makes no
    look-ups. `_carried` is the manifest's entry `carried`, so that it is written once for each name.
    """

    def __init__(self, path: Path, *, read_only: bool = False, untouched: bool = False, patience_s: float = 10) -> None:
        """
        Args:
            path: the file.
            read_only, untouched, patience_s: see `Database`.

        Raises:
            OutputError: the file cannot be opened, is not a journal, or has a later version.
        """
        self.path = path
        self._db = Database(path, read_only=read_only, untouched=untouched, patience_s=patience_s)
        self._write, self._one, self._all = self._db.write, self._db.one, self._db.all
        try:
            self._read_start()
        except BaseException:
            self.close()
            raise

    def _read_start(self) -> None:
        # A journal of an earlier version is not migrated by those who only read it.
        self._unseen = _UNSEEN.format(unseen="unseen" if self._db.version >= _UNSEEN_SINCE else "NULL")
        self.histories = Histories(self._db, self._unseen)
        self._attempts = attempts_with_ids(self._db.version)
        self.cached = CachedRows(self._db)
        self.created = CreatedObjects(self._db)
        self.exchanges = Exchanges(self._db)
        self.duplicates = Duplicates(self._db)
        self.uploads = UploadedFiles(self._db)
        self.service_batches = ServiceBatches(self._db)
        self.deferred_rows = DeferredRows(self._db)
        self.row_cells = RowCells(self._db, self.service_batches, self.deferred_rows)
        self.models = Models(self._db)
        self.spending = Spending(self._db)
        self._has_history = not self.is_empty()
        self._carried = self.carried()

    def look_back(self) -> None:
        """Look rows up from now on, although the journal was empty at first: this process has written some."""
        self._has_history = True

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def grouped(self, clock: Callable[[], float] = time.monotonic) -> AbstractContextManager[None]:
        """Let all writes of one turn of the running event loop share a transaction: see `Database.grouped`."""
        return self._db.grouped(clock)

    def committed(self) -> Awaitable[None]:
        """Return, once awaited, when everything that has been written until now is committed.

        Raises:
            OutputError: it could not be committed.
        """
        return self._db.committed()

    def flush(self) -> None:
        """Commit everything that has been written until now, at once."""
        self._db.flush()

    def checkpoint(self) -> None:
        """Move the write-ahead log into the file and fsync: see `Database.checkpoint`. Call it from a thread."""
        self._db.checkpoint()

    @property
    def log_bytes(self) -> int:
        """The size of the write-ahead log."""
        return size_bytes(self.path)

    def reuse_log(self) -> int:
        """Use the space of a large log again: see `WriteAheadLog.reuse`. Call it after `checkpoint`."""
        return self._db.reuse_log()

    def settle(self) -> bool:
        """Empty the write-ahead log into the file and fsync: see `Database.settle`."""
        return self._db.settle()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def attached(self, path: Path) -> AbstractContextManager[sqlite3.Connection]:
        """Attach the journal of a shard for one transaction: see `Database.attached`."""
        return self._db.attached(path)

    # -- manifest -----------------------------------------------------------------------------------

    def read_manifest(self) -> JsonDict:
        """Return everything written by `write_manifest`; empty for a new journal."""
        rows = self._all("SELECT name, value FROM manifest")
        return {name: json.loads(value) for name, value in rows}

    def write_manifest(self, entries: JsonObject) -> None:
        """Store values under their names as JSON, in one transaction."""
        with self._db.transaction():
            for name, value in entries.items():
                self._write("INSERT OR REPLACE INTO manifest VALUES (?, ?)", (name, json.dumps(value)))

    def remove_from_manifest(self, name: str) -> None:
        """Forget what was written under this name."""
        self._write("DELETE FROM manifest WHERE name = ?", (name,))

    # -- one row ------------------------------------------------------------------------------------

    def history(self, row_key: str) -> RowHistory | None:
        """Return the row as an earlier run of this batch left it, None if the row is new."""
        return self.histories.of([row_key]).get(row_key) if self._has_history else None

    @property
    def rows_written(self) -> int:
        """Number of rows of its tables that this process has written so far."""
        return self._db.rows_written

    def last_outcome(self) -> list[int]:
        """Return the numbers of the last outcome and of the last superseded one, 0 for none."""
        last = "SELECT coalesce(max(rowid), 0) FROM"
        return list(self._one(f"SELECT ({last} outcomes), ({last} superseded)"))

    @property
    def has_history(self) -> bool:
        """Whether a row can have a history."""
        return self._has_history

    def begin_attempt(
        self,
        prompt: Prompt,
        attempt: Attempt,
        started_at: datetime,
        turn: int = 1,
        *,
        redo_from_turn: int | None = None,
        reserved_usd: float | None = None,
    ) -> None:
        """Record an attempt at a turn of the row, before it is sent.

        Args:
            redo_from_turn: the first turn to run again; its finished runs and all later ones no longer count.
            reserved_usd: US dollars reserved for the row; None without a budget.
        """
        values = (
            prompt.row_key,
            attempt.number,
            attempt.generation,
            attempt.key,
            prompt.fingerprint,
            stamp(started_at),
            attempt.thread_id,
            attempt.run_id,
            turn,
            reserved_usd,
        )
        if redo_from_turn is None:
            self._db.write_soon(_INSERT_ATTEMPT, values)
            return
        with self._db.transaction():
            self.exchanges.set_aside(prompt.row_key, prompt.fingerprint, redo_from_turn, attempt.number)
            self._write(_INSERT_ATTEMPT, values)

    def withdraw_attempt(self, row_key: str, number: int) -> None:
        """Remove an attempt that has begun and was not sent."""
        self._write("DELETE FROM attempts WHERE row_key = ? AND number = ?", (row_key, number))

    def set_ids(self, row_key: str, number: int, thread_id: str | None, run_id: str | None) -> None:
        """Record the ids of the thread and the run of this attempt."""
        self._write(
            "UPDATE attempts SET thread_id = ?, run_id = ? WHERE row_key = ? AND number = ?",
            (thread_id, run_id, row_key, number),
        )

    def record_fault(self, row_key: str, number: int, fault: ServiceFault) -> None:
        """Record the fault that ended this attempt, and what it has cost."""
        self._write(
            "UPDATE attempts SET fault_type = ?, fault = ?, run_ended = ?, unseen = ?, usage = ? "
            "WHERE row_key = ? AND number = ?",
            (
                fault.error_type,
                storable(str(fault)),
                fault.run_ended,
                fault.unseen,
                usage_text(fault.usage),
                row_key,
                number,
            ),
        )

    def was_empty(self, row_key: str, fingerprint: str, turn: int) -> bool:
        """Return whether an attempt at this turn, since the row's last outcome, got an empty answer."""
        found = self._one(
            "SELECT EXISTS (SELECT 1 FROM attempts WHERE row_key = ? AND fingerprint = ? AND turn = ? "
            "AND fault_type = ? AND number > coalesce((SELECT attempts FROM outcomes WHERE row_key = ?), 0))",
            (row_key, fingerprint, turn, EMPTY_ANSWER, row_key),
        )
        return bool(found[0])

    def run_ended(self, row_key: str, fingerprint: str, end: RunEnd, *, with_ids: bool = False) -> None:
        """Record the end of a run, for a row that may need more than one.

        Args:
            with_ids: the ids of its attempt came with its end, and are written with it.
        """
        with self._db.transaction():
            if with_ids:
                self.set_ids(row_key, end.attempt, end.thread_id, end.run_id)
            self.exchanges.add(row_key, fingerprint, end)

    def fall_back(self, prompt: Prompt, first: RunEnd, fault: ServiceFault, *, with_ids: bool) -> None:
        """Record in one transaction that all runs with the first model have ended; `with_ids` as in `run_ended`."""
        with self._db.transaction():
            if with_ids:
                self.set_ids(prompt.row_key, first.attempt, first.thread_id, first.run_id)
            self.record_fault(prompt.row_key, first.attempt, fault)
            self.exchanges.fall_back(prompt.row_key, prompt.fingerprint, first)

    def finish(
        self,
        outcome: Outcome,
        fingerprint: str,
        *,
        with_ids: bool = False,
        carried: Carried | None = None,
        ends: Sequence[RunEnd] = (),
        is_first: bool = False,
    ) -> None:
        """Record the row's outcome. An earlier outcome of the row is moved to the superseded ones.

        Args:
            with_ids: the ids of its last attempt came with the outcome, and are written with it only.
            carried: usage moved here from the earlier outcome, so that it is counted once.
            ends: the row's runs, if they were not recorded as they ended; they replace those of the journal.
            is_first: the row has no earlier outcome.
        """
        values = outcome_values(outcome, fingerprint, own_ids=with_ids)
        if outcome.extras and not outcome.extras.keys() <= self._carried:
            self._carried = self.carried() | outcome.extras.keys()  # shards may have added some
            self.write_manifest({"carried": sorted(self._carried)})
        if is_first and not ends:
            self._db.write_soon(INSERT_FIRST_OUTCOME, values)
            return
        if not ends and self._write(INSERT_OUTCOME, values):
            return  # the row had none before
        with self._db.transaction():
            if ends:
                self.exchanges.replace(outcome.row_key, fingerprint, ends, mark=stamp(outcome.completed_at))
            if self._has_history:
                self._write(ids_to_attempts("row_key = ?"), (outcome.row_key,))
                self._write("INSERT INTO superseded SELECT * FROM outcomes WHERE row_key = ?", (outcome.row_key,))
                if carried is not None:
                    self._subtract(carried)
                self._write("DELETE FROM outcomes WHERE row_key = ?", (outcome.row_key,))
            self._write(INSERT_OUTCOME, values)

    def _subtract(self, carried: Carried) -> None:
        """Subtract `carried` from the outcome that was superseded last."""
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
            (*(count or 0 for count in counts), raw_without(raw, usage), number),
        )

    def cooled_down(self, started_at: datetime, wait_s: float, reason: str) -> None:
        """Record that all rows wait, for this many seconds or until a later cool-down ends."""
        self._write("INSERT INTO cool_downs VALUES (?, ?, ?)", (stamp(started_at), wait_s, reason))

    # -- reading ------------------------------------------------------------------------------------

    def outcome(self, row_key: str) -> tuple[Outcome, str] | None:
        """Return the row's outcome and the fingerprint of the prompt that it answers, None if there is no outcome."""
        found = self._one(f"SELECT {OUTCOME_COLUMNS} FROM outcomes WHERE row_key = ?", (row_key,))
        return None if found is None else (outcome_of(found), found[1])

    def outcomes_after(self, mark: int) -> tuple[int, list[Outcome]]:
        """Return the outcomes that were recorded after another one, in this order, and the row id of the last.

        Args:
            mark: the row id of that other one, as in `last_outcome`.
        """
        rows = self._all(f"SELECT rowid, {OUTCOME_COLUMNS} FROM outcomes WHERE rowid > ? ORDER BY rowid", (mark,))
        return rows[-1][0] if rows else mark, [outcome_of(row[1:]) for row in rows]

    def cells(self, row_key: str, fingerprint: str) -> JsonDict:
        """Return the row as cells of the output: see `RowCells`."""
        return next(self.row_cells.of_rows([(row_key, fingerprint)]))

    def carried(self) -> set[str]:
        """Return what answers of the batch carried besides their text, as the names of `Completed.extras`."""
        found = self._one("SELECT value FROM manifest WHERE name = 'carried'")
        return set(json.loads(found[0])) if found is not None else set()

    def extras(self, row_key: str) -> JsonDict:
        """Return the extras of the row's outcome (see `Completed.extras`); empty without any."""
        found = self._one("SELECT extras FROM outcomes WHERE row_key = ?", (row_key,))
        return json.loads(found[0]) if found is not None and found[0] else {}

    def attempts(self, row_key: str) -> Iterator[JsonDict]:
        """Yield every attempt at the row, oldest first, with its values by column of the table `attempts`."""
        return self._db.records(f"SELECT * FROM {self._attempts} WHERE row_key = ? ORDER BY number", (row_key,))

    def last_turn(self, row_key: str) -> int:
        """Return the turn of the row's last attempt."""
        found = self._one("SELECT turn FROM attempts WHERE row_key = ? ORDER BY number DESC LIMIT 1", (row_key,))
        return int(found[0]) if found is not None else 1

    def has_answers(self) -> bool:
        """Return whether a row has an answer, complete or incomplete."""
        return bool(self._one("SELECT EXISTS (SELECT 1 FROM outcomes WHERE status IN ('completed', 'incomplete'))")[0])

    def is_empty(self) -> bool:
        """Return whether nothing is known about any row."""
        return not self._one("SELECT EXISTS (SELECT 1 FROM attempts) OR EXISTS (SELECT 1 FROM outcomes)")[0]

    def may_have_cost(self) -> bool:
        """Return whether anything was answered or charged, or may have been: an answer, usage, or a possible run."""
        paid = "coalesce(response, '') != '' OR coalesce(prompt_tokens, completion_tokens, total_tokens, cost_usd) > 0"
        outcomes = f"SELECT 1 FROM {{table}} WHERE status IN ('completed', 'incomplete') OR {paid}"
        return bool(
            self._one(
                f"SELECT EXISTS (SELECT 1 FROM {self._attempts} WHERE run_id IS NOT NULL "
                f"OR NOT run_ended AND {self._unseen}) OR EXISTS ({outcomes.format(table='outcomes')}) "
                f"OR EXISTS ({outcomes.format(table='superseded')})"
            )[0]
        )

    def forget_failures(self) -> None:
        """Move all outcomes to the superseded ones, so that their rows run again."""
        with self._db.transaction():
            self._write(ids_to_attempts("TRUE"))
            self._write("INSERT INTO superseded SELECT * FROM outcomes")
            self._write("DELETE FROM outcomes")

    def counts(self) -> Counts:
        """Return totals over all rows."""
        return counts_of(self._db, self.deferred_rows.waiting())

    def counts_after(self, mark: int) -> Counts:
        """Return totals over the outcomes after another one, of which `mark` is the row id, as in `last_outcome`."""
        return counts_after(self._db, mark)

    def last_at(self) -> str | None:
        """Return when the last row ended or the last attempt began, whichever is later; None if nothing was sent."""
        return last_moment(self._db)

    def failures(self) -> dict[str, int]:
        """Return error_type → number of failed rows, the most frequent first."""
        return failures_of(self._db)

    def spent_usd(self) -> float:
        """Return the known cost of this batch in US dollars, including superseded outcomes."""
        return spent_usd(self._db)
