"""Links: how the leader of a batch and its workers speak, whatever is between them."""

from __future__ import annotations

from typing import Protocol

__all__ = ["LeaderLost", "Link", "Port", "WorkerLost"]


class WorkerLost(Exception):
    """A worker has ended. The message says how, in words that follow its name."""


class LeaderLost(Exception):
    """The process that hands out the work has ended."""


class Link(Protocol):
    """A worker, as its leader sees it. Messages arrive in the order in which they were sent.

    Attributes:
        name: for messages, such as `worker 3`.
    """

    @property
    def name(self) -> str: ...

    async def send(self, message: object) -> None:
        """Send a message of `batchrun.scale.messages`.

        Raises:
            WorkerLost: the worker has ended.
        """

    async def receive(self) -> object:
        """Wait for the worker's next message.

        Raises:
            WorkerLost: the worker has ended.
        """

    async def aclose(self) -> None:
        """End the worker, if it has not ended. May be called several times."""


class Port(Protocol):
    """The leader, as a worker sees it."""

    async def send(self, message: object) -> None:
        """Send a message to the leader.

        Raises:
            LeaderLost: it has ended.
        """

    async def receive(self) -> object:
        """Wait for the leader's next message.

        Raises:
            LeaderLost: it has ended.
        """
