"""The health of the service, observed across rows: whether the batch waits, probes or continues. Pure.

A fault of one row may be bad luck. Faults of several rows, with no answer between them, are the state of the service:
they do not count as attempts of any row, and the whole batch waits together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from batchrun.engine.slots import SlotPolicy
from batchrun.errors import ConnectionLost, RateLimited, ServiceFault, Shortage, Silence, Unavailable

__all__ = ["MAX_HOLD_S", "Health", "Trouble"]

OUTAGE_AFTER = 3
"""Consecutive requests that found no service, after which it counts as away. One may be a moment of a gateway."""
FIRST_PROBE_S = 1.0
MAX_PROBE_S = 15.0
"""Bounds of the seconds between two probes, which double: the end of an outage is noticed within a quarter of a
minute."""
MAX_UNREACHED_S = 30.0
"""Seconds after which the batch stops if the service was never reached: a wrong port must not hold it for long."""
SPREAD_S = 1.0
"""Seconds over which the rows come back after a hold, so that they do not come together."""
FIRST_HOLD_S = 1.0
MAX_OWN_HOLD_S = 60.0
"""Bounds of the wait after a rate limit without Retry-After; it doubles while no answer comes."""
RECENT_FADE = 0.95
"""Weight that an attempt loses with each later one: about the last twenty count."""
LIMITED_SHARE = 0.2
"""Share of recent attempts that must meet a rate limit without Retry-After before the batch waits. Fewer are single
moments of the service, for which one row waits: if each held the batch, a service that refuses one run in twenty would
keep it waiting half of the time."""
ALONE_AFTER = 3
"""Rate limits of one row, with answers to other rows between them, after which further ones are its own."""
MAX_HOLD_S = 600.0
"""Maximum wait, even if the service asks for more: a header must not put a batch to sleep for a day."""
PROBERS = 3
"""Rows that take turns in probing, so that a row whose own request is at fault does not decide alone."""


@dataclass(slots=True)
class Trouble:
    """The faults of a row so far, which distinguish its own faults from the service's.

    Attributes:
        since_s: loop time of the first rate limit since its last answer, None if there is none.
        words: number of replies of the service when the row first found it away, None if it never did.
        limited_s: loop time of the last rate limit, None if there is none.
        alone: rate limits since its last answer, before which another row had sent and was answered meanwhile.
    """

    since_s: float | None = None
    words: int | None = None
    limited_s: float | None = None
    alone: int = 0

    @property
    def has_any(self) -> bool:
        """Whether the row has met a fault since its last answer."""
        return self.since_s is not None or self.words is not None


class Health:
    """The state of the service, as the replies to all rows show it.

    Mutable state: `slots`; `_away`, consecutive requests that found no service, and `_away_s`, loop time of the first;
    `_words`, replies of any kind so far; the probe (`probing`, `_probe_s`, when the next is due, `_probe_wait_s`);
    `_reached`, set with the first reply; `held_until_s`, until when no row sends, and `_next_s`, when the next row may
    send after that; `_refused_s`, loop time of the first rate limit since the last answer; `_refusals`, bursts since
    then; `_own_hold_s`, when the wait of the last burst began; `_sent` and `_limited`, recent attempts since then, and
    those of them that met a rate limit; `_abreast`, maximum rows at the service after several bursts;
    `_answered_s`, loop time of the latest request that was answered.
    """

    def __init__(self, slots: SlotPolicy, *, max_outage_s: float = 900.0) -> None:
        """
        Args:
            max_outage_s: seconds without a service, or without an answer under rate limits, after which the batch
                stops.
        """
        self.slots = slots
        self._max_outage_s = max_outage_s
        self._away, self._away_s, self._words = 0, 0.0, 0
        self.probing, self._probe_s, self._probe_wait_s = False, 0.0, FIRST_PROBE_S
        self._reached = False
        self.held_until_s = self._next_s = -math.inf
        self._refused_s: float | None = None
        self._refusals = 0
        self._own_hold_s = -math.inf
        self._sent = self._limited = 0.0
        self._abreast = math.inf
        self._answered_s = -math.inf

    # -- may a row send? ----------------------------------------------------------------------------------

    @property
    def away(self) -> bool:
        """Whether the service cannot be reached, or replies that it is unavailable."""
        return self._away >= OUTAGE_AFTER

    @property
    def is_in_doubt(self) -> bool:
        """Whether the service is away, or no row was answered since a rate limit."""
        return self.away or self._refused_s is not None

    def away_for_s(self, now_s: float) -> float | None:
        """Return the seconds since an outage began, None if there is none."""
        return now_s - self._away_s if self.away else None

    def hold_s(self, now_s: float) -> float:
        """Return the seconds for which nothing may be sent; infinite while a probe is in flight."""
        held_s = max(self.held_until_s, self._next_s) - now_s
        if not self.away:
            return held_s
        return math.inf if self.probing else max(held_s, self._probe_s - now_s)

    @property
    def abreast(self) -> float:
        """Maximum rows at the service at the same time."""
        return min(self.slots.capacity, self._abreast)

    def sending(self, now_s: float) -> None:
        """Count a row that begins to send; in an outage it is the probe."""
        self.probing = self.away
        self._sent, self._limited = self._sent * RECENT_FADE + 1, self._limited * RECENT_FADE
        if now_s < self.held_until_s + SPREAD_S:
            self._next_s = now_s + SPREAD_S / self.slots.capacity
        self.slots.sending(now_s)

    def is_ill(self, fault: ServiceFault, trouble: Trouble, now_s: float) -> bool:
        """Return whether the service is at fault, so that the attempt does not count.

        A rate limit is the service's, unless the row has met nothing else for the maximum time of an outage.
        """
        if isinstance(fault, Unavailable):
            return self.away or not self._is_suspect(trouble)
        if isinstance(fault, RateLimited | Shortage):
            if trouble.since_s is None:
                trouble.since_s = now_s
            return now_s - trouble.since_s < self._max_outage_s
        return False

    def _is_suspect(self, trouble: Trouble) -> bool:
        """Return whether the row itself may be at fault: the service has replied to others since the row found it
        away."""
        return trouble.words is not None and self._words > trouble.words

    # -- replies and faults -------------------------------------------------------------------------------

    def answered(self, in_use: int, sent_at_s: float, now_s: float) -> None:
        """Count a run that ended with an answer."""
        self.spoke()
        self._answered_s = max(self._answered_s, sent_at_s)
        if sent_at_s >= self._own_hold_s:
            self._refused_s, self._refusals = None, 0
            self._abreast = self._abreast + 1 if self._abreast < self.slots.capacity else math.inf
        self.slots.answered(in_use, now_s - sent_at_s, now_s)

    def hold(self, wait_s: float, now_s: float) -> bool:
        """Let no row send for `wait_s` seconds from now, ten minutes at most; return False if a longer wait runs."""
        until_s = now_s + min(wait_s, MAX_HOLD_S)
        if wait_s <= 0 or until_s <= self.held_until_s:
            return False
        self.held_until_s = until_s
        return True

    def failed(
        self, fault: ServiceFault, in_use: int, sent_at_s: float, now_s: float, trouble: Trouble | None = None
    ) -> str | None:
        """Count a failed attempt; return why the batch has to stop, None if it does not.

        Args:
            sent_at_s: loop time of the attempt's last request.
            trouble: the row's faults so far; None for a request of the batch itself.
        """
        if not isinstance(fault, Unavailable | ConnectionLost | Silence | Shortage):
            self.spoke()
        if isinstance(fault, Unavailable):
            return self._unavailable(fault, trouble or Trouble(), now_s)
        if isinstance(fault, RateLimited):
            return self._rate_limited(fault, trouble or Trouble(), sent_at_s, now_s)
        if isinstance(fault, Shortage):
            self.slots.short(in_use, sent_at_s, now_s)
            return self._without_answer(fault, sent_at_s, now_s)
        if isinstance(fault, Silence):
            self.slots.timed_out(sent_at_s, now_s)
        elif isinstance(fault, ConnectionLost):
            self.slots.broke_off()
        return None

    def timed_out(self, sent_at_s: float, now_s: float) -> None:
        """Count a row whose time ran out before its answer came."""
        self.slots.timed_out(sent_at_s, now_s)

    def left(self, now_s: float) -> None:
        """Count a row that has left the service. A probe that showed nothing about the service is followed by
        another."""
        if self.probing:
            self.probing = False
            self._probe_s = now_s + self._probe_wait_s

    # -- outages ------------------------------------------------------------------------------------------

    def spoke(self) -> None:
        """Count a reply of any kind: the service is available."""
        self._reached = True
        self._words += 1
        self._away, self.probing, self._probe_wait_s = 0, False, FIRST_PROBE_S

    def _unavailable(self, fault: Unavailable, trouble: Trouble, now_s: float) -> str | None:
        self._reached = self._reached or fault.connected
        if trouble.words is None:
            trouble.words = self._words
        if self._is_suspect(trouble) and not self.away:
            return None
        self.slots.was_away()
        if self._away == 0:
            self._away_s = now_s
        self._away += 1
        if not self.away:
            return None
        limit_s = self._max_outage_s if self._reached else min(MAX_UNREACHED_S, self._max_outage_s)
        if now_s - self._away_s >= limit_s:
            option = " (--max-outage)" if self._reached or limit_s == self._max_outage_s else ""
            return f"the service has been unavailable for {limit_s:g} s{option}: {fault}"
        if self.probing or self._away == OUTAGE_AFTER:
            wait_s = max(self._probe_wait_s, min(fault.retry_after_s or 0.0, MAX_HOLD_S))
            # The last probe is sent when the time is up, not after it.
            self._probe_s = min(now_s + wait_s, max(self._away_s + limit_s, now_s + FIRST_PROBE_S))
            self._probe_wait_s = min(2 * self._probe_wait_s, MAX_PROBE_S)
        self.probing = False
        return None

    # -- rate limits --------------------------------------------------------------------------------------

    @staticmethod
    def own_wait_s(fault: ServiceFault, trouble: Trouble) -> float | None:
        """Return for how long a row waits alone, in seconds; None if its fault is not a rate limit of its own."""
        if not isinstance(fault, RateLimited) or trouble.alone < ALONE_AFTER:
            return None
        return max(fault.retry_after_s or 0.0, min(FIRST_HOLD_S * 2.0 ** (trouble.alone - ALONE_AFTER), MAX_OWN_HOLD_S))

    def _rate_limited(self, fault: RateLimited, trouble: Trouble, sent_at_s: float, now_s: float) -> str | None:
        trouble.alone += trouble.limited_s is not None and self._answered_s > trouble.limited_s
        trouble.limited_s = now_s
        if self.own_wait_s(fault, trouble) is not None:  # one refused row must not slow down all others
            return self._refused_for_too_long(fault, now_s)
        self.slots.rate_limited(sent_at_s, now_s)
        if fault.retry_after_s is not None:
            self.hold(fault.retry_after_s, now_s)
            return self._refused_for_too_long(fault, now_s)
        return self._without_answer(fault, sent_at_s, now_s)

    def _without_answer(self, fault: ServiceFault, sent_at_s: float, now_s: float) -> str | None:
        """Let all rows wait, twice as long each time that the last wait did not help, and come back one by one; unless
        most other attempts fare better."""
        self._limited += sent_at_s >= self._own_hold_s
        if sent_at_s >= self._own_hold_s and self._limited >= LIMITED_SHARE * self._sent:
            self._refusals += 1
            self._own_hold_s, self._sent, self._limited = now_s, 0.0, 0.0
            self.hold(min(FIRST_HOLD_S * 2.0 ** (self._refusals - 1), MAX_OWN_HOLD_S), now_s)
            if self._refusals > 1:
                self._abreast = 1
        return self._refused_for_too_long(fault, now_s)

    def _refused_for_too_long(self, fault: ServiceFault, now_s: float) -> str | None:
        if self._refused_s is None:
            self._refused_s = now_s
        if now_s - self._refused_s < self._max_outage_s:
            return None
        return f"no row was answered for {self._max_outage_s:g} s (--max-outage), while requests were refused: {fault}"

    def __repr__(self) -> str:
        return f"<Health away={self._away} refusals={self._refusals} {self.slots!r}>"
