"""A rate limit per minute, used evenly, first come first served: aiolimiter after a FIFO gate."""

from __future__ import annotations

import anyio
from aiolimiter import AsyncLimiter

from batchrun.engine.rate import Unit

__all__ = ["Pacer", "Pacers", "TokenEstimate"]

BURST_SHARE = 0.005
TRANSIT_SHARE = 0.003
"""Share that is not used, because requests do not all take the same time to arrive: the service's minute is not ours.
0.3 % of a minute is 180 ms, by which the first request of a minute may be late and the last early."""
TOKEN_CREDIT_SHARE = 0.02
"""Estimates of tokens err both ways: what they reserve too much is used again, up to this share of the limit."""


class Pacer:
    """Admits at most `per_minute` units in any minute.

    A leaky bucket of B = 1 + ⌊0.5 % of the limit⌋ units, drained at (99.7 % of the limit - (B - 1)) per minute.
    Whenever the minute starts, B - 1 units of burst and one minute of draining never exceed the limit, even if the
    service counts requests as they arrive. The burst absorbs the lateness of timers, so that 99.2 % of the limit can be
    used. The bucket starts full, so that there is no burst at the start.

    aiolimiter wakes the smallest waiter first, which starves large requests; the lock makes it first come,
    first served. It also refuses amounts larger than its bucket, so these are acquired in pieces.

    Mutable state: the limiter's level; `_debt`, units used beyond their reservation, which the next requests pay;
    negative for a credit of unused reservations; `_started`, set with the first request.
    """

    def __init__(self, per_minute: float, *, credit_share: float = 0.0) -> None:
        """
        Args:
            credit_share: share of the limit by which reservations that were not used in one minute may be used in
                another. The bucket drains as much slower, so that the limit of that minute is not exceeded.
        """
        self.per_minute = per_minute
        self._credit = per_minute * credit_share
        self.burst = 1 + int(per_minute * BURST_SHARE)
        rate_per_minute = per_minute * (1 - TRANSIT_SHARE) - (self.burst - 1) - self._credit
        self._limiter = AsyncLimiter(self.burst, 60.0 * self.burst / rate_per_minute)
        self._lock = anyio.Lock(fast_acquire=True)
        self._debt = 0.0
        self._started = False

    async def acquire(self, amount: float = 1.0) -> None:
        """Wait until `amount` units may be used, in the order of the calls."""
        async with self._lock:
            if not self._started:
                self._started = True
                await self._limiter.acquire(self.burst - 1)
            amount += self._debt
            self._debt = min(0.0, amount)
            while amount > 0:
                piece = min(amount, self.burst)
                await self._limiter.acquire(piece)
                amount -= piece

    def settle(self, difference: float) -> None:
        """Correct an earlier reservation: positive if more was used than reserved, negative if less."""
        self._debt = max(self._debt + difference, -self._credit)

    def __repr__(self) -> str:
        return f"<Pacer per_minute={self.per_minute:g} burst={self.burst} debt={self._debt:g}>"


class Pacers:
    """The rates of a batch that one process runs. They are `RatesPerMinute`.

    Mutable state: `requests` and `tokens`, None until a limit is known.
    """

    def __init__(self, *, requests_per_minute: float | None = None, tokens_per_minute: float | None = None) -> None:
        self.requests: Pacer | None = None
        self.tokens: Pacer | None = None
        if requests_per_minute:
            self.adopt("requests", requests_per_minute)
        if tokens_per_minute:
            self.adopt("tokens", tokens_per_minute)

    def adopt(self, unit: Unit, per_minute: float) -> None:
        """Limit a unit."""
        if unit == "requests":
            self.requests = Pacer(per_minute)
        else:
            self.tokens = Pacer(per_minute, credit_share=TOKEN_CREDIT_SHARE)

    def __repr__(self) -> str:
        return f"<Pacers requests={self.requests!r} tokens={self.tokens!r}>"


class TokenEstimate:
    """Estimates the tokens of a request from its text, and learns from the usage of finished rows.

    tokens ≈ characters · (prompt tokens per character) + completion tokens of a mean row. Before the first finished
    row: a quarter token per character (English text), and the user's own bound on the completion, or 500 tokens.

    Mutable state: sums over the finished rows, and the prior.
    """

    _PRIOR_WEIGHT_CHARS = 400.0
    _PRIOR_WEIGHT_ROWS = 0.5

    def __init__(self, max_completion_tokens: int | None) -> None:
        self._chars = self._PRIOR_WEIGHT_CHARS
        self._prompt_tokens = 0.25 * self._chars
        self._rows = self._PRIOR_WEIGHT_ROWS
        self._completion_tokens = min(max_completion_tokens or 500, 4_000) * self._rows

    def guess(self, prompt_chars: int) -> float:
        """Return the tokens, prompt and completion, that a request with this many characters will likely take."""
        return prompt_chars * self._prompt_tokens / self._chars + self._completion_tokens / self._rows

    def learn(self, prompt_chars: int, prompt_tokens: int | None, completion_tokens: int | None) -> None:
        """Learn from the usage of a finished row; unknown counts are ignored."""
        if prompt_tokens is not None and prompt_chars:
            self._chars += prompt_chars
            self._prompt_tokens += prompt_tokens
        if completion_tokens is not None:
            self._rows += 1
            self._completion_tokens += completion_tokens
