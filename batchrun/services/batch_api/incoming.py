"""Polls the open service batches, and takes in those that have ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import anyio

from batchrun.clock import WallClock
from batchrun.errors import BatchRefused, PermanentFault, ServiceFault
from batchrun.journal.row_records import stamp
from batchrun.journal.service_batches import UNSENT, ServiceBatch, ServiceBatches
from batchrun.records import JsonObject
from batchrun.services.batch_api.batch_client import BatchClient
from batchrun.services.batch_api.collecting import GONE, Collector, Incomplete, Patience, is_refusal
from batchrun.services.batch_api.outgoing import Outgoing
from batchrun.services.batch_api.results import failed_line
from batchrun.services.batch_api.watching import (
    ENDED,
    NO_REASON,
    BatchNews,
    Pace,
    PollSchedule,
    Problem,
    facts_of,
    problems_of,
    status_of,
)
from batchrun.services.retry_after import parse_retry_after

__all__ = ["Incoming"]

MAX_GONE = 3
"""Polls in a row that find no batch, long after its creation; then it is lost."""
MAX_REFUSED = 5
"""Polls in a row that the service refuses with another 4xx, long after the creation; then the batch is lost too."""
FAILED_TWICE = 3
"""Exit code after lines whose service batch failed twice without naming a line: as when most rows fail."""


@dataclass(slots=True)
class _Watched:
    """What this process knows about an open service batch.

    Mutable state: all of it.

    Attributes:
        patience: None until its end was seen.
        gone: polls in a row that did not find it.
        refused: polls in a row that the service refused, these included.
    """

    schedule: PollSchedule
    patience: Patience | None = None
    gone: int = 0
    refused: int = 0


class Incoming:
    """Watches the service batches of one journal.

    Mutable state: `_watched`, by number of the service batch.
    """

    def __init__(
        self,
        client: BatchClient,
        lines: ServiceBatches,
        collector: Collector,
        outgoing: Outgoing,
        *,
        place: str,
        clock: WallClock,
        pace: Pace,
        report: Callable[[BatchNews], None],
    ) -> None:
        self._client = client
        self._lines = lines
        self._collector = collector
        self._outgoing = outgoing
        self._place = place
        self._clock = clock
        self._pace = pace
        self._report = report
        self._watched: dict[int, _Watched] = {}

    async def watch(self, *, once: bool = False, until_s: float | None = None) -> list[ServiceBatch]:
        """Wait until at least one service batch has ended and its results are in the journal; return those.

        Args:
            once: look at each service batch once, and do not wait: unless the service refuses what it should have had
                for long, which is then given up after as many attempts as otherwise.
            until_s: end of the wait (loop time), None for no end.

        Raises:
            BatchRefused: the service refuses the key, or every service batch; `exit_code` is 3 if the same lines failed
                twice for no given reason.
        """
        while True:
            ended = []
            open_batches = [batch for batch in self._lines.open(self._place) if batch.status not in UNSENT]
            for batch in open_batches:
                watched = self._watched.get(batch.number) or self._begin(batch)
                if once or watched.schedule.next_s <= anyio.current_time():
                    taken = await self._look(batch, watched, once=once)
                    if taken is not None:
                        del self._watched[batch.number]
                        ended.append(taken)
            if ended or once or not open_batches:
                return ended
            next_s = min(self._watched[batch.number].schedule.next_s for batch in open_batches)
            if until_s is not None and min(next_s, until_s) == until_s:
                await anyio.sleep_until(until_s)
                return []
            await anyio.sleep_until(next_s)

    def _begin(self, batch: ServiceBatch) -> _Watched:
        """Begin to watch a service batch: at once, unless it has just been created."""
        watched = self._watched[batch.number] = _Watched(PollSchedule(self._pace))
        if self._age_s(batch) < self._pace.first_s:
            watched.schedule.polled(anyio.current_time(), changed=True)
        return watched

    async def _look(self, batch: ServiceBatch, watched: _Watched, *, once: bool) -> ServiceBatch | None:
        """Poll a service batch, and take it in if it has ended; return it when its results are in the journal."""
        while True:
            try:
                found, headers = await self._client.batch(str(batch.batch_id))
                break
            except ServiceFault as fault:
                lost = self._not_seen(batch, watched, fault)
                if lost is not None or not (once and watched.refused and self._is_known(batch)):
                    return lost
                await anyio.sleep(self._pace.wait_s(watched.refused))
        watched.gone = watched.refused = 0
        now_s = anyio.current_time()
        status = status_of(found) or batch.status
        has_changed = status != batch.status
        batch = self._seen(batch, status, found)
        watched.schedule.polled(now_s, changed=has_changed, retry_after_s=parse_retry_after(headers))
        if status not in ENDED:
            return None
        watched.patience = watched.patience or Patience(now_s)
        if status == "failed" and batch.output_file_id is None and batch.error_file_id is None:
            return self._failed(batch, problems_of(found, self._client.secrets))
        return await self._collected(batch, watched.patience, once=once)

    async def _collected(self, batch: ServiceBatch, patience: Patience, *, once: bool) -> ServiceBatch | None:
        """Collect a service batch; return it, or None if its results are not all there yet."""
        attempts = 0
        while True:
            try:
                batch = await self._collector.collect(batch, patience)
            except Incomplete as incomplete:
                self._report(BatchNews("trouble", batch, str(incomplete)))
                if not (once and incomplete.is_lasting and self._collector.has_settled(batch, patience)):
                    return None
            except ServiceFault as fault:
                raise _as_refusal(fault) from fault
            else:
                self._report(BatchNews("collected", batch))
                return batch
            attempts += 1
            await anyio.sleep(self._pace.wait_s(attempts))

    def _seen(self, batch: ServiceBatch, status: str, found: JsonObject) -> ServiceBatch:
        """Record what has changed about a service batch."""
        facts = facts_of(found)
        changed = {name: value for name, value in facts.items() if value != getattr(batch, name) and value is not None}
        if status != batch.status:
            changed["status"] = status
        if not changed:
            return batch
        batch = self._lines.record(batch.number, self._clock(), **changed)
        self._report(BatchNews("status", batch))
        return batch

    def _not_seen(self, batch: ServiceBatch, watched: _Watched, fault: ServiceFault) -> ServiceBatch | None:
        """Poll again later after a failed poll, unless the key is refused or the service batch is gone for good."""
        if fault.status_code in (401, 403, 407):
            raise _as_refusal(fault) from fault
        watched.schedule.polled(anyio.current_time(), retry_after_s=fault.retry_after_s)
        watched.gone = watched.gone + 1 if fault.status_code in GONE else 0
        watched.refused = watched.refused + 1 if is_refusal(fault) else 0
        self._report(BatchNews("trouble", batch, str(fault)))
        if not self._is_known(batch) or (watched.gone < MAX_GONE and watched.refused < MAX_REFUSED):
            return None
        now = self._clock()
        words = "no longer knows" if watched.gone else "does not show"
        batch = self._lines.record(
            batch.number,
            now,
            collected_at=stamp(now),
            missing=batch.lines,
            lacking="batch_gone",
            reason=f"the service {words} the service batch {batch.batch_id} ({fault})",
        )
        self._report(BatchNews("collected", batch, batch.reason or ""))
        return batch

    def _is_known(self, batch: ServiceBatch) -> bool:
        """Return whether a service batch was created so long ago that the service must know it."""
        return self._age_s(batch) >= self._pace.unknown_s

    def _age_s(self, batch: ServiceBatch) -> float:
        created_at = datetime.fromisoformat(batch.created_at or batch.since)
        return (self._clock() - created_at).total_seconds()

    # -- failed as a whole --------------------------------------------------------------------------

    def _failed(self, batch: ServiceBatch, problems: list[Problem]) -> ServiceBatch:
        """Decide what happens to the lines of a service batch that has run nothing."""
        reason = "; ".join(dict.fromkeys(problem.message for problem in problems[:3])) or NO_REASON
        fatal = next((problem for problem in problems if problem.concerns_every_batch), None)
        if fatal is not None:
            self._lines.drop(batch, self._clock(), reason)
            self._report(BatchNews("dropped", batch, reason))
            raise BatchRefused(
                f"the service refused the service batch {batch.batch_id}: {fatal.message}",
                error_type=fatal.code or "batch_failed",
            )
        too_much = next((problem for problem in problems if problem.is_token_limit), None)
        if too_much is not None and self._outgoing.take_back(batch, too_much.message):
            return self._lines.get(batch.number)
        lines = self._lines.lines_in(batch.number)
        refused = {lines[0]: too_much} if too_much is not None else _refused_lines(lines, problems)
        if refused:
            self._refuse(batch, lines, refused, reason)
        elif batch.is_repeat:
            self._lines.drop(batch, self._clock(), reason)
            self._report(BatchNews("dropped", batch, reason))
            fault = BatchRefused(
                f"the service batch {batch.batch_id} failed, as one with the same rows before: {reason}",
                error_type="batch_failed",
            )
            fault.exit_code = FAILED_TWICE
            raise fault
        else:
            self._lines.repeat(batch, self._clock(), reason)
        batch = self._lines.get(batch.number)
        self._report(BatchNews("dropped", batch, reason, again=len(lines) - len(refused)))
        return batch

    def _refuse(self, batch: ServiceBatch, lines: list[int], refused: dict[int, Problem], reason: str) -> None:
        """Fail the lines that the service named; the others are due again."""
        custom_ids = self._lines.custom_ids(batch.number, list(refused))
        results = [
            (line, failed_line(custom_ids[line], problem.code, problem.message, problem.param))
            for line, problem in refused.items()
        ]
        self._lines.drop(batch, self._clock(), reason, results)
        self._outgoing.due.extend(line for line in lines if line not in refused)


def _refused_lines(lines: list[int], problems: list[Problem]) -> dict[int, Problem]:
    """Return request line → its first problem. Some services count lines from 0."""
    first = 0 if any(problem.line == 0 for problem in problems) else 1
    refused: dict[int, Problem] = {}
    for problem in problems:
        if problem.line is not None and 0 <= problem.line - first < len(lines):
            refused.setdefault(lines[problem.line - first], problem)
    return refused


def _as_refusal(fault: ServiceFault) -> BatchRefused:
    """Return a fault of the key or its permission as one that stops the batch."""
    if isinstance(fault, BatchRefused):
        return fault
    return BatchRefused(
        f"the key does not permit this request: {fault}",
        error_type="permission_denied" if isinstance(fault, PermanentFault) else fault.error_type,
        status_code=fault.status_code,
    )
