"""Announcements of the money that a leader lends to workers on other machines: see `batchrun.journal.spending`."""

from __future__ import annotations

from typing import Final

import anyio
from anyio import to_thread

from batchrun.journal import Journal
from batchrun.scale.dollar_governor import DollarGovernor
from batchrun.scale.journal_puts import JournalPuts

__all__ = ["Announcements"]

END_TIMEOUT_S: Final = 20.0
"""Seconds that a store may take for the last announcement. Without it, money that was not spent counts as spent if the
batch continues on another machine."""


class Announcements:
    """Raises the ceiling of a governor, each time after it is on the disk and in the store.

    Mutable state: the governor's ceiling; `_due`, set when another one is due; `_keeping`, while `keep` runs, and
    `_kept`, set when it has ended.
    """

    def __init__(self, dollars: DollarGovernor, journal: Journal, puts: JournalPuts | None) -> None:
        """
        Args:
            journal: of the whole batch.
            puts: puts it into the store; None without a store.
        """
        self._dollars, self._journal, self._puts = dollars, journal, puts
        self._unaccounted_usd = journal.spending.unaccounted_usd
        self._due, self._kept = anyio.Event(), anyio.Event()
        self._keeping = anyio.CancelScope()

    def look(self) -> None:
        """Note whether another ceiling is due, after the governor has answered a report."""
        if self._dollars.ceiling_due() is not None:
            self._due.set()

    async def keep(self) -> None:
        """Announce what is due, at first for the time until something is known. Runs until `end`, or until it is
        cancelled.

        Raises:
            OutputError: the journal cannot be written.
        """
        with self._keeping:
            while True:
                while (ceiling_usd := self._dollars.ceiling_due()) is not None:
                    announcement = self._journal.spending.announcement(
                        ceiling_usd=ceiling_usd, unaccounted_usd=self._unaccounted_usd
                    )
                    await self._record(announcement)
                    if self._puts is not None:
                        await self._puts.announce(announcement)
                    self._dollars.ceiling_usd = ceiling_usd
                await self._due.wait()
                self._due = anyio.Event()
        self._kept.set()

    async def end(self) -> float:
        """Announce that nothing is lent any more, when all workers have ended; return the US dollars that workers may
        have spent whose journals were lost in this run.

        Raises:
            OutputError: the journal cannot be written.
        """
        self._keeping.cancel()
        await self._kept.wait()
        lost_usd = self._dollars.unaccounted_usd
        announcement = self._journal.spending.announcement(unaccounted_usd=self._unaccounted_usd + lost_usd)
        if self._puts is not None:
            with anyio.move_on_after(END_TIMEOUT_S):
                await self._puts.put(announcement.encode(), at_once=True)
        await self._record(announcement)
        return lost_usd

    async def _record(self, announcement: str) -> None:
        self._journal.spending.announce(announcement)
        await to_thread.run_sync(self._journal.checkpoint)  # also after a power cut
