"""The clock of the server, which expiry, retention and rate limits read."""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["Clock", "ManualClock", "SystemClock"]


class Clock(Protocol):
    """A source of the time."""

    def now(self) -> float:
        """Return the seconds since 1970-01-01 UTC."""
        ...


class SystemClock:
    """The clock of the machine."""

    def now(self) -> float:
        return time.time()  # noqa: TID251 -- the one place where the server reads the wall clock


class ManualClock:
    """A clock that moves only by `advance`, for tests of expiry and limits.

    Mutable state: `seconds`.

    Attributes:
        seconds: the current time, in seconds since 1970-01-01 UTC.
    """

    def __init__(self, seconds: float = 1_760_000_000.0) -> None:
        self.seconds = seconds

    def now(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        """Move the time forward by `seconds`."""
        self.seconds += seconds
