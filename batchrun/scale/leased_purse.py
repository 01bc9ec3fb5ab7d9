"""The purse of a worker: money that the governor lends it."""

from __future__ import annotations

import math
from collections.abc import Callable

import anyio

from batchrun.clock import loop_time
from batchrun.engine.budget import Budget
from batchrun.scale.dollar_governor import DollarAnswer, DollarReport

__all__ = ["LeasedPurse"]

WANTED_AHEAD_S = 1.0
"""Time for which a worker wants money ahead, at its recent speed."""
SPEED_WINDOW_S = 0.25


class LeasedPurse:
    """The purse of a worker's budget, filled by answers to its reports.

    The worker sends a report about every half second, and as soon as `short` returns. Reports and answers may be late,
    come in another order, or be lost.

    Mutable state: `usable_usd`, `spent_elsewhere_usd` and `unknown_elsewhere_usd`, as of `Purse`; `_number` of the last
    report; `_answered`, that of the last answer counted; `_asked_usd`, the need of the row that waits, and `_told_usd`,
    that of the last report, both 0 after an answer with money; `_never_usd`, the least that cannot be paid; `_changed`,
    set when a report may be due; `_wake`, of the budget; `_used_usd` at `_since_s`, and `_usd_per_s`, the speed before
    that.
    """

    def __init__(self, limit_usd: float) -> None:
        """
        Args:
            limit_usd: of the batch.
        """
        self.limit_usd = limit_usd
        self.usable_usd = 0.0
        self.spent_elsewhere_usd = self.unknown_elsewhere_usd = 0.0
        self._number = 0
        self._answered = 0
        self._asked_usd = 0.0
        self._told_usd = 0.0
        self._never_usd = math.inf
        self._changed = anyio.Event()
        self._wake: Callable[[], None] | None = None
        self._used_usd = 0.0
        self._since_s = -math.inf
        self._usd_per_s = 0.0

    def ask(self, needed_usd: float, wake: Callable[[], None]) -> bool:
        """See `Purse`."""
        if needed_usd >= self._never_usd:
            return False
        self._wake = wake
        self._asked_usd = needed_usd
        self._changed.set()
        return True

    async def short(self) -> None:
        """Wait until a row needs more money than the last report said, and that report is answered."""
        while self._asked_usd <= self._told_usd or self._answered < self._number:
            self._changed = anyio.Event()
            await self._changed.wait()

    def report(self, budget: Budget) -> DollarReport:
        """Give back the money that is not spent or reserved, and return the report of it.

        Args:
            budget: the one that takes its money from this purse.
        """
        self.usable_usd = budget.spent_usd + budget.reserved_usd
        self._number += 1
        self._asked_usd = self._told_usd = budget.needed_usd
        return DollarReport(
            self._number,
            self._answered,
            budget.spent_usd,
            budget.unknown_usd,
            budget.reserved_usd,
            budget.needed_usd,
            WANTED_AHEAD_S * self._speed_usd_per_s(),
        )

    def answer(self, answer: DollarAnswer) -> None:
        """Count the money of an answer, and wake the row that waits for it. An answer that is late is ignored."""
        if answer.number <= self._answered:
            return
        self._answered = answer.number
        self.usable_usd += answer.added_usd
        self.spent_elsewhere_usd = answer.spent_elsewhere_usd
        self.unknown_elsewhere_usd = answer.unknown_elsewhere_usd
        self._never_usd = answer.never_usd
        if answer.added_usd > 0 or self._asked_usd >= answer.never_usd:
            self._asked_usd = self._told_usd = 0.0
            if self._wake is not None:
                self._wake()
        self._changed.set()

    def _speed_usd_per_s(self) -> float:
        """Return the US dollars per second by which the used money has grown lately."""
        now_s, grown_usd = loop_time(), self.usable_usd - self._used_usd
        passed_s = now_s - self._since_s
        if passed_s >= SPEED_WINDOW_S:
            self._used_usd, self._since_s = self.usable_usd, now_s
            self._usd_per_s = max(0.0, grown_usd) / passed_s
            return self._usd_per_s
        return max(self._usd_per_s, grown_usd / SPEED_WINDOW_S)

    def __repr__(self) -> str:
        return f"<LeasedPurse ${self.usable_usd:.4f} usable, report {self._number}, answered {self._answered}>"
