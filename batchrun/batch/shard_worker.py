"""A worker of a batch: a program of its own that runs shards by the ordinary engine, as its leader hands them out."""

from __future__ import annotations

import logging
import os
import shutil
from collections import deque
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, cast

import anyio
import anyio.abc
from anyio import to_thread

from batchrun.batch.assembly import budget_of, engine_of, limits_of, price_list, wire_of
from batchrun.batch.checkpoints import keep_checkpoints
from batchrun.batch.file_descriptors import connection_limit, import_early, raise_limit
from batchrun.batch.garbage import lazy_garbage_collector
from batchrun.batch.lock import held, is_held
from batchrun.batch.service_notices import ServiceNotices
from batchrun.batch.shard_plan import ShardPlan
from batchrun.batch.work import work_of
from batchrun.clock import loop_time, utc_now
from batchrun.engine import Answers, Engine, RowWork, Stop
from batchrun.engine.limits import RATE_LIMITED
from batchrun.errors import BatchrunError, OutputError, unwrapped
from batchrun.journal import Journal
from batchrun.scale.governor import Asks, Leases
from batchrun.scale.journal_copies import JournalCopies, content_of
from batchrun.scale.leased_purse import LeasedPurse
from batchrun.scale.leased_rate import LeasedRates
from batchrun.scale.links import LeaderLost, Port
from batchrun.scale.messages import (
    Begin,
    Broken,
    CopyTaken,
    Finish,
    LeftCopy,
    LeftJournal,
    LogLine,
    RemoteShard,
    Shard,
    ShardEnded,
    StopAsked,
    Taken,
    WorkerReport,
)
from batchrun.scale.pipes import PipePort
from batchrun.scale.shards import ShardRows
from batchrun.services.client import Endpoint

__all__ = ["main", "serve"]

REPORT_EVERY_S = 0.5
SHORT_EVERY_S = 0.05
"""Least time between two reports for want of money."""
LEFT_TIMEOUT_S: Final = 5.0
"""Seconds that a worker which was given up has to end before its journals are."""


async def serve(port: Port) -> None:
    """Run shards until the leader has no more, or has ended. Rows in flight then stay in their journals."""
    try:
        begin, left = await port.receive(), []
        while isinstance(begin, LeftJournal):
            await port.send(await to_thread.run_sync(_left_copy, begin.journal))
            left.append(begin.journal.parent)
            begin = await port.receive()
        assert isinstance(begin, Begin)
        for folder in left:
            shutil.rmtree(folder, ignore_errors=True)
        with unwrapped():
            async with AsyncExitStack() as stack:
                await _Worker(begin, port, stack).run()
    except LeaderLost:
        return
    except BatchrunError as error:
        with anyio.CancelScope(shield=True):
            await port.send(Broken(str(error), error.exit_code))


def _left_copy(journal: Path) -> LeftCopy:
    """Return the whole journal of a shard that a lost worker of this machine has left."""
    if not journal.exists():
        return LeftCopy(None, f"{journal} is gone", is_missing=True)
    if is_held(journal.with_suffix(".lock"), LEFT_TIMEOUT_S):
        return LeftCopy(None, f"the lost worker still writes {journal}")
    try:
        return LeftCopy(content_of(journal)[0])
    except OutputError as exc:
        return LeftCopy(None, str(exc))


class _Worker:
    """A worker's whole life.

    Mutable state: `_waiting`, shards to run, `_new`, set when there is one or no more will come,
    `_is_last`; `_engines`, of the shards in work, and their `_journals`; `_stop`, what the leader has asked for;
    `_report_due`, set when the next report cannot wait; `_held_s`, the wait that the service has asked for since the
    last one; `_is_told`, while a wait that the leader has announced begins; on another machine than the leader's:
    `_folder`, for the journals, and their `_copies` by shard.
    """

    def __init__(self, begin: Begin, port: Port, stack: AsyncExitStack) -> None:
        self._port = port
        self._stack = stack
        self._plan = cast(ShardPlan, begin.plan).plan()
        self._log = _Log(begin.log_level)
        self._notices = ServiceNotices()
        self._waiting: deque[Shard] = deque()
        self._new = anyio.Event()
        self._is_last = False
        self._engines: dict[int, Engine] = {}
        self._stop: StopAsked | None = None
        raise_limit()
        import_early(None, structured=self._plan.job.schema is not None)
        available = connection_limit(embedded=False)
        self._report_due = anyio.Event()
        self._rates = LeasedRates(self._ask_soon)
        self._limits = limits_of(
            self._plan, self._cooled_down, None if available is None else available.connections, self._rates
        )
        self._purse = LeasedPurse(self._plan.job.budget) if self._plan.job.budget is not None else None
        self._budget = budget_of(self._plan, price_list(self._plan), purse=self._purse) if self._purse else None
        self._answers = Answers(lambda: len(self._engines) + len(self._waiting))
        self._held_s = 0.0
        self._is_told = False
        self._journals: list[Journal] = []
        self._folder: Path | None = None
        self._copies: dict[int, JournalCopies] = {}
        self._wire = wire_of(self._plan, cast(Endpoint, begin.endpoint), self._limits)
        stack.push_async_callback(self._wire.aclose)

    def _ask_soon(self) -> None:
        self._report_due.set()

    def _cooled_down(self, wait_s: float, reason: str) -> None:
        """Record a wait that the service has asked for, and let all other workers wait too."""
        if self._is_told:
            return  # the leader has announced it: the worker that met it has recorded it
        if self._journals:
            self._journals[-1].cooled_down(utc_now(), wait_s, reason)
        self._held_s = max(self._held_s, wait_s)
        self._ask_soon()

    async def run(self) -> None:
        """Take messages until there is nothing left to do."""
        with lazy_garbage_collector():
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._listen)
                tasks.start_soon(self._keep_reporting)
                if self._purse is not None:
                    tasks.start_soon(self._watch_purse, self._purse)
                async with anyio.create_task_group() as shards:
                    await self._take_shards(shards)
                await self._report()
                tasks.cancel_scope.cancel()

    async def _listen(self) -> None:
        while True:
            message = await self._port.receive()
            if isinstance(message, Shard):
                self._waiting.append(message)
            elif isinstance(message, RemoteShard):
                self._waiting.append(self._received(message))
            elif isinstance(message, CopyTaken):
                self._copies[message.shard].confirm(message.number)
            elif isinstance(message, Finish):
                self._is_last = True
            elif isinstance(message, Leases):
                self._install(message)
            elif isinstance(message, StopAsked):
                self._stop = message
                for engine in self._engines.values():
                    engine.request_stop(message.stop, message.grace_s)
            self._new.set()

    def _received(self, message: RemoteShard) -> Shard:
        """Write the files of a shard to this machine."""
        if self._folder is None:
            self._folder = Path(self._stack.enter_context(TemporaryDirectory(prefix="batchrun-")))
        journal = self._folder / f"{message.number:05}.journal"
        journal.write_bytes(message.journal)
        journal.with_suffix(".rows").write_bytes(message.rows)
        self._copies[message.number] = JournalCopies(message.number, journal, self._port.send, self._hold_back)
        return Shard(message.number, journal, journal.with_suffix(".rows"), message.count)

    def _hold_back(self, wait_s: float, reason: str) -> None:
        """Let this worker wait, but no other."""
        self._is_told = True
        self._limits.cool_down(wait_s, reason)
        self._is_told = False

    def _install(self, leases: Leases) -> None:
        self._rates.install(leases.rates, loop_time())
        if self._purse is not None and leases.money is not None:
            self._purse.answer(leases.money)
        if leases.held_s > 0:
            self._hold_back(leases.held_s, RATE_LIMITED)

    async def _watch_purse(self, purse: LeasedPurse) -> None:
        while True:
            await purse.short()
            self._ask_soon()
            await anyio.sleep(SHORT_EVERY_S)

    async def _take_shards(self, tasks: anyio.abc.TaskGroup) -> None:
        """Run the shards; the next one begins when all rows of the last are admitted."""
        while True:
            while not self._waiting:
                if self._is_last or self._stop is not None:
                    return
                self._new = anyio.Event()
                await self._new.wait()
            shard = self._waiting.popleft()
            await self._port.send(Taken(shard.number, shard.journal if shard.number in self._copies else None))
            admitted = anyio.Event()
            tasks.start_soon(self._run_shard, shard, admitted)
            await admitted.wait()

    async def _run_shard(self, shard: Shard, admitted: anyio.Event) -> None:
        rows = ShardRows(self._plan.source.name, self._plan.source.columns, shard.rows)
        plan = replace(self._plan, source=rows, rows=shard.count)
        copies = self._copies.get(shard.number)
        with ExitStack() as stack:
            stack.callback(admitted.set)
            if not shard.journal.exists():  # an empty one would take its place, and hide that answers are lost
                raise OutputError(
                    f"{shard.journal}: was deleted while the batch ran; run the same command again, and it asks the "
                    "rows whose answers are missing"
                )
            stack.enter_context(held(shard.journal.with_suffix(".lock")))
            journal = stack.enter_context(Journal(shard.journal))
            engine = engine_of(
                plan,
                journal,
                self._wire,
                self._limits,
                utc_now,
                None,
                self._notices,
                budget=self._budget,
                answers=self._answers,
            )
            self._journals.append(journal)
            stack.callback(self._journals.remove, journal)
            self._engines[shard.number] = engine
            if self._stop is not None:
                engine.request_stop(self._stop.stop, self._stop.grace_s)
            async with anyio.create_task_group() as beside:
                beside.start_soon(keep_checkpoints, journal)
                if copies is not None:
                    beside.start_soon(copies.keep)
                await engine.run(_until_admitted(work_of(plan, journal, utc_now), admitted))
                beside.cancel_scope.cancel()
        statistics = engine.statistics()
        if engine.stop is not None and self._stop is None:
            await self._report()  # with the reason
        del self._engines[shard.number]
        if copies is not None:
            await copies.finish()
            del self._copies[shard.number]
        await self._port.send(ShardEnded(shard.number, statistics, engine.reservations.unknown_usd))

    async def _keep_reporting(self) -> None:
        while True:
            self._report_due = anyio.Event()
            await self._report()
            with anyio.move_on_after(REPORT_EVERY_S):
                await self._report_due.wait()

    async def _report(self) -> None:
        stop: Stop | None = None
        if self._stop is None:
            stop = next((engine.stop for engine in self._engines.values() if engine.stop is not None), None)
        money = self._purse.report(self._budget) if self._purse is not None and self._budget is not None else None
        asks, self._held_s = Asks(self._rates.asks(loop_time()), money, self._held_s), 0.0
        shards = {number: engine.statistics() for number, engine in self._engines.items()}
        await self._port.send(
            WorkerReport(
                loop_time(),
                utc_now(),
                shards,
                self._limits.statistics(),
                stop,
                {kind: list(lines) for kind, lines in self._notices.found.items()},
                self._log.take(),
                asks,
            )
        )


def _until_admitted(work: Iterator[RowWork], admitted: anyio.Event) -> Iterator[RowWork]:
    """Yield the work, and set `admitted` when the engine asks for more than there is."""
    yield from work
    admitted.set()


class _Log(logging.Handler):
    """Keeps log lines for the next report.

    Mutable state: `_lines`.
    """

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self._lines: list[LogLine] = []
        logger = logging.getLogger("batchrun")
        logger.addHandler(self)
        logger.setLevel(level)
        logger.propagate = False

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(LogLine(record.name, record.levelno, self.format(record)))

    def take(self) -> tuple[LogLine, ...]:
        """Return the lines since the last call."""
        lines, self._lines = tuple(self._lines), []
        return lines


def main() -> None:
    """Be a worker process of this machine."""

    async def serve_leader() -> None:
        await serve(PipePort())

    anyio.run(serve_leader, backend_options={"use_uvloop": os.name != "nt"})
