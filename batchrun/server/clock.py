"""Time as a dependency: every expiry, retention and rate limit asks a `Clock`."""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["Clock", "ManualClock", "SystemClock"]


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> float:
        """Wall-clock seconds since 1970-01-01 UTC."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        return time.time()  # noqa: TID251 -- the one place where the server reads the wall clock


class ManualClock:
    """A clock that moves only when told to; for tests of expiry and limits.

    Attributes:
        seconds: the time it tells, seconds since 1970-01-01 UTC.
    """

    def __init__(self, seconds: float = 1_760_000_000.0) -> None:
        self.seconds = seconds

    def now(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        """Move forward by `seconds`."""
        self.seconds += seconds
