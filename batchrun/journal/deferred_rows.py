"""The rows whose requests go through the Batch API: which are still there, and since when. Read-only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from batchrun.journal.database import Database
from batchrun.journal.part import JournalPart

__all__ = ["DeferredRows"]

SINCE_VERSION = 6
"""The first version of the journal with request lines."""


class DeferredRows(JournalPart):
    """Queries over `attempts` and `request_lines`."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._is_known = database.version >= SINCE_VERSION

    def past(self, row_key: str, after: int, uncounted: Iterable[str]) -> tuple[int, datetime | None]:
        """Return (failed attempts that count, start of the first attempt) of a row.

        Args:
            after: the attempt that ended the row's last run, or gave it an earlier outcome; 0 for none.
            uncounted: types of faults that count as no attempt.
        """
        faults = tuple(uncounted)
        failed, started_at = self._read(
            "SELECT total(number > ? AND fault_type IS NOT NULL AND fault_type NOT IN "
            f"({', '.join('?' * len(faults))})), min(started_at) FROM attempts WHERE row_key = ? "
            "AND number > coalesce((SELECT attempts FROM outcomes WHERE outcomes.row_key = attempts.row_key), 0)",
            (after, *faults, row_key),
        )[0]
        return int(failed), datetime.fromisoformat(started_at) if started_at is not None else None

    def pasts(self, row_keys: Sequence[str], uncounted: Iterable[str]) -> dict[str, tuple[int, datetime | None]]:
        """Return row → its `past`, for rows of which no run has ended since their earlier outcome; at most some
        hundreds."""
        faults = tuple(uncounted)
        rows = self._read(
            f"SELECT row_key, total(fault_type IS NOT NULL AND fault_type NOT IN ({', '.join('?' * len(faults))})), "
            f"min(started_at) FROM attempts WHERE row_key IN ({', '.join('?' * len(row_keys))}) "
            "AND number > coalesce((SELECT attempts FROM outcomes WHERE outcomes.row_key = attempts.row_key), 0) "
            "GROUP BY row_key",
            (*faults, *row_keys),
        )
        return {row_key: (int(failed), datetime.fromisoformat(started_at)) for row_key, failed, started_at in rows}

    def waiting(self) -> int:
        """Return the number of rows whose last request was not sent yet."""
        if not self._is_known:
            return 0
        found = self._read(
            "SELECT count(*) FROM request_lines AS line JOIN attempts AS last ON last.row_key = line.row_key "
            "AND last.number = line.attempt AND last.run_id = line.custom_id WHERE line.batch IS NULL "
            "AND line.result IS NULL AND NOT line.taken AND last.fault_type IS NULL "
            "AND NOT EXISTS (SELECT 1 FROM outcomes WHERE outcomes.row_key = line.row_key)"
        )
        return int(found[0][0])

    def has_untaken(self) -> bool:
        """Return whether a row has a request line that has not given it a reply yet."""
        return bool(self._read("SELECT EXISTS (SELECT 1 FROM request_lines WHERE NOT taken)", ())[0][0])

    def untaken(self) -> set[str]:
        """Return the keys of the rows with a request line that has not given them a reply yet."""
        return {row_key for (row_key,) in self._read("SELECT row_key FROM request_lines WHERE NOT taken", ())}

    def unanswered(self, numbers: Iterable[int]) -> set[str]:
        """Return the keys of the rows that got no answer from these service batches, and still wait for one."""
        found: set[str] = set()
        for number in numbers:
            found.update(
                row_key
                for (row_key,) in self._read(
                    "SELECT row_key FROM request_lines JOIN service_batches ON number = batch "
                    "WHERE batch = ? AND coalesce(rank, 0) = 0 AND NOT taken AND collected_at IS NOT NULL",
                    (number,),
                )
            )
        return found
