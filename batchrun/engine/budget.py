"""The budget of a batch: money is reserved before a row is sent, and released when its cost is known."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from batchrun.engine.purse import Purse
from batchrun.token_usage import Usage

__all__ = ["Budget"]

PRIOR_TOKENS_PER_CHAR = 0.4
PRIOR_COMPLETION_TOKENS = 1_000
ROWS_BELIEVED = 10
"""Rows after which observed values replace the assumed ones."""
NOTHING_USD = 1e-12
"""What sums and differences of dollars may leave by rounding."""


class Budget:
    """The money that rows may cost, including those of earlier runs. Several engines may share a budget.

    The money reserved for a row is the most that it may cost, as far as that can be known: its characters at the
    largest number of tokens per character observed so far (at first 0.4, some 1.6 times English), and for the
    completion the user's own bound, or the longest observed so far (at first 1,000 tokens). Observed values replace the
    assumed ones after ten rows, and until then only if they are larger. With a bound on the completion, the budget is
    never exceeded; without one, it can be exceeded by completions in flight that are longer than all before them.

    A request whose cost is unknown counts with the money reserved for its row: an answer without usage, and a request
    whose answer was not seen, such as after a timeout or a crash.

    Mutable state: `spent_usd`, and `unknown_usd`, the part of it for requests whose cost is unknown; `reserved_usd`,
    for rows in flight, and `held_usd`, the part of it for rows whose reply comes later; `needed_usd`, for the row that
    waits for money, 0 if none waits; `_line`, in which rows of several engines wait; `_rows`, rows with known usage,
    and the largest values among them, `_tokens_per_char` and `_completion_tokens`; `_freed`, set when a row has ended
    or the purse has changed.
    """

    def __init__(
        self,
        purse: Purse,
        spent_usd: float,
        price: Callable[[Usage], float | None],
        *,
        unknown_usd: float = 0.0,
        fixed_chars: int = 0,
        max_completion_tokens: int | None = None,
    ) -> None:
        """
        Args:
            spent_usd: cost of earlier runs of the batch, if the purse has to pay for it.
            price: returns the price of a run with this usage; must be known.
            unknown_usd: what requests of earlier runs may have cost besides.
            fixed_chars: characters of every request in addition to its prompt (instructions).
        """
        self.purse = purse
        self.spent_usd = spent_usd + unknown_usd
        self.unknown_usd = unknown_usd
        self.reserved_usd = 0.0
        self.held_usd = 0.0
        self.needed_usd = 0.0
        self._line = anyio.Lock(fast_acquire=True)
        self._price = price
        self._fixed_chars = fixed_chars
        self._max_completion_tokens = max_completion_tokens
        self._rows = 0
        self._tokens_per_char = 0.0
        self._completion_tokens = 0
        self._freed = anyio.Event()

    async def reserve(self, prompt_chars: int) -> float | None:
        """Reserve money for a row; return None if it can never come. The first that waits is the first that is served.

        Money comes from rows in flight that release theirs, and from the purse. Money that is held is not waited for:
        its rows end in a later pass.
        """
        if not self._line.locked() and (reserved_usd := self._taken(prompt_chars)) is not None:
            return reserved_usd
        async with self._line:
            try:
                while (reserved_usd := self._taken(prompt_chars)) is None:
                    self.needed_usd = self.estimate(prompt_chars)
                    self._freed = anyio.Event()
                    may_come = self.purse.ask(self.needed_usd, self._wake)
                    if not may_come and self.reserved_usd - self.held_usd <= NOTHING_USD:
                        return None
                    await self._freed.wait()
                return reserved_usd
            finally:
                self.needed_usd = 0.0

    def _taken(self, prompt_chars: int) -> float | None:
        """Reserve money for a row, and return it; None if there is not enough now."""
        wanted_usd = self.estimate(prompt_chars)
        if self.spent_usd + self.reserved_usd + wanted_usd > self.purse.usable_usd:
            return None
        self.reserved_usd += wanted_usd
        return wanted_usd

    def _wake(self) -> None:
        self._freed.set()

    def hold(self, reserved_usd: float) -> None:
        """Keep the money reserved for a row whose reply comes later."""
        self.held_usd += reserved_usd
        self._freed.set()

    def hold_earlier(self, prompt_chars: int) -> float:
        """Reserve and hold money for a row that was sent in an earlier run, even above the limit; return it."""
        reserved_usd = self.estimate(prompt_chars)
        self.reserved_usd += reserved_usd
        self.hold(reserved_usd)
        return reserved_usd

    def resume(self, reserved_usd: float) -> None:
        """Release the hold on a row's money, which stays reserved: its task continues."""
        self.held_usd = max(0.0, self.held_usd - reserved_usd)

    def release(self, reserved_usd: float) -> None:
        """Release the money reserved for a row that was not sent, or whose requests have cost nothing."""
        self.reserved_usd = max(0.0, self.reserved_usd - reserved_usd)
        self._freed.set()

    def count_unknown(self, reserved_usd: float) -> None:
        """Count the money reserved for a row as spent, since nobody knows what its request has cost."""
        self.reserved_usd = max(0.0, self.reserved_usd - reserved_usd)
        self.spent_usd += reserved_usd
        self.unknown_usd += reserved_usd
        self._freed.set()

    def take_up(self, unknown_usd: float) -> None:
        """Reserve what counted as spent for a row of an earlier run: it continues, and its cost will be known."""
        self.spent_usd -= unknown_usd
        self.unknown_usd -= unknown_usd
        self.reserved_usd += unknown_usd

    def estimate(self, prompt_chars: int) -> float:
        """Return the US dollars that a row with this many characters may cost."""
        tokens_per_char, completion_tokens = self._tokens_per_char, self._completion_tokens
        if self._rows < ROWS_BELIEVED:
            tokens_per_char = max(tokens_per_char, PRIOR_TOKENS_PER_CHAR)
            completion_tokens = max(completion_tokens, PRIOR_COMPLETION_TOKENS)
        tokens = round((prompt_chars + self._fixed_chars) * tokens_per_char)
        completion_tokens = self._max_completion_tokens or completion_tokens
        return self._price(Usage(tokens, completion_tokens, tokens + completion_tokens)) or 0.0

    def settle(
        self,
        reserved_usd: float,
        prompt_chars: int,
        usage: Usage,
        cost_usd: float | None,
        *,
        is_whole: bool = True,
    ) -> None:
        """Count the cost of a row that has ended, and release the money reserved for it.

        Args:
            cost_usd: None if it is not known: then the money counts as spent.
            is_whole: False if a part of the cost is not known: then the money counts as spent besides.
        """
        self.spent_usd += cost_usd or 0.0
        if cost_usd is None or not is_whole:
            self.count_unknown(reserved_usd)
        else:
            self.reserved_usd = max(0.0, self.reserved_usd - reserved_usd)
        chars = prompt_chars + self._fixed_chars
        if usage.prompt_tokens is not None and usage.completion_tokens is not None and chars > 0:
            self._rows += 1
            self._tokens_per_char = max(self._tokens_per_char, usage.prompt_tokens / chars)
            self._completion_tokens = max(self._completion_tokens, usage.completion_tokens)
        self._freed.set()

    def __repr__(self) -> str:
        return (
            f"<Budget ${self.spent_usd:.4f} spent, ${self.reserved_usd:.4f} reserved, of ${self.purse.usable_usd:.2f}>"
        )
