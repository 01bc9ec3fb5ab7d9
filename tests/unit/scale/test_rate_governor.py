"""The governor of a rate: the sum of what workers may use, fair shares, places, limits that become known or change."""

from __future__ import annotations

import heapq
import math
from dataclasses import replace
from itertools import count
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrun.engine.pacer import TRANSIT_SHARE
from batchrun.scale.leased_rate import LeasedRate
from batchrun.scale.rate_governor import (
    BURST_SHARE,
    IDLE_SHARE,
    LEASE_S,
    PLACES_SHARE,
    RateAsk,
    RateGovernor,
    RateLease,
)
from batchrun.scale.spare_units import SPARE_SHARE
from tests.support.rate_simulation import worst_minute

WORKERS = 3
KEPT_BACK = TRANSIT_SHARE + BURST_SHARE + SPARE_SHARE


class Cluster:
    """Workers of one governor. Messages arrive when the test says so: late, in any order, or never.

    Mutable state: the time; the workers by number, of which each that is killed is replaced; messages on their way; the
    limits in the order in which they applied, with their times; what was used, and when.
    """

    def __init__(self, limit: float | None, offsets_s: list[float]) -> None:
        self.now_s = 0.0
        self.governor = RateGovernor(limit)
        self.limits = [(0.0, limit or math.inf)]
        self.offsets_s = offsets_s
        self.names = count()
        self.workers: list[tuple[str, LeasedRate]] = []
        for _ in offsets_s:
            self.workers.append(self.started())
        self.on_the_way: list[tuple[float, int, Any]] = []
        self.used_at_s: list[float] = []

    def started(self) -> tuple[str, LeasedRate]:
        return str(next(self.names)), LeasedRate(lambda: None)

    def deliver_until(self, time_s: float) -> None:
        while self.on_the_way and self.on_the_way[0][0] <= time_s:
            self.now_s, _, arrive = heapq.heappop(self.on_the_way)
            arrive()
        self.now_s = time_s

    def ask(self, number: int, up_s: float, down_s: float, wanted_per_minute: float | None = None) -> None:
        """Send an ask that takes `up_s` to the governor, and its answer `down_s`; infinite if it is lost.

        Args:
            wanted_per_minute: None for what the worker wants.
        """
        name, rate = self.workers[number]
        ask = rate.ask(self.now_s + self.offsets_s[number])
        if wanted_per_minute is not None:
            ask = replace(ask, wanted_per_minute=wanted_per_minute)

        def answer() -> None:
            lease = self.governor.lease(name, ask, self.now_s)
            self.send(down_s, lambda: rate.install(lease, self.now_s + self.offsets_s[number]))

        self.send(up_s, answer)

    def send(self, takes_s: float, arrive: Any) -> None:
        if takes_s < math.inf:
            heapq.heappush(self.on_the_way, (self.now_s + takes_s, next(self.names), arrive))

    def use(self, number: int, most: int) -> None:
        """Use what the worker may use now, up to so many units; one of the last is left to wait for."""
        for _ in range(most):
            if not self.workers[number][1].take(1.0, self.now_s + self.offsets_s[number])[0]:
                return
            self.used_at_s.append(self.now_s)

    def rates(self) -> list[float]:
        """What each worker uses now, in units a minute."""
        return [
            rate.per_minute if self.now_s + offset_s < rate.ends_s else 0.0
            for (_, rate), offset_s in zip(self.workers, self.offsets_s, strict=True)
        ]

    def limit_of(self, period_s: float) -> float:
        """The highest limit that applied within a period before now."""
        ends = [*(at_s for at_s, _ in self.limits[1:]), math.inf]
        return max(limit for (_, limit), end_s in zip(self.limits, ends, strict=True) if end_s >= self.now_s - period_s)


delays = st.sampled_from([0.0, 0.001, 0.001, 0.1, 0.3, 1.2, math.inf])
steps = st.tuples(
    st.integers(0, WORKERS - 1),
    delays,
    delays,
    st.sampled_from([0, 1, 10_000, 10_000]),
    st.sampled_from([0.001, 0.02, 0.1, 0.1, 0.3, 0.3, 0.6, 30.0]),
    st.sampled_from([None] * 20 + ["killed", 1.0, 61.5, 90_000.0]),
)
"""(worker, seconds to the governor, seconds back, units that it wants, seconds that pass, a worker that is killed or a limit
that is set)"""


@given(
    limit=st.sampled_from([1.0, 5.0, 39.0, 60.0, 200.0, 6_000.0]),
    offsets_s=st.lists(st.floats(-1e4, 1e4), min_size=WORKERS, max_size=WORKERS),
    stepped=st.lists(steps, min_size=20, max_size=80),
)
@settings(max_examples=100, deadline=None)
def test_workers_together_never_use_more_than_the_limit(
    limit: float, offsets_s: list[float], stepped: list[Any]
) -> None:
    """Whatever happens to messages, workers and the limit: the rates in use fit into the drain at every moment, and no
    minute holds more than the limit."""
    cluster = Cluster(limit, offsets_s)
    for number, up_s, down_s, wanted, passed_s, event in stepped:
        if event == "killed":
            cluster.workers[number] = cluster.started()
        elif event is not None:
            cluster.governor.set_limit(event, cluster.now_s)
            cluster.limits.append((cluster.now_s, event))
        cluster.use(number, wanted)
        cluster.ask(number, up_s, down_s)
        end_s = cluster.now_s + passed_s
        while cluster.now_s < end_s:
            due_s = cluster.on_the_way[0][0] if cluster.on_the_way else end_s
            cluster.deliver_until(min(due_s, end_s))
            in_use = [rate for rate in cluster.rates() if rate > 0]
            drain = cluster.limit_of(LEASE_S) * (1 - KEPT_BACK) - max(0, len(in_use) - 1)
            assert sum(in_use) <= drain * (1 + 1e-9)
    if len(cluster.limits) == 1:
        assert worst_minute(cluster.used_at_s) <= limit


@given(
    workers=st.integers(1, 5),
    latency_s=st.sampled_from([0.001, 0.05, 0.2, 0.45]),
    ask_every_s=st.sampled_from([0.1, 0.5]),
    pause_s=st.floats(0.3, 1.2),
    wants_all=st.booleans(),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=20, deadline=None)
def test_a_pause_saves_up_no_more_than_is_kept_back(
    workers: int, latency_s: float, ask_every_s: float, pause_s: float, wants_all: bool, seed: int
) -> None:
    """Full buckets and all spare units at the start of a minute, and then everything that flows in it: no more than the
    limit. Workers may want more than they use."""
    random = Random(seed)
    cluster = Cluster(6_000, [0.0] * workers)
    asked_at_s = [0.0] * workers
    end_s = 4.0 + pause_s
    while cluster.now_s < end_s + 62:
        for number, due_s in enumerate(asked_at_s):
            if not 4.0 < cluster.now_s < end_s:
                cluster.use(number, 10_000)
            if cluster.now_s >= due_s:
                wants = math.inf if wants_all else None
                cluster.ask(number, random.uniform(0, latency_s), random.uniform(0, latency_s), wants)
                asked_at_s[number] = cluster.now_s + ask_every_s * random.uniform(0.8, 1.2)
        cluster.deliver_until(cluster.now_s + 0.02)
    assert 0.8 * 6_000 <= worst_minute(cluster.used_at_s) <= 6_000


@given(
    wants=st.lists(st.one_of(st.floats(0, 2_000), st.just(math.inf)), min_size=1, max_size=12),
    limit=st.sampled_from([600.0, 6_000.0]),
)
def test_shares_are_fair(wants: list[float], limit: float) -> None:
    """After a few rounds, each worker has what it wants, or as much as anybody; and nothing is left that one wants."""
    governor = RateGovernor(limit)
    leases: dict[int, RateLease] = {}
    for now_s in (0.0, 0.5, 1.0, 1.5, 2.0, 2.5):
        for worker, want in enumerate(wants):
            held = leases[worker].number if worker in leases else 0
            leases[worker] = governor.lease(str(worker), RateAsk(held, now_s, want), now_s + worker * 1e-3)
    rates = [lease.per_minute for lease in leases.values()]
    drain = limit * (1 - KEPT_BACK) - (len(wants) - 1)
    least = drain * IDLE_SHARE / len(wants)
    assert sum(rates) <= drain
    assert sum(rates) == pytest.approx(min(drain, sum(max(want, least) for want in wants)), rel=0.01)
    for want, rate in zip(wants, rates, strict=True):
        assert rate == pytest.approx(max(want, least), rel=0.01) or rate >= 0.99 * max(rates)


def held(governor: RateGovernor, worker: str, now_s: float, wanted: float = math.inf, number: int = 0) -> RateLease:
    """The answer to an ask of a worker whose clock is the governor's."""
    return governor.lease(worker, RateAsk(number, now_s, wanted), now_s)


def test_a_lost_workers_part_is_free_when_its_lease_has_expired() -> None:
    """Nobody gets what a worker may still be using; all of it goes to the others a lease after its last ask."""
    governor = RateGovernor(6_000)
    lost = held(governor, "lost", 0.0)
    assert lost.per_minute == pytest.approx(6_000 * (1 - KEPT_BACK))
    early = held(governor, "other", 0.9 * LEASE_S)
    assert (early.per_minute, early.burst, early.is_short) == (0.0, 0.0, True)
    late = held(governor, "other", LEASE_S)
    assert late.per_minute == pytest.approx(6_000 * (1 - KEPT_BACK))


def test_a_lease_whose_successor_is_lost_counts_to_its_end() -> None:
    """A worker may use the lease that it holds until it says that it has the next one."""
    governor = RateGovernor(6_000)
    lease = held(governor, "a", 0.0)
    held(governor, "b", 0.1)
    assert held(governor, "a", 0.2, number=lease.number).per_minute < 3_000
    assert held(governor, "b", 0.9).per_minute == 0.0
    assert held(governor, "b", LEASE_S).per_minute > 2_900


def test_the_burst_of_a_lost_worker_is_kept_back_for_a_minute() -> None:
    """What a lost worker used at once at its end is part of the same minute as what the others use after it."""
    governor = RateGovernor(100)
    for now_s in (0.0, 0.5, 1.0):
        for worker in ("lost", "other"):
            lease = held(governor, worker, now_s + 0.001 * len(worker))
    two_places = 100 * (1 - KEPT_BACK) - 1
    assert lease.per_minute == pytest.approx(two_places / 2)
    assert held(governor, "other", 10.0).per_minute == pytest.approx(two_places)
    assert held(governor, "other", 61.0).per_minute == pytest.approx(two_places)
    assert held(governor, "other", 63.0).per_minute == pytest.approx(100 * (1 - KEPT_BACK))


def test_a_worker_gives_up_at_once_what_it_does_not_want() -> None:
    """With its ask a worker has ended the use of the rest of its lease: another has it in the same moment."""
    governor = RateGovernor(6_000)
    first = held(governor, "first", 0.0)
    for now_s in (0.1, 1.05, 1.1):
        held(governor, "second", now_s, wanted=0.0)
    held(governor, "first", 1.2, wanted=100.0, number=first.number)
    assert held(governor, "second", 1.2).per_minute == pytest.approx(6_000 * (1 - KEPT_BACK) - 1 - 100, abs=0.01)


def both_served(now_s: float = 1.5) -> tuple[RateGovernor, RateLease, RateLease]:
    """A governor of two workers, one that wants all and one that wants 100 a minute, with the leases that they hold."""
    governor = RateGovernor(6_000)
    for step in range(4):
        hungry = held(governor, "hungry", now_s - 1.5 + step / 2)
        modest = held(governor, "modest", now_s - 1.5 + step / 2, wanted=100.0)
    return governor, hungry, modest


def test_what_one_worker_has_not_used_goes_to_another() -> None:
    """It goes to one that wants more than there is, once, and at most 0.5 % of the limit."""
    governor, hungry, modest = both_served()
    held(governor, "hungry", 1.6, number=hungry.number)
    answer = governor.lease("modest", RateAsk(modest.number, 2.0, 100.0, unused=3.0), 2.0)
    assert answer.extra == 0.0
    assert held(governor, "hungry", 2.01).extra == pytest.approx(3.0, abs=0.02)
    assert held(governor, "hungry", 2.02).extra == pytest.approx(0.0, abs=0.02)
    governor.lease("modest", RateAsk(answer.number, 2.1, 100.0, unused=300.0), 2.1)
    assert held(governor, "hungry", 2.2).extra == pytest.approx(30.0 - 3.0, abs=0.1)


def test_what_was_not_used_long_ago_goes_to_nobody() -> None:
    """It must have flowed while the lease that the worker holds was valid, or so shortly before that it is as new."""
    for asked_at_s, before_s, extra in [(2.0, 0.4, 3.0), (2.0, 0.6, 0.0), (2.6, 0.0, 0.0)]:
        governor, _, modest = both_served()
        ask = RateAsk(modest.number, asked_at_s, 100.0, unused=3.0, unused_before_s=before_s)
        held(governor, "hungry", asked_at_s - 0.01)
        governor.lease("modest", ask, asked_at_s)
        assert held(governor, "hungry", asked_at_s + 0.01).extra == pytest.approx(extra, abs=0.1)


def test_what_was_leased_to_nobody_is_not_lost() -> None:
    """The part that a worker gave up flows to another one, though that one asks for its new part only later."""
    governor, hungry, modest = both_served()
    governor.lease("hungry", RateAsk(hungry.number, 1.6, 1_000.0), 1.6)
    late = governor.lease("modest", RateAsk(modest.number, 1.8, 3_000.0), 1.8)
    assert late.extra == 0.0
    assert late.per_minute == pytest.approx(3_000.0)
    late = governor.lease("hungry", RateAsk(hungry.number, 1.9, 9_000.0), 1.9)
    assert late.extra == pytest.approx((0.2 * 4_840 + 0.1 * 1_940) / 60, rel=0.05)


def test_an_old_ask_gives_nothing_up() -> None:
    """An ask that arrives after a later one does not say what the worker uses of the later one's lease."""
    governor = RateGovernor(6_000)
    lease = governor.lease("first", RateAsk(0, 2.0, math.inf), 2.0)
    governor.lease("first", RateAsk(0, 1.0, 0.0), 2.0)
    assert held(governor, "second", 2.1).per_minute == 0.0
    assert lease.per_minute > 5_900


def test_a_low_limit_has_few_places() -> None:
    """Of a limit of 30 a minute no more than three workers have a part at once, and those that want nothing have none."""
    governor = RateGovernor(30)
    assert int(30 * PLACES_SHARE) == 3

    def round_of_asks(start_s: float, wants: dict[str, float]) -> dict[str, float]:
        for step in range(6):
            rates = {name: held(governor, name, start_s + step / 2, want).per_minute for name, want in wants.items()}
        return rates

    rates = round_of_asks(0.0, dict.fromkeys("abcde", math.inf))
    assert [name for name, rate in rates.items() if rate > 0] == ["a", "b", "c"]
    assert sum(rates.values()) == pytest.approx(30 * (1 - KEPT_BACK) - 2)
    rates = round_of_asks(10.0, {**dict.fromkeys("bcde", math.inf), "a": 0.0})
    assert [name for name, rate in rates.items() if rate > 0] == ["b", "c", "d"]


def test_a_limit_may_become_known() -> None:
    """Without a limit leases have none; after a reply has reported one, it applies when the earlier leases have ended."""
    governor = RateGovernor(None)
    assert held(governor, "a", 0.0).per_minute == math.inf
    first = governor.lease("b", RateAsk(0, 0.5, math.inf, observed_per_minute=600.0), 0.5)
    assert first.per_minute == 0.0
    assert held(governor, "a", 1.4).per_minute == 0.0
    assert 0 < held(governor, "b", 1.5).per_minute < 600
    later = governor.lease("b", RateAsk(0, 3.0, math.inf, observed_per_minute=900.0), 3.0)
    assert later.per_minute == pytest.approx(600 * (1 - KEPT_BACK), abs=1)


def test_a_limit_may_change() -> None:
    """A lower limit applies when the leases of the higher one are replaced."""
    governor = RateGovernor(6_000)
    lease = held(governor, "a", 0.0)
    governor.set_limit(600.0, 0.1)
    assert held(governor, "b", 0.2).per_minute == 0.0
    assert held(governor, "a", 0.3, number=lease.number).per_minute <= 600
    assert held(governor, "b", 1.3).per_minute >= 0


def test_all_workers_learn_of_a_wait() -> None:
    """A Retry-After that one worker got is in every lease; a wait that comes back from a worker does not prolong it."""
    governor = RateGovernor(None)
    governor.hold(20.0, 100.0)
    assert held(governor, "a", 105.0).held_s == pytest.approx(15.0)
    governor.hold(15.2, 105.0)
    assert held(governor, "a", 105.0).held_s == pytest.approx(15.0)
    governor.hold(30.0, 105.0)
    assert held(governor, "b", 106.0).held_s == pytest.approx(29.0)
    assert held(governor, "b", 140.0).held_s == 0.0


def test_tokens_keep_a_credit_back() -> None:
    """A share of a limit of tokens is kept back for estimates that were too high, in parts as the rates."""
    governor = RateGovernor(100_000, credit_share=0.02)
    for now_s in (0.0, 0.5, 1.0):
        leases = [held(governor, worker, now_s + 0.001 * number) for number, worker in enumerate("ab")]
    assert sum(lease.per_minute for lease in leases) == pytest.approx(100_000 * (1 - KEPT_BACK - 0.02) - 1, abs=1)
    assert sum(lease.credit for lease in leases) == pytest.approx(0.02 * sum(lease.per_minute for lease in leases))
