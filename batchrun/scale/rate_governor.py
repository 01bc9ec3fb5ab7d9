"""One limit per minute for all workers of a batch: the governor leases parts of it, a second at a time."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Final

from batchrun.engine.pacer import TRANSIT_SHARE
from batchrun.scale.spare_units import GRAIN, SPARE_SHARE, SpareUnits, grains

__all__ = ["LEASE_S", "RateAsk", "RateGovernor", "RateLease", "places_of"]

LEASE_S: Final = 1.0
"""Seconds that a lease lasts."""
MINUTE_S: Final = 60.0
BURST_SHARE: Final = 0.0025
"""Share of its rate that a worker may save up, besides one unit: half of what one process may, because what flows into
a full bucket is not lost here: another worker gets it."""
IDLE_SHARE: Final = 0.01
"""Share of an equal part that a worker without requests keeps."""
PLACES_SHARE: Final = 0.1
"""Share of the limit that may be kept back for the bursts of workers: of a low limit, not all get a part at once."""
LEVEL_S: Final = 0.02
"""Seconds after which the fair share is computed again."""
SAME_HOLD_S: Final = 1.0
"""A wait that ends less than this after the known one is the same: it comes from a worker that knows it."""


@dataclass(frozen=True, slots=True)
class RateAsk:
    """What a worker asks for.

    Attributes:
        number: of the lease that it holds, 0 for none. It will not use an earlier one again.
        asked_at_s: on the worker's clock.
        wanted_per_minute: what it could use. From the ask on it uses no more of the leases that answer earlier asks.
        observed_per_minute: the limit that a reply's headers reported to it, None for none.
        unused: units that its leases allowed since its previous ask, and that it will not use: its bucket was full, or
            the lease that it holds is lower than an earlier one.
        unused_before_s: seconds between that previous ask and a later installation of the lease that it holds, else 0.
    """

    number: int
    asked_at_s: float
    wanted_per_minute: float
    observed_per_minute: float | None = None
    unused: float = 0.0
    unused_before_s: float = 0.0


@dataclass(frozen=True, slots=True)
class RateLease:
    """What a worker may use.

    Attributes:
        number: counts the leases of a governor, from 1.
        per_minute: units per minute; infinite while no limit is known.
        burst: units that it may save up and use at once.
        credit: units by which its earlier reservations may have been too high.
        asked_at_s: as in the worker's ask.
        lasts_s: seconds from `asked_at_s` on the worker's clock, after which nothing of this lease may be used.
        is_short: the worker's fair share is higher, and will be free when others have given up what they hold.
        held_s: seconds for which nobody may send, as the service asked.
        extra: units that it may use besides, until `EXTRA_S` after `asked_at_s` on its clock.
    """

    number: int
    per_minute: float
    burst: float
    credit: float
    asked_at_s: float
    lasts_s: float
    is_short: bool = False
    held_s: float = 0.0
    extra: float = 0.0

    def at_most(self, per_minute: float) -> RateLease:
        """Return the lease with no more units per minute than that."""
        if per_minute >= self.per_minute or self.per_minute == math.inf:
            return self
        return replace(
            self,
            per_minute=per_minute,
            burst=1 + BURST_SHARE * per_minute,
            credit=self.credit * per_minute / self.per_minute,
        )


@dataclass(slots=True)
class _Lease:
    """A lease that has not expired.

    Attributes:
        per_minute: None for one without a place.
    """

    per_minute: float | None
    expires_s: float


@dataclass(slots=True)
class _Worker:
    """A worker with a lease that has not expired.

    Attributes:
        leases: those that it may be using, by number.
        held_per_minute: the highest of these.
        has_place: one of these has a burst.
        asked_at_s: of its latest ask, on its clock.
    """

    asked_at_s: float = -math.inf
    wanted_per_minute: float = 0.0
    leases: dict[int, _Lease] = field(default_factory=dict)
    held_per_minute: float = 0.0
    has_place: bool = False


class RateGovernor:
    """Leases one limit to workers: its drain in max-min fair shares, and a burst to each.

    A worker uses no more in a minute than its burst at the start of that minute and what its leases let flow since.
    So no minute holds more than the limit, if at every moment

        Σ rates of workers ≤ drain = limit · (1 - 0.3 % - 0.25 % - 0.5 % - credit share) - (places - 1),

    where a worker's rate is the highest of all its leases that it may be using: those that have not expired and that
    it has not told to be replaced. Its burst is 1 + 0.25 % of that rate, and `places` is the greatest number of workers
    in the last minute. The other shares: 0.3 % for the time on the way and the one for estimates are explained in
    `engine.pacer`, and 0.5 % are spare units. The -1 is as there: a whole number of units below limit + 1 is at most
    the limit.

    Units of the drain that nobody has used are given to a worker that wants more than its lease: those that were leased
    to nobody, and those that a worker says it has not used. They are at most 0.5 % of the limit at any moment, see
    `SpareUnits`; so a minute holds at most that much that did not flow in it.

    A lease counts from when it was granted; for the worker it counts from when it was asked for, on its own clock. So
    the worker's use ends first, whatever the time on the way and the difference of the clocks. The age of what a worker
    has not used is known in the same way: it installed its lease after that was granted.

    Everything is synchronous, and time is a parameter: seconds on a clock that does not run backwards.

    Mutable state: the limit; `_workers` by name; `_expiries` of all leases, in order; `_rates_sum`, of the workers'
    rates; `_places`, of workers now, and `_vacated`, until when each place that was given up is kept back; the
    greatest and the least fair share, and until when they apply; the number of the last lease; the ends of the
    service's wait and of the time in which leases without a limit may be in use; `_spare` units, and `_collected_s`,
    until when they have what was leased to nobody, infinite at first.
    """

    def __init__(self, limit_per_minute: float | None, *, credit_share: float = 0.0, lease_s: float = LEASE_S) -> None:
        """
        Args:
            limit_per_minute: None until a reply's headers report one: leases are without a limit then.
            credit_share: as of `Pacer`.
        """
        self._limit_per_minute = limit_per_minute
        self._credit_share = credit_share
        self._lease_s = lease_s
        self._workers: dict[str, _Worker] = {}
        self._expiries: deque[tuple[float, str, int]] = deque()
        self._rates_sum = 0.0
        self._places = 0
        self._vacated: deque[float] = deque()
        self._level = self._least = 0.0
        self._level_until_s = -math.inf
        self._number = 0
        self._held_until_s = -math.inf
        self._unlimited_until_s = -math.inf
        self._spare = SpareUnits(lease_s)
        self._collected_s = math.inf

    def set_limit(self, per_minute: float, now_s: float) -> None:
        """Share another limit from now on. It holds as soon as the leases of the earlier one have ended."""
        if self._limit_per_minute is None:
            self._unlimited_until_s = now_s + self._lease_s
        self._limit_per_minute = per_minute
        self._level_until_s = -math.inf

    def hold(self, wait_s: float, now_s: float) -> None:
        """Let nobody send for so long, as the service asked one of the workers. The longest wait applies."""
        if now_s + wait_s > self._held_until_s + SAME_HOLD_S:
            self._held_until_s = now_s + wait_s

    def lease(self, worker: str, ask: RateAsk, now_s: float) -> RateLease:
        """Answer a worker.

        Args:
            worker: its name. No other process may ever have the same.
        """
        if self._limit_per_minute is None and ask.observed_per_minute is not None:
            self.set_limit(ask.observed_per_minute, now_s)
        self._number += 1
        rate: float | None = math.inf
        extra, is_short = 0.0, False
        if self._limit_per_minute is not None:
            rate, extra, is_short = self._grant(worker, ask, now_s)
        return RateLease(
            number=self._number,
            per_minute=rate or 0.0,
            burst=0.0 if rate is None else 1 + BURST_SHARE * rate,
            credit=self._credit_share * rate if rate is not None and self._credit_share else 0.0,
            asked_at_s=ask.asked_at_s,
            lasts_s=self._lease_s,
            is_short=is_short,
            held_s=max(0.0, self._held_until_s - now_s),
            extra=extra,
        )

    def _grant(self, name: str, ask: RateAsk, now_s: float) -> tuple[float | None, float, bool]:
        """Note a lease; return its rate, None for no place, its extra, and whether the fair share is higher."""
        self._expire(now_s)
        if name not in self._workers:
            self._workers[name] = _Worker()
            self._level_until_s = -math.inf
        worker = self._workers[name]
        held = worker.leases.get(ask.number)
        if held is not None and now_s + ask.unused_before_s <= held.expires_s:
            self._spare.take_in(ask.unused, self._most_spare(), now_s)
        for number in [number for number in worker.leases if number < ask.number]:
            del worker.leases[number]
        if ask.asked_at_s > worker.asked_at_s:
            worker.asked_at_s = ask.asked_at_s
            worker.wanted_per_minute = ask.wanted_per_minute
            for lease in worker.leases.values():
                if lease.per_minute is not None:
                    lease.per_minute = min(lease.per_minute, grains(ask.wanted_per_minute + GRAIN))
        self._add_up(worker, now_s)
        share = self._share(worker, now_s)
        rate, extra = None, 0.0
        if now_s >= self._unlimited_until_s and self._has_place_for(worker):
            rate = max(0.0, grains(min(share, self._free(worker))))
            if rate < 0.99 * worker.wanted_per_minute:
                extra = self._spare.give(now_s)
        worker.leases[self._number] = _Lease(rate, now_s + self._lease_s)
        self._expiries.append((now_s + self._lease_s, name, self._number))
        self._add_up(worker, now_s)
        return rate, extra, (rate or 0.0) < 0.99 * share

    def _expire(self, now_s: float) -> None:
        """Forget leases that have expired, workers without any other, and places that are kept back no more."""
        while self._expiries and self._expiries[0][0] <= now_s:
            expired_s, name, number = self._expiries.popleft()
            worker = self._workers.get(name)
            if worker is None or number not in worker.leases:
                continue
            self._collect(expired_s)
            del worker.leases[number]
            self._add_up(worker, expired_s)
            if not worker.leases:
                del self._workers[name]
                self._level_until_s = -math.inf
        self._collect(now_s)
        while self._vacated and self._vacated[0] <= now_s:
            self._vacated.popleft()

    def _collect(self, now_s: float) -> None:
        """Take in what was leased to nobody since the last time. What is leased has not changed since then.

        That is no longer ago than a lease lasts, or nothing is leased: then what flowed just now is more than can be
        taken in.
        """
        if self._collected_s < now_s:
            free = self._drain(self._places + len(self._vacated)) - self._rates_sum
            self._spare.take_in(free * (now_s - self._collected_s) / 60, self._most_spare(), now_s)
        self._collected_s = now_s

    def _most_spare(self) -> float:
        return SPARE_SHARE * (self._limit_per_minute or 0.0)

    def _add_up(self, worker: _Worker, now_s: float) -> None:
        """Bring the sums up to date with a worker's leases."""
        rates = [lease.per_minute for lease in worker.leases.values() if lease.per_minute is not None]
        held_per_minute = max(rates, default=0.0)
        self._rates_sum += held_per_minute - worker.held_per_minute
        worker.held_per_minute = held_per_minute
        if rates and not worker.has_place:
            self._places += 1
            if self._vacated:
                self._vacated.pop()
        elif worker.has_place and not rates:
            self._places -= 1
            self._vacated.append(now_s + MINUTE_S)
        worker.has_place = bool(rates)

    def _has_place_for(self, worker: _Worker) -> bool:
        """Return whether the worker may have a burst. If places are too few, workers that want nothing have none."""
        most = self._most_places()
        if worker.has_place:
            return self._places <= most and (worker.wanted_per_minute > 0 or len(self._workers) <= most)
        return self._places < most and (bool(self._vacated) or self._free(worker) >= 0)

    def _most_places(self) -> int:
        return places_of(self._limit_per_minute or 0.0)

    def _free(self, worker: _Worker) -> float:
        """Return units per minute that others leave, with a place for this worker; below 0 if they hold too much."""
        is_new = not worker.has_place and not self._vacated
        return self._drain(self._places + len(self._vacated) + is_new) - self._rates_sum + worker.held_per_minute

    def _drain(self, places: int) -> float:
        """Return units per minute that may be leased, with the bursts of so many workers kept back."""
        share = 1 - TRANSIT_SHARE - BURST_SHARE - SPARE_SHARE - self._credit_share
        return (self._limit_per_minute or 0.0) * share - (places - 1)

    def _share(self, worker: _Worker, now_s: float) -> float:
        """Return the worker's max-min fair share: what it wants, or an equal part of what the others leave."""
        if now_s >= self._level_until_s:
            self._level_until_s = now_s + LEVEL_S
            most = self._most_places()
            wants = [each.wanted_per_minute for each in self._workers.values() if each.has_place]
            others = [each.wanted_per_minute for each in self._workers.values() if not each.has_place]
            wants += sorted(others, reverse=True)[: max(0, most - len(wants))]
            places = max(self._places + len(self._vacated), len(wants))
            self._level, self._least = _level(self._drain(places), wants)
        return min(max(worker.wanted_per_minute, self._least), self._level)

    def __repr__(self) -> str:
        return (
            f"<RateGovernor limit_per_minute={self._limit_per_minute} workers={len(self._workers)}"
            f" leased_per_minute={self._rates_sum:g} places={self._places}+{len(self._vacated)}>"
        )


def places_of(limit_per_minute: float) -> int:
    """Return how many workers can send at once under a limit."""
    return max(1, int(PLACES_SHARE * limit_per_minute))


def _level(drain: float, wants: list[float]) -> tuple[float, float]:
    """Return the greatest share of a worker, and the least, so that the drain is used if the workers want it."""
    least = IDLE_SHARE * drain / max(1, len(wants))
    rest, sharing = drain, len(wants)
    for want in sorted(wants):
        if want * sharing >= rest:
            return rest / sharing, least
        rest -= max(want, least)
        sharing -= 1
    return math.inf, least
