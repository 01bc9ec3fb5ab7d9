"""The purse of a worker: it says when it is short, and what it gets wakes the rows that wait."""

from __future__ import annotations

import math

import anyio
import pytest

from batchrun.engine import Budget, Engine, Limits, RowTask, Stop
from batchrun.journal import Journal
from batchrun.scale.dollar_governor import DollarAnswer, DollarGovernor
from batchrun.scale.leased_purse import LeasedPurse
from batchrun.token_usage import Usage
from tests.support.engine_bench import engine_for
from tests.support.rows import prompt
from tests.support.scripted_service import Move, ScriptedService, answered

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


def cent_a_token(usage: Usage) -> float | None:
    return (usage.total_tokens or 0) / 100


def budget_of(purse: LeasedPurse) -> Budget:
    """A row of 25 characters needs 0.20 dollars."""
    return Budget(purse, 0.0, cent_a_token, max_completion_tokens=10)


def money(number: int, added_usd: float) -> DollarAnswer:
    return DollarAnswer(number, added_usd, math.inf, 0.0)


async def exchange(purse: LeasedPurse, budget: Budget, governor: DollarGovernor, name: str = "a") -> None:
    """Send reports as a worker does."""
    while True:
        with anyio.move_on_after(0.5):
            await purse.short()
        answer = governor.reported(name, purse.report(budget))
        await anyio.sleep(0.02)
        purse.answer(answer)


async def test_a_row_that_waits_makes_a_report_due_at_once() -> None:
    """The report names its need; the answer wakes it."""
    purse = LeasedPurse(10.0)
    budget = budget_of(purse)
    got: list[float | None] = []

    async def row() -> None:
        got.append(await budget.reserve(25))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(row)
        await purse.short()
        report = purse.report(budget)
        assert (report.number, report.answered) == (1, 0)
        assert report.needed_usd == pytest.approx(0.20)
        purse.answer(money(1, 0.20))
    assert got == [pytest.approx(0.20)]
    assert purse.report(budget).held_usd == budget.reserved_usd


async def test_a_report_gives_back_what_is_not_used() -> None:
    """Only the money of rows that ended and of rows in flight stays usable."""
    purse = LeasedPurse(10.0)
    budget = budget_of(purse)
    purse.report(budget)
    purse.answer(money(1, 5.0))
    first, second = await budget.reserve(25), await budget.reserve(25)
    assert first is not None
    assert second is not None
    budget.settle(first, 25, Usage(), 0.05)
    report = purse.report(budget)
    assert (report.spent_usd, report.unknown_usd) == (0.05, 0.0)
    assert report.held_usd == pytest.approx(0.20)
    assert purse.usable_usd == report.spent_usd + report.held_usd
    budget.settle(second, 25, Usage(), None)
    report = purse.report(budget)
    assert (report.unknown_usd, report.held_usd) == (second, 0.0)
    assert purse.usable_usd == pytest.approx(0.05 + second)


async def test_each_answer_counts_once_and_in_order() -> None:
    """An answer that comes twice, or after a later one, adds nothing: the governor takes its money back."""
    purse = LeasedPurse(10.0)
    budget = budget_of(purse)
    purse.report(budget)
    purse.report(budget)
    purse.answer(money(2, 3.0))
    purse.answer(money(2, 3.0))
    purse.answer(money(1, 4.0))
    assert purse.usable_usd == 3.0
    assert purse.report(budget).answered == 2


async def test_a_report_says_a_need_once() -> None:
    """After an answer without money the next report is due at the usual time, unless the need has grown."""
    purse = LeasedPurse(10.0)
    budget = budget_of(purse)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(budget.reserve, 25)
        await purse.short()
        purse.report(budget)
        purse.answer(money(1, 0.0))
        with anyio.move_on_after(10) as waited:
            await purse.short()
        assert waited.cancelled_caught
        assert purse.ask(5.0, lambda: None)
        await purse.short()
        tasks.cancel_scope.cancel()


async def test_a_report_is_not_due_before_the_last_one_is_answered() -> None:
    """A row that comes while an answer is on its way waits for it: it may bring the money already."""
    purse = LeasedPurse(10.0)
    budget = budget_of(purse)
    due: list[float] = []

    async def watch() -> None:
        await purse.short()
        due.append(anyio.current_time())

    async with anyio.create_task_group() as tasks:
        purse.report(budget)
        tasks.start_soon(watch)
        tasks.start_soon(budget.reserve, 25)
        await anyio.wait_all_tasks_blocked()
        assert due == []
        purse.answer(money(1, 1.0))
        await anyio.wait_all_tasks_blocked()
        assert (due, budget.needed_usd) == ([], 0.0)
        tasks.cancel_scope.cancel()


async def test_a_need_that_the_answer_does_not_cover_makes_a_report_due() -> None:
    """A row comes while an answer is on its way, and the answer brings no money: the next report is due at once."""
    purse = LeasedPurse(10.0)
    budget = budget_of(purse)
    async with anyio.create_task_group() as tasks:
        purse.report(budget)
        tasks.start_soon(budget.reserve, 25)
        async with anyio.create_task_group() as reporting:
            reporting.start_soon(purse.short)
            await anyio.wait_all_tasks_blocked()
            purse.answer(money(1, 0.0))
        tasks.cancel_scope.cancel()


async def test_a_row_that_waits_no_more_makes_no_report_due() -> None:
    """After a cancelled wait the next report says that nothing is needed, and no other one follows at once."""
    purse = LeasedPurse(10.0)
    budget = budget_of(purse)
    with anyio.move_on_after(1):
        await budget.reserve(25)
    await purse.short()
    assert purse.report(budget).needed_usd == 0.0
    purse.answer(money(1, 0.0))
    with anyio.move_on_after(10) as waited:
        await purse.short()
    assert waited.cancelled_caught


async def test_a_row_that_can_never_be_paid_ends_its_wait() -> None:
    """It gets None as soon as the governor knows; a cheaper row still asks."""
    purse = LeasedPurse(10.0)
    budget = budget_of(purse)
    got: list[float | None] = []

    async def row(chars: int) -> None:
        got.append(await budget.reserve(chars))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(row, 250)
        await purse.short()
        purse.report(budget)
        purse.answer(DollarAnswer(1, 0.0, 1.10, 9.0))
        await anyio.wait_all_tasks_blocked()
        assert got == [None]
        tasks.start_soon(row, 25)
        await purse.short()
        purse.report(budget)
        purse.answer(DollarAnswer(2, 0.20, 1.10, 9.0))
    assert got == [None, pytest.approx(0.20)]


async def test_a_worker_wants_what_it_used_lately() -> None:
    """The money for a second ahead follows the growth of what is spent and held, also within a quarter of a second."""
    purse = LeasedPurse(100.0)
    budget = budget_of(purse)
    assert purse.report(budget).wanted_usd == 0.0
    purse.answer(money(1, 50.0))
    reserved = [await budget.reserve(25) for _ in range(10)]
    await anyio.sleep(0.5)
    assert purse.report(budget).wanted_usd == pytest.approx(4.0, rel=1e-3)
    assert purse.report(budget).wanted_usd == pytest.approx(4.0, rel=1e-3)
    purse.answer(money(3, 50.0))
    reserved += [await budget.reserve(25) for _ in range(10)]
    assert purse.report(budget).wanted_usd == pytest.approx(8.0, rel=1e-3)
    for each in reserved:
        assert each is not None
        budget.settle(each, 25, Usage(), 0.0)
    await anyio.sleep(0.5)
    assert purse.report(budget).wanted_usd == 0.0


async def test_engines_of_a_worker_stop_with_the_figures_of_the_batch(journal: Journal) -> None:
    """Two engines use one purse to its end; the message speaks of the budget and of all that is spent."""
    purse = LeasedPurse(3.0)
    budget = budget_of(purse)
    governor = DollarGovernor(3.0, spent_usd=0.5)
    governor.buried("earlier worker", 0.5)
    engines: list[Engine] = []

    async def engine(first: int) -> None:
        service = ScriptedService(otherwise=Move(answered(usage=Usage(10, 10, 20))))
        limits = Limits(concurrency=2)
        made = engine_for(service, journal, limits, price=lambda _model, used: cent_a_token(used), budget=budget)
        engines.append(made)
        await made.run([RowTask(prompt(row, "x" * 25)) for row in range(first, first + 50)])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(exchange, purse, budget, governor)
        async with anyio.create_task_group() as both:
            both.start_soon(engine, 0)
            both.start_soon(engine, 50)
        tasks.cancel_scope.cancel()
    assert journal.spent_usd() == pytest.approx(2.0)
    assert all(each.statistics().completed > 0 for each in engines)
    for each in engines:
        assert each.stop is not None
        assert each.stop.exit_code == 4
        assert "the budget of $3 is reached: $3.0000 is spent, and the next row may cost $0.2000" in each.stop.reason


async def test_a_stop_ends_the_wait_for_money(journal: Journal) -> None:
    """A batch that is asked to stop does not wait for money, in any of its engines; nothing is needed any more."""
    purse = LeasedPurse(3.0)
    budget = budget_of(purse)
    engines: list[Engine] = []

    async def engine(first: int) -> None:
        service = ScriptedService(otherwise=Move(answered()))
        engines.append(engine_for(service, journal, Limits(concurrency=2), price=lambda *_: 0.0, budget=budget))
        await engines[-1].run([RowTask(prompt(first, "x" * 25))])

    async with anyio.create_task_group() as both:
        both.start_soon(engine, 0)
        both.start_soon(engine, 1)
        await anyio.wait_all_tasks_blocked()
        for each in engines:
            each.request_stop(Stop("interrupted", 130), 0.0)
    assert purse.report(budget).needed_usd == 0.0
