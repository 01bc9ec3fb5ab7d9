"""A simulation of workers that share a rate limit: real governor and real leases, simulated messages, clocks and demand."""

from __future__ import annotations

import heapq
import math
import random
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import count, pairwise
from typing import Literal, TypeAlias

from batchrun.scale.leased_rate import LeasedRate
from batchrun.scale.rate_governor import RateAsk, RateGovernor, RateLease

__all__ = ["Result", "Scenario", "simulate"]

Demand: TypeAlias = Literal["full", "even", "mixed", "jumps", "idle"]
"""`full`: all want more than there is. `even`: arrivals at random, 90 % of the limit together, the same everywhere. `mixed`:
half of the workers want half of an equal part, the others want more than there is. `jumps`: a quarter of the workers wants
all, every ten seconds another one. `idle`: one worker in ten wants all, the others send once in twenty seconds."""

ASK_EVERY_S = 0.5
JUMP_S = 10.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is simulated.

    Attributes:
        killed_per_s: workers that are killed in a second; each is replaced by another a fifth of a second later.
        latency_s: the most that a message takes.
        transit_s: the most that a request takes to the service.
        offset_s: the most by which the workers' clocks differ from the governor's.
    """

    workers: int
    limit_per_minute: float
    demand: Demand = "full"
    latency_s: float = 0.01
    transit_s: float = 0.1
    offset_s: float = 1_000.0
    killed_per_s: float = 0.0
    lease_s: float = 1.0
    lasts_s: float = 130.0
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Result:
    """What has happened.

    Attributes:
        arrived_s: when each request reached the service, in order.
        worst_minute: the most requests in any 60 s.
        use: share of the limit, or of the demand if that is less, that was used in the last minute.
        asks: messages to the governor.
        sent_at_s: when each worker sent its requests, and those that it replaced theirs, by its number.
    """

    arrived_s: list[float]
    worst_minute: int
    use: float
    asks: int
    sent_at_s: list[list[float]]


@dataclass(slots=True, eq=False)
class _Worker:
    """A worker: its rate, requests that wait, and when its last message in either direction arrives."""

    name: str
    number: int
    offset_s: float
    rate: LeasedRate
    queued: float = 0.0
    tries: int = 0
    is_alive: bool = True
    up_s: float = 0.0
    down_s: float = 0.0
    waits: bool = False


@dataclass(slots=True)
class _Simulation:
    scenario: Scenario
    governor: RateGovernor
    random: random.Random
    now_s: float = 0.0
    events: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    order: Iterator[int] = field(default_factory=count)
    workers: list[_Worker] = field(default_factory=list)
    names: Iterator[int] = field(default_factory=count)
    arrived_s: list[float] = field(default_factory=list)
    sent_at_s: list[list[float]] = field(default_factory=list)
    asks: int = 0

    def at(self, time_s: float, event: Callable[[], None]) -> None:
        heapq.heappush(self.events, (time_s, next(self.order), event))

    def start(self, number: int) -> None:
        """Start a worker under a new name."""
        name = f"{number}.{next(self.names)}"
        offset_s = self.random.uniform(-self.scenario.offset_s, self.scenario.offset_s)
        worker = _Worker(name, number, offset_s, LeasedRate(lambda: self.at(self.now_s, lambda: self.ask(worker))))
        worker.queued = self.backlog(number)
        if number < len(self.workers):
            self.workers[number] = worker
        else:
            self.workers.append(worker)
            self.sent_at_s.append([])
        self.at(self.now_s, lambda: self.ask_regularly(worker))
        self.at(self.now_s, lambda: self.send(worker))
        if (per_s := self.arrivals_per_s(number)) > 0:
            self.at(self.now_s + self.random.expovariate(per_s), lambda: self.arrival(worker, per_s))

    def backlog(self, number: int) -> float:
        """Requests that a worker has to send at the start, or at a jump: none, or without end."""
        workers = self.scenario.workers
        match self.scenario.demand:
            case "full":
                wants = True
            case "even":
                wants = False
            case "mixed":
                wants = number % 2 == 0
            case "jumps":
                groups = min(4, workers)
                wants = number % groups == int(self.now_s / JUMP_S) % groups
            case "idle":
                wants = number < max(1, workers // 10)
        return math.inf if wants else 0.0

    def arrivals_per_s(self, number: int) -> float:
        equal_per_s = self.scenario.limit_per_minute / self.scenario.workers / 60
        if self.backlog(number) or self.scenario.demand == "jumps":
            return 0.0
        return {"even": 0.9 * equal_per_s, "mixed": 0.5 * equal_per_s, "idle": 0.05}[self.scenario.demand]

    def jump(self) -> None:
        for worker in self.workers:
            worker.queued = self.backlog(worker.number)
            worker.rate.stop_waiting()
            self.send(worker)
        self.at(self.now_s + JUMP_S, self.jump)

    def arrival(self, worker: _Worker, per_s: float) -> None:
        if worker.is_alive:
            worker.queued += 1
            if not worker.waits:
                self.send(worker)
            self.at(self.now_s + self.random.expovariate(per_s), lambda: self.arrival(worker, per_s))

    def send(self, worker: _Worker) -> None:
        """Send what may be sent, and come back when more may."""
        worker.tries += 1
        worker.waits = False
        while worker.is_alive and worker.queued > 0:
            taken, wait_s = worker.rate.take(1.0, self.now_s + worker.offset_s)
            if not taken:
                worker.waits = True
                self.at(self.now_s + wait_s + 1e-6, partial(self.send_again, worker, worker.tries))
                return
            worker.queued -= 1
            self.arrived_s.append(self.now_s + self.random.uniform(0, self.scenario.transit_s))
            self.sent_at_s[worker.number].append(self.now_s)

    def send_again(self, worker: _Worker, tries: int) -> None:
        if worker.tries == tries:
            self.send(worker)

    def ask_regularly(self, worker: _Worker) -> None:
        if worker.is_alive:
            self.ask(worker)
            self.at(self.now_s + ASK_EVERY_S, lambda: self.ask_regularly(worker))

    def ask(self, worker: _Worker) -> None:
        """Send an ask; the answer comes back later. Messages keep their order."""
        if worker.is_alive:
            self.asks += 1
            ask = worker.rate.ask(self.now_s + worker.offset_s)
            worker.up_s = max(worker.up_s, self.now_s + self.random.uniform(0, self.scenario.latency_s))
            self.at(worker.up_s, lambda: self.answer(worker, ask))

    def answer(self, worker: _Worker, ask: RateAsk) -> None:
        lease = self.governor.lease(worker.name, ask, self.now_s)
        worker.down_s = max(worker.down_s, self.now_s + self.random.uniform(0, self.scenario.latency_s))
        self.at(worker.down_s, lambda: self.receive(worker, lease))

    def receive(self, worker: _Worker, lease: RateLease) -> None:
        if worker.is_alive:
            worker.rate.install(lease, self.now_s + worker.offset_s)
            if worker.waits:
                self.send(worker)

    def kill(self) -> None:
        if alive := [worker for worker in self.workers if worker.is_alive]:
            worker = self.random.choice(alive)
            worker.is_alive = False
            self.at(self.now_s + 0.2, lambda: self.start(worker.number))
        self.at(self.now_s + self.random.expovariate(self.scenario.killed_per_s), self.kill)

    def run(self) -> None:
        for number in range(self.scenario.workers):
            self.at(ASK_EVERY_S * number / self.scenario.workers, partial(self.start, number))
        if self.scenario.demand == "jumps":
            self.at(JUMP_S, self.jump)
        if self.scenario.killed_per_s:
            self.at(1.0, self.kill)
        while self.events[0][0] < self.scenario.lasts_s:
            self.now_s, _, event = heapq.heappop(self.events)
            event()


def simulate(scenario: Scenario, governor: RateGovernor | None = None) -> Result:
    """Run a scenario."""
    governor = governor or RateGovernor(scenario.limit_per_minute, lease_s=scenario.lease_s)
    simulation = _Simulation(scenario, governor, random.Random(scenario.seed))
    simulation.run()
    arrived_s = sorted(simulation.arrived_s)
    last = len(arrived_s) - bisect_left(arrived_s, scenario.lasts_s - 60)
    demand = 0.9 if scenario.demand == "even" else 1.0
    return Result(
        arrived_s=arrived_s,
        worst_minute=worst_minute(arrived_s),
        use=last / scenario.limit_per_minute / demand,
        asks=simulation.asks,
        sent_at_s=simulation.sent_at_s,
    )


def worst_minute(arrived_s: list[float]) -> int:
    """Return the most in any half-open minute."""
    assert all(earlier <= later for earlier, later in pairwise(arrived_s))
    most = start = 0
    for end, at_s in enumerate(arrived_s):
        while arrived_s[start] <= at_s - 60:
            start += 1
        most = max(most, end - start + 1)
    return most
