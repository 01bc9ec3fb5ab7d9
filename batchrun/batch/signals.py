"""How a running batch reacts to signals."""

from __future__ import annotations

import asyncio
import contextvars
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from batchrun.batch.leader import Leader
from batchrun.engine import Engine, Stop
from batchrun.interrupts import SAME_KEY_S, Interrupts

__all__ = ["obey_signals"]


@contextmanager
def obey_signals(
    interrupts: Interrupts, engine: Engine | Leader, grace_s: float, leave: Callable[[int], None] | None
) -> Iterator[None]:
    """Stop the engine at the first signal while the context lasts.

    The engine is stopped by its event loop, since a signal handler may run between any two instructions. If `leave`
    ends the process, a second SIGINT is left to the operating system, which also interrupts a C library.

    Args:
        grace_s: seconds for rows in flight after the first signal.
        leave: called by a second signal with the exit code; None lets it stop the engine again.
    """
    loop, context = asyncio.get_running_loop(), contextvars.copy_context()

    def stop(number: signal.Signals) -> None:
        reason = Stop(f"interrupted by {number.name}", 128 + number)
        loop.call_soon_threadsafe(engine.request_stop, reason, grace_s, context=context)
        if number is signal.SIGINT and leave is not None:
            loop.call_soon_threadsafe(loop.call_later, SAME_KEY_S, interrupts.second_kills)

    with interrupts.listening(stop, None if leave is None else lambda number: leave(128 + number)):
        yield
