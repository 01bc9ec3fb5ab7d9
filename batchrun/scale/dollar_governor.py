"""The governor of dollars: one budget, lent to the workers of a batch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

from batchrun.engine.budget import NOTHING_USD

__all__ = ["DollarAnswer", "DollarGovernor", "DollarReport"]

AHEAD_S: Final = 6.0
"""Seconds of spending that a new ceiling covers in advance. The next one is due when half of them are left."""
LEAST_AHEAD: Final = 0.001
"""Share of the budget that a new ceiling covers in advance, at least: while the speed of spending is not known yet."""


@dataclass(frozen=True, slots=True)
class DollarReport:
    """What a worker has done with its money. With a report it gives back all money that is not spent or held.

    Attributes:
        number: of the report, counted from 1 for each worker.
        answered: number of the report whose answer the worker counted last, 0 for none. It will count no earlier one.
        spent_usd: US dollars of rows that have ended, at most; a row of unknown cost counts with its reservation. What
            counted as spent for a row of an earlier run that continues is subtracted.
        unknown_usd: the part of it for rows of unknown cost.
        held_usd: US dollars reserved for rows in flight.
        needed_usd: US dollars of the row that waits for money, 0 if none waits.
        wanted_usd: US dollars that the worker will need in the next second besides.
    """

    number: int
    answered: int
    spent_usd: float
    unknown_usd: float
    held_usd: float
    needed_usd: float
    wanted_usd: float


@dataclass(frozen=True, slots=True)
class DollarAnswer:
    """The governor's answer to a report.

    Attributes:
        number: of the report.
        added_usd: US dollars that the worker may use in addition.
        never_usd: a row that needs as many US dollars or more can never be paid; infinite while that is not known.
        spent_elsewhere_usd: US dollars that earlier runs and other workers have spent, as far as is known.
        unknown_elsewhere_usd: the part of it for requests of unknown cost.
    """

    number: int
    added_usd: float
    never_usd: float
    spent_elsewhere_usd: float
    unknown_elsewhere_usd: float = 0.0


@dataclass(slots=True)
class _Account:
    """What a worker has.

    Attributes:
        report: its last one.
        answer: to that.
        lent_usd: US dollars of answers that the worker may still count, by number.
    """

    report: DollarReport = DollarReport(0, 0, 0.0, 0.0, 0.0, 0.0, 0.0)
    answer: DollarAnswer = DollarAnswer(0, 0.0, math.inf, 0.0)
    lent_usd: dict[int, float] = field(default_factory=dict)

    @property
    def taken_usd(self) -> float:
        """US dollars that the worker has spent or may use."""
        return self.report.spent_usd + self.report.held_usd + sum(self.lent_usd.values())

    @property
    def may_return(self) -> bool:
        """Whether money may come back from the worker."""
        return self.report.held_usd > NOTHING_USD or bool(self.lent_usd)


class DollarGovernor:
    """Lends the money of one budget to workers. What all of them have spent or may use never exceeds the limit.

    Money that is lent is taken until the worker reports what became of it. Workers whose row waits for money are
    served in order: a worker gets the money if enough is left for all before it too, so that no row is overtaken for
    ever by cheaper ones. While others wait, a worker gets no more than its waiting row needs; else also a share of the
    rest for its next rows. If the first of them needs more than is left, and no worker has money that could come back,
    such rows can never be paid: all answers say so from then on, and the next is the first.

    A worker has to report as long as it lives, also when it has nothing to do. One that was lost keeps its money until
    it is buried, and others may wait for that. The cost of rows that exceeds their reservations is spent nevertheless:
    it reduces the rest.

    If the governor can be lost with what it knows, what it may lend is announced before: it lends nothing beyond a
    ceiling, and whoever keeps the announcements raises it. A row that waits for the ceiling can still be paid.

    Mutable state: `ceiling_usd`, US dollars that may be spent and lent in all, as announced; `unaccounted_usd`, the
    part of `spent_usd` that lost workers may have spent, and that is in no journal; `_accounts` by worker; `_buried`,
    the workers that have ended; `_line`, the US dollars that waiting rows need, by worker, in order; `_never_usd`, the
    least that cannot be paid; `_gone_usd`, spent by earlier runs and buried workers; `_unknown_usd`, the part of
    `spent_usd` for requests of unknown cost; and sums over the accounts: `_taken_usd`, `_spent_usd`, `_wanted_usd`, and
    `_debtors`, the number of those from which money may come back.
    """

    def __init__(
        self, limit_usd: float, spent_usd: float, *, unknown_usd: float = 0.0, announces: bool = False
    ) -> None:
        """
        Args:
            spent_usd: cost of earlier runs of the batch.
            unknown_usd: what their requests may have cost besides.
            announces: the ceiling begins at that cost. Otherwise there is none.
        """
        self.limit_usd = limit_usd
        self.ceiling_usd = spent_usd + unknown_usd if announces else math.inf
        self.unaccounted_usd = 0.0
        self._gone_usd = spent_usd + unknown_usd
        self._unknown_usd = unknown_usd
        self._taken_usd = 0.0
        self._wanted_usd = 0.0
        self._spent_usd = 0.0
        self._debtors = 0
        self._never_usd = math.inf
        self._accounts: dict[str, _Account] = {}
        self._buried: set[str] = set()
        self._line: dict[str, float] = {}

    @property
    def spent_usd(self) -> float:
        """US dollars that earlier runs and all workers have spent, as far as is known."""
        return self._gone_usd + self._spent_usd

    def reported(self, worker: str, report: DollarReport) -> DollarAnswer:
        """Take a worker's report, and return the answer to it.

        A report that comes again gets the same answer; one that comes after a later one, or after the burial, gets
        no money.

        Args:
            worker: a name that no other worker of this batch has, nor had.
        """
        if worker in self._buried:
            return self._answer(report)
        account = self._accounts.setdefault(worker, _Account())
        if report.number < account.report.number:
            return self._answer(report)
        if report.number > account.report.number:
            self._count(account, -1)
            account.report = report
            account.lent_usd = {number: usd for number, usd in account.lent_usd.items() if number > report.answered}
            self._count(account, 1)
            added_usd = self._share(worker, report)
            if added_usd > 0:
                self._count(account, -1)
                account.lent_usd[report.number] = added_usd
                self._count(account, 1)
            account.answer = self._answer(report, added_usd)
        return account.answer

    def ceiling_due(self) -> float | None:
        """Return the ceiling to announce next, in US dollars; None while the present one suffices."""
        needed_usd = self._gone_usd + self._taken_usd
        for waiting_usd in self._line.values():
            if needed_usd + waiting_usd > self.limit_usd:
                break  # it waits for money of others, and those behind it wait for it
            needed_usd += waiting_usd
        ahead_usd = max(AHEAD_S * self._wanted_usd, LEAST_AHEAD * self.limit_usd)
        if self.ceiling_usd >= min(self.limit_usd, needed_usd + ahead_usd / 2):
            return None
        return min(self.limit_usd, needed_usd + ahead_usd)

    def buried(self, worker: str, spent_usd: float, unknown_usd: float = 0.0, *, is_whole: bool = True) -> float:
        """Take back the money of a worker that has ended, or was lost; return the US dollars that it may have spent
        without a record in its journals. Its last reports may be lost too.

        The money of rows in flight is free: whoever continues them reserves it again. If its journals are not known to
        their end, all that it was lent counts as spent.

        Args:
            spent_usd: cost of the rows that ended in its journals, as far as they are known, while the worker had them.
            unknown_usd: what requests of unknown cost in these journals may have cost.
            is_whole: its journals are known to their end.
        """
        if worker in self._buried:
            return 0.0
        self._buried.add(worker)
        self._line.pop(worker, None)
        account = self._accounts.pop(worker, None)
        recorded_usd = counted_usd = spent_usd + unknown_usd
        if account is not None:
            self._count(account, -1)
            counted_usd = max(recorded_usd, account.report.spent_usd if is_whole else account.taken_usd)
        self._gone_usd += counted_usd
        self._unknown_usd += counted_usd - spent_usd
        unaccounted_usd = 0.0 if is_whole else counted_usd - recorded_usd
        self.unaccounted_usd += unaccounted_usd
        return unaccounted_usd

    def _count(self, account: _Account, sign: int) -> None:
        """Add an account to the sums, or subtract it."""
        self._taken_usd += sign * account.taken_usd
        self._spent_usd += sign * account.report.spent_usd
        self._unknown_usd += sign * account.report.unknown_usd
        self._wanted_usd += sign * account.report.wanted_usd
        self._debtors += sign * account.may_return

    def _share(self, worker: str, report: DollarReport) -> float:
        """Return the US dollars that a worker gets; put it into the line, or take it out."""
        needed_usd = report.needed_usd
        left_usd = self.limit_usd - self._gone_usd - self._taken_usd
        if 0 < needed_usd < self._never_usd:
            self._line[worker] = needed_usd  # a worker that is in the line keeps its place
            for other, other_usd in self._line.items():
                left_usd -= other_usd
                if left_usd < 0 or other == worker:
                    break
            if left_usd < 0:
                if self._debtors or worker != next(iter(self._line)):
                    return 0.0
                self._never_usd = needed_usd
        under_ceiling_usd = left_usd - max(0.0, self.limit_usd - self.ceiling_usd)
        if 0 < needed_usd < self._never_usd and under_ceiling_usd < 0:
            return 0.0  # it waits for the ceiling in its place
        self._line.pop(worker, None)
        if needed_usd >= self._never_usd:
            return 0.0
        spare_usd = 0.0 if self._line else max(0.0, under_ceiling_usd) / len(self._accounts)
        return needed_usd + min(report.wanted_usd, spare_usd)

    def _answer(self, report: DollarReport, added_usd: float = 0.0) -> DollarAnswer:
        return DollarAnswer(
            report.number,
            added_usd,
            self._never_usd,
            self.spent_usd - report.spent_usd,
            self._unknown_usd - report.unknown_usd,
        )

    def __repr__(self) -> str:
        lent_usd = self._taken_usd - self._spent_usd
        return f"<DollarGovernor ${self.spent_usd:.4f} spent, ${lent_usd:.4f} lent, of ${self.limit_usd:.2f}>"
