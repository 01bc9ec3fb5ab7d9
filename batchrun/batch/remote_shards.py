"""The shards of a batch whose workers are on other machines: their journals come as copies, and go to a store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Protocol, TypeAlias

import anyio

from batchrun.batch.announcements import Announcements
from batchrun.batch.worker_state import OpenShard, Worker
from batchrun.errors import OutputHeld
from batchrun.journal import Journal
from batchrun.journal.shard_rows import drop, seed
from batchrun.scale.dollar_governor import DollarGovernor
from batchrun.scale.journal_copies import JournalCopy, write_copy
from batchrun.scale.journal_puts import JournalPuts
from batchrun.scale.links import Link, WorkerLost
from batchrun.scale.messages import CopyTaken, LeftCopy, LeftJournal, RemoteShard, Shard

__all__ = ["RemoteShards", "StartWorker"]


class RemoteLink(Link, Protocol):
    """A worker on another machine.

    Attributes:
        node: the name of that machine.
    """

    @property
    def node(self) -> str: ...


StartWorker: TypeAlias = Callable[[str, str | None], Awaitable[RemoteLink]]
"""Starts a worker with a name for messages, on a machine that is preferred (None for any)."""


class RemoteShards:
    """What a leader does for workers on other machines that it does not for those of this one.

    Mutable state: `_announcements` of the money of a budget, None before `begin` and without one; by the numbers of
    workers: `_nodes`, on which they are or were; `_replacements` that have not begun.
    """

    def __init__(
        self, start: StartWorker, journal: Journal, puts: JournalPuts | None, notify: Callable[[str], None]
    ) -> None:
        """
        Args:
            journal: of the whole batch.
            puts: puts it into the store of the output; None without a store.
            notify: shows a line about journals that were lost.
        """
        self._start, self._journal, self._puts, self._notify = start, journal, puts, notify
        self._announcements: Announcements | None = None
        self._nodes: dict[int, str] = {}
        self._replacements: dict[int, RemoteLink] = {}

    async def begin(self) -> None:
        """Prepare for the first worker.

        Raises:
            OutputHeld: the batch was begun elsewhere at the same time.
            OutputError: the store refuses.
        """
        if self._puts is not None:
            await self._puts.begin()

    async def keep(self, stop: Callable[[str], None], dollars: DollarGovernor | None) -> None:
        """Keep the journal in the store, and announce what may be lent, until this is cancelled.

        Args:
            stop: called with a reason if the batch was begun elsewhere.
            dollars: lends the money of a budget; None without one.

        Raises:
            OutputError: a file of this machine cannot be written.
        """
        async with anyio.create_task_group() as tasks:
            if self._puts is not None:
                tasks.start_soon(self._puts.keep)
                tasks.start_soon(self._puts.watch, stop)
            if dollars is not None:
                self._announcements = Announcements(dollars, self._journal, self._puts)
                tasks.start_soon(self._announcements.keep)

    def look(self) -> None:
        """Note whether money is to be announced, after the governor has answered a report."""
        if self._announcements is not None:
            self._announcements.look()

    async def settle(self) -> None:
        """Announce that no money is lent any more, when all workers have ended and their journals are gathered. A line
        says what lost ones may have spent.

        Raises:
            OutputError: a file of this machine cannot be written.
        """
        lost_usd = await self._announcements.end() if self._announcements is not None else 0.0
        if lost_usd and (notice := self._journal.spending.unaccounted_notice()):
            self._notify(notice)

    async def started(self, worker: Worker) -> Link:
        """Return a worker that can begin: its replacement if it was lost, or a new one.

        Raises:
            InputError, WorkerLost: it cannot be started.
        """
        link = self._replacements.pop(worker.number, None) or await self._start(worker.name, None)
        self._nodes[worker.number] = link.node
        return link

    async def recover(self, worker: Worker, gather: Callable[[OpenShard], None]) -> bool:
        """Start the replacement of a worker that was lost, if possible on its machine, and take from there what it has
        not sent yet: its last copies. If nothing is there, the copies so far count.

        Args:
            gather: takes the whole copy of a shard into the journal of the batch.

        Returns:
            Whether the journal of the batch has everything that the worker had in its journals.

        Raises:
            InputError: it cannot be started.
            OutputError: a copy cannot be written.
        """
        # A worker keeps its journals in one folder. It can have begun with a shard without the leader knowing.
        folder = next((each.place.parent for each in worker.shards.values() if each.place is not None), None)
        node = self._nodes.get(worker.number)
        if folder is None:
            return False
        try:
            link = await self._start(worker.name, node)
        except WorkerLost:
            return False  # its journals too: another one will be started
        is_whole = link.node == node
        try:
            for each in list(worker.shards.values()) if is_whole else ():
                await link.send(LeftJournal(folder / each.shard.journal.name))
                answer = await link.receive()
                assert isinstance(answer, LeftCopy)
                if answer.content is not None:
                    write_copy(answer.content, each.shard.journal)
                    gather(each)
                    if self._puts is not None:
                        await self._puts.put(answer.content)
                elif each.place is not None or not answer.is_missing:  # else the worker has not received it
                    is_whole = False
                    self._notify(f"{worker.name}: asks again what it had not sent yet, since {answer.reason}")
        except WorkerLost:
            await link.aclose()
            return False
        self._replacements[worker.number] = link
        return is_whole

    async def end(self) -> None:
        """End workers that have not begun, and refuse to write the output of a batch that was begun elsewhere.

        Raises:
            OutputHeld: it was.
        """
        for link in self._replacements.values():  # of workers that were lost before a stop
            await link.aclose()
        reason = await self._puts.begun_elsewhere() if self._puts is not None else None
        if reason is not None:
            raise OutputHeld(reason)

    def sent(self, shard: Shard) -> RemoteShard:
        """Return the message with a shard."""
        return RemoteShard(shard.number, shard.journal.read_bytes(), shard.rows.read_bytes(), shard.count)

    async def confirm(self, copy: JournalCopy, link: Link) -> None:
        """Confirm a copy that is gathered, when it is in the store."""
        if self._puts is not None:
            await self._puts.put(copy.content)
        with suppress(WorkerLost):  # whoever receives from it sees that too
            await link.send(CopyTaken(copy.shard, copy.number))

    def seed_again(self, shard: Shard, left: list[str]) -> None:
        """Make the journal of a shard whose worker was lost again: the worker had the journal.

        Args:
            left: keys of its rows that have not ended.

        Raises:
            OutputError: a journal cannot be used.
        """
        drop(self._journal, shard.journal)
        seed(self._journal, shard.journal, left)
