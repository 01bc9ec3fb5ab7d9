"""An event loop whose clock jumps to the next timer, so that minutes of limits take milliseconds and are exact."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

__all__ = ["BACKEND", "Deadlock", "VirtualTimeLoop"]

NUDGE_S = 1e-7
"""Added to every jump: a timer that fires a rounding error before its due time may arm itself again for the
same moment, and a clock that stands still would never get past it."""


LATEST_S = 1e8


class Deadlock(RuntimeError):
    """Every task waits and no timer is armed: in real time the test would hang."""


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """asyncio's loop on a clock of its own, which starts at 0 and moves only when all tasks wait."""

    def __init__(self) -> None:
        self.now_s = 0.0
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        return self.now_s


class _JumpingSelector(selectors.BaseSelector):
    """Where the loop would sleep, moves its clock instead. Real sockets are not waited for."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        self._loop = loop
        self._real = selectors.DefaultSelector()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._real.select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            # The loop's own executor may still have to report that its threads have ended.
            ready = self._real.select(1)
            if not ready:
                raise Deadlock("every task waits, and nothing is due")
            return ready
        self._loop.now_s += timeout + NUDGE_S
        if self._loop.now_s > LATEST_S:
            raise Deadlock("the tasks wait for years")
        return ready

    def register(self, fileobj: FileDescriptorLike, events: int, data: object = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: FileDescriptorLike, events: int, data: object = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def close(self) -> None:
        self._real.close()

    def get_map(self) -> Mapping[FileDescriptorLike, selectors.SelectorKey]:
        return self._real.get_map()


BACKEND = ("asyncio", {"loop_factory": VirtualTimeLoop})
"""The backend of tests that are marked `virtual_time`, as anyio names it."""
