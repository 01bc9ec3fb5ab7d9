"""Time as a dependency: the wall clock is a parameter, and durations are measured on the event loop's clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeAlias

__all__ = ["WallClock", "loop_time", "utc_now"]

WallClock: TypeAlias = Callable[[], datetime]
"""Returns the current time as an aware UTC datetime. Durations and waits never use it: they are measured on the event
loop's clock, which does not jump."""


def utc_now() -> datetime:
    """Return the current time of this machine."""
    return datetime.now(UTC)


def loop_time() -> float:
    """Return the seconds on the event loop's clock: `anyio.current_time`, at a fifth of its CPU."""
    return asyncio.get_running_loop().time()
