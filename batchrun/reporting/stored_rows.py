"""StoredRows: the rows of a report outside of memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from batchrun.journal.live import RecordedAttempt, RecordedRun
from batchrun.on_disk.spool import SpooledSequence
from batchrun.records import OUTPUT_COLUMNS, Cells
from batchrun.reporting.rows import ReportRow

__all__ = ["RowRecord", "StoredRows"]


@dataclass(frozen=True, slots=True)
class RowRecord:
    """The data in a journal about a row of the table.

    Attributes:
        completed_at: when the row ended, as recorded; None if it has not.
    """

    row_key: str
    prompt: str | None
    messages: Sequence[tuple[str, str]]
    runs: Sequence[RecordedRun]
    attempts: Sequence[RecordedAttempt]
    completed_at: str | None

    def without_past(self) -> RowRecord:
        """Return the record of a row that has ended differently since the table was written: its key only."""
        return RowRecord(self.row_key, None, (), (), (), None)


class StoredRows(SpooledSequence[ReportRow]):
    """The rows of a report, in the table's order. Each is read when it is asked for.

    Mutable state: the rows, and what is known only after the last of them.

    Attributes:
        has_records: whether the rows have what the journal records about them.
        labelled: scorers whose labels the rows have; None for all.
        clusters: number of each row's cluster; None if all rows are independent.
        before: position → `ReportRow.before`, of rows that a comparison shows.
    """

    def __init__(self) -> None:
        super().__init__()
        self.has_records = True
        self.labelled: Collection[str] | None = None
        self.clusters: Sequence[int] | None = None
        self.before: Mapping[int, Cells] = {}

    def append(self, row: ReportRow, record: RowRecord | None) -> None:
        """Add a row without `before`, `cluster` and what a journal records."""
        past: Any = None
        if record is not None:
            attempts = [
                (
                    *(each.row_key, each.number, each.started_at, each.fingerprint, each.thread_id, each.run_id),
                    *(each.run_ended, each.fault_type, each.fault),
                )
                for each in record.attempts
            ]
            past = (record.row_key, record.prompt, record.messages, record.runs, attempts)
        self._spool.append(
            (row.key, row.values, tuple(row.cells.values()), row.scores, row.reads, row.compared, row.fields, past)
        )

    def _entry(self, position: int, stored: Any) -> ReportRow:
        key, values, cells, scores, reads, compared, fields, past = stored
        if compared and self.labelled is not None:
            compared = {name: labels for name, labels in compared.items() if name in self.labelled}
        row_key, prompt, messages, runs, attempts = past if past is not None and self.has_records else _NO_PAST
        return ReportRow(
            key,
            values,
            dict(zip(OUTPUT_COLUMNS, cells, strict=True)),
            prompt=prompt,
            runs=runs,
            attempts=[RecordedAttempt(*each) for each in attempts],
            scores=scores,
            reads=reads,
            before=self.before.get(position),
            compared=compared,
            cluster=None if self.clusters is None else self.clusters[position],
            messages=messages,
            fields=fields,
            batch_key=row_key,
        )


_NO_PAST: Final = (None, None, (), (), ())
