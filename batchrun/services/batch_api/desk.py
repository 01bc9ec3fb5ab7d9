"""The desk of the Batch API: request lines go out in service batches, result lines come into the journal.

A pass over the table adds request lines (see `DeferredService`). Then `submit` makes service batches of them, and
`watch` waits until the results of at least one are in the journal, for the next pass. All of it can be interrupted at
any moment; another desk on the same journal continues.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anyio

from batchrun.clock import WallClock
from batchrun.errors import ServiceFault, TransientFault
from batchrun.journal.row_records import stamp
from batchrun.journal.service_batches import UNSENT, ServiceBatch, ServiceBatches
from batchrun.services.batch_api.batch_client import BatchClient
from batchrun.services.batch_api.collecting import Collector
from batchrun.services.batch_api.due import DueLines
from batchrun.services.batch_api.incoming import Incoming
from batchrun.services.batch_api.lines import MAX_LINES
from batchrun.services.batch_api.outgoing import Outgoing
from batchrun.services.batch_api.scratch import beside, removed
from batchrun.services.batch_api.submitting import MAX_SUBMISSIONS, Submitter, Unknowable
from batchrun.services.batch_api.watching import ENDED, BatchNews, Pace, status_of
from batchrun.services.wire import Wire

__all__ = ["Desk"]

_ENDED_MEANWHILE = (400, 404, 409)
"""Statuses of a refusal to cancel that services give for a batch that has ended: the next poll shows whether it has."""


class Desk:
    """Submits, watches and collects the service batches of one journal.

    Mutable state: that of its parts.
    """

    def __init__(
        self,
        wire: Wire,
        lines: ServiceBatches,
        *,
        journal_path: Path,
        journal_id: str,
        place: str,
        clock: WallClock,
        max_lines: int = MAX_LINES,
        pace: Pace | None = None,
        report: Callable[[BatchNews], None] = lambda _: None,
    ) -> None:
        """
        Args:
            wire: its limits hold for the requests of the desk only.
            journal_path: the journal; temporary files are next to it.
            journal_id: `batch_id` of the journal's manifest.
            place: see `batchrun.journal.place_of`.
            max_lines: maximum lines in a service batch (--batch-size).
            report: called with everything that happens to a service batch.

        Raises:
            OutputError: something that cannot be removed is in the place of the temporary file.
        """
        self._client = BatchClient(wire)
        self._lines = lines
        self._place = place
        self._clock = clock
        self._pace = pace = pace or Pace()
        self._report = report
        scratch = beside(journal_path)
        removed(scratch)  # of a process that was killed
        self._submitter = Submitter(
            self._client,
            lines,
            journal_id=journal_id.removeprefix("batch_"),
            scratch=scratch,
            clock=clock,
            pace=pace,
            report=report,
        )
        self._outgoing = Outgoing(
            self._submitter,
            lines,
            place=place,
            clock=clock,
            pace=pace,
            max_lines=min(max_lines, MAX_LINES),
            report=report,
        )
        collector = Collector(self._client, lines, scratch=scratch, clock=clock, settle_s=pace.settle_s)
        self._incoming = Incoming(
            self._client, lines, collector, self._outgoing, place=place, clock=clock, pace=pace, report=report
        )

    @property
    def due(self) -> DueLines:
        """The request lines to submit; a `DeferredService` adds to them."""
        return self._outgoing.due

    @property
    def waiting(self) -> int:
        """Number of request lines that are due and in no service batch."""
        return len(self._outgoing.due)

    def open(self) -> list[ServiceBatch]:
        """Return the service batches whose results are still to come, oldest first."""
        return self._lines.open(self._place)

    async def submit(self) -> list[ServiceBatch]:
        """Submit what is due: see `Outgoing.submit`. At the start of a process, complete what an earlier one began."""
        return await self._outgoing.submit()

    async def watch(self, *, once: bool = False, until_s: float | None = None) -> list[ServiceBatch]:
        """Wait for results: see `Incoming.watch`."""
        return await self._incoming.watch(once=once, until_s=until_s)

    def tidy(self) -> None:
        """Forget the requests and results that their rows have taken. Call it after a pass."""
        self._lines.tidy()

    async def cancel(self, batch: ServiceBatch) -> None:
        """Ask the service to cancel a service batch; `watch` then collects what it has done.

        Lines of a service batch that was not created wait again.

        Raises:
            ServiceFault: the service cannot be asked now, or refuses the key.
        """
        if batch.status == "creating":
            try:
                found = await self._submitter.find(batch)
            except Unknowable as unknowable:
                self._outgoing.give_up(batch, str(unknowable))
                return
            batch = found if found is not None else batch
        if batch.status in UNSENT:
            self._lines.drop(batch, self._clock(), None)
            return
        if batch.status in ENDED or batch.status == "cancelling":
            return
        failures = 0
        while True:
            try:
                seen = await self._client.cancel(str(batch.batch_id))
            except ServiceFault as fault:
                if fault.status_code in _ENDED_MEANWHILE:
                    return
                if not isinstance(fault, TransientFault):
                    if fault.status_code in (401, 403, 407):
                        raise
                    self._report(BatchNews("trouble", batch, str(fault)))
                    return
                failures += 1
                if failures == MAX_SUBMISSIONS:
                    raise
                await anyio.sleep(max(fault.retry_after_s or 0.0, self._pace.wait_s(failures)))
                continue
            if status_of(seen) == "cancelling":  # what has ended at once is for the next poll
                self._report(BatchNews("status", self._lines.record(batch.number, self._clock(), status="cancelling")))
            return

    async def cancel_all(self) -> list[ServiceBatch]:
        """Cancel all open service batches; return those that are still open. Raises as `cancel` does."""
        for batch in self.open():
            await self.cancel(batch)
        return self.open()

    async def delete_files(self) -> tuple[int, int]:
        """Delete the files of service batches whose results are in the journal.

        Returns:
            (deleted, could not be deleted).
        """
        deleted = left = 0
        for batch in self._lines.all():
            if batch.place != self._place or batch.is_open or batch.deleted_at is not None:
                continue
            remaining = 0
            for file_id in batch.file_ids:
                try:
                    deleted += await self._client.delete_file(file_id)
                except ServiceFault:
                    remaining += 1
            left += remaining
            if not remaining:
                self._lines.record(batch.number, self._clock(), deleted_at=stamp(self._clock()))
        return deleted, left
