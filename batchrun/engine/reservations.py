"""The money reserved for rows: released when a row ends, and kept while a row is deferred."""

from __future__ import annotations

from batchrun.engine.budget import Budget
from batchrun.records import Prompt

__all__ = ["Reservations"]


class Reservations:
    """Reserves money of a budget for rows.

    Mutable state: `_held`, US dollars by the key of a deferred row; `rows_left`, whether a row was left to a later
    pass, since the money that it needs is held for others.
    """

    def __init__(self, budget: Budget | None) -> None:
        """
        Args:
            budget: None for no limit: then nothing is reserved.
        """
        self.budget = budget
        self.rows_left = False
        self._held: dict[str, float] = {}

    async def take(self, prompt: Prompt) -> float | None:
        """Return the US dollars reserved for a row; None if there is not enough money, now or at all (`rows_left`)."""
        budget = self.budget
        if budget is None:
            return 0.0
        held_usd = self._held.pop(prompt.row_key, None)
        if held_usd is not None:
            budget.resume(held_usd)
            return held_usd
        if self.rows_left:
            return None  # a shorter prompt would overtake the rows before it
        reserved_usd = await budget.reserve(prompt.chars)
        self.rows_left = reserved_usd is None and bool(self._held)
        return reserved_usd

    def release(self, reserved_usd: float) -> None:
        """Release the money of a row that ends without an outcome."""
        if self.budget is not None:
            self.budget.release(reserved_usd)

    def defer(self, row_key: str, reserved_usd: float) -> None:
        """Hold the money of a row whose reply comes later."""
        if self.budget is not None:
            self._held[row_key] = reserved_usd
            self.budget.hold(reserved_usd)

    def hold(self, row_key: str, prompt_chars: int) -> None:
        """Reserve money for a row that an earlier run deferred."""
        if self.budget is not None and row_key not in self._held:
            self._held[row_key] = self.budget.hold_earlier(prompt_chars)
