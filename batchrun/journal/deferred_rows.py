"""The rows whose requests go through the Batch API: which are still there, and since when. Read-only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from batchrun.errors import NEVER_TRIED
from batchrun.journal.database import Database
from batchrun.journal.part import JournalPart
from batchrun.journal.row_records import stamp

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

    def ended(self, row_keys: Sequence[str]) -> set[str]:
        """Return those of the rows that have an outcome; at most some hundreds."""
        places = ", ".join("?" * len(row_keys))
        rows = self._read(f"SELECT row_key FROM outcomes WHERE row_key IN ({places})", (*row_keys,)) if row_keys else ()
        return {row_key for (row_key,) in rows}

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

    def tried(self, row_key: str, fingerprint: str, last: int) -> int | None:
        """Return how many attempts at a row the output shows whose next request was not sent: None if the service tried
        none.

        Args:
            last: number of the attempt before that request.
        """
        found = self._read(
            "SELECT EXISTS (SELECT 1 FROM attempts WHERE row_key = ? AND fingerprint = ? AND number <= ? "
            f"AND coalesce(fault_type, '') NOT IN ({', '.join('?' * len(NEVER_TRIED))}))",
            (row_key, fingerprint, last, *NEVER_TRIED),
        )
        return last if found[0][0] else None

    def asked_again(self, since: datetime) -> int:
        """Return the number of rows with an attempt after `since` that followed a fault."""
        found = self._read(
            "SELECT count(DISTINCT later.row_key) FROM attempts AS later JOIN attempts AS before "
            "ON before.row_key = later.row_key AND before.number = later.number - 1 "
            "WHERE later.started_at >= ? AND before.fault_type IS NOT NULL",
            (stamp(since),),
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
