"""The supervision of tasks: every unit of work has a task of its own and is settled however that task ends."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

import anyio

if TYPE_CHECKING:
    from batchrun.server.execution.parts import Parts
    from batchrun.server.replies.event_log import EventLog

__all__ = ["Live", "Supervisor"]

logger = logging.getLogger("batchrun.server")


@dataclass(slots=True)
class Live:
    """A unit of work that has a task.

    Mutable state: the log, `scope` and `interrupted`.

    Attributes:
        log: the unit's events; `log.stream` is the unit's id. It is closed when the task ends, at the latest.
        scope: cancels the task.
        is_charged: its tokens count in the key's `tokens_per_minute`; those of the Batch API have their own quota.
        interrupted: write nothing more about the unit: it was deleted, or is left to the server's next start.
    """

    log: EventLog
    is_charged: bool = field(default=True, kw_only=True)
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope, kw_only=True)
    interrupted: bool = field(default=False, kw_only=True)


LiveT = TypeVar("LiveT", bound=Live)


class Supervisor(ABC, Generic[LiveT]):
    """Executes the units of work of one kind.

    Mutable state: `live` (id → unit that has a task).
    """

    noun: ClassVar[str]
    """The kind of unit, for the server's log."""

    expected: ClassVar[tuple[type[Exception], ...]]
    """Failures that are part of a unit's result. Any other exception is an error of the server and is logged."""

    def __init__(self, parts: Parts) -> None:
        self.live: dict[str, LiveT] = {}
        self._parts = parts

    def __repr__(self) -> str:
        return f"<{type(self).__name__} live={len(self.live)}>"

    @abstractmethod
    async def _answer(self, live: LiveT) -> None:
        """Do the work."""

    @abstractmethod
    def _settle(self, live: LiveT, failure: BaseException | None) -> None:
        """Store how the unit ended. Synchronous, because the task may be cancelled already.

        Args:
            failure: what ended `_answer`: an `Exception`, or the cancellation; None if it returned.
        """

    def start(self, live: LiveT) -> None:
        """Execute a unit in a new task. Call it after the commit that stores the unit."""
        self.live[live.log.stream] = live
        self._parts.tasks.start_soon(self._supervise, live)

    async def _supervise(self, live: LiveT) -> None:
        failure: BaseException | None = None
        try:
            with live.scope:
                try:
                    await self._answer(live)
                except BaseException as exc:
                    failure = exc
                    raise
        except self.expected:
            pass
        except Exception:
            logger.exception("%s %s failed: an error of the server", self.noun, live.log.stream)
        finally:
            try:
                self._settle(live, failure)
            except Exception:
                # The file cannot be written. The unit stays in it as it was, and the next start resumes it.
                logger.exception("the end of %s %s could not be stored", self.noun, live.log.stream)
            finally:
                self._remove(live)

    def _remove(self, live: LiveT) -> None:
        if not live.log.closed:
            live.log.close(done=False)
        # A client may have started the unit's next task already, such as by submitting tool outputs.
        if self.live.get(live.log.stream) is live:
            del self.live[live.log.stream]

    def forget(self, unit_id: str) -> None:
        """Stop a unit that was deleted; nothing more is written about it."""
        live = self.live.get(unit_id)
        if live is not None:
            live.interrupted = True
            live.scope.cancel()

    def interrupt(self) -> None:
        """Leave all live units to the server's next start."""
        for unit_id in list(self.live):
            self.forget(unit_id)
