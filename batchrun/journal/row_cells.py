"""Rows as cells of the output: their outcomes, or why they have none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from batchrun.journal.database import Database
from batchrun.journal.deferred_rows import DeferredRows
from batchrun.journal.part import JournalPart
from batchrun.journal.service_batches import ServiceBatches, is_custom_id
from batchrun.records import OUTPUT_COLUMNS, JsonDict

__all__ = ["MAY_BE_RUNNING", "ROWS_AT_ONCE", "RowCells"]

MAY_BE_RUNNING: Final = "(fault_type IS NULL OR run_id IS NOT NULL AND NOT run_ended)"
"""Whether the run of an attempt may still be running: no fault ended the attempt, or the fault left the run behind."""
ROWS_AT_ONCE: Final = 32
"""Rows of one look-up: their answers are in memory together."""
_CELLS: Final = f"SELECT {', '.join(OUTPUT_COLUMNS)}, fingerprint, row_key FROM outcomes WHERE row_key"


class RowCells(JournalPart):
    """The rows of the journal as cells: the keys of `OUTPUT_COLUMNS`, in order."""

    def __init__(self, database: Database, service_batches: ServiceBatches, deferred_rows: DeferredRows) -> None:
        super().__init__(database)
        self._service_batches = service_batches
        self._deferred_rows = deferred_rows

    def of_rows(self, asked: Sequence[tuple[str, str]]) -> Iterator[JsonDict]:
        """Yield the cells of some rows, in order.

        An outcome that answers a prompt with another fingerprint is left out: the row is then pending.

        Args:
            asked: (row_key, fingerprint) of at most `ROWS_AT_ONCE` rows.
        """
        places = ", ".join("?" * len(asked))
        rows = self._read(f"{_CELLS} IN ({places})", tuple(row_key for row_key, _ in asked))
        found = {row[-1]: row for row in rows}
        for row_key, fingerprint in asked:
            row = found.get(row_key)
            if row is not None and row[-2] == fingerprint:
                yield dict(zip(OUTPUT_COLUMNS, row, strict=False))
            else:
                yield self._without_outcome(row_key, fingerprint)

    def _without_outcome(self, row_key: str, fingerprint: str) -> JsonDict:
        cells: JsonDict = dict.fromkeys(OUTPUT_COLUMNS)
        last = self._read(
            f"SELECT {MAY_BE_RUNNING}, thread_id, run_id, number FROM attempts WHERE row_key = ? AND fingerprint = ? "
            "ORDER BY number DESC LIMIT 1",
            (row_key, fingerprint),
        )
        cells["status"] = "pending"
        if not last:
            return cells
        may_be_running, thread_id, run_id, number = last[0]
        if is_custom_id(run_id) and self._service_batches.line_state(run_id) == "waiting":
            cells["attempts"] = self._deferred_rows.tried(row_key, fingerprint, number - 1)
        else:
            cells["status"] = "in_flight" if may_be_running else "pending"
            cells["thread_id"], cells["run_id"], cells["attempts"] = thread_id, run_id, number
        return cells
