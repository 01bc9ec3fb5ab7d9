"""The log of a batch: a record for each fault and retry, each hold, outage and change of the slots, each end of a row.

A batch looks once, at its start, whether the log is enabled: there is no trace otherwise, and a row costs no more. Each
value of a record is also an attribute of it (`extra`), for handlers that write JSON.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass

from batchrun.engine.health import Health
from batchrun.engine.retry import GiveUp, RetryAfter
from batchrun.errors import RateLimited, ServiceFault, Shortage
from batchrun.records import Failed, Outcome, RunEnd
from batchrun.wording import visible_line

__all__ = ["HealthTrace", "RowAtHand", "RowTrace", "health_trace", "row_at_hand", "row_trace"]

logger = logging.getLogger("batchrun.engine")


@dataclass(frozen=True, slots=True)
class RowAtHand:
    """The row that a task runs, and its attempt, from 1."""

    row: str
    attempt: int


row_at_hand: ContextVar[RowAtHand | None] = ContextVar("batchrun_row", default=None)
"""Set in the task of each row while the log is enabled; None for requests of the batch itself."""


class RowTrace:
    """Logs what happens to rows. Text from outside is scrubbed of secrets and escaped."""

    def __init__(self, scrub: Callable[[str], str]) -> None:
        self._scrub = scrub

    def begin(self, row_key: str, attempt: int) -> None:
        """Name the row and its attempt in the records of the requests that this task sends from now on."""
        row_at_hand.set(RowAtHand(self._shown(row_key), attempt))

    def fault(self, row_key: str, attempt: int, fault: ServiceFault, decision: RetryAfter | GiveUp) -> None:
        """Log an attempt that failed, and what the row does next."""
        wait_s: float | None = None
        if isinstance(decision, GiveUp):
            then = "the row gives up"
        elif isinstance(fault, RateLimited | Shortage):
            then = "it waits for its turn with all rows"
        else:
            wait_s = decision.wait_s
            then = f"the row retries in {wait_s:.1f} s" + (", and all rows wait" if decision.shared else "")
        status = "" if fault.status_code is None else f" (HTTP {fault.status_code})"
        row, text = self._shown(row_key), self._shown(str(fault))
        logger.info(
            "row %s, attempt %d: %s%s: %s; %s", row, attempt, fault.error_type, status, text, then,
            extra={
                "row": row, "attempt": attempt, "error_type": fault.error_type, "status": fault.status_code,
                "retry_wait_s": wait_s,
            },
        )  # fmt: skip

    def fall_back(self, row_key: str, first: RunEnd) -> None:
        """Log that the fallback model is asked."""
        row = self._shown(row_key)
        logger.info(
            "row %s, attempt %d: %s ended with %s; the row asks %s", row, first.attempt, first.reply.model,
            first.reply.reason, first.asked,
            extra={"row": row, "attempt": first.attempt, "error_type": first.reply.reason},
        )  # fmt: skip

    def ended(self, outcome: Outcome) -> None:
        """Log how a row ended."""
        row, usage = self._shown(outcome.row_key), outcome.usage
        attempts = f"{outcome.attempts} attempt{'' if outcome.attempts == 1 else 's'}"
        tokens = f", {usage.prompt_tokens} tokens in, {usage.completion_tokens} out" if usage.prompt_tokens else ""
        error = f" with {outcome.error_type}: {self._shown(outcome.error)}" if isinstance(outcome, Failed) else ""
        logger.log(
            logging.INFO if error else logging.DEBUG,
            "row %s: %s after %s, %.3f s%s%s", row, outcome.status, attempts, outcome.duration_s, tokens, error,
            extra={"row": row, "attempt": outcome.attempts, "duration_s": outcome.duration_s, "ended": outcome.status},
        )  # fmt: skip

    def _shown(self, text: str) -> str:
        return visible_line(self._scrub(text))


class HealthTrace:
    """Logs changes of the service's health.

    Mutable state: the state that was logged last: `_slots`, `_away`, `_one_at_a_time`.
    """

    def __init__(self, health: Health) -> None:
        self._health = health
        self._slots = health.slots.capacity
        self._away = False
        self._one_at_a_time = False

    def look(self) -> None:
        """Log what has changed since the last look."""
        health = self._health
        if health.away != self._away:
            self._away = health.away
            logger.info("outage: the service is unavailable" if self._away else "the outage has ended")
        if health.slots.one_at_a_time != self._one_at_a_time:
            self._one_at_a_time = health.slots.one_at_a_time
            logger.info("rows run %s", "one at a time from now on" if self._one_at_a_time else "together again")
        if health.slots.capacity != self._slots:
            before, self._slots = self._slots, health.slots.capacity
            logger.info("slots: %d instead of %d", self._slots, before, extra={"slots": self._slots})

    def held(self, wait_s: float, reason: str) -> None:
        """Log that no row sends for some seconds."""
        logger.info("hold: no row sends for %.1f s: %s", wait_s, reason, extra={"wait_s": wait_s, "reason": reason})


def row_trace(scrub: Callable[[str], str]) -> RowTrace | None:
    """Return the log of rows; None if it is not enabled.

    The row at hand is also named in the records of requests, so their log enables it too.
    """
    enabled = logger.isEnabledFor(logging.INFO) or logging.getLogger("batchrun.services").isEnabledFor(logging.DEBUG)
    return RowTrace(scrub) if enabled else None


def health_trace(health: Health) -> HealthTrace | None:
    """Return the log of the service's health; None if it is not enabled."""
    return HealthTrace(health) if logger.isEnabledFor(logging.INFO) else None
