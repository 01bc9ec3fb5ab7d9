"""Stage 4: when rows may send. Slots, requests per minute, tokens per minute, and the health of the service.

Rows are admitted by `Limits.admit`, one after the other, in order; a row that retries waits in the same line, in
`Limits.next_attempt`. Every HTTP request passes `Limits.request` in the HTTP client, so that polls, retries and tool
submissions count too and nothing can bypass the limits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, TypeAlias

import anyio

from batchrun.clock import loop_time
from batchrun.engine.durations import parse_reset
from batchrun.engine.health import PROBERS, Health, Trouble
from batchrun.engine.pacer import Pacers, TokenEstimate
from batchrun.engine.rate import RatesPerMinute, Unit
from batchrun.engine.slots import START, SlotPolicy
from batchrun.engine.stopwatch import Stopwatch
from batchrun.engine.trace import health_trace
from batchrun.errors import NEVER_TRIED, ServiceFault
from batchrun.token_usage import Usage

__all__ = ["CoolDown", "Lease", "Limits", "LimitsStatistics", "Waiting"]

RATE_LIMITED = "rate_limit_exceeded"
"""Error type of a rate limit, the usual reason of a cool-down."""
REPORTED_S = 1.0
"""A cool-down is reported again only if it is extended by more than this: rows that are refused together ask for the
same end, each a moment later."""

Waiting: TypeAlias = Literal["slots", "requests", "tokens", "cool-down"]

CoolDown: TypeAlias = Callable[[float, str], None]
"""(seconds, reason): called when all rows begin to wait."""

_current_lease: ContextVar[Lease | None] = ContextVar("batchrun_lease", default=None)


class Lease:
    """The permit of one row to be in flight: its slot, its turn at the service, its reserved tokens and its first
    request.

    `Limits.admit` creates it; then the row's task owns it, and gives it back when it leaves `with lease`.

    Attributes:
        has_turn: the row may send now. It gives its turn back when its attempt fails.
        prepaid: the row's first request was counted when it was admitted.
        sent_at_s: loop time of its last request.
        trouble: the faults that the row has met so far.
    """

    __slots__ = (
        "_limits", "has_turn", "prepaid", "prompt_chars", "reserved_tokens", "sent_at_s", "stopwatch", "trouble",
    )  # fmt: skip

    def __init__(self, limits: Limits, prompt_chars: int, reserved_tokens: float, row_timeout_s: float) -> None:
        self._limits = limits
        self.has_turn = False
        self.trouble = Trouble()
        self.prompt_chars = prompt_chars
        self.reserved_tokens = reserved_tokens
        self.stopwatch = Stopwatch(row_timeout_s)
        self.prepaid = True
        self.sent_at_s = 0.0

    def __enter__(self) -> Lease:
        _current_lease.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._limits._release(self)

    def settle(self, usage: Usage) -> None:
        """Correct the row's reservation by the usage of a run that ended, and improve the estimate."""
        self._limits._settle(self, usage)


@dataclass(frozen=True, slots=True)
class LimitsStatistics:
    """A snapshot.

    Attributes:
        waiting_for: the limit that the next row waits for, None if it does not wait.
        cool_down_s: remaining seconds of the shared cool-down, 0 if there is none.
        away_s: seconds for which the service has been unavailable, None while it is available.
        one_at_a_time: the service breaks replies off when it gets several requests at once.
        max_requests_per_minute, max_tokens_per_minute: in force, None for no limit.
    """

    in_use: int
    capacity: int
    waiting_for: Waiting | None
    cool_down_s: float
    requests: int
    max_requests_per_minute: float | None
    max_tokens_per_minute: float | None
    away_s: float | None = None
    one_at_a_time: bool = False


class Limits:
    """All limits of one batch.

    Mutable state: `health` and, in it, the slots; `_in_use`, rows in flight, `_apart`, those of them that wait by
    themselves, and `_at_service`, those of them that have a turn; `_changed`, set when one of these may have changed;
    `_reported_until_s`, loop time of the end of the last reported cool-down; the rates, `_reported`, those that one
    reply has reported, and the estimate of tokens; `_waiting_for`, what the admission waits for; `requests`, sent so
    far; `_closed`, set once no attempt may start; `_trace`, the log of the health, None if it is not enabled.
    """

    def __init__(
        self,
        *,
        concurrency: int | None = None,
        rates: RatesPerMinute | None = None,
        max_completion_tokens: int | None = None,
        row_timeout_s: float = 600.0,
        on_cool_down: CoolDown | None = None,
        start: int = START,
        max_slots: int | None = None,
        max_outage_s: float = 900.0,
        fixed_chars: int = 0,
    ) -> None:
        """
        Args:
            concurrency: maximum rows in flight; None for an adaptive number.
            rates: requests and tokens per minute; None for those that the service's replies report.
            start: rows in flight at first, if their number is adaptive.
            max_slots: rows in flight that this machine can handle, whatever `concurrency` is; None for no bound.
            max_outage_s: as of `Health`.
            fixed_chars: characters of every request in addition to its prompt (instructions).
        """
        self.requests = 0
        self.max_slots = max_slots
        slots = SlotPolicy(concurrency, start=start, max_slots=max_slots, patience_s=row_timeout_s)
        self.health = Health(slots, max_outage_s=max_outage_s)
        self._rates: RatesPerMinute = Pacers() if rates is None else rates
        self._reported: dict[Unit, float] = {}
        self._apart = 0
        self._estimate = TokenEstimate(max_completion_tokens)
        self._fixed_chars = fixed_chars
        self._row_timeout_s = row_timeout_s
        self._request_gate = anyio.Lock(fast_acquire=True)
        self._line = anyio.Lock(fast_acquire=True)
        self._in_use = 0
        self._at_service = 0
        self._changed = anyio.Event()
        self._closed = False
        self._reported_until_s = float("-inf")
        self._on_cool_down = on_cool_down
        self._waiting_for: Waiting | None = None
        self._trace = health_trace(self.health)

    async def admit(self, prompt_chars: int) -> Lease:
        """Wait for a slot, tokens, a turn at the service and the first request; in the order of the calls."""
        if not self.has_room():
            await self.room()
        try:
            reserved = 0.0
            if (tokens := self._rates.tokens) is not None:
                self._waiting_for = "tokens"
                reserved = self._estimate.guess(prompt_chars + self._fixed_chars)
                await tokens.acquire(reserved)
            self._waiting_for = "cool-down" if self._cool_down_s() > 0 else "requests"
            lease = Lease(self, prompt_chars, reserved, self._row_timeout_s)
            await self.next_attempt(lease)
            try:
                if self._rates.requests is not None or self._cool_down_s() > 0:
                    await self._permit_request()
            except BaseException:
                self.give_back(lease)
                raise
        finally:
            self._waiting_for = None
        self._in_use += 1
        return lease

    async def room(self) -> None:
        """Wait until one more row may be in flight; nothing is taken."""
        try:
            while not self.has_room():
                self._waiting_for = "slots"
                await self._change()
        finally:
            self._waiting_for = None

    def has_room(self) -> bool:
        """Return whether one more row may be in flight; without answers a few may, so that rows take turns."""
        in_use = self._in_use - self._apart
        return in_use < (PROBERS if self.health.is_in_doubt else 0) or in_use < self.health.slots.capacity

    async def next_attempt(self, lease: Lease) -> bool:
        """Wait in line for an attempt of a row in flight; return False if no more attempts may start."""
        if lease.has_turn or (not self._line.locked() and self._takes_turn(lease, loop_time())):
            return True
        async with self._line:
            while not self._closed:
                now_s = loop_time()
                if self._takes_turn(lease, now_s):
                    return True
                hold_s = self.health.hold_s(now_s)
                if hold_s > 0:
                    with anyio.move_on_after(hold_s):
                        await self._change()
                else:
                    await self._change()
        return False

    def _takes_turn(self, lease: Lease, now_s: float) -> bool:
        """Give the row its turn, if nothing is in its way and it is the next in line."""
        if self._closed or self.health.hold_s(now_s) > 0 or self._at_service >= self.health.abreast:
            return False
        self.health.sending(now_s)
        self._at_service += 1
        lease.has_turn = True
        return True

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Let another row have the slot of one that waits by itself."""
        self._apart += 1
        self._changed.set()
        try:
            yield
        finally:
            self._apart -= 1

    def step_back(self, lease: Lease) -> bool:
        """Return whether a cool-down has begun since the row had its turn; if so, the row has to wait in line again."""
        if self._cool_down_s() <= 0:
            return False
        self.give_back(lease)
        return True

    async def _change(self) -> None:
        if self._changed.is_set():
            self._changed = anyio.Event()
        await self._changed.wait()

    def answered(self, lease: Lease) -> None:
        """Count a run that ended with an answer. The row keeps its turn for its next request."""
        if lease.trouble.has_any:
            lease.trouble = Trouble()
        self.health.answered(self._in_use, lease.sent_at_s, loop_time())
        if self._trace is not None:
            self._trace.look()
        self._changed.set()

    def failed(self, lease: Lease | None, fault: ServiceFault) -> str | None:
        """Count a failed attempt, and end the row's turn; return why the batch has to stop, None if it does not.

        Args:
            lease: None for a request of the batch itself.
        """
        now_s = loop_time()
        held_s = self._cool_down_s()
        trouble, sent_at_s = (None, now_s) if lease is None else (lease.trouble, lease.sent_at_s)
        why = self.health.failed(fault, self._in_use, sent_at_s, now_s, trouble)
        if self._cool_down_s() > max(held_s, 0.0):
            self._report(fault.error_type)
        if self._trace is not None:
            self._trace.look()
        self.give_back(lease)
        return why

    def is_ill(self, lease: Lease, fault: ServiceFault) -> bool:
        """Return whether the service is at fault, not the row, so that the failed attempt does not count."""
        return fault.error_type in NEVER_TRIED or self.health.is_ill(fault, lease.trouble, loop_time())

    def timed_out(self, lease: Lease) -> None:
        """Count a row whose time ran out before its answer came."""
        self.health.timed_out(lease.sent_at_s, loop_time())
        if self._trace is not None:
            self._trace.look()
        self.give_back(lease)

    def give_back(self, lease: Lease | None) -> None:
        """End the row's turn, if it has one. It keeps its slot."""
        if lease is not None and lease.has_turn:
            lease.has_turn = False
            self._at_service -= 1
            if self.health.probing:
                self.health.left(loop_time())
        self._changed.set()

    def close(self) -> None:
        """Let no more attempts start; those that wait for one end their wait."""
        self._closed = True
        self._changed.set()

    async def readmit(self, lease: Lease, usage: Usage, prompt_chars: int) -> None:
        """Prepare another run of a row in flight: settle the usage of its last one, and reserve tokens for this one."""
        self._settle(lease, usage)
        lease.prompt_chars = prompt_chars
        if (tokens := self._rates.tokens) is not None:
            reserved = self._estimate.guess(prompt_chars + self._fixed_chars)
            await tokens.acquire(reserved)
            lease.reserved_tokens = reserved

    async def request(self) -> None:
        """Wait until the HTTP client may send a request. It calls this before each, in the task of the row."""
        lease = _current_lease.get()
        self.requests += 1
        if lease is None:
            await self._permit_request()
            return
        if lease.prepaid:
            lease.prepaid = False
        elif self._rates.requests is not None or self._cool_down_s() > 0:
            with lease.stopwatch.paused():
                await self._permit_request()
        lease.sent_at_s = loop_time()

    async def _permit_request(self) -> None:
        requests = self._rates.requests
        if requests is None:
            await self._cooled_down()
            return
        # One at a time through both waits: permits given during a cool-down would all be used at its end.
        async with self._request_gate:
            await self._cooled_down()
            await requests.acquire()
            await self._cooled_down()

    async def _cooled_down(self) -> None:
        while (wait_s := self._cool_down_s()) > 0:
            await anyio.sleep(wait_s)

    def cool_down(self, wait_s: float, reason: str = RATE_LIMITED) -> None:
        """Let no row send for `wait_s` seconds from now, ten minutes at most. A longer cool-down that runs is kept.

        Args:
            reason: shown in displays.
        """
        if self.health.hold(wait_s, loop_time()):
            self._report(reason)

    def _report(self, reason: str) -> None:
        """Report a cool-down that has begun or has become longer."""
        now_s = loop_time()
        wait_s = self._cool_down_s()
        cooling = self._reported_until_s > now_s
        if cooling and now_s + wait_s <= self._reported_until_s + REPORTED_S:
            return
        self._reported_until_s = now_s + wait_s
        if self._trace is not None:
            self._trace.held(wait_s, reason)
        if self._on_cool_down is not None:
            self._on_cool_down(wait_s, reason)

    def observe(self, headers: Mapping[str, str]) -> None:
        """Adopt the limits in the `x-ratelimit-*` headers of two replies, the higher one if they differ: a single odd
        reply must not slow down the whole batch. -1 and 0 are ignored (Azure sends them)."""
        units: tuple[Unit, ...] = ("requests", "tokens")
        for unit in units:
            reported = headers.get(f"x-ratelimit-limit-{unit}")
            limit = None if reported is None else _positive(reported)
            if limit is None:
                continue
            if (self._rates.requests if unit == "requests" else self._rates.tokens) is None:
                if (earlier := self._reported.get(unit)) is not None:
                    self._rates.adopt(unit, max(earlier, limit))
                self._reported[unit] = limit
            if headers.get(f"x-ratelimit-remaining-{unit}") == "0":
                reset_s = parse_reset(headers.get(f"x-ratelimit-reset-{unit}"))
                if reset_s is not None:
                    self.cool_down(min(reset_s, 60.0), f"no {unit} left")

    def statistics(self) -> LimitsStatistics:
        """Return a snapshot for progress displays and tests."""
        requests, tokens = self._rates.requests, self._rates.tokens
        return LimitsStatistics(
            in_use=self._in_use,
            capacity=self.health.slots.capacity,
            waiting_for=self._waiting_for,
            cool_down_s=max(0.0, self._cool_down_s()),
            requests=self.requests,
            max_requests_per_minute=None if requests is None else requests.per_minute,
            max_tokens_per_minute=None if tokens is None else tokens.per_minute,
            away_s=self.health.away_for_s(loop_time()),
            one_at_a_time=self.health.slots.one_at_a_time,
        )

    def _cool_down_s(self) -> float:
        """Return the remaining seconds of the cool-down, negative after its end. Without any, no clock is read."""
        held_until_s = self.health.held_until_s
        return held_until_s if held_until_s == -math.inf else held_until_s - loop_time()

    def _release(self, lease: Lease) -> None:
        self._in_use -= 1
        self.give_back(lease)

    def _settle(self, lease: Lease, usage: Usage) -> None:
        self._estimate.learn(lease.prompt_chars + self._fixed_chars, usage.prompt_tokens, usage.completion_tokens)
        if (tokens := self._rates.tokens) is not None and usage.total_tokens is not None:
            tokens.settle(usage.total_tokens - lease.reserved_tokens)
            lease.reserved_tokens = usage.total_tokens

    def __repr__(self) -> str:
        return f"<Limits in_use={self._in_use} {self.health!r} {self._rates!r}>"


def _positive(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 < number < math.inf else None
