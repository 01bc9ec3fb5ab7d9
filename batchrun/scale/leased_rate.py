"""A worker's part of a rate limit that all workers of a batch share: it uses what the governor leases to it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final

import anyio

from batchrun.clock import loop_time
from batchrun.engine.rate import Unit
from batchrun.scale.rate_governor import RateAsk, RateLease
from batchrun.scale.spare_units import EXTRA_S

__all__ = ["LeasedRate", "LeasedRates"]

ASK_APART_S: Final = 0.05
"""Least seconds between two asks of a worker that has too little."""
MEAN_S: Final = 5.0
"""Time constant of the mean of what was used."""
MARGIN: Final = 1.03
"""A worker that does not wait wants this many times the mean of what it used."""
LATE_MARGIN: Final = 1.5
LATE_UNITS: Final = 1.0
"""It wants no more than this many times what it used since its last ask, plus one unit: a worker that becomes idle
gives up its part at once, and one that sends a little at random moments keeps it."""
GROWTH: Final = 1.5
"""A worker that waits wants what it holds, or the mean of what it used, and with every further ask this many times
more, until it gets less. So the part of one that waits only now and then stays small."""
MOST_GROWTH: Final = 10.0
"""The most that it wants of what it holds, as a multiple."""
SOON_S: Final = 0.5
"""Seconds in which it wants to have what it waits for, at least."""
IDLE_AFTER_S: Final = 2.0
"""Seconds without use after which a worker wants nothing."""
CONFIRMED_SHARE: Final = 0.9
"""A lease of less than this share of the last one is confirmed at once, so that others can have the rest."""
ROUNDING: Final = 1e-9
"""Units that may be missing from the bucket."""


class LeasedRate:
    """Admits what leases allow. It is a `Rate`.

    A bucket that fills at the leased rate up to the leased burst, and starts empty. What flows when it is full is
    reported to the governor, which gives it to another worker; so is what a higher lease allows that the governor
    still counts. A lease's extra units come on top, and stay there for a moment. When a lease ends before the next has
    come, the bucket is emptied, so that nothing is used that the governor has meanwhile leased to others.

    Mutable state: `lease`, the one in force, and when it was installed; `_highest`, the lease with the highest rate
    since the last ask; `_units` in the bucket at `_filled_at_s`; `_extra_ends_s`, until when they may be more than a
    burst; `_unused`, to be reported with the next ask; `_debt`, as in `Pacer`; what was used since the last ask, its
    mean, and the times of that ask, of the last use and of the last confirmation;
    `_missing`, units that somebody waits for; `_told_missing`, the last ask said so; `_wanted_per_minute`, what it
    said; `_asks` that are later than that of the lease in force; `_growth`, what a waiting worker wants as a multiple
    of what it holds; `_news`, set when a lease comes.
    """

    def __init__(self, on_short: Callable[[], None]) -> None:
        """
        Args:
            on_short: called when the worker should ask at once, not at its next regular time.
        """
        self.lease = RateLease(0, 0.0, 0.0, 0.0, -math.inf, 0.0)
        self._highest = self.lease
        self._on_short = on_short
        self._units = 0.0
        self._filled_at_s = -math.inf
        self._installed_at_s = self._extra_ends_s = -math.inf
        self._unused = 0.0
        self._debt = 0.0
        self._used = self._mean_per_s = 0.0
        self._asked_at_s = self._used_at_s = self._confirmed_at_s = -math.inf
        self._missing = self._wanted_per_minute = 0.0
        self._asks: list[RateAsk] = []
        self._told_missing = False
        self._growth = 1.0
        self._line = anyio.Lock(fast_acquire=True)
        self._news = anyio.Event()

    @property
    def per_minute(self) -> float:
        """Units a minute of the lease in force."""
        return self.lease.per_minute

    @property
    def ends_s(self) -> float:
        """When the lease in force ends, on this worker's clock."""
        return self.lease.asked_at_s + self.lease.lasts_s

    async def acquire(self, amount: float = 1.0) -> None:
        """Wait until `amount` units may be used, in the order of the calls."""
        async with self._line:
            amount += self._debt
            self._debt = min(0.0, amount)
            try:
                while amount > 0:
                    taken, wait_s = self.take(amount, loop_time())
                    amount -= taken
                    if wait_s > 0:
                        await self._wait(wait_s)
            finally:
                self.stop_waiting()

    async def _wait(self, wait_s: float) -> None:
        """Wait for so long, or for the next lease."""
        if self._news.is_set():
            self._news = anyio.Event()
        with anyio.move_on_after(wait_s):
            await self._news.wait()

    def take(self, amount: float, now_s: float) -> tuple[float, float]:
        """Take the units, or a first piece of them if they are more than a burst.

        Returns:
            The units taken, and the seconds to wait before the next try, 0 if any were taken.
        """
        lease = self.lease
        if lease.per_minute == math.inf:
            return amount, 0.0
        self._fill(now_s)
        piece = min(amount, lease.burst)
        if 0 < piece <= self._units + ROUNDING:
            self._units -= piece
            self._used += piece
            self._used_at_s = now_s
            self._missing = 0.0
            return piece, 0.0
        self._missing = amount - self._units
        wait_s = (piece - self._units) * 60 / lease.per_minute if lease.per_minute > 0 else math.inf
        is_answered = lease.asked_at_s >= self._asked_at_s
        may_have_more = is_answered and (lease.is_short or lease.per_minute >= 0.99 * self._wanted_per_minute)
        if self._told_missing and not may_have_more and now_s < self.ends_s:
            return 0.0, min(wait_s, self.ends_s - now_s)
        ask_in_s = self._asked_at_s + ASK_APART_S - now_s
        if ask_in_s <= 0:
            self._on_short()
            ask_in_s = ASK_APART_S
        return 0.0, min(wait_s, ask_in_s)

    def stop_waiting(self) -> None:
        """Forget what is missing: whoever waited for it has got it, or has given up."""
        self._missing = 0.0

    def settle(self, difference: float) -> None:
        """Correct an earlier reservation: positive if more was used than reserved, negative if less."""
        self._debt = max(self._debt + difference, -self.lease.credit)

    def ask(self, now_s: float, observed_per_minute: float | None = None) -> RateAsk:
        """Return what to ask for now. From now on, no more than that is used of the leases that answer earlier asks."""
        passed_s = now_s - self._asked_at_s
        used, self._used = self._used, 0.0
        if 0 < passed_s < math.inf:
            self._mean_per_s = _mean(self._mean_per_s, used / passed_s, passed_s / MEAN_S)
        unused_before_s = max(0.0, self._installed_at_s - self._asked_at_s) if self.lease.number else 0.0
        self._asked_at_s = now_s
        self._told_missing = self._missing > 0
        wanted = 60 * MARGIN * self._mean_per_s
        if self.lease.number == 0:
            wanted = math.inf
        elif self._told_missing:
            wanted = self._growth * max(wanted, self.lease.per_minute, self._missing * 60 / SOON_S)
            self._growth = min(self._growth * GROWTH, MOST_GROWTH)
        else:
            self._growth = 1.0
            idle_s = now_s - self._used_at_s
            if idle_s > IDLE_AFTER_S:
                wanted = 0.0
            elif (since_s := passed_s if used else idle_s) > 0:
                wanted = min(wanted, 60 * LATE_MARGIN * (used + LATE_UNITS) / since_s)
        self._wanted_per_minute = wanted
        self._use(self.lease.at_most(wanted), now_s)
        self._highest = self.lease
        ask = RateAsk(self.lease.number, now_s, wanted, observed_per_minute, self._unused, unused_before_s)
        self._unused = 0.0
        self._asks.append(ask)
        return ask

    def install(self, lease: RateLease, now_s: float) -> None:
        """Use a lease from now on, unless a later one is in force."""
        if lease.number <= self.lease.number:
            return
        self._asks = [ask for ask in self._asks if ask.asked_at_s > lease.asked_at_s]
        lease = lease.at_most(min((ask.wanted_per_minute for ask in self._asks), default=math.inf))
        is_less = lease.per_minute < CONFIRMED_SHARE * self.per_minute
        self._use(lease, now_s)
        if lease.per_minute >= self._highest.per_minute or self._highest.per_minute == math.inf:
            self._highest = lease
        self._installed_at_s = now_s
        self._extra_ends_s = lease.asked_at_s + EXTRA_S
        self._units += lease.extra
        self._news.set()
        if is_less and now_s >= self._confirmed_at_s + ASK_APART_S:
            self._confirmed_at_s = now_s
            self._on_short()

    def _use(self, lease: RateLease, now_s: float) -> None:
        self._fill(now_s)
        self.lease = lease
        self._keep_at_most(lease.burst)
        self._debt = max(self._debt, -lease.credit)

    def _fill(self, now_s: float) -> None:
        """Add what has flowed in since the last time; nothing is left after the lease, or of one without a limit."""
        if now_s < self.ends_s and self.lease.per_minute < math.inf:
            most = self.lease.burst if now_s >= self._extra_ends_s else max(self.lease.burst, self._units)
            passed_minutes = (now_s - self._filled_at_s) / 60
            self._units += passed_minutes * self.lease.per_minute
            self._keep_at_most(most)
            if now_s < self._highest.asked_at_s + self._highest.lasts_s:
                self._unused += passed_minutes * (self._highest.per_minute - self.lease.per_minute)
        else:
            self._units = 0.0
            self._debt = max(self._debt, 0.0)
        self._filled_at_s = now_s

    def _keep_at_most(self, units: float) -> None:
        self._unused += max(0.0, self._units - units)
        self._units = min(self._units, units)

    def __repr__(self) -> str:
        return f"<LeasedRate {self.lease!r} units={self._units:g} debt={self._debt:g}>"


class LeasedRates:
    """The rates of a worker. They are `RatesPerMinute`.

    Before its first leases, a worker may send nothing.

    Mutable state: the rates by unit, `requests` and `tokens`, None while the governor knows no limit; the limits that
    replies reported to this worker.
    """

    def __init__(self, on_short: Callable[[], None]) -> None:
        """
        Args:
            on_short: as of `LeasedRate`.
        """
        self._on_short = on_short
        self._all: dict[Unit, LeasedRate] = {"requests": LeasedRate(on_short), "tokens": LeasedRate(on_short)}
        self._observed: dict[Unit, float] = {}
        self._set()

    @property
    def requests(self) -> LeasedRate | None:
        """None while no limit of requests is known."""
        return self._requests

    @property
    def tokens(self) -> LeasedRate | None:
        """None while no limit of tokens is known."""
        return self._tokens

    def adopt(self, unit: Unit, per_minute: float) -> None:
        """Tell the governor of a limit that a reply reported, with the next ask, which is due at once."""
        if unit not in self._observed:
            self._observed[unit] = per_minute
            self._on_short()

    def asks(self, now_s: float) -> dict[Unit, RateAsk]:
        """Return what to ask the governors for now."""
        return {unit: rate.ask(now_s, self._observed.get(unit)) for unit, rate in self._all.items()}

    def install(self, leases: Mapping[Unit, RateLease], now_s: float) -> None:
        """Use the leases from now on."""
        for unit, lease in leases.items():
            self._all[unit].install(lease, now_s)
        self._set()

    def _set(self) -> None:
        self._requests, self._tokens = (
            None if rate.per_minute == math.inf else rate for rate in (self._all["requests"], self._all["tokens"])
        )

    def __repr__(self) -> str:
        return f"<LeasedRates requests={self._requests!r} tokens={self._tokens!r}>"


def _mean(earlier: float, latest: float, periods: float) -> float:
    """Return an exponential mean; `periods` is the time since the earlier one, in time constants."""
    kept = math.exp(-periods)
    return kept * earlier + (1 - kept) * latest
