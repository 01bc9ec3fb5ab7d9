"""What the journal reports of a row's past, and the totals over all rows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from batchrun.records import Attempt
from batchrun.token_usage import Usage

__all__ = ["Carried", "Counts", "PaidAttempt", "RowHistory"]


class PaidAttempt(NamedTuple):
    """An attempt that failed and was charged all the same."""

    number: int
    usage: Usage


class RowHistory(NamedTuple):
    """A row as an earlier run of the batch left it: its outcome, if any, and its last attempt, which may be later.

    Attributes:
        status: the outcome's status, None if there is no outcome.
        fingerprint: fingerprint of the prompt that the outcome answers, None if there is no outcome.
        last: the last attempt, None if the row failed before its first.
        last_fingerprint: fingerprint of the prompt that the last attempt sent.
        completed_at: when the row ended, None if there is no outcome.
        attempts: attempts that the outcome took, 0 if there is no outcome.
        has_open_attempt: the last attempt is later than the outcome: the batch ended while the row was in flight.
        paid: the attempts that failed and were charged.
    """

    status: str | None
    fingerprint: str | None
    last: Attempt | None
    last_fingerprint: str | None
    completed_at: datetime | None
    attempts: int
    has_open_attempt: bool
    paid: tuple[PaidAttempt, ...] = ()

    def paid_after(self, attempt: int) -> list[Usage]:
        """Return the usage of the attempts that failed after this one and after the outcome, which no outcome has.

        >>> paid = (PaidAttempt(1, Usage(6)), PaidAttempt(2, Usage(7)))
        >>> [each.prompt_tokens for each in RowHistory(None, None, None, None, None, 1, True, paid).paid_after(0)]
        [7]
        """
        return [usage for number, usage in self.paid if number > max(attempt, self.attempts)]

    @property
    def answered(self) -> bool:
        """The row has an answer, complete or incomplete."""
        return self.status in ("completed", "incomplete")


@dataclass(frozen=True, slots=True)
class Carried:
    """Usage and cost of the runs that a row's new outcome shares with its earlier one.

    Attributes:
        cost_usd: US dollars, None if unknown.
    """

    usage: Usage
    cost_usd: float | None


@dataclass(frozen=True, slots=True)
class Counts:
    """Totals over the journal. Sums leave out unknown values; None for `cost_usd` if no cost is known.

    `unpriced` counts the rows with tokens or an answer, whose cost is unknown.
    """

    completed: int = 0
    incomplete: int = 0
    failed: int = 0
    in_flight: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = None
    unpriced: int = 0

    @property
    def ended(self) -> int:
        """The number of rows that have ended."""
        return self.completed + self.incomplete + self.failed
