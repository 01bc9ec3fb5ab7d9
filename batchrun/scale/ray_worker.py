"""A worker that is an actor of Ray: its life in the process of the actor, and the leader as it sees it there."""

from __future__ import annotations

import os
import sys
import traceback
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

import anyio

from batchrun.scale.links import LeaderLost, Port
from batchrun.scale.numbered import Arrivals, Numbered, Unconfirmed
from batchrun.version import __version__

__all__ = [
    "BEAT_S",
    "CONNECT_TIMEOUT_S",
    "END_TIMEOUT_S",
    "LEASE_S",
    "SILENCE_TIMEOUT_S",
    "Build",
    "RayPort",
    "RayWorker",
    "Serve",
]

Serve: TypeAlias = Callable[[Port], Awaitable[None]]
"""The whole life of a worker."""

LEASE_S = 2.0
"""Seconds after the leader's last beat until a worker ends. It notices by itself: no part of Ray has to be reached."""
BEAT_S = 0.25
"""Seconds between two beats, and between two looks for them."""
CONNECT_TIMEOUT_S = 10.0
"""Seconds that the head node has to accept a connection."""
SILENCE_TIMEOUT_S = 30.0
"""Seconds without an answer after which the leader gives a worker up."""
END_TIMEOUT_S = 1.0
"""Seconds that a worker has to end after it has lost its leader; its process ends then in any case."""


@dataclass(frozen=True, slots=True)
class Build:
    """What has to be equal in the processes of a leader and its workers, whose messages are pickles."""

    batchrun: str
    python: str

    @classmethod
    def here(cls) -> Build:
        """Return that of this process."""
        return cls(__version__, ".".join(map(str, sys.version_info[:2])))

    def __str__(self) -> str:
        return f"batchrun {self.batchrun} with Python {self.python}"


class RayPort:
    """The leader, as an actor sees it.

    Mutable state: `_received`, messages that the worker has not taken; `arrivals` and `unconfirmed`, the two
    directions; `_changed`, set when one of the two sides has something to look at; `is_lost`, whether the leader has
    ended.
    """

    def __init__(self) -> None:
        self.arrivals = Arrivals()
        self.unconfirmed = Unconfirmed()
        self.is_lost = False
        self._received: deque[object] = deque()
        self._changed = anyio.Event()

    async def send(self, message: object) -> None:
        """See `Port`. The message leaves with the leader's next call."""
        if self.is_lost:
            raise LeaderLost
        self.unconfirmed.add(message)
        self.notify()

    async def receive(self) -> object:
        """See `Port`."""
        while not self._received:
            if self.is_lost:
                raise LeaderLost
            await self.change()
        return self._received.popleft()

    def take(self, messages: tuple[Numbered, ...]) -> None:
        """Take messages of the leader; those that have arrived before are left out."""
        self._received.extend(self.arrivals.new(messages))
        self.notify()

    def lose(self) -> None:
        """End the connection: the leader has ended, or wants this worker to end."""
        self.is_lost = True
        self._received.clear()
        self.notify()

    def notify(self) -> None:
        """End all waits of `change`."""
        self._changed.set()
        self._changed = anyio.Event()

    async def change(self) -> None:
        """Wait for the next `notify`."""
        await self._changed.wait()


class RayWorker:
    """The actor. Its methods are called by `batchrun.scale.ray_links`, and all run on one event loop.

    Mutable state: the port; `_missed`, looks since the last beat; `_end`, how the worker's life ended, None before.
    """

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self._port = RayPort()
        self._missed = 0
        self._end: str | None = None

    async def build(self) -> Build:
        """Return the versions in this process. The answer shows that the actor has a place in the cluster."""
        return Build.here()

    async def node(self) -> str:
        """Return the id of the node on which this process runs."""
        import ray  # an extra, which every process of an actor has

        return str(ray.get_runtime_context().get_node_id())

    async def beat(self) -> None:
        """Note that the leader's process is running."""
        self._missed = 0

    async def live(self) -> None:
        """Serve the leader until it wants the worker to end, or is lost."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch)
            self._end = await self._served()
            self._port.notify()
            if self._is_deserted():
                os._exit(1)  # Ray may not know that the leader is lost, and would keep the process
            tasks.cancel_scope.cancel()

    async def _served(self) -> str:
        try:
            await self._serve(self._port)
        except LeaderLost:
            return "has ended, because it did not hear from the leader"
        except Exception as exc:  # noqa: BLE001 - reported to the leader, and in full in Ray's log of the worker
            traceback.print_exc()
            return f"has failed: {type(exc).__name__}: {exc}"
        return "has ended"

    def _is_deserted(self) -> bool:
        # Counted in looks instead of seconds: beats wait as long as looks do while this loop is busy.
        return self._missed * BEAT_S >= LEASE_S

    async def _watch(self) -> None:
        while not self._is_deserted():
            await anyio.sleep(BEAT_S)
            self._missed += 1
        self._port.lose()
        await anyio.sleep(END_TIMEOUT_S)
        os._exit(1)

    async def take(self, messages: tuple[Numbered, ...]) -> int:
        """Take messages of the leader; return the number of the newest that has arrived."""
        self._port.take(messages)
        return self._port.arrivals.last

    async def give(self, confirmed: int, wait_s: float) -> tuple[tuple[Numbered, ...], str | None]:
        """Return the messages that the leader has not confirmed, and how the worker's life ended, None before that.

        Args:
            confirmed: the number of the newest message that the leader has.
            wait_s: how long to wait for a message if there is none.
        """
        self._port.unconfirmed.confirm(confirmed)
        with anyio.move_on_after(wait_s):
            while self._end is None and not self._port.unconfirmed.all():
                await self._port.change()
        return self._port.unconfirmed.all(), self._end

    async def end(self) -> None:
        """End the worker's life as if the leader were lost."""
        self._port.lose()
