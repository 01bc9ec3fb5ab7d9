"""Stage 5's interface: the methods of a service, whatever its protocol."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeAlias

from batchrun.records import Attempt, Exchange, Reply, ToolCall, ToolOutput

__all__ = ["CallTools", "OnIds", "Reply", "Service"]

CallTools: TypeAlias = Callable[[Sequence[ToolCall]], Awaitable[tuple[ToolOutput, ...]]]
"""Calls the user's functions; returns outputs in the order of the calls. Does not raise for a fault of a function or
of the model."""


class OnIds(Protocol):
    """Called as soon as the service names the thread and the run; writes the ids to the journal."""

    def __call__(self, thread_id: str | None, run_id: str | None, *, with_reply: bool = False) -> None:
        """
        Args:
            with_reply: the ids came with the whole reply, which is returned next without a wait, so that one
                transaction can write both.
        """
        ...


class Service(Protocol):
    """A service that answers prompts. Safe to use from many tasks at once.

    Every method may raise a `batchrun.errors.ServiceFault`; with an engine that `defers`, `answer` and `follow` may
    also raise `batchrun.errors.Deferred`.
    """

    async def prepare(self) -> None:
        """Create the objects of the whole batch, before the first row.

        It sets its own deadlines. Called again after a transient error, it continues where it was.
        """
        ...

    async def answer(self, exchange: Exchange, attempt: Attempt, on_ids: OnIds) -> Reply:
        """Create the run (and the thread, unless there is one) or continue it, and follow it to its end or to the
        functions that it asks for.

        Calls `on_ids` before it waits for anything that comes after the ids.
        """
        ...

    async def follow(self, exchange: Exchange, attempt: Attempt, on_ids: OnIds) -> Reply:
        """Follow the run that `attempt` names, without creating another.

        Raises:
            RunLost: the service does not know the run.
        """
        ...

    async def cancel(self, exchange: Exchange, attempt: Attempt) -> None:
        """Ask the service to stop the run that `attempt` names, where it can."""
        ...
