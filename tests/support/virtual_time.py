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
"""Seconds added to every jump. A timer that fires a rounding error too early may set itself again for the same time; the
clock must pass that time, or the loop would never end."""


LATEST_S = 1e8
"""Seconds after which the loop reports a deadlock: tasks that only set timers again would run for ever."""


class Deadlock(RuntimeError):
    """Every task waits and no timer is set: in real time the test would hang."""


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An asyncio loop with its own clock, which starts at 0 and advances only when all tasks wait.

    Mutable state: `now_s`, in seconds.
    """

    def __init__(self) -> None:
        self.now_s = 0.0
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        return self.now_s


class _JumpingSelector(selectors.BaseSelector):
    """Advances the loop's clock where the loop would sleep. It does not wait for real sockets."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        self._loop = loop
        self._real = selectors.DefaultSelector()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._real.select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            # The loop's executor may still have to report that its threads have ended.
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
