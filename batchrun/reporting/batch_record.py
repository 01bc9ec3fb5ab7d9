"""BatchRecord: the data that the journal next to a table adds to a report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from pathlib import Path

from batchrun.batch.added_columns import recorded_columns
from batchrun.batch.left_shards import take_in
from batchrun.batch.lock import is_held
from batchrun.batch.paths import Paths
from batchrun.batch.recorded_input import recorded_source
from batchrun.batch.results import prompts_of
from batchrun.errors import InputError, OutputError
from batchrun.journal import Journal, manifest_of
from batchrun.journal.histories import KEYS_AT_ONCE
from batchrun.journal.live import CoolDown, FollowedJournal
from batchrun.prompts.conversations import spoken
from batchrun.prompts.rendering_version import prompter_of
from batchrun.records import Manifest
from batchrun.reporting.page_facts import BatchFacts
from batchrun.reporting.rows import asked
from batchrun.reporting.stored_rows import RowRecord

__all__ = ["BatchRecord", "batch_facts"]


class BatchRecord:
    """The data that the journal next to a table adds to a report.

    Mutable state: the journal while the rows are read; the notes; how many rows the input has had so far.

    Attributes:
        facts: the batch; None without a journal.
        key: the batch's key column.
        notes: reasons why something is not shown, one sentence each.
        cool_downs: oldest first; None if they were not recorded.
        fields: columns with the fields of its schema.
    """

    def __init__(self, notes: Sequence[str] = ()) -> None:
        self.facts: BatchFacts | None = None
        self.key: str | None = None
        self.notes = list(notes)
        self.cool_downs: Sequence[CoolDown] | None = None
        self.fields: Sequence[str] = ()
        self._records: Iterator[RowRecord] | None = None
        self._rows = 0

    @classmethod
    @contextmanager
    def read(cls, paths: Paths) -> Iterator[BatchRecord]:
        """Read the journal if there is one; it stays open inside the `with` block.

        Raises:
            OutputError: the journal cannot be read.
        """
        record = cls()
        if not paths.journal.exists():
            record.notes = ["There is no journal next to the table: attempts, prompts and refusals are unknown."]
            yield record
            return
        take_in(paths)
        with FollowedJournal(paths.journal) as journal:
            manifest = manifest_of(journal)
            record.facts = batch_facts(manifest, paths, journal)
            record.key = manifest.get("key")
            record.cool_downs = journal.cool_downs()
            record.fields = recorded_columns(manifest, ()).field_columns
            if record.facts["running"]:
                record.notes.append("The batch is running: the table is as of its last export.")
            record._records = _row_records(journal, manifest, paths)
            yield record

    def next(self, completed_at: str | None) -> RowRecord | None:
        """Return the record of the table's next row; None if it cannot be matched, which `is_complete` reports.

        Args:
            completed_at: when the row ended, according to the table. A row that has ended differently since the table
                was written gets its key only.
        """
        record = self._read_next()
        if record is None or _is_same_moment(completed_at, record.completed_at):
            return record
        return record.without_past()

    def is_complete(self, rows: int) -> bool:
        """Return whether every row of the table has its record; if not, a note says why.

        Args:
            rows: number of rows of the table; all have been asked for.
        """
        if self.facts is None:
            return False
        while self._read_next() is not None:
            pass
        if self._records is None:
            return False
        if self._rows != rows:
            counts = f"the table has {rows:,} rows, its input {self._rows:,}"
            self.notes.append(f"Prompts and attempts are not shown: {counts}.")
        return self._rows == rows

    def _read_next(self) -> RowRecord | None:
        if self._records is None:
            return None
        try:
            record = next(self._records, None)
        except (InputError, OutputError) as exc:
            self.notes.append(f"Prompts and attempts are not shown: {exc}.")
            self._records = None
            return None
        self._rows += record is not None
        return record


def _row_records(journal: FollowedJournal, manifest: Manifest, paths: Paths) -> Iterator[RowRecord]:
    """Yield the record of each row of the input; many rows share a look-up."""
    source, _ = recorded_source(manifest, paths)
    prompts = prompts_of(source, prompter_of(manifest, source.columns))
    while chunk := list(islice(prompts, KEYS_AT_ONCE)):
        past = journal.past([row_key for row_key, _, _ in chunk])
        for row_key, _, prompt in chunk:
            text, messages = asked(prompt)
            attempts, runs = past.attempts.get(row_key, ()), past.runs.get(row_key, ())
            yield RowRecord(row_key, text, messages, runs, attempts, past.ended_at.get(row_key))


def _is_same_moment(one: str | None, other: str | None) -> bool:
    if one == other:
        return True
    if one is None or other is None:
        return False
    try:
        return datetime.fromisoformat(one) == datetime.fromisoformat(other)
    except (ValueError, TypeError):
        return False


def batch_facts(manifest: Manifest, paths: Paths, journal: Journal) -> BatchFacts:
    """Return the facts of a batch as JSON.

    Args:
        manifest: the journal's manifest.
    """
    settings = manifest["settings"]
    return {
        "batch_id": manifest["batch_id"],
        "created_at": manifest["created_at"],
        "running": is_held(paths.lock),
        "input": None if manifest["input"] is None else Path(manifest["input"]).name,
        "model": settings.get("model"),
        "api": settings.get("api"),
        "embedded": settings["embedded"],
        "base_url": manifest.get("base_url"),
        "prompt": settings.get("prompt"),
        "instructions": settings.get("instructions"),
        "examples": spoken(prompter_of(manifest, manifest["columns"]).examples) if "examples" in settings else (),
        "limits": manifest.get("limits"),
        "spent_usd": journal.spent_usd() or None,
        "from_cache": journal.cached.count() if manifest.get("cache") else 0,
    }
