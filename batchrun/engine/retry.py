"""Whether a row is retried, and after how long. Pure: faults in, decisions out."""

from __future__ import annotations

from dataclasses import dataclass

from batchrun.errors import PermanentFault, RateLimited, ServerFault, ServiceFault, TransientFault, Unavailable

__all__ = ["GiveUp", "RetryAfter", "RetryPolicy"]


@dataclass(frozen=True, slots=True)
class RetryAfter:
    """Retry the row.

    Attributes:
        wait_s: seconds from now.
        shared: the whole batch waits (a rate limit), not only this row.
    """

    wait_s: float
    shared: bool


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Fail the row with the fault."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential backoff with equal jitter: the n-th wait is within [½, 1] · min(cap, first · 2ⁿ⁻¹).

    The jitter keeps rows that failed together from coming back together (AWS Architecture Blog, "Exponential
    Backoff And Jitter"); the floor of one half keeps a wait from being zero.

    Attributes:
        max_attempts: maximum attempts per row, including the first one.
        first_wait_s, max_wait_s: bounds of the exponential part, seconds.
        max_retry_after_s: maximum wait in seconds, if the service asks for a longer one.
    """

    max_attempts: int = 5
    first_wait_s: float = 1.0
    max_wait_s: float = 60.0
    max_retry_after_s: float = 600.0

    def decide(
        self, fault: ServiceFault, attempt: int, random_unit: float, *, ill: bool = False
    ) -> RetryAfter | GiveUp:
        """Return the decision after `fault` on the `attempt`-th attempt (from 1).

        Args:
            random_unit: uniform in [0, 1).
            ill: the service is at fault, not the row, so that the attempt does not count.
        """
        if isinstance(fault, PermanentFault) or (attempt >= self.max_attempts and not ill):
            return GiveUp()
        assert isinstance(fault, TransientFault)
        ceiling_s = min(self.max_wait_s, self.first_wait_s * 2.0 ** min(attempt - 1, 60))
        wait_s = ceiling_s * (0.5 + 0.5 * random_unit)
        limited = isinstance(fault, RateLimited)
        asked_s = fault.retry_after_s
        if asked_s is not None:
            # Never earlier than the service asks; a little later, so that rows do not come back together.
            asked_s = min(asked_s, self.max_retry_after_s)
            wait_s = asked_s + 0.1 * random_unit * min(asked_s, 10.0) if limited else max(wait_s, asked_s)
        return RetryAfter(
            wait_s, shared=limited or (isinstance(fault, (ServerFault, Unavailable)) and asked_s is not None)
        )
