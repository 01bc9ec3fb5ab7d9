"""A service of limited capacity in virtual time: its speed depends on the number of concurrent requests."""

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
"""Seconds that a request travels from the client to the service."""

Speed = Callable[[int], float]
"""Number of concurrent requests → the number that the service would complete at full speed in the same time."""


def straight(*points: tuple[int, float]) -> Speed:
    """Return a piecewise linear speed through the points; full speed before the first point, constant after the last."""

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
    """The capacity of a service.

    Attributes:
        work_s: mean duration of a request that is alone at the service, in seconds.
        spread: uniform relative deviation of the durations: 0.5 gives 0.5 to 1.5 times `work_s`.
        slots: maximum number of requests in progress, None for no maximum; the others wait in order.
        speed: how the requests in progress share the service.
        per_minute: maximum number of requests in any 60 s, None for no maximum; the others get a 429 without Retry-After.
        away: (from, until) in seconds: the outage in which the service refuses connections and drops requests in progress.
        cuts: a new request breaks off the one in progress, as in llama-cpp-python.
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
    """A service that answers every prompt, after a time that depends on its capacity.

    All requests in progress advance at the same pace, so one work clock gives the end of each of them.

    Mutable state: `_working`; `_waiting`; `_clock_s`, the work clock, and `_read_at_s`, when it was last advanced; `_timer`
    of the next end; `_passed`, the arrival times of the last minute; `requests`, including refused ones; `most_in_flight`.
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
        """Do nothing: this service needs no objects."""

    async def answer(self, exchange: Exchange, attempt: Attempt, on_ids: OnIds) -> Reply:
        """Ask the limits, send and wait, as an HTTP client does."""
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
        """Fail: no run outlives its request."""
        raise NotImplementedError

    async def cancel(self, exchange: Exchange, attempt: Attempt) -> None:
        """Do nothing: no run outlives its request."""

    def _refuse(self) -> None:
        """Raise the fault of a request during the outage or above the limit."""
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
