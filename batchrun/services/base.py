"""Stage 5's interface: what the engine asks of a service, whatever its protocol."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

from batchrun.records import Attempt, Prompt, Usage

__all__ = ["IdsSeen", "Reply", "Service"]


class IdsSeen(Protocol):
    """Called the moment the service names the thread and the run; writes them to the journal."""

    def __call__(self, thread_id: str | None, run_id: str | None, *, with_reply: bool = False) -> None:
        """
        Args:
            with_reply: they came with the whole reply, which is returned next, without a wait: one transaction then
                holds both.
        """
        ...


@dataclass(frozen=True, slots=True)
class Reply:
    """How a run ended, where another try would not help.

    Attributes:
        response: the text obtained, "" where there is none.
        reason: why it is incomplete, or a short name of why it failed.
        error: one line for a person, for a run that failed.
    """

    status: Literal["completed", "incomplete", "failed", "expired", "cancelled"]
    response: str
    usage: Usage = field(default_factory=Usage)
    model: str | None = None
    reason: str | None = None
    error: str | None = None


class Service(Protocol):
    """A service that answers prompts. Safe to use from many tasks at once.

    Every method may raise a `batchrun.errors.ServiceFault`.
    """

    async def prepare(self) -> None:
        """Make what the whole batch needs, before the first row."""
        ...

    async def answer(self, prompt: Prompt, attempt: Attempt, seen: IdsSeen) -> Reply:
        """Make the thread and the run for this prompt, and follow the run to its end.

        Calls `seen` before it waits for anything that comes after the ids.
        """
        ...

    async def follow(self, prompt: Prompt, attempt: Attempt, seen: IdsSeen) -> Reply:
        """Follow the run that `attempt` names to its end, without making another.

        Raises:
            RunLost: the service does not know the run.
        """
        ...

    async def cancel(self, attempt: Attempt) -> None:
        """Ask the service to stop the run that `attempt` names, where it can."""
        ...
