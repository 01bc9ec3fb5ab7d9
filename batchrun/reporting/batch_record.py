"""BatchRecord: the data that the journal next to a table adds to a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from batchrun.batch.added_columns import recorded_columns
from batchrun.batch.lock import is_held
from batchrun.batch.paths import Paths
from batchrun.batch.recorded_input import recorded_source
from batchrun.batch.results import prompts_of
from batchrun.errors import InputError, OutputError
from batchrun.journal import Journal
from batchrun.journal.live import CoolDown, FollowedJournal, RecordedAttempt, RecordedRun
from batchrun.prompts.conversations import spoken
from batchrun.prompts.rendering_version import prompter_of
from batchrun.records import Manifest
from batchrun.reporting.page_facts import BatchFacts
from batchrun.reporting.rows import ReportRow, asked

__all__ = ["BatchRecord", "batch_facts"]


@dataclass(frozen=True, slots=True)
class _RowRecord:
    """The data in a journal about a row of the table."""

    row_key: str
    prompt: str | None
    messages: Sequence[tuple[str, str]]
    runs: Sequence[RecordedRun]
    attempts: Sequence[RecordedAttempt]
    completed_at: str | None


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """The data that the journal next to a table adds to a report.

    Attributes:
        facts: the batch; None without a journal.
        rows: records of the rows, in the table's order; empty if they cannot be matched.
        key: the batch's key column.
        notes: reasons why something is not shown, one sentence each.
        cool_downs: oldest first; None if they were not recorded.
        fields: columns with the fields of its schema.
    """

    facts: BatchFacts | None = None
    rows: Sequence[_RowRecord] = ()
    key: str | None = None
    notes: Sequence[str] = field(default_factory=list)
    cool_downs: Sequence[CoolDown] | None = None
    fields: Sequence[str] = ()

    @classmethod
    def read(cls, paths: Paths, rows: int) -> BatchRecord:
        """Read the journal if there is one.

        Args:
            rows: number of rows in the table.

        Raises:
            OutputError: the journal cannot be read.
        """
        if not paths.journal.exists():
            return cls(notes=["There is no journal next to the table: attempts, prompts and refusals are unknown."])
        with FollowedJournal(paths.journal) as journal:
            manifest = journal.read_manifest()
            facts = batch_facts(manifest, paths, journal)
            cool_downs = journal.cool_downs()
            fields = recorded_columns(manifest, ()).field_columns
            notes = []
            if facts["running"]:
                notes.append("The batch is running: the table is as of its last export.")
            try:
                records = _row_records(journal, manifest, paths)
            except (InputError, OutputError) as exc:
                notes.append(f"Prompts and attempts are not shown: {exc}.")
                return cls(facts, (), manifest.get("key"), notes, cool_downs, fields)
        if len(records) != rows:
            counts = f"the table has {rows:,} rows, its input {len(records):,}"
            notes.append(f"Prompts and attempts are not shown: {counts}.")
            records = []
        return cls(facts, records, manifest.get("key"), notes, cool_downs, fields)

    def join(self, rows: Sequence[ReportRow]) -> list[ReportRow]:
        """Return the rows with their keys in the batch, their prompts, runs and attempts.

        A row that has ended differently since the table was written gets its key only.
        """
        if not self.rows:
            return list(rows)
        return [
            replace(
                row,
                batch_key=record.row_key,
                prompt=record.prompt,
                messages=record.messages,
                runs=record.runs,
                attempts=record.attempts,
            )
            if _is_same_moment(row.cells["completed_at"], record.completed_at)
            else replace(row, batch_key=record.row_key)
            for row, record in zip(rows, self.rows, strict=True)
        ]


def _row_records(journal: FollowedJournal, manifest: Manifest, paths: Paths) -> list[_RowRecord]:
    source, _ = recorded_source(manifest, paths.spool)
    prompter = prompter_of(manifest, source.columns)
    attempts, runs, ended = journal.all_attempts(), journal.all_runs(), journal.ended_at()
    return [
        _RowRecord(
            row_key,
            *asked(prompt),
            runs.get(row_key, ()),
            attempts.get(row_key, ()),
            ended.get(row_key),
        )
        for row_key, _, prompt in prompts_of(source, prompter)
    ]


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
