"""Time as a dependency: what needs the wall clock is given one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeAlias

__all__ = ["WallClock", "utc_now"]

WallClock: TypeAlias = Callable[[], datetime]
"""Returns the present as an aware UTC datetime. Durations and waits never use it: they are measured on the
event loop's own clock, which does not jump."""


def utc_now() -> datetime:
    """The wall clock of this machine."""
    return datetime.now(UTC)
