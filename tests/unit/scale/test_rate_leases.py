"""A worker's part of a rate, in virtual time: order, pieces, the end of a lease, when it asks, limits of replies."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise

import anyio
import pytest

from batchrun.clock import loop_time
from batchrun.engine.limits import Limits
from batchrun.engine.rate import Unit
from batchrun.scale.leased_rate import ASK_APART_S, LeasedRate, LeasedRates
from batchrun.scale.rate_governor import LEASE_S, RateAsk, RateGovernor, RateLease
from batchrun.scale.spare_units import EXTRA_S
from batchrun.token_usage import Usage
from tests.support.rate_simulation import worst_minute

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


def leased(
    number: int, per_minute: float, burst: float, *, credit: float = 0.0, asked_at_s: float = 0.0, lasts_s: float = 1e6
) -> RateLease:
    return RateLease(number, per_minute, burst, credit, asked_at_s, lasts_s)


def rate_with(lease: RateLease) -> LeasedRate:
    rate = LeasedRate(lambda: None)
    rate.install(lease, loop_time())
    return rate


class Worker:
    """A worker of a batch: it asks every half second, and when it is short; answers take 5 ms each way."""

    def __init__(self, name: str, governors: dict[Unit, RateGovernor]) -> None:
        self.name = name
        self.governors = governors
        self.short = anyio.Event()
        self.rates = LeasedRates(lambda: self.short.set())
        self.asked_at_s: list[float] = []

    async def ask_for_ever(self) -> None:
        while True:
            self.short = anyio.Event()
            self.asked_at_s.append(loop_time())
            asks = self.rates.asks(loop_time())
            await anyio.sleep(0.005)
            leases = {unit: self.governors[unit].lease(self.name, ask, loop_time()) for unit, ask in asks.items()}
            await anyio.sleep(0.005)
            self.rates.install(leases, loop_time())
            with anyio.move_on_after(0.5):
                await self.short.wait()


@asynccontextmanager
async def workers(count: int, requests: float | None, tokens: float | None = None) -> AsyncIterator[list[Worker]]:
    governors: dict[Unit, RateGovernor] = {
        "requests": RateGovernor(requests),
        "tokens": RateGovernor(tokens, credit_share=0.02),
    }
    made = [Worker(f"worker {number}", governors) for number in range(count)]
    async with anyio.create_task_group() as tasks:
        for worker in made:
            tasks.start_soon(worker.ask_for_ever)
        yield made
        tasks.cancel_scope.cancel()


async def test_nothing_is_used_without_a_lease() -> None:
    """Before its first lease a worker waits; after the end of its last one it waits again, whatever it had saved up."""
    rate = LeasedRate(lambda: None)
    with anyio.move_on_after(100) as scope:
        await rate.acquire()
    assert scope.cancelled_caught
    rate.install(leased(1, 60.0, 10.0, asked_at_s=100.0, lasts_s=5.0), 100.5)
    await anyio.sleep(4)
    await rate.acquire()
    await rate.acquire()
    assert loop_time() < 104.1
    await anyio.sleep(2)
    with anyio.move_on_after(100) as scope:
        await rate.acquire()
    assert scope.cancelled_caught


async def test_units_flow_at_the_leased_rate() -> None:
    """The bucket starts empty, fills at the rate, and saves up no more than the burst."""
    rate = rate_with(leased(1, 60.0, 3.0))
    for _ in range(3):
        await rate.acquire()
    assert loop_time() == pytest.approx(3.0, abs=1e-3)
    await anyio.sleep(100)
    for _ in range(5):
        await rate.acquire()
    assert loop_time() == pytest.approx(105.0, abs=1e-3)


async def test_a_new_lease_applies_to_who_waits() -> None:
    """A waiter does not finish its wait at the old rate."""
    rate = rate_with(leased(1, 1.0, 1.0))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(rate.acquire)
        await anyio.sleep(6)
        rate.install(leased(2, 60.0, 1.0), loop_time())
    assert loop_time() == pytest.approx(6.9, abs=1e-3)


async def test_first_come_first_served_in_pieces() -> None:
    """Amounts above the burst are taken in pieces; nobody passes another."""
    rate = rate_with(leased(1, 6_000.0, 5.0))
    done: list[tuple[float, float]] = []

    async def take(amount: float) -> None:
        await rate.acquire(amount)
        done.append((amount, round(loop_time(), 2)))

    async with anyio.create_task_group() as tasks:
        for amount in (1.0, 400.0, 2.0, 100.0):
            tasks.start_soon(take, amount)
    assert done == [(1.0, 0.01), (400.0, 4.01), (2.0, 4.03), (100.0, 5.03)]


async def test_debt_and_credit() -> None:
    """What was used beyond its reservation delays the next; what was not used is used again, up to the leased credit."""
    rate = rate_with(leased(1, 60.0, 1.0, credit=2.0))
    await rate.acquire()
    rate.settle(10.0)
    await rate.acquire()
    assert loop_time() == pytest.approx(12.0, abs=1e-3)
    rate.settle(-100.0)
    await rate.acquire(10.0)
    assert loop_time() == pytest.approx(20.0, abs=1e-3)


async def test_a_credit_ends_with_its_lease() -> None:
    """A credit of the last lease is not used after its end: the governor has meanwhile leased it to others."""
    rate = rate_with(leased(1, 60.0, 1.0, credit=50.0, lasts_s=10.0))
    rate.settle(-50.0)
    await anyio.sleep(20)
    rate.install(leased(2, 60.0, 1.0, credit=50.0, asked_at_s=20.0), loop_time())
    await rate.acquire(10.0)
    assert loop_time() == pytest.approx(30.0, abs=1e-3)


async def test_a_cancelled_wait_leaves_the_others() -> None:
    """A row that is cancelled while it waits does not block those after it."""
    rate = rate_with(leased(1, 60.0, 1.0))
    async with anyio.create_task_group() as tasks:

        async def impatient() -> None:
            with anyio.move_on_after(0.5):
                await rate.acquire()

        tasks.start_soon(impatient)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(rate.acquire)
    assert loop_time() == pytest.approx(1.0, abs=1e-3)


async def test_an_older_lease_does_not_replace_a_newer_one() -> None:
    """Leases that arrive in another order than they were granted: the newest applies."""
    rate = rate_with(leased(5, 60.0, 1.0))
    rate.install(leased(4, 6_000.0, 9.0), 0.0)
    assert rate.per_minute == 60.0


async def test_a_late_lease_is_cut_to_the_later_asks() -> None:
    """What a worker has given up with later asks is not used when the answer to an earlier one arrives."""
    rate = rate_with(leased(1, 600.0, 4.0))
    await anyio.sleep(10)
    early = rate.ask(10.0)
    assert rate.ask(11.0).wanted_per_minute == 0.0
    late = rate.ask(12.0)
    rate.install(leased(2, 600.0, 4.0, asked_at_s=early.asked_at_s), 12.1)
    assert (rate.per_minute, rate.lease.burst) == (0.0, 1.0)
    rate.install(leased(3, 500.0, 3.5, asked_at_s=late.asked_at_s), 12.2)
    assert rate.per_minute == 500.0
    for tenth in range(1, 10):
        rate.take(1.0, 12.2 + tenth / 5)
    waited = rate.ask(14.2)
    some = rate.ask(14.3)
    rate.install(leased(4, 9_000.0, 46.0, asked_at_s=waited.asked_at_s), 14.4)
    assert rate.per_minute == some.wanted_per_minute > 0


async def test_what_a_worker_wants() -> None:
    """Without a lease all; when it waits more and more; else what it used lately and a little; at last nothing."""
    rate = LeasedRate(lambda: None)
    assert rate.ask(0.0) == RateAsk(0, 0.0, math.inf)
    rate.install(leased(1, 600.0, 4.0), 0.0)
    for tenth in range(1, 301):
        assert rate.take(1.0, tenth / 10)[0] == 1.0
    assert rate.ask(30.0).wanted_per_minute == pytest.approx(600 * 1.03, rel=0.01)
    assert rate.take(1.0, 30.0)[0] == 0.0
    assert [rate.ask(30.01 + n / 100).wanted_per_minute for n in range(3)] == pytest.approx(
        [600 * 1.03, 900 * 1.03, 1350 * 1.03], rel=0.01
    )
    assert rate.take(1.0, 30.1)[0] == 1.0
    assert rate.ask(30.6).wanted_per_minute == pytest.approx(60 * 1.5 * 2 / 0.57, rel=0.01)
    assert rate.ask(31.1).wanted_per_minute == pytest.approx(60 * 1.5 * 1 / 1.0, rel=0.01)
    assert rate.ask(33.0).wanted_per_minute == 0.0


async def test_a_worker_waits_for_the_answer_before_it_asks_again() -> None:
    """However slow messages are, a worker that is short has one ask on the way."""
    asked_at_s: list[float] = []
    now_s = 0.0
    rate = LeasedRate(lambda: asked_at_s.append(now_s))
    rate.ask(0.0)
    rate.install(leased(1, 60.0, 2.0, asked_at_s=0.0), 0.0)
    for now_s in (0.1, 0.2, 0.3, 0.4, 0.5):
        rate.take(2.0, now_s)
        if asked_at_s and asked_at_s[-1] == now_s:
            late = rate.ask(now_s)
    assert asked_at_s == [0.1]
    rate.install(replace(leased(2, 60.0, 2.0, asked_at_s=late.asked_at_s), is_short=True), 0.55)
    now_s = 0.6
    rate.take(2.0, now_s)
    assert asked_at_s == [0.1, 0.6]


async def test_what_flows_into_a_full_bucket_is_reported() -> None:
    """What flows into a full bucket since the last ask, and what a smaller burst has no room for, is in the next one."""
    rate = LeasedRate(lambda: None)
    rate.ask(10.0)
    rate.install(leased(1, 600.0, 4.0, asked_at_s=10.0), 10.1)
    assert rate.take(1.0, 10.7)[0] == 1.0  # full since 10.5
    rate.install(leased(2, 600.0, 3.0, asked_at_s=10.0), 10.8)
    told = rate.ask(10.9)
    assert told.unused == pytest.approx(2.0 + 1.0 + 1.0 + (3.0 - rate.lease.burst))
    assert told.unused_before_s == pytest.approx(0.8)
    told = rate.ask(11.4)
    assert (0.0 < told.unused < 1.0, told.unused_before_s) == (True, 0.0)


@pytest.mark.parametrize(("lasts_s", "unused"), [(1e6, 0.4), (0.3, 0.0)])
async def test_what_a_lower_lease_leaves_is_reported(lasts_s: float, unused: float) -> None:
    """Until its next ask, the governor leases to nobody else what an earlier, higher lease allows; unless that has ended."""
    rate = LeasedRate(lambda: None)
    rate.ask(0.0)
    rate.install(leased(1, 600.0, 40.0, lasts_s=lasts_s), 0.0)
    rate.install(leased(2, 540.0, 40.0), 0.1)
    for _ in range(4):
        assert rate.take(1.0, 0.5)[0] == 1.0
    assert rate.ask(0.5).unused == pytest.approx(unused)
    assert rate.ask(1.0).unused == pytest.approx(0.0)


async def test_extra_units_are_used_at_once() -> None:
    """They come on top of the burst, for a moment; then the rest of them is reported as unused."""
    rate = LeasedRate(lambda: None)
    rate.ask(0.0)
    rate.install(leased(1, 60.0, 2.0), 0.0)
    rate.install(replace(leased(2, 60.0, 2.0, asked_at_s=10.0), extra=5.0), 10.2)
    assert sum(rate.take(1.0, 10.3)[0] for _ in range(4)) == 4.0
    rate.install(replace(leased(3, 60.0, 2.0, asked_at_s=10.2), extra=5.0), 10.4)
    assert sum(rate.take(1.0, 10.2 + EXTRA_S)[0] for _ in range(9)) == 2.0
    assert rate.ask(10.2 + EXTRA_S).unused == pytest.approx((10.2 - 2.0) + 0.2 + 1.0 + 0.3 + 5.0)


async def test_late_extra_units_are_not_used() -> None:
    """An answer that took longer than the time for which they may be used brings none."""
    rate = rate_with(leased(1, 60.0, 2.0))
    rate.ask(10.0)
    rate.install(replace(leased(2, 60.0, 2.0, asked_at_s=10.0), extra=5.0), 10.0 + EXTRA_S)
    assert sum(rate.take(1.0, 10.0 + EXTRA_S)[0] for _ in range(9)) == 2.0


async def test_a_worker_that_is_short_asks_at_once() -> None:
    """The first request of an idle worker does not wait for the next regular ask, and asks are 50 ms apart."""
    async with workers(2, 6_000.0) as (busy, idle):
        async with anyio.create_task_group() as tasks:

            async def send() -> None:
                while True:
                    assert busy.rates.requests is not None
                    await busy.rates.requests.acquire()

            tasks.start_soon(send)
            await anyio.sleep(10.12)
            assert idle.rates.requests is not None
            first_s = loop_time()
            await idle.rates.requests.acquire()
            assert loop_time() - first_s < 0.01
            for _ in range(10):
                await idle.rates.requests.acquire()
            assert loop_time() - first_s < 2.0
            tasks.cancel_scope.cancel()
        since = [at_s for at_s in idle.asked_at_s if at_s >= first_s]
        assert since[0] - first_s < ASK_APART_S
        assert all(later - earlier >= 0.01 for earlier, later in pairwise(since))
        assert len(since) < 40


@pytest.mark.parametrize("count", [1, 2, 5])
async def test_workers_share_a_limit(count: int) -> None:
    """Through the limits of the engine, workers together use 98 % of a minute and never more than all of it."""
    sent_at_s: list[float] = []
    async with workers(count, 1_200.0) as made, anyio.create_task_group() as tasks:

        async def rows(limits: Limits) -> None:
            while True:
                with await limits.admit(10):
                    await limits.request()
                    sent_at_s.append(loop_time())

        for worker in made:
            tasks.start_soon(rows, Limits(rates=worker.rates))
        await anyio.sleep(130)
        tasks.cancel_scope.cancel()
    assert worst_minute(sent_at_s) <= 1_200
    assert len([at_s for at_s in sent_at_s if at_s >= 70]) >= 0.98 * 1_200


async def test_workers_share_a_limit_of_tokens() -> None:
    """Estimates that were too high are used again: 96 % of the tokens of a minute are used, and no more than all."""
    used: list[tuple[float, int]] = []
    async with workers(3, None, 60_000.0) as made, anyio.create_task_group() as tasks:

        async def rows(limits: Limits) -> None:
            while True:
                with await limits.admit(400) as lease:
                    await limits.request()
                    used.append((loop_time(), 150))
                    lease.settle(Usage(prompt_tokens=100, completion_tokens=50, total_tokens=150))

        for worker in made:
            tasks.start_soon(rows, Limits(rates=worker.rates))
        await anyio.sleep(200)
        tasks.cancel_scope.cancel()
    assert worst_minute([at_s for at_s, tokens in used for _ in range(tokens)]) <= 60_000 + 3 * 150
    assert sum(tokens for at_s, tokens in used if at_s >= 140) >= 0.96 * 60_000


async def test_a_limit_that_one_worker_sees_applies_to_all() -> None:
    """Without a limit nobody waits; the limit in a reply to one worker is shared by all a moment later."""
    async with workers(2, None) as (first, second):
        await anyio.sleep(1)
        limits = [Limits(rates=first.rates), Limits(rates=second.rates)]
        assert [each.statistics().max_requests_per_minute for each in limits] == [None, None]
        for _ in range(1_000):
            await limits[0].request()
        assert loop_time() == pytest.approx(1.0, abs=0.01)
        limits[0].observe({"x-ratelimit-limit-requests": "600"})
        limits[0].observe({"x-ratelimit-limit-requests": "600"})
        await anyio.sleep(3)
        shares = [each.statistics().max_requests_per_minute for each in limits]
        assert all(share is not None for share in shares)
        assert [each.statistics().max_tokens_per_minute for each in limits] == [None, None]
        start_s = loop_time()
        async with anyio.create_task_group() as tasks:
            for each in limits:

                async def send(each: Limits = each) -> None:
                    for _ in range(50):
                        await each.request()

                tasks.start_soon(send)
        assert loop_time() - start_s == pytest.approx(10.0, abs=1.5)


async def test_the_governor_is_not_needed_for_a_lease_long() -> None:
    """A worker that the governor does not answer uses its lease to its end, and nothing after it."""
    rate = rate_with(leased(1, 6_000.0, 31.0, asked_at_s=-0.2, lasts_s=LEASE_S))
    sent = 0
    with anyio.move_on_after(60):
        while True:
            await rate.acquire()
            sent += 1
    assert sent == pytest.approx(80, abs=1)
