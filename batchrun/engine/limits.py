"""Stage 4: who may go when. Slots, requests a minute, tokens a minute, and the shared cool-down.

Rows are admitted by `Limits.admit`, one after the other, in order. Every HTTP request passes
`Limits.request` in the HTTP client, so that polls, retries and tool submissions are counted too and nothing
can go round it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, TypeAlias

import anyio

from batchrun.engine.pacer import Pacer, TokenEstimate
from batchrun.engine.slots import SlotPolicy
from batchrun.records import Usage

__all__ = ["CoolDown", "Lease", "Limits", "LimitsStatistics", "Stopwatch", "Waiting", "parse_reset"]

OVERSLEPT_S = 0.5
MAX_COOL_DOWN_S = 600.0
"""A service that asks for longer is asked again after this; a header must not put a batch to sleep for a day."""
RATE_LIMITED = "rate_limit_exceeded"
"""The error type of a refusal for the rate, which is what most cool-downs are for."""
TOLD_S = 1.0
"""A cool-down that lasts less than this longer than what was told of it is not told again: rows that are refused
together ask for the same end, each a moment later."""

Waiting: TypeAlias = Literal["slots", "requests", "tokens", "cool-down"]

CoolDown: TypeAlias = Callable[[float, str], None]
"""(seconds, reason): everybody waits from now on."""

_current_lease: ContextVar[Lease | None] = ContextVar("batchrun_lease", default=None)


class Stopwatch:
    """Counts the seconds a row is in flight and ends them at a limit; waits for limits stop it.

    All state: `elapsed_s` over finished laps, the scope of the lap that runs, and `overslept`: the last lap was ended
    long after its time, so that this process was suspended meanwhile and nobody knows what the row's own time was.
    """

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self.elapsed_s = 0.0
        self.overslept = False
        self._scope: anyio.CancelScope | None = None
        self._lap_started_s = 0.0

    @contextmanager
    def running(self) -> Iterator[anyio.CancelScope]:
        """Time spent inside counts; at the limit it is cancelled (`scope.cancelled_caught`)."""
        with anyio.CancelScope() as scope:
            self._scope = scope
            self._resume()
            try:
                yield scope
            finally:
                self.overslept = anyio.current_time() - scope.deadline > OVERSLEPT_S
                self._pause()
                self._scope = None
                if self.overslept:
                    self.elapsed_s = 0.0

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time spent inside does not count. Outside of `running` nothing counts anyway."""
        if self._scope is None:
            yield
            return
        self._pause()
        try:
            yield
        finally:
            self._resume()

    def _pause(self) -> None:
        assert self._scope is not None
        self._scope.deadline = float("inf")
        self.elapsed_s += anyio.current_time() - self._lap_started_s

    def _resume(self) -> None:
        assert self._scope is not None
        self._lap_started_s = anyio.current_time()
        self._scope.deadline = self._lap_started_s + max(0.0, self.limit_s - self.elapsed_s)


class Lease:
    """The right of one row to be in flight: a slot, the reserved tokens, and its first request.

    Made by `Limits.admit`; the row's task owns it from then on and gives it back by leaving `with lease`.
    """

    __slots__ = ("_limits", "prepaid", "prompt_chars", "reserved_tokens", "sent_at_s", "stopwatch")

    def __init__(self, limits: Limits, prompt_chars: int, reserved_tokens: float, row_timeout_s: float) -> None:
        self._limits = limits
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
        self._limits._release()

    def settle(self, usage: Usage, *, succeeded: bool) -> None:
        """The row ended with this usage: correct the reservation and teach the estimate; an answer grows the slots."""
        self._limits._settle(self, usage, succeeded=succeeded)


@dataclass(frozen=True, slots=True)
class LimitsStatistics:
    """A snapshot.

    Attributes:
        waiting_for: what the next row waits for, None if it does not wait.
        cool_down_s: seconds that the shared cool-down still lasts, 0 where there is none.
        max_requests_per_minute, max_tokens_per_minute: in force, None for no limit.
    """

    in_use: int
    capacity: int
    waiting_for: Waiting | None
    cool_down_s: float
    requests: int
    max_requests_per_minute: float | None
    max_tokens_per_minute: float | None


class Limits:
    """All limits of one batch.

    All state: `_in_use` slots, `_cool_until_s` and `_told_until_s` (loop time), the pacers, `_waiting_for` (what the
    admission waits for), `requests` sent and `replies` received so far.
    """

    def __init__(
        self,
        *,
        concurrency: int | None = None,
        max_requests_per_minute: float | None = None,
        max_tokens_per_minute: float | None = None,
        max_completion_tokens: int | None = None,
        row_timeout_s: float = 600.0,
        on_cool_down: CoolDown | None = None,
        max_slots: int | None = None,
    ) -> None:
        """
        Args:
            max_slots: rows in flight that are possible on this machine, whatever `concurrency` says; None for no bound.
        """
        self.requests = 0
        self.replies = 0
        self._slots = SlotPolicy(concurrency, max_slots=max_slots)
        self._request_pacer = Pacer(max_requests_per_minute) if max_requests_per_minute else None
        self._token_pacer = _token_pacer(max_tokens_per_minute) if max_tokens_per_minute else None
        self._estimate = TokenEstimate(max_completion_tokens)
        self._row_timeout_s = row_timeout_s
        self._request_gate = anyio.Lock(fast_acquire=True)
        self._in_use = 0
        self._slot_freed = anyio.Event()
        self._cool_until_s = float("-inf")
        self._told_until_s = float("-inf")
        self._on_cool_down = on_cool_down
        self._waiting_for: Waiting | None = None

    async def admit(self, prompt_chars: int) -> Lease:
        """Wait for a slot, the end of a cool-down, tokens and the first request; in the order of the calls."""
        try:
            while self._in_use >= self._slots.capacity:
                self._waiting_for = "slots"
                self._slot_freed = anyio.Event()
                await self._slot_freed.wait()
            reserved = 0.0
            if self._token_pacer is not None:
                self._waiting_for = "tokens"
                reserved = self._estimate.guess(prompt_chars)
                await self._token_pacer.acquire(reserved)
            self._waiting_for = "cool-down" if self._cool_down_s() > 0 else "requests"
            await self._permit_request()
        finally:
            self._waiting_for = None
        self._in_use += 1
        return Lease(self, prompt_chars, reserved, self._row_timeout_s)

    async def readmit(self, lease: Lease, usage: Usage, prompt_chars: int) -> None:
        """Before another run of a row in flight: settle what its last one took, and set tokens aside for this one."""
        self._settle(lease, usage, succeeded=False)
        lease.prompt_chars = prompt_chars
        if self._token_pacer is not None:
            reserved = self._estimate.guess(prompt_chars)
            await self._token_pacer.acquire(reserved)
            lease.reserved_tokens = reserved

    async def request(self) -> None:
        """Called by the HTTP client before every request, in the task of the row that makes it."""
        lease = _current_lease.get()
        self.requests += 1
        if lease is None:
            await self._permit_request()
            return
        if lease.prepaid:
            lease.prepaid = False
        elif self._request_pacer is not None or self._cool_down_s() > 0:
            with lease.stopwatch.paused():
                await self._permit_request()
        lease.sent_at_s = anyio.current_time()

    async def _permit_request(self) -> None:
        if self._request_pacer is None:
            await self._cooled_down()
            return
        # One at a time through both waits: permits granted during a cool-down would all be used at its end.
        async with self._request_gate:
            await self._cooled_down()
            await self._request_pacer.acquire()
            await self._cooled_down()

    async def _cooled_down(self) -> None:
        while (wait_s := self._cool_down_s()) > 0:
            await anyio.sleep(wait_s)

    def rate_limited(self, lease: Lease) -> None:
        """The service refused a request of this row for its rate: fewer slots, once for each burst of refusals."""
        self._slots.rate_limited(lease.sent_at_s, anyio.current_time())

    def cool_down(self, wait_s: float, reason: str = RATE_LIMITED) -> None:
        """Nobody sends for `wait_s` seconds from now, ten minutes at most (a longer cool-down that runs stays).

        Args:
            reason: for those who look at the batch.
        """
        now_s = anyio.current_time()
        wait_s = min(wait_s, MAX_COOL_DOWN_S)
        until_s = now_s + wait_s
        if wait_s <= 0 or until_s <= self._cool_until_s:
            return
        self._cool_until_s = until_s
        cooling = self._told_until_s > now_s
        if self._on_cool_down is not None and (not cooling or until_s > self._told_until_s + TOLD_S):
            self._told_until_s = until_s
            self._on_cool_down(wait_s, reason)

    def observe(self, headers: Mapping[str, str]) -> None:
        """Learn from `x-ratelimit-*` of a reply. -1, 0 and absent limits are ignored (Azure sends them)."""
        for unit in ("requests", "tokens"):
            limit = _positive(headers.get(f"x-ratelimit-limit-{unit}"))
            if limit is None:
                continue
            if unit == "requests" and self._request_pacer is None:
                self._request_pacer = Pacer(limit)
            elif unit == "tokens" and self._token_pacer is None:
                self._token_pacer = _token_pacer(limit)
            if headers.get(f"x-ratelimit-remaining-{unit}") == "0":
                reset_s = parse_reset(headers.get(f"x-ratelimit-reset-{unit}"))
                if reset_s is not None:
                    self.cool_down(min(reset_s, 60.0), f"no {unit} left")

    def statistics(self) -> LimitsStatistics:
        """A snapshot for progress displays and tests."""
        return LimitsStatistics(
            in_use=self._in_use,
            capacity=self._slots.capacity,
            waiting_for=self._waiting_for,
            cool_down_s=max(0.0, self._cool_down_s()),
            requests=self.requests,
            max_requests_per_minute=self._request_pacer.per_minute if self._request_pacer else None,
            max_tokens_per_minute=self._token_pacer.per_minute if self._token_pacer else None,
        )

    def _cool_down_s(self) -> float:
        return self._cool_until_s - anyio.current_time()

    def _release(self) -> None:
        self._in_use -= 1
        self._slot_freed.set()

    def _settle(self, lease: Lease, usage: Usage, *, succeeded: bool) -> None:
        if succeeded:
            self._slots.succeeded(self._in_use)
        self._estimate.learn(lease.prompt_chars, usage.prompt_tokens, usage.completion_tokens)
        if self._token_pacer is not None and usage.total_tokens is not None:
            self._token_pacer.settle(usage.total_tokens - lease.reserved_tokens)
            lease.reserved_tokens = usage.total_tokens

    def __repr__(self) -> str:
        return f"<Limits in_use={self._in_use} {self._slots!r} {self._request_pacer!r} {self._token_pacer!r}>"


TOKEN_CREDIT_SHARE = 0.02


def _token_pacer(per_minute: float) -> Pacer:
    """Estimates err both ways; what they set aside too much is spent again, within bounds."""
    return Pacer(per_minute, credit_share=TOKEN_CREDIT_SHARE)


def _positive(text: str | None) -> float | None:
    try:
        number = float(text) if text else 0.0
    except ValueError:
        return None
    return number if 0 < number < math.inf else None


_RESET = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")


def parse_reset(text: str | None) -> float | None:
    """Seconds in `1s`, `6m0s`, `20ms`, `1d2h`, or a plain number of seconds; None for anything else."""
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        match = _RESET.fullmatch(text.strip())
        if match is None or not any(match.groups()):
            return None
        days, hours, minutes, seconds, millis = (float(group or 0) for group in match.groups())
        return days * 86_400 + hours * 3_600 + minutes * 60 + seconds + millis / 1_000
    return number if 0 <= number < 86_400 else None
