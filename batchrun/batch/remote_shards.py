"""The shards of a batch whose workers are on other machines: their journals come as copies, and go to a store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeAlias

import anyio

from batchrun.errors import OutputHeld
from batchrun.journal import Journal
from batchrun.journal.shard_rows import drop, seed
from batchrun.scale.journal_copies import JournalCopy, write_copy
from batchrun.scale.journal_puts import JournalPuts
from batchrun.scale.links import Link, WorkerLost
from batchrun.scale.messages import CopyTaken, RemoteShard, Shard

__all__ = ["RemoteShards", "StartWorker"]

StartWorker: TypeAlias = Callable[[str], Awaitable[Link]]
"""Starts a worker with a name for messages."""


class RemoteShards:
    """What a leader does for workers on other machines that it does not for those of this one.

    Attributes:
        start: starts a worker.
    """

    def __init__(self, start: StartWorker, journal: Journal, puts: JournalPuts | None) -> None:
        """
        Args:
            journal: of the whole batch.
            puts: puts it into the store of the output; None without a store.
        """
        self.start = start
        self._journal, self._puts = journal, puts

    async def begin(self) -> None:
        """Prepare for the first worker.

        Raises:
            OutputError: the store refuses.
        """
        if self._puts is not None:
            await self._puts.begin()

    async def keep(self, stop: Callable[[str], None]) -> None:
        """Keep the journal in the store, until this is cancelled.

        Args:
            stop: called with a reason if the batch was begun elsewhere.

        Raises:
            OutputError: a file of this machine cannot be written.
        """
        if self._puts is not None:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._puts.keep)
                tasks.start_soon(self._puts.watch, stop)

    async def end(self) -> None:
        """Refuse to write the output of a batch that was begun elsewhere.

        Raises:
            OutputHeld: it was.
        """
        reason = await self._puts.begun_elsewhere() if self._puts is not None else None
        if reason is not None:
            raise OutputHeld(reason)

    def sent(self, shard: Shard) -> RemoteShard:
        """Return the message with a shard."""
        return RemoteShard(shard.number, shard.journal.read_bytes(), shard.rows.read_bytes(), shard.count)

    def take(self, copy: JournalCopy, shard: Shard) -> None:
        """Write a copy that has arrived, to be gathered.

        Raises:
            OutputError: it cannot be written.
        """
        write_copy(copy.content, shard.journal)

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
