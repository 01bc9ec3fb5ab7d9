"""LiveRows: the rows of a live page outside of memory; ShownRows: those that the page shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from batchrun.on_disk.key_places import KeyPlaces
from batchrun.on_disk.spool import SpooledSequence
from batchrun.reporting.rows import ReportRow

__all__ = ["LiveRows", "ShownRows", "needs_attention"]


class LiveRows(SpooledSequence[ReportRow]):
    """The rows of a batch, in input order. Each is read when it is asked for, and can be replaced.

    Mutable state: the rows with the fingerprints of their prompts, and their keys.

    Attributes:
        keys: the rows' keys in the batch.
        clusters: number of each row's cluster; None if all rows are independent.
    """

    def __init__(self) -> None:
        super().__init__()
        self.keys = KeyPlaces()
        self.clusters: Sequence[int] | None = None

    def append(self, row: ReportRow, fingerprint: str) -> None:
        """Add a row without `cluster`."""
        self.keys.append(row.batch_key or row.key)
        self._spool.append((row, fingerprint))

    def replace(self, position: int, row: ReportRow, fingerprint: str) -> None:
        """Put a row in the place of another, which has the same key."""
        self._spool[position] = (row, fingerprint)

    def fingerprint(self, position: int) -> str:
        """Return the fingerprint of a row's prompt."""
        _, fingerprint = self._spool[position]
        return str(fingerprint)

    def _entry(self, position: int, stored: Any) -> ReportRow:
        row, _ = stored
        found: ReportRow = row if self.clusters is None else replace(row, cluster=self.clusters[position])
        return found


def needs_attention(row: ReportRow) -> bool:
    """Return whether the page shows a row before others: it failed, or its answer was cut short."""
    return row.cells["status"] not in ("completed", "pending", "skipped", "in_flight")


class ShownRows:
    """The rows that a live page shows: those that need attention and the first of the others, up to a number.

    Mutable state: which rows are shown, which need attention, and from where the next one that leaves is sought.
    """

    def __init__(self, urgent: bytearray, most: int) -> None:
        """
        Args:
            urgent: for each row, whether it needs attention.
            most: maximum number of rows.
        """
        self._urgent = urgent
        self._is_shown = bytearray(len(urgent))
        flags = np.frombuffer(bytes(urgent), dtype=np.bool_)
        first = np.flatnonzero(flags)[:most]
        for position in (*first.tolist(), *np.flatnonzero(~flags)[: most - len(first)].tolist()):
            self._is_shown[position] = True
        self._before = len(urgent)

    def __len__(self) -> int:
        return self._is_shown.count(1)

    def __contains__(self, position: int) -> bool:
        return bool(self._is_shown[position])

    def positions(self) -> Iterator[int]:
        """Yield the positions of the shown rows, in order."""
        return (position for position, is_shown in enumerate(self._is_shown) if is_shown)

    def change(self, position: int, *, is_urgent: bool) -> list[int]:
        """Take note of a changed row, and return what changes on the page: the row, and one that leaves for it."""
        self._urgent[position] = is_urgent
        if self._is_shown[position]:
            return [position]
        if not is_urgent or (leaving := self._last_other()) is None:
            return []
        self._is_shown[position], self._is_shown[leaving] = True, False
        return [leaving, position]

    def _last_other(self) -> int | None:
        """Return the last shown row that needs no attention; None if all do."""
        while self._before > 0:
            self._before -= 1
            if self._is_shown[self._before] and not self._urgent[self._before]:
                return self._before
        return None
