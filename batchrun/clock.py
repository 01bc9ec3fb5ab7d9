"""Time as a dependency: code that needs the wall clock gets it as a parameter."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeAlias

__all__ = ["WallClock", "utc_now"]

WallClock: TypeAlias = Callable[[], datetime]
"""Returns the current time as an aware UTC datetime. Durations and waits never use it: they are measured on the event
loop's clock, which does not jump."""


def utc_now() -> datetime:
    """Return the current time of this machine."""
    return datetime.now(UTC)
