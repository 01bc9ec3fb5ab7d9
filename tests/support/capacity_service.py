"""A service of limited capacity in virtual time: how fast it is depends on how many requests it has at once."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import anyio

from batchrun.engine import Limits
from batchrun.engine.service import OnIds
from batchrun.errors import ConnectionLost, RateLimited, Unavailable
from batchrun.records import Attempt, Exchange, Reply
from tests.support.scripted_service import answered

__all__ = ["Capacity", "CapacityService", "Speed", "straight"]

WAY_S = 0.001
"""From the client to the service."""

Speed = Callable[[int], float]
"""(requests worked on at once) → how many of them it would do at full speed in the same time."""


def straight(*points: tuple[int, float]) -> Speed:
    """Straight lines between (requests, speed), flat after the last; full speed before the first."""

    def speed(count: int) -> float:
        if count <= points[0][0]:
            return float(count)
        for (low, slow), (high, fast) in itertools.pairwise(points):
            if count <= high:
                return slow + (fast - slow) * (count - low) / (high - low)
        return points[-1][1]

    return speed


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a service can do.

    Attributes:
        work_s: seconds that a request takes where there is no other, on average.
        spread: requests differ by so much, evenly: 0.5 for between a half and one and a half of `work_s`.
        slots: requests worked on at once, None for all; the others wait in order.
        speed: by which those that are worked on share the service.
        per_minute: requests that pass in any 60 s, None for all; the others are refused without a word of when.
        away: (from, until) in seconds, in which it refuses connections and drops what it has.
        cuts: a request that is worked on ends broken when another comes, as the streams of llama-cpp-python do.
    """

    work_s: float
    spread: float = 0.5
    slots: int | None = None
    speed: Speed = float
    per_minute: int | None = None
    away: tuple[float, float] | None = None
    cuts: bool = False


@dataclass(slots=True, eq=False)
class _Job:
    work_s: float
    ends_at: float = 0.0
    done: anyio.Event = field(default_factory=anyio.Event)
    broken: bool = False


class CapacityService:
    """Answers every prompt, after the time that its capacity gives it.

    All that are worked on go equally fast, so one clock, which goes at the pace of each of them, tells when they end.

    All state: `_working`, `_waiting`, the clock and when it was read, the timer of the next end; `_passed`, when the
    requests of the last minute came; `requests` in all, those refused included, and `most_in_flight`.
    """

    def __init__(self, capacity: Capacity, limits: Limits) -> None:
        self._capacity = capacity
        self._limits = limits
        self._random = random.Random(1)
        self._working: list[_Job] = []
        self._waiting: deque[_Job] = deque()
        self._clock_s = 0.0
        self._read_at_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._passed: deque[float] = deque()
        self._begun_at_s = anyio.current_time()
        self.requests = 0
        self.most_in_flight = 0
        if capacity.away is not None:
            asyncio.get_running_loop().call_later(capacity.away[0], self._break_all)

    async def prepare(self) -> None:
        """Nothing to make."""

    async def answer(self, exchange: Exchange, attempt: Attempt, on_ids: OnIds) -> Reply:
        """As an HTTP client does: ask the limits, send, wait."""
        await self._limits.request()
        self.requests += 1
        await anyio.sleep(WAY_S)
        self._refuse()
        spread = self._capacity.spread
        job = _Job(self._capacity.work_s * self._random.uniform(1 - spread, 1 + spread))
        self._read_clock()
        if self._capacity.cuts:
            self._break_all()
        self._waiting.append(job)
        self._schedule()
        self.most_in_flight = max(self.most_in_flight, len(self._working) + len(self._waiting))
        try:
            await job.done.wait()
        finally:
            if not job.done.is_set():
                self._drop(job)
        if job.broken:
            raise ConnectionLost("the stream ended before the answer did", error_type="connection_error")
        on_ids(None, f"run_{exchange.row_key}", with_reply=True)
        return answered()

    async def follow(self, exchange: Exchange, attempt: Attempt, on_ids: OnIds) -> Reply:
        """No run outlives its request."""
        raise NotImplementedError

    async def cancel(self, exchange: Exchange, attempt: Attempt) -> None:
        """No run outlives its request."""

    def _refuse(self) -> None:
        """What comes while it is away, or beyond its limit."""
        now_s, away, per_minute = anyio.current_time(), self._capacity.away, self._capacity.per_minute
        if away is not None and away[0] <= now_s - self._begun_at_s < away[1]:
            fault = Unavailable("the connection failed: refused", error_type="connection_error")
            fault.connected = False
            raise fault
        if per_minute is None:
            return
        while self._passed and self._passed[0] <= now_s - 60:
            self._passed.popleft()
        if len(self._passed) >= per_minute:
            raise RateLimited("too many requests", error_type="rate_limit_exceeded", status_code=429)
        self._passed.append(now_s)

    def _break_all(self) -> None:
        self._read_clock()
        for job in self._working:
            job.broken = True
            job.done.set()
        self._working.clear()
        self._schedule()

    def _pace(self) -> float:
        return self._capacity.speed(len(self._working)) / len(self._working)

    def _read_clock(self) -> None:
        now_s = anyio.current_time()
        if self._working:
            self._clock_s += (now_s - self._read_at_s) * self._pace()
        self._read_at_s = now_s

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        slots = self._capacity.slots
        while self._waiting and (slots is None or len(self._working) < slots):
            job = self._waiting.popleft()
            job.ends_at = self._clock_s + job.work_s
            self._working.append(job)
        if self._working:
            left_s = min(job.ends_at for job in self._working) - self._clock_s
            self._timer = asyncio.get_running_loop().call_later(max(0.0, left_s) / self._pace(), self._proceed)

    def _proceed(self) -> None:
        self._read_clock()
        for job in [job for job in self._working if job.ends_at <= self._clock_s + 1e-6]:
            self._working.remove(job)
            job.done.set()
        self._schedule()

    def _drop(self, job: _Job) -> None:
        self._read_clock()
        if job in self._working:
            self._working.remove(job)
        else:
            self._waiting.remove(job)
        self._schedule()
