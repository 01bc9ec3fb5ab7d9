"""From request lines that are due to service batches, as many and as large as the service takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeAlias

import anyio

from batchrun.clock import WallClock
from batchrun.errors import BatchRefused
from batchrun.journal.row_records import stamp
from batchrun.journal.service_batches import UNSENT, ServiceBatch, ServiceBatches
from batchrun.services.batch_api.due import DueLines
from batchrun.services.batch_api.lines import MAX_FILE_BYTES, FileLines, cut
from batchrun.services.batch_api.results import failed_line
from batchrun.services.batch_api.submitting import MAX_SUBMISSIONS, Full, Submitter, TooLarge, Unknowable
from batchrun.services.batch_api.watching import BatchNews, Pace

__all__ = ["Outgoing"]

_Kind: TypeAlias = tuple[str, str | None]
"""The endpoint and the model that all lines of a service batch have."""


class Outgoing:
    """Submits the lines that are due.

    Mutable state: `due`, the lines to submit; `_fits`, how many lines of a kind the service takes at once, where it has
    refused more; `_held`, kinds of which nothing is sent until our own service batches have ended; `_refusals`, how
    often the service took nothing although nothing of ours was open; `_max_bytes`, of a file.
    """

    def __init__(
        self,
        submitter: Submitter,
        lines: ServiceBatches,
        *,
        place: str,
        clock: WallClock,
        pace: Pace,
        max_lines: int,
        report: Callable[[BatchNews], None],
    ) -> None:
        self.due = DueLines()
        self._submitter = submitter
        self._lines = lines
        self._place = place
        self._clock = clock
        self._pace = pace
        self._max_lines = max_lines
        self._report = report
        self._max_bytes = MAX_FILE_BYTES
        self._fits: dict[_Kind, int] = {}
        self._held: set[_Kind] = set()
        self._refusals: Counter[_Kind] = Counter()

    async def submit(self) -> list[ServiceBatch]:
        """Submit what is due, and what an earlier process began to submit; return the new service batches.

        Lines that the service does not take yet stay due.

        Raises:
            BatchRefused: the service refuses every batch. The lines wait in the journal.
        """
        made = []
        for batch in self._lines.open(self._place):
            if batch.status in UNSENT:
                made += await self._submitted(batch)
        has_moved = True
        while self.due and has_moved:
            has_moved = False
            for file in cut(self._lines.waiting(self.due.take()), max_lines=self._max_lines, max_bytes=self._max_bytes):
                if file.size > self._max_bytes and len(file.lines) > 1:  # less fits than at the start of the loop
                    self.due.extend(file.lines)
                    has_moved = True
                    continue
                some = self._admitted(file)
                if some:
                    batch = self._lines.prepare(self._place, file.endpoint, file.model, some, self._clock())
                    made += await self._submitted(batch)
                    has_moved = True
        return made

    def _admitted(self, file: FileLines) -> Sequence[int]:
        """Return the lines of a file that may be sent now; the others stay due."""
        kind = (file.endpoint, file.model)
        open_lines = self._open_lines(kind)
        if open_lines == 0:
            self._held.discard(kind)
        room = len(file.lines)
        if kind in self._held:
            room = 0
        elif kind in self._fits:
            room = max(0, self._fits[kind] - open_lines)
        self.due.extend(file.lines[room:])
        return file.lines[:room]

    def _open_lines(self, kind: _Kind) -> int:
        return sum(
            batch.lines
            for batch in self._lines.open(self._place)
            if (batch.endpoint, batch.model) == kind and batch.status not in UNSENT
        )

    async def _submitted(self, batch: ServiceBatch) -> list[ServiceBatch]:
        """Submit one service batch; return it, or nothing if its lines are due again or will never be sent."""
        try:
            made = await self._submitter.submit(batch)
        except Full as full:
            await self._refused_for_now(batch, full)
        except TooLarge as too_large:
            self._halve(batch, str(too_large))
        except Unknowable as unknowable:
            self.give_up(batch, str(unknowable))
        except BatchRefused as refusal:
            # A batch of which nobody knows whether it exists stays open: the next run looks for it.
            if self._lines.get(batch.number).status in ("prepared", "uploaded"):
                self._dropped(batch, str(refusal))
            raise
        else:
            self._refusals.pop((batch.endpoint, batch.model), None)
            return [made]
        return []

    def take_back(self, batch: ServiceBatch, reason: str) -> bool:
        """Make the lines of a service batch due again that was too much at once: half as many will be sent, when
        nothing of the same kind is open.

        Returns:
            False if even a single line is too much.
        """
        if batch.lines == 1 and self._open_lines((batch.endpoint, batch.model)) <= (batch.status not in UNSENT):
            return False
        self._dropped(batch, reason)
        kind = (batch.endpoint, batch.model)
        self._fits[kind] = (batch.lines + 1) // 2
        self._held.add(kind)
        self._report(BatchNews("held", batch, reason, again=batch.lines))
        return True

    async def _refused_for_now(self, batch: ServiceBatch, full: Full) -> None:
        kind = (batch.endpoint, batch.model)
        if not self.take_back(batch, str(full)):
            self._dropped(batch, str(full))
        if self._open_lines(kind):
            return
        self._refusals[kind] += 1
        if self._refusals[kind] == MAX_SUBMISSIONS:
            raise BatchRefused(
                f"the service has taken no batch in {MAX_SUBMISSIONS} attempts, the last time with: {full}; run the "
                "same command again later",
                error_type="service_unavailable",
                status_code=429,
            )
        await anyio.sleep(max(full.retry_after_s or 0.0, self._pace.wait_s(self._refusals[kind])))

    def _halve(self, batch: ServiceBatch, reason: str) -> None:
        """Make the lines of a service batch due again whose file is too large; fail a single line."""
        lines = self._lines.lines_in(batch.number)
        if len(lines) == 1:
            custom_id = self._lines.custom_ids(batch.number, lines)[lines[0]]
            refused = [(lines[0], failed_line(custom_id, "request_too_large", reason, status=413))]
            self._lines.drop(batch, self._clock(), reason, refused)
            return
        size = sum(each.size + 1 for each in self._lines.sizes(batch.number))
        self._max_bytes = max(1, min(self._max_bytes, size // 2))
        self._dropped(batch, reason)
        self._report(BatchNews("held", batch, reason))

    def _dropped(self, batch: ServiceBatch, reason: str) -> None:
        lines = self._lines.lines_in(batch.number)
        self._lines.drop(batch, self._clock(), reason)
        self.due.extend(lines)

    def give_up(self, batch: ServiceBatch, reason: str) -> None:
        """Record that nobody can know whether a service batch was created: its rows fail, and are not sent again."""
        now = self._clock()
        batch = self._lines.record(
            batch.number,
            now,
            status="unknown",
            collected_at=stamp(now),
            missing=batch.lines,
            lacking="batch_unknown",
            reason=f"the service did not confirm a batch, and does not list its batches ({reason})",
        )
        self._report(BatchNews("collected", batch, batch.reason or ""))
