"""The pacer in virtual time: the allowance of a minute, order, debt; and the estimate of tokens."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrun.engine.pacer import TRANSIT_SHARE, Pacer, TokenEstimate
from tests.support.virtual_time import BACKEND

pytestmark = pytest.mark.virtual_time

MINUTE_S = 60.0


def worst_minute(spent: list[tuple[float, float]]) -> float:
    """The most units spent in any half-open minute; `spent` holds (loop time, units) in order."""
    most = total = 0.0
    start = 0
    for at_s, units in spent:
        total += units
        # The virtual clock moves a tenth of a microsecond late at each jump; what is due a minute later is later.
        while spent[start][0] <= at_s - MINUTE_S + 1e-3:
            total -= spent[start][1]
            start += 1
        most = max(most, total)
    return most


async def spend(pacer: Pacer, amounts: list[float]) -> list[tuple[float, float]]:
    """All at once, as rows do; returns (loop time, units) in the order of admission."""
    spent: list[tuple[float, float]] = []

    async def one(amount: float) -> None:
        await pacer.acquire(amount)
        spent.append((anyio.current_time(), amount))

    async with anyio.create_task_group() as tasks:
        for amount in amounts:
            tasks.start_soon(one, amount)
    return spent


@pytest.mark.anyio
@pytest.mark.parametrize("per_minute", [1, 2, 7, 59, 60, 61, 100, 600, 3_000])
async def test_any_minute_holds_at_most_the_allowance(per_minute: int) -> None:
    """In no 60 s window are more units spent than allowed, and in a busy one at least 98 % of them."""
    pacer = Pacer(per_minute)
    spent = await spend(pacer, [1.0] * (2 * per_minute + min(per_minute, 100)))
    assert worst_minute(spent) <= per_minute
    second = [units for at_s, units in spent if MINUTE_S <= at_s < 2 * MINUTE_S]
    assert sum(second) >= 0.98 * per_minute - 1


@pytest.mark.anyio
async def test_a_pause_saves_no_more_than_the_burst() -> None:
    """After an hour of idleness a minute still holds at most the allowance."""
    pacer = Pacer(600)
    first = await spend(pacer, [1.0] * 100)
    await anyio.sleep(3_600)
    later = await spend(pacer, [1.0] * 700)
    assert worst_minute(first + later) <= 600
    immediately = [at_s for at_s, _ in later if at_s <= later[0][0] + 1e-3]
    assert len(immediately) == pacer.burst == 4


@pytest.mark.anyio
async def test_the_start_is_not_a_burst() -> None:
    """The first request goes at once, the second one interval later, from the first second on."""
    spent = await spend(Pacer(600), [1.0] * 11)
    assert [at_s for at_s, _ in spent] == pytest.approx([n * 60 / 595.2 for n in range(11)], abs=1e-3)


@given(
    per_minute=st.floats(0.5, 5_000),
    amounts=st.lists(st.floats(0.1, 300), min_size=1, max_size=40),
)
@settings(max_examples=60, deadline=None)
def test_any_amounts_keep_to_the_allowance(per_minute: float, amounts: list[float]) -> None:
    """Amounts of any size, over the bucket too, exceed the allowance of a minute by no more than one of them or one unit."""
    spent = anyio.run(spend, Pacer(per_minute), amounts, backend="asyncio", backend_options=BACKEND[1])
    assert len(spent) == len(amounts)
    assert worst_minute(spent) <= per_minute + max(*amounts, 1.0) + 1e-6


@given(amounts=st.lists(st.sampled_from([1.0, 3.0, 40.0, 900.0]), min_size=2, max_size=30))
@settings(max_examples=40, deadline=None)
def test_first_come_first_served(amounts: list[float]) -> None:
    """Large and small amounts are admitted in the order in which they were asked for."""
    spent = anyio.run(spend, Pacer(1_000), amounts, backend="asyncio", backend_options=BACKEND[1])
    assert [amount for _, amount in spent] == amounts


@pytest.mark.anyio
async def test_a_large_amount_among_small_ones_is_not_starved() -> None:
    """900 tokens after 50 small prompts, at 1,000 per minute, wait only for those and themselves."""
    spent = await spend(Pacer(1_000), [1.0] * 50 + [900.0] + [1.0] * 50)
    at_s = next(at_s for at_s, amount in spent if amount == 900.0)
    assert at_s == pytest.approx(949 * 60 / 992, abs=0.7)


@pytest.mark.anyio
async def test_debt_is_paid_by_who_comes_next() -> None:
    """What was used beyond the reservation delays the next acquisition by just that much."""
    pacer = Pacer(60)
    await pacer.acquire()
    pacer.settle(30.0)
    await pacer.acquire()
    assert anyio.current_time() == pytest.approx(31.0 / 0.997, abs=1e-3)
    await pacer.acquire()
    assert anyio.current_time() == pytest.approx(32.0 / 0.997, abs=1e-3)


@pytest.mark.anyio
async def test_credit_is_used_by_who_comes_next() -> None:
    """What was reserved and not used shortens the next wait, once."""
    pacer = Pacer(6_000, credit_share=0.02)
    a_second = (6_000 * (1 - TRANSIT_SHARE - 0.02) - (pacer.burst - 1)) / 60
    await pacer.acquire(1_000)
    before_s = anyio.current_time()
    pacer.settle(-50.0)
    await pacer.acquire(100)
    assert anyio.current_time() - before_s == pytest.approx(50 / a_second, abs=0.02)
    await pacer.acquire(100)
    assert anyio.current_time() - before_s == pytest.approx(150 / a_second, abs=0.02)


@pytest.mark.anyio
async def test_credit_is_bounded() -> None:
    """However much was set aside in vain, another minute gets no more of it than was kept back for that."""
    pacer = Pacer(6_000, credit_share=0.02)
    await pacer.acquire(6_000)
    pacer.settle(-6_000.0)
    before_s = anyio.current_time()
    await pacer.acquire(6_000)
    assert anyio.current_time() - before_s >= 60 * (6_000 - 120 - pacer.burst) / 6_000


@pytest.mark.anyio
async def test_a_cancelled_wait_does_not_block_the_others() -> None:
    """A row that is cancelled while it waits leaves the queue to the rows after it."""
    pacer = Pacer(1)
    await pacer.acquire()
    async with anyio.create_task_group() as tasks:

        async def impatient() -> None:
            with anyio.move_on_after(5):
                await pacer.acquire()

        tasks.start_soon(impatient)
        await anyio.wait_all_tasks_blocked()
        await pacer.acquire()
    assert anyio.current_time() == pytest.approx(60.18, abs=0.1)


def test_first_guess() -> None:
    """Before any row has ended: a quarter token a character, and 500 for the answer or the user's own bound."""
    assert TokenEstimate(None).guess(400) == 600
    assert TokenEstimate(100).guess(0) == 100
    assert TokenEstimate(1_000_000).guess(0) == 4_000


def test_the_guess_learns() -> None:
    """After many rows the guess is what they really took."""
    estimate = TokenEstimate(None)
    for _ in range(2_000):
        estimate.learn(1_000, 600, 40)
    assert estimate.guess(1_000) == pytest.approx(640, rel=0.01)


def test_what_is_not_told_teaches_nothing() -> None:
    """Rows without usage, and empty prompts, leave the guess as it was."""
    estimate = TokenEstimate(None)
    estimate.learn(100, None, None)
    estimate.learn(0, 50, None)
    assert estimate.guess(400) == 600


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6)), max_size=20))
def test_the_guess_stays_sane(rows: list[tuple[int, int, int]]) -> None:
    """No usage makes a guess negative or infinite."""
    estimate = TokenEstimate(None)
    for row in rows:
        estimate.learn(*row)
    assert 0 <= estimate.guess(1_000) < 10**12
