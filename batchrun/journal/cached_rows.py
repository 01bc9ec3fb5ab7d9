"""The rows of a journal whose answers come from a cache."""

from __future__ import annotations

from datetime import datetime

from batchrun.journal.part import JournalPart
from batchrun.journal.row_records import stamp

__all__ = ["CachedRows"]


class CachedRows(JournalPart):
    """The outcomes with the extra `cached_from`."""

    def count(self) -> int:
        """Return the number of rows with an answer from a cache."""
        return int(
            self._read("SELECT count(*) FROM outcomes WHERE json_extract(extras, '$.cached_from') NOTNULL")[0][0]
        )

    def had_answer(self, row_key: str, completed_at: datetime) -> bool:
        """Return whether an answer of this moment is among those that later ones of the row replaced."""
        found = self._read(
            "SELECT 1 FROM superseded WHERE row_key = ? AND completed_at = ?", (row_key, stamp(completed_at))
        )
        return bool(found)
