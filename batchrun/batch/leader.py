"""The leader of a batch with workers: it hands out shards of the rows, and takes their outcomes into the journal."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Final

import anyio
import anyio.abc
import anyio.lowlevel

from batchrun.batch.plan import Plan
from batchrun.batch.remote_shards import RemoteShards
from batchrun.batch.service_notices import ServiceNotices
from batchrun.batch.shard_plan import ShardPlan, check_can_travel
from batchrun.batch.shard_statistics import statistics_of, together
from batchrun.batch.worker_state import OpenShard, Worker
from batchrun.clock import loop_time
from batchrun.engine import CachedRow, Engine, EngineStatistics, SkippedRow, Stop
from batchrun.errors import InputError, OutputError, OutputHeld
from batchrun.journal import Journal
from batchrun.journal.shard_rows import begun_after, drop, gather, keep_log, seed
from batchrun.records import Outcome, Row
from batchrun.scale.governor import Governor
from batchrun.scale.journal_copies import JournalCopy, write_copy
from batchrun.scale.links import Link, WorkerLost
from batchrun.scale.messages import (
    Begin,
    Broken,
    Finish,
    RemoteShard,
    Shard,
    ShardEnded,
    StopAsked,
    Taken,
    WorkerReport,
)
from batchrun.scale.pipes import start_process
from batchrun.scale.shards import ShardRows, leave_out_ended, shard_size, share_of, usable_files, write_rows
from batchrun.services.client import Endpoint
from batchrun.wording import visible_line

__all__ = ["Leader"]

GATHER_EVERY_S = 1.0
ROWS_A_TURN: Final = 250
REPORT_TIMEOUT_S: Final = 60.0
"""Seconds without a report after which a worker counts as lost, and is ended."""
GRACE_S: Final = 30.0
"""Seconds for rows in flight when a worker has found a reason to stop the batch."""
LOSSES_WITHOUT_PROGRESS: Final = 5
"""Losses of one worker in a row, with no row ended in between, after which the batch stops."""
LATE_S: Final = 20.0
"""Seconds that workers may take to end after the grace of a stop; then they are ended."""

log = logging.getLogger("batchrun.workers")


class Leader:
    """Runs the rows of a batch by workers.

    Mutable state: `stop`, set once, and `_stop_asked`, what it says to workers; `_workers`; `_done`, the statistics of
    shards that are done, and of workers that were lost; `_rows`, those that are not handed out, and their number,
    `_rows_left`; `_finished_before` and `_from_cache`, rows that are not sent; `_shards`, cut so far; `_tasks`, their
    task group; row ids of outcomes: `_reported`, the last one passed to `on_outcome`, `_begun_at`, the last before.
    """

    def __init__(
        self,
        plan: Plan,
        journal: Journal,
        engine: Engine,
        endpoint: Endpoint,
        notices: ServiceNotices,
        notify: Callable[[str], None],
        on_outcome: Callable[[Outcome], None] | None,
        remote: RemoteShards | None = None,
    ) -> None:
        """
        Args:
            journal: of the whole batch.
            engine: prepares the service for all workers; it runs no row.
            notices: gets what workers find out about the service.
            notify: shows a line about workers: that they were lost, or how many can send at a time.
            on_outcome: called for each row that ends in this run, after its outcome is in the journal.
            remote: workers on other machines; None for processes of this one.

        Raises:
            InputError: the plan has something that only this process can use.
        """
        check_can_travel(plan, endpoint)
        if journal.deferred_rows.has_untaken():
            raise InputError("--workers: answers of the Batch API are not taken yet; run once without --workers first")
        self.stop: Stop | None = None
        self._stop_asked: StopAsked | None = None
        self._plan = plan
        self._journal = journal
        self._engine = engine
        self._endpoint = endpoint
        self._remote = remote
        self._notices = notices
        self._notify = notify
        self._on_outcome = on_outcome
        self._folder = plan.paths.shards
        self._rows_left = plan.rows_to_ask
        concurrency = plan.job.concurrency
        shards = -(-plan.rows_to_ask // shard_size(plan.rows_to_ask, plan.job.workers))
        number = min(plan.job.workers, shards, concurrency or plan.job.workers)
        self._workers = [Worker(n + 1, share_of(concurrency, n, number)) for n in range(number)]
        self._done: list[EngineStatistics] = []
        self._rows: Iterator[Row | CachedRow | SkippedRow] = iter(())
        self._finished_before = self._from_cache = 0
        self._shards = 0
        self._cutting = anyio.Lock()
        self._tasks: anyio.abc.TaskGroup | None = None
        self._begun_at = self._reported = journal.last_outcome()[0]

    async def run(self, rows: Iterator[Row | CachedRow | SkippedRow]) -> None:
        """Prepare the service and run every row; return when all have ended, or after a stop.

        Args:
            rows: as of `rows_left`.

        Raises:
            OutputError: a journal cannot be written. Nothing in it is lost.
            OutputHeld: the batch was begun elsewhere.
        """
        self._rows = rows
        if not (first := await self._next_rows()) or not await self._engine.prepare():
            self.stop = self.stop or self._engine.stop
            return
        self._rows, self._rows_left = chain(first, rows), self._rows_left + len(first)
        with usable_files(self._folder):
            self._folder.mkdir(mode=0o700, exist_ok=True)
        try:
            if self._remote is not None:
                await self._remote.begin()
            self._governor = Governor(
                requests_per_minute=self._plan.job.rpm,
                tokens_per_minute=self._plan.job.tpm,
                budget_usd=self._plan.job.budget if self._engine.has_budget else None,
                spent_usd=self._journal.spent_usd(),
                unknown_usd=self._unknown_usd(),
                announces=self._remote is not None,
            )
            for notice in self._governor.notices(len(self._workers)):
                self._notify(notice)
            async with anyio.create_task_group() as beside:
                if self._remote is None:
                    beside.start_soon(self._keep_gathering)
                else:  # it is gathered when a copy comes
                    beside.start_soon(self._remote.keep, self._stop_for_another, self._governor.dollars)
                try:
                    async with anyio.create_task_group() as tasks:
                        self._tasks = tasks
                        for worker in self._workers:
                            tasks.start_soon(self._run_worker, worker)
                finally:
                    self._tasks = None  # also after an error
                    for worker in self._workers:
                        self._take_back(worker, is_whole=self._remote is None)
                if self._remote is not None:
                    await self._remote.settle()
                beside.cancel_scope.cancel()
            if self._remote is not None:
                await self._remote.end()
        finally:
            with suppress(OSError):
                self._folder.rmdir()  # unless a worker has left its log there

    def request_stop(self, stop: Stop, grace_s: float) -> None:
        """Hand out no more rows; rows in flight have `grace_s` seconds to end. The reason of the first call is kept."""
        if self.stop is None:
            log.info("the batch stops: %s", visible_line(stop.reason))
            self.stop = stop
        self._engine.request_stop(self.stop, grace_s)
        self._stop_asked = StopAsked(self.stop, grace_s)
        if self._tasks is not None:
            self._tasks.start_soon(self._pass_on, self._stop_asked, self._tasks.cancel_scope)

    def _stop_for_another(self, reason: str) -> None:
        self.request_stop(Stop(reason, OutputHeld.exit_code), GRACE_S)

    async def _pass_on(self, message: StopAsked, workers: anyio.CancelScope) -> None:
        """Ask all workers to stop; end those that have not within their time."""
        for link in [worker.link for worker in self._workers if worker.link is not None]:
            with suppress(WorkerLost):  # whoever receives from it sees that too
                await link.send(message)
        workers.deadline = min(workers.deadline, loop_time() + message.grace_s + LATE_S)

    def statistics(self) -> EngineStatistics:
        """Return a snapshot, of all workers together."""
        own = self._engine.statistics()
        limits = [worker.report.limits for worker in self._workers if worker.report is not None]
        requests = own.limits.requests + sum(worker.requests for worker in self._workers)
        found = together(
            [*self._done, *(each for worker in self._workers for each in worker.statistics())], limits, requests
        )
        stopping = self.stop.reason if self.stop is not None else None
        return replace(found, finished_before=self._finished_before, from_cache=self._from_cache, stopping=stopping)

    # -- rows -----------------------------------------------------------------------------------------------------

    async def _next_rows(self) -> list[Row]:
        """Return the rows of the next shard; none if there are no more."""
        found: list[Row] = []
        size = shard_size(self._rows_left, len(self._workers))
        for number, row in enumerate(self._rows):
            self._rows_left -= 1
            if isinstance(row, SkippedRow):
                self._finished_before += 1
            elif isinstance(row, CachedRow):
                self._journal.finish(row.outcome, row.fingerprint, ends=row.ends)
                self._from_cache += 1
                self._report()
            else:
                found.append(row)
                if len(found) == size:
                    break
            if number % ROWS_A_TURN == 0:
                await anyio.lowlevel.checkpoint()
        return found

    async def _hand_out(self, worker: Worker, link: Link) -> None:
        """Give a worker another shard, if there is one."""
        async with self._cutting:
            rows = await self._next_rows() if self.stop is None else []
            if not rows:
                return
            self._shards += 1
            journal = self._folder / f"{self._shards:05}.journal"
            keys = [*map(self._plan.prompter.row_key, rows)] if self._journal.has_history else []
            seed(self._journal, journal, keys)
            shard = Shard(self._shards, journal, journal.with_suffix(".rows"), len(rows))
            write_rows(shard.rows, rows)
        log_kept = keep_log(journal) if self._remote is None else None
        worker.shards[shard.number] = OpenShard(shard, log_kept, self._unknown_usd(keys))
        await link.send(self._as_sent(shard))

    def _as_sent(self, shard: Shard) -> Shard | RemoteShard:
        """Return the message with a shard."""
        return shard if self._remote is None else self._remote.sent(shard)

    # -- workers --------------------------------------------------------------------------------------------------

    async def _run_worker(self, worker: Worker) -> None:
        """Keep a worker running until there are no more rows."""
        while True:
            try:
                await self._converse(worker)
            except WorkerLost as lost:
                is_whole = self._remote is None
                if self.stop is None:
                    self._notify(f"{worker.name} {lost}; another one continues with its rows")
                    if self._remote is not None:
                        is_whole = await self._remote.recover(worker, partial(self._gather, worker, whole=True))
                ended = self._take_back(worker, is_whole=is_whole)
                if self.stop is not None:
                    return
                worker.losses = 0 if ended else worker.losses + 1
                if worker.losses == LOSSES_WITHOUT_PROGRESS:
                    times = f"{worker.losses} times in a row without an answer"
                    self.request_stop(Stop(f"{worker.name} {lost}, {times}", exit_code=1), GRACE_S)
            else:
                return

    async def _started(self, worker: Worker) -> Link:
        if self._remote is not None:
            return await self._remote.started(worker)
        log_file = self._folder / f"{worker.name.replace(' ', '-')}.log"
        return await start_process(worker.name, "batchrun.batch.shard_worker", log_file)

    async def _converse(self, worker: Worker) -> None:
        worker.processes += 1
        link = worker.link = await self._started(worker)
        try:
            await link.send(
                Begin(ShardPlan.of(self._plan, worker.concurrency), self._endpoint, log.getEffectiveLevel())
            )
            for each in list(worker.shards.values()):  # of a process that was lost
                await link.send(self._as_sent(each.shard))
            if self._stop_asked is not None:
                await link.send(self._stop_asked)
            elif not worker.shards:
                await self._hand_out(worker, link)
            while worker.shards:
                await self._take(worker, link, await self._received(link))
            await link.send(Finish())
            with suppress(WorkerLost):  # it has ended
                while True:
                    await self._take(worker, link, await self._received(link))
            self._bury(worker, is_whole=True)
        finally:
            worker.link = None
            await link.aclose()

    async def _received(self, link: Link) -> object:
        """Return the next message of a worker; one that does not report any more is lost. A process that was stopped
        (Ctrl-Z) continues with the end of its wait: of several, the others find what was reported meanwhile."""
        waits = 12 if self._remote is None else 1  # a wait for a message of Ray is better not cancelled
        for _ in range(waits):
            with anyio.move_on_after(REPORT_TIMEOUT_S / waits):
                return await link.receive()
        raise WorkerLost(f"has not reported for {REPORT_TIMEOUT_S:g} s")

    async def _take(self, worker: Worker, link: Link, message: object) -> None:
        if isinstance(message, WorkerReport):
            self._take_report(worker, message)
            await link.send(self._governor.answer(worker.process_name, message.asks, loop_time()))
            if self._remote is not None:
                self._remote.look()
        elif isinstance(message, Taken):
            worker.shards[message.number].place = message.journal
            await self._hand_out(worker, link)
        elif isinstance(message, ShardEnded):
            each = worker.shards[message.number]
            self._gather(worker, each, whole=True)
            self._drop(each)
            self._done.append(message.statistics)
            worker.unknown_usd += message.unknown_usd
            del worker.shards[message.number]
        elif isinstance(message, JournalCopy):
            each = worker.shards[message.shard]
            assert self._remote is not None
            assert self._tasks is not None
            write_copy(message.content, each.shard.journal)
            self._gather(worker, each, whole=message.is_last)
            self._tasks.start_soon(self._remote.confirm, message, link)
        elif isinstance(message, Broken):
            raise OutputError(f"{worker.name}: {message.message}")

    def _take_report(self, worker: Worker, report: WorkerReport) -> None:
        worker.report, worker.received_s = report, loop_time()
        for number, statistics in report.shards.items():
            if number in worker.shards:
                worker.shards[number].statistics = statistics
        for kind, lines in report.notices.items():
            self._notices.found.setdefault(kind, lines)
        for line in report.log:
            logging.getLogger(line.logger).log(line.level, "%s: %s", worker.name, line.text)
        if report.stop is not None and self.stop is None:
            self.request_stop(report.stop, GRACE_S)

    def _take_back(self, worker: Worker, *, is_whole: bool) -> int:
        """Gather all that the shards of a lost worker have; return the number of rows that it has ended.

        The worker can have begun and ended rows after its last report: they are counted from the journals.

        Args:
            is_whole: these journals have all of them.
        """
        ended = 0
        for each in worker.shards.values():
            self._gather(worker, each, whole=True)
            if worker.report is not None:  # an attempt has one request, as a rule
                worker.requests += begun_after(self._journal, each.shard.journal, worker.report.at)
            self._done.append(found := statistics_of(each.ended))
            each.ended.clear()
            ended += found.completed + found.incomplete + found.failed
            each.statistics = each.place = None
            if self._tasks is None:
                self._drop(each)
            else:
                self._leave_rest(worker, each)
        self._bury(worker, is_whole=is_whole)
        return ended

    def _bury(self, worker: Worker, *, is_whole: bool) -> None:
        """Take back from a process that has ended what it has not used; `is_whole` as for `DollarGovernor.buried`."""
        self._governor.buried(worker.process_name, worker.spent_usd, worker.unknown_usd, is_whole=is_whole)
        worker.spent_usd = worker.unknown_usd = 0.0
        if worker.report is not None:
            worker.requests += worker.report.limits.requests
            worker.report = None

    # -- journals -------------------------------------------------------------------------------------------------

    async def _keep_gathering(self) -> None:
        while True:
            await anyio.sleep(GATHER_EVERY_S)
            for worker in self._workers:
                for each in list(worker.shards.values()):
                    if each.shard.number in worker.shards:  # it can end while this task waits
                        self._gather(worker, each)
                    await anyio.lowlevel.checkpoint()

    def _gather(self, worker: Worker, each: OpenShard, *, whole: bool = False) -> None:
        mark = self._journal.last_outcome()[0]
        if gather(self._journal, each.shard.journal, whole=whole):
            each.ended.append(counts := self._journal.counts_after(mark))
            worker.spent_usd += counts.cost_usd or 0.0
            self._report()

    def _report(self) -> None:
        """Report the rows that have ended since the last time."""
        if self._on_outcome is not None:
            self._reported, outcomes = self._journal.outcomes_after(self._reported)
            for outcome in outcomes:
                self._on_outcome(outcome)

    def _leave_rest(self, worker: Worker, each: OpenShard) -> None:
        """Leave out the rows of a lost worker's shard that have ended in this run: --retry-failed and --max-age do not
        let them be asked again. Count what its requests without an answer may have cost. A worker of another machine
        had the journal: it begins again."""
        rows = ShardRows(self._plan.source.name, self._plan.source.columns, each.shard.rows)
        keys, left = leave_out_ended(rows, self._plan.prompter.row_key, self._journal, self._begun_at)
        worker.unknown_usd += self._unknown_usd(keys) - each.unknown_usd
        if self._remote is not None:
            self._remote.seed_again(each.shard, left)
        each.shard, each.unknown_usd = replace(each.shard, count=len(left)), self._unknown_usd(left)

    def _unknown_usd(self, row_keys: Sequence[str] | None = None) -> float:
        """Return what rows, or all of them, may have cost besides the known costs, as far as a budget counts it."""
        return self._journal.spending.unknown_usd(row_keys) if self._engine.has_budget else 0.0

    def _drop(self, each: OpenShard) -> None:
        drop(self._journal, each.shard.journal)
        if each.log is not None:
            each.log.close()
        for ending in (".rows", ".lock"):
            each.shard.journal.with_suffix(ending).unlink(missing_ok=True)
