"""The governor of dollars: what workers may use and what is spent never exceeds the budget, and no row waits for ever."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.engine import Budget
from batchrun.engine.budget import NOTHING_USD
from batchrun.scale.dollar_governor import AHEAD_S, LEAST_AHEAD, DollarAnswer, DollarGovernor, DollarReport
from batchrun.scale.leased_purse import LeasedPurse
from batchrun.token_usage import Usage

LIMIT_USD = 8.0


def report(
    number: int,
    *,
    answered: int | None = None,
    spent: float = 0.0,
    unknown: float = 0.0,
    held: float = 0.0,
    needed: float = 0.0,
    wanted: float = 0.0,
) -> DollarReport:
    """A report of a worker that has counted the answer to its last one, unless `answered` says otherwise."""
    answered = number - 1 if answered is None else answered
    return DollarReport(number, answered, spent, unknown, held, needed, wanted)


def test_a_need_is_paid_with_a_share_of_the_rest() -> None:
    """A worker gets what its row needs, and of what it wants besides no more than its share of the rest."""
    governor = DollarGovernor(10.0, spent_usd=1.0)
    governor.reported("b", report(1))
    assert governor.reported("a", report(1, needed=1.0, wanted=2.0)) == DollarAnswer(1, 3.0, math.inf, 1.0)
    assert governor.reported("b", report(2, needed=1.0, wanted=100.0)).added_usd == 1.0 + 5.0 / 2


def test_what_is_not_held_comes_back_with_the_report() -> None:
    """A report frees all that is neither spent nor held, and the next worker can use it."""
    governor = DollarGovernor(10.0, 0.0)
    assert governor.reported("a", report(1, needed=9.0)).added_usd == 9.0
    assert governor.reported("b", report(1, needed=8.0)).added_usd == 0.0
    governor.reported("a", report(2, spent=0.5, held=1.5))
    assert governor.reported("b", report(2, needed=8.0)).added_usd == 8.0
    assert governor.spent_usd == 0.5


def test_money_of_an_answer_that_may_be_on_its_way_stays_lent() -> None:
    """Until a report says which answers were counted, their money is taken; a later answer replaces an earlier one."""
    governor = DollarGovernor(10.0, 0.0)
    governor.reported("a", report(1, needed=4.0))
    governor.reported("a", report(2, answered=0, needed=3.0))
    assert governor.reported("b", report(1, needed=4.0)).added_usd == 0.0
    governor.reported("a", report(3, answered=2, held=3.0))  # then the worker ignores the answer 1
    assert governor.reported("b", report(2, needed=4.0)).added_usd == 4.0


def test_a_report_that_comes_twice_adds_money_once() -> None:
    """The same report has the same answer; one that is older than the last gets no money and changes nothing."""
    governor = DollarGovernor(10.0, 0.0)
    late = report(1, needed=4.0)
    second = report(2, answered=0, needed=5.0)
    first = governor.reported("a", second)
    assert governor.reported("a", second) == first
    assert governor.reported("a", late) == DollarAnswer(1, 0.0, math.inf, 0.0)
    assert governor.reported("b", report(1, needed=5.0)).added_usd == 5.0


def test_a_cheap_row_does_not_overtake_a_dear_one() -> None:
    """Money that comes back is kept for the first of the line; a row behind it is paid if both can be."""
    governor = DollarGovernor(10.0, 0.0)
    governor.reported("a", report(1, needed=10.0))
    assert governor.reported("dear", report(1, needed=6.0)).added_usd == 0.0
    assert governor.reported("cheap", report(1, needed=1.0)).added_usd == 0.0
    governor.reported("a", report(2, spent=1.0, held=5.0))
    assert governor.reported("cheap", report(2, needed=1.0, wanted=1.0)).added_usd == 0.0
    governor.reported("a", report(3, spent=2.0))
    assert governor.reported("cheap", report(3, needed=1.0, wanted=1.0)).added_usd == 1.0
    assert governor.reported("dear", report(2, needed=6.0)).added_usd == 6.0


def test_a_worker_that_needs_nothing_any_more_leaves_the_line() -> None:
    """A row that was cancelled keeps no money from the others."""
    governor = DollarGovernor(10.0, 0.0)
    governor.reported("a", report(1, needed=6.0))
    governor.reported("dear", report(1, needed=6.0))
    assert governor.reported("cheap", report(1, needed=1.0)).added_usd == 0.0
    governor.reported("dear", report(2))
    assert governor.reported("cheap", report(2, needed=1.0)).added_usd == 1.0


def test_exhausted_is_said_when_nothing_can_come_back() -> None:
    """While a row is in flight or an answer on its way, a dear row waits; then it is told, and a cheaper one is paid."""
    governor = DollarGovernor(10.0, spent_usd=1.0)
    governor.reported("a", report(1, needed=5.0))
    waits = DollarAnswer(1, 0.0, math.inf, 1.0)
    assert governor.reported("dear", report(1, needed=7.0)) == waits
    governor.reported("a", report(2, held=5.0))
    assert governor.reported("dear", report(2, needed=7.0)).never_usd == math.inf
    governor.reported("a", report(3, spent=4.0, needed=2.0))
    assert governor.reported("dear", report(3, needed=7.0)) == DollarAnswer(3, 0.0, 7.0, 5.0)
    assert governor.reported("a", report(4, spent=4.0, needed=2.0)) == DollarAnswer(4, 2.0, 7.0, 1.0)
    assert governor.reported("other", report(1, needed=7.5)) == DollarAnswer(1, 0.0, 7.0, 5.0)


def test_a_lost_worker_keeps_its_money_until_it_is_buried() -> None:
    """The figure of the burial comes from the journals: the last report, lost with the worker, cannot be missed.

    The worker reported 1 dollar spent and 3 held. Before it was lost it spent them, and its report of that was lost.
    """
    governor = DollarGovernor(10.0, 0.0)
    governor.reported("a", report(1, needed=4.0))
    governor.reported("a", report(2, spent=1.0, held=3.0))
    assert governor.reported("b", report(1, needed=7.0)).never_usd == math.inf
    governor.buried("a", spent_usd=4.0)
    assert governor.spent_usd == 4.0
    assert governor.reported("b", report(2, needed=7.0)).never_usd == 7.0
    assert governor.reported("c", report(1, needed=6.0)).added_usd == 6.0


def test_rows_in_flight_of_a_lost_worker_are_paid_again_by_another() -> None:
    """At the burial only what has ended counts: whoever continues the other rows reserves their money again."""
    governor = DollarGovernor(10.0, 0.0)
    governor.reported("a", report(1, needed=9.0))
    governor.reported("a", report(2, spent=1.0, held=8.0))
    governor.buried("a", spent_usd=1.0)
    assert governor.reported("b", report(1, needed=8.0)).added_usd == 8.0


def test_rows_of_unknown_cost_count_after_a_burial() -> None:
    """Journals know what was reserved for such rows; that the last report has it too does not count it twice."""
    governor = DollarGovernor(10.0, 0.0)
    governor.reported("a", report(1, needed=9.0))
    governor.reported("a", report(2, spent=5.0, unknown=3.0, held=2.0))
    governor.buried(
        "a", spent_usd=4.0, unknown_usd=3.0
    )  # 2 known when it reported, and 2 of the row that was in flight
    assert governor.spent_usd == 7.0


def test_spending_of_unknown_cost_is_named() -> None:
    """Each worker hears how much of what is spent elsewhere is not known to have been: of earlier runs, of others."""
    governor = DollarGovernor(20.0, 3.0, unknown_usd=1.0)
    governor.reported("a", report(1, needed=9.0))
    governor.reported("a", report(2, spent=5.0, unknown=2.0))
    assert governor.reported("b", report(1, spent=1.0, unknown=0.5)) == DollarAnswer(1, 0.0, math.inf, 9.0, 3.0)
    governor.buried("a", spent_usd=3.5, unknown_usd=2.25)
    assert governor.reported("b", report(2, spent=1.0, unknown=0.5)) == DollarAnswer(2, 0.0, math.inf, 9.75, 3.25)


def test_all_that_was_lent_counts_if_the_journals_are_lost() -> None:
    """A machine is lost with the rows that ended after the last copy of its journals: nobody knows what they have cost.
    The difference to what the copies say is unaccounted."""
    governor = DollarGovernor(10.0, 0.0)
    governor.reported("a", report(1, needed=8.0))
    governor.reported("a", report(2, spent=5.0, unknown=1.0, held=2.0, needed=1.0))
    assert governor.buried("a", spent_usd=3.0, is_whole=False) == 5.0
    assert (governor.spent_usd, governor.unaccounted_usd) == (8.0, 5.0)
    assert governor.reported("b", report(1, needed=3.0)).never_usd == 3.0
    assert governor.buried("nobody", spent_usd=0.0, is_whole=False) == 0.0
    # Not more than that, if a copy has requests of unknown cost that it has reported, too.
    governor = DollarGovernor(10.0, 0.0)
    governor.reported("a", report(1, needed=8.0))
    governor.reported("a", report(2, spent=5.0, unknown=4.0, held=3.0))
    assert governor.buried("a", 1.0, 4.0, is_whole=False) == 3.0
    assert governor.spent_usd == 8.0


# -- announcements ------------------------------------------------------------------------------------------------


def test_nothing_is_lent_beyond_the_ceiling() -> None:
    """A row that waits for the ceiling keeps its place and can still be paid; it is when the ceiling is raised."""
    governor = DollarGovernor(10.0, 1.0, announces=True)
    assert governor.reported("a", report(1, needed=2.0)) == DollarAnswer(1, 0.0, math.inf, 1.0)
    assert governor.reported("b", report(1, needed=1.0)) == DollarAnswer(1, 0.0, math.inf, 1.0)
    assert governor.ceiling_due() == pytest.approx(4.0 + LEAST_AHEAD * 10.0)
    governor.ceiling_usd = 3.5
    assert governor.reported("b", report(2, needed=1.0)).added_usd == 0.0  # it would overtake
    assert governor.reported("a", report(2, needed=2.0, wanted=9.0)).added_usd == 2.0
    assert governor.reported("b", report(3, needed=0.4, wanted=9.0)).added_usd == pytest.approx(0.4 + 0.1 / 2)


def test_the_next_ceiling_is_due_in_time() -> None:
    """It covers some seconds of spending in advance, is due again when half of them are left, and is never above the
    budget, even for a row that waits for the money of others."""
    governor = DollarGovernor(100.0, 0.0, announces=True)
    governor.reported("a", report(1, needed=1.0, wanted=2.0))
    first_usd = governor.ceiling_due()
    assert first_usd == 1.0 + 2.0 * AHEAD_S
    governor.ceiling_usd = first_usd
    assert governor.ceiling_due() is None
    governor.reported("a", report(2, needed=1.0, wanted=2.0))  # it is lent 3
    assert governor.ceiling_due() is None
    governor.reported("a", report(3, spent=5.0, held=2.5, wanted=2.0))
    assert governor.ceiling_due() == 9.5 + 2.0 * AHEAD_S
    governor.reported("b", report(1, needed=95.0, wanted=0.0))
    assert governor.ceiling_due() == 9.5 + 2.0 * AHEAD_S  # b waits for money of a
    governor.reported("a", report(4, spent=5.0))
    assert governor.ceiling_due() == 100.0


def test_without_announcements_there_is_no_ceiling() -> None:
    """Workers of this machine wait for none."""
    governor = DollarGovernor(10.0, 1.0)
    governor.reported("a", report(1, needed=9.0))
    assert governor.ceiling_due() is None


def test_a_report_after_the_burial_changes_nothing() -> None:
    """A message that comes late gets no money, and a second burial counts nothing."""
    governor = DollarGovernor(10.0, 0.0)
    governor.buried("a", 1.0)
    governor.buried("a", 1.0)
    assert governor.reported("a", report(1, spent=3.0, needed=1.0)).added_usd == 0.0
    assert governor.reported("b", report(1, needed=9.0)).added_usd == 9.0


def test_a_lost_worker_leaves_the_line() -> None:
    """Nobody waits behind a worker that is buried."""
    governor = DollarGovernor(10.0, 0.0)
    governor.reported("a", report(1, needed=6.0))
    governor.reported("dear", report(1, needed=6.0))
    governor.buried("dear", 0.0)
    assert governor.reported("cheap", report(1, needed=4.0)).added_usd == 4.0


def test_costs_above_their_reservations_reduce_the_rest() -> None:
    """Without a bound on completions rows may cost more than was reserved: then less than nothing may be left."""
    governor = DollarGovernor(10.0, 0.0)
    governor.reported("a", report(1, needed=10.0))
    governor.reported("a", report(2, spent=11.0))
    assert governor.reported("a", report(3, spent=11.0, wanted=1.0)).added_usd == 0.0
    assert governor.reported("a", report(4, spent=11.0, needed=0.1)) == DollarAnswer(4, 0.0, 0.1, 0.0)


# -- all orders of events -----------------------------------------------------------------------------------------


@dataclass
class Worker:
    """A worker with the parts of a real one. A row of 160 characters takes a dollar, one of 10 a sixteenth."""

    name: str
    purse: LeasedPurse = field(default_factory=lambda: LeasedPurse(LIMIT_USD))
    rows: list[float] = field(default_factory=list)
    journal_usd: float = 0.0
    copied_usd: float = 0.0
    need: int = 0

    def __post_init__(self) -> None:
        self.budget = Budget(self.purse, 0.0, sixty_fourths, max_completion_tokens=1)

    @property
    def may_use_usd(self) -> float:
        return max(self.purse.usable_usd, self.budget.spent_usd + self.budget.reserved_usd)

    async def start(self, chars: int) -> bool:
        """Reserve money for a row, or let it wait for some: then `needed_usd` is set, as `Budget.reserve` does."""
        wanted_usd = self.budget.estimate(chars)
        if self.budget.spent_usd + self.budget.reserved_usd + wanted_usd <= self.purse.usable_usd:
            reserved_usd = await self.budget.reserve(chars)
            assert reserved_usd == wanted_usd
            self.rows.append(reserved_usd)
            self.need, self.budget.needed_usd = 0, 0.0
            return True
        if self.purse.ask(wanted_usd, lambda: None):
            self.need, self.budget.needed_usd = chars, wanted_usd
            return False
        self.need, self.budget.needed_usd = 0, 0.0
        return True

    def end(self, amount: int) -> None:
        """End a row: its cost is a part of its reservation, or unknown."""
        if self.rows:
            reserved_usd = self.rows.pop(amount % len(self.rows))
            cost_usd = None if amount % 5 == 4 else reserved_usd * (amount % 5) / 4
            self.budget.settle(reserved_usd, 10, Usage(), cost_usd)
            self.journal_usd += cost_usd or 0.0


def sixty_fourths(usage: Usage) -> float:
    return (usage.prompt_tokens or 0) / 64


@dataclass
class World:
    """Workers, the governor, and the messages on their way.

    Attributes:
        announces: what the governor lends is announced before.
        known_usd: what the leader knows of workers that have ended.
        unaccounted_usd: what counts as spent besides, since an earlier leader was lost.
        announced_usd: the ceiling that is announced, and not always known to the governor yet.
        billed_usd: the most that workers which have ended can have spent.
    """

    announces: bool = False
    workers: list[Worker] = field(default_factory=lambda: [Worker(name) for name in "abc"])
    dead: list[Worker] = field(default_factory=list)
    reports: list[tuple[Worker, DollarReport]] = field(default_factory=list)
    answers: list[tuple[Worker, DollarAnswer]] = field(default_factory=list)
    known_usd: float = 0.0
    unaccounted_usd: float = 0.0
    announced_usd: float = 0.0
    billed_usd: float = 0.0

    def __post_init__(self) -> None:
        self.governor = DollarGovernor(LIMIT_USD, 0.0, announces=self.announces)

    async def do(self, event: str, amount: int) -> None:
        worker = self.workers[amount % 3]
        match event:
            case "start":
                await worker.start(amount)
            case "end":
                worker.end(amount)
            case "report":
                self.reports.append((worker, worker.purse.report(worker.budget)))
            case "take report" | "take report and keep it" if self.reports:
                to, message = self.reports[amount % len(self.reports)]
                if event == "take report":
                    self.reports.remove((to, message))
                self.answers.append((to, self.governor.reported(to.name, message)))
            case "take answer" | "take answer and keep it" if self.answers:
                to, answer = self.answers[amount % len(self.answers)]
                if event == "take answer":
                    self.answers.remove((to, answer))
                to.purse.answer(answer)
            case "lose" if self.reports and amount % 2:
                self.reports.pop(amount % len(self.reports))
            case "lose" if self.answers:
                self.answers.pop(amount % len(self.answers))
            case "kill":
                self.dead.append(worker)
                self.workers[amount % 3] = Worker(f"{worker.name}'")
            case "bury" if self.dead:
                self.bury(self.dead.pop(amount % len(self.dead)), is_whole=amount % 2 == 0)
            case "copy":
                worker.copied_usd = worker.journal_usd
            case "announce":
                self.announced_usd = self.governor.ceiling_due() or self.announced_usd
            case "raise":
                self.governor.ceiling_usd = max(self.governor.ceiling_usd, self.announced_usd)
            case "lose leader" if self.announces:
                self.lose_leader()
            case _:
                pass

    def bury(self, worker: Worker, *, is_whole: bool = True) -> None:
        """Bury a worker. If its journals are lost, it has spent all that it could since their last copy."""
        known_usd = worker.journal_usd if is_whole else worker.copied_usd
        self.governor.buried(worker.name, known_usd, is_whole=is_whole)
        self.known_usd += known_usd
        self.billed_usd += known_usd if is_whole else worker.may_use_usd

    def lose_leader(self) -> None:
        """Let another leader begin, who knows what was announced, and the copies. All workers spend what they can,
        with the answers that are on their way, before they end."""
        for to, answer in self.answers:
            to.purse.answer(answer)
        for worker in (*self.workers, *self.dead):
            self.billed_usd += worker.may_use_usd
            self.known_usd += worker.copied_usd
        self.unaccounted_usd = max(self.unaccounted_usd, self.announced_usd - self.known_usd)
        assert self.billed_usd <= self.known_usd + self.unaccounted_usd + 1e-9
        self.workers = [Worker(f"{worker.name}!") for worker in self.workers]
        self.dead, self.reports, self.answers = [], [], []
        self.governor = DollarGovernor(LIMIT_USD, self.known_usd + self.unaccounted_usd, announces=True)

    def check(self) -> None:
        may_use_usd = sum(worker.may_use_usd for worker in (*self.workers, *self.dead))
        assert self.billed_usd + may_use_usd <= LIMIT_USD + 1e-9

    def exchange(self, worker: Worker) -> None:
        """A report and its answer, without delay, and an announcement."""
        self.governor.ceiling_usd = self.governor.ceiling_due() or self.governor.ceiling_usd
        worker.purse.answer(self.governor.reported(worker.name, worker.purse.report(worker.budget)))


OFTEN = ("start", "start", "end", "report", "take report", "take report", "take answer", "take answer")
RARELY = ("take report and keep it", "take answer and keep it", "lose", "kill", "bury", "bury")
ANNOUNCING = ("announce", "raise", "copy")


def history(seed: int) -> Iterator[tuple[str, int]]:
    """Some hundred events: lists of hypothesis are too short for two workers to come to the end of the money."""
    chance = random.Random(seed)
    for _ in range(1_000):
        yield chance.choice(OFTEN * 10 + ANNOUNCING * 3 + RARELY + ("lose leader",)), chance.randrange(300)


@given(seed=st.integers(0), announces=st.booleans())
def test_no_order_of_events_passes_the_budget(seed: int, announces: bool) -> None:
    """Whatever is late, lost, doubled, killed or of unknown cost: Σ what may be used + what is spent ≤ the budget. With
    announcements, also if the leader is lost, and all but these and some copies of journals with it."""

    async def play() -> None:
        world = World(announces)
        for event, amount in history(seed):
            await world.do(event, amount)
            world.check()

    anyio.run(play)


@given(seed=st.integers(0), announces=st.booleans(), needs=st.lists(st.integers(10, 1_500), min_size=3, max_size=12))
def test_nobody_waits_for_ever(seed: int, announces: bool, needs: list[int]) -> None:
    """Once rows end, messages arrive and the dead are buried, every row that waits is paid or told that it cannot be.

    Each round, a worker reports and its rows end. A row is paid after one round for each that was before it.
    """

    async def play() -> None:
        world = World(announces)
        for event, amount in history(seed):
            await world.do(event, amount)
        for worker in world.dead:
            world.bury(worker)
        rest = list(needs)
        refused: list[float] = []
        rounds_left = 4 * (len(needs) + 5)
        while rest or any(worker.need for worker in world.workers):
            rounds_left -= 1
            assert rounds_left > 0
            for worker in world.workers:
                world.exchange(worker)
                need = worker.need or (rest.pop() if rest else 0)
                if need and await worker.start(need) and not worker.rows:
                    refused.append(worker.budget.estimate(need))
                while worker.rows:
                    worker.end(1)
        for worker in world.workers:
            world.exchange(worker)
        assert not refused or LIMIT_USD - world.governor.spent_usd < min(refused) + NOTHING_USD

    anyio.run(play)
