"""The money reserved for rows: released when a row ends, and kept while a row is deferred."""

from __future__ import annotations

from collections.abc import Mapping

from batchrun.engine.budget import Budget
from batchrun.engine.stop import BUDGET_REACHED, Stop
from batchrun.records import Prompt
from batchrun.token_usage import Usage
from batchrun.wording import SHOWN_USD

__all__ = ["Reservations"]


class Reservations:
    """Reserves money of a budget for rows.

    Mutable state: `_held`, US dollars by the key of a deferred row; `_in_flight`, those by the key of a row that an
    earlier run left in flight; `unknown_usd`, what the budget counts for requests of unknown cost of these rows, less
    those of earlier runs that continued; `rows_left`, whether a row was left to a later pass, since the money that it
    needs is held for others.
    """

    def __init__(self, budget: Budget | None, in_flight_usd: Mapping[str, float]) -> None:
        """
        Args:
            budget: None for no limit: then nothing is reserved.
            in_flight_usd: row → US dollars that the budget counts as spent for a row which an earlier run left in
                flight.
        """
        self.budget = budget
        self.rows_left = False
        self.unknown_usd = 0.0
        self._held: dict[str, float] = {}
        self._in_flight = dict(in_flight_usd)

    async def take(self, prompt: Prompt, *, continues: bool = False) -> float | None:
        """Return the US dollars reserved for a row; None if there is not enough money, now or at all (`rows_left`).

        Args:
            continues: what earlier runs have begun of it will be in its cost. Otherwise their money stays spent.
        """
        budget = self.budget
        if budget is None:
            return 0.0
        held_usd = self._held.pop(prompt.row_key, None)
        if held_usd is not None:
            budget.resume(held_usd)
            return held_usd
        if continues and (usd := self._in_flight.pop(prompt.row_key, None)) is not None:
            self._take_up(budget, usd)
            return usd
        if self.rows_left:
            return None  # a shorter prompt would overtake the rows before it
        reserved_usd = await budget.reserve(prompt.chars)
        self.rows_left = reserved_usd is None and bool(self._held)
        return reserved_usd

    async def take_again(self, prompt: Prompt, reserved_usd: float | None, *, is_known: bool = False) -> float | None:
        """Reserve money for another request of a row; return what is reserved for the row then, None if there is not
        enough money.

        Args:
            is_known: what the earlier requests have cost is known, and counts when the row ends: their money stays
                reserved. Otherwise it counts as spent.
        """
        budget, earlier_usd = self.budget, reserved_usd or 0.0
        if budget is None:
            return 0.0
        self._count_unknown(budget, earlier_usd)  # while the row waits, and after that if it gets no more
        added_usd = await budget.reserve(prompt.chars)
        if added_usd is None or not is_known:
            return added_usd
        self._take_up(budget, earlier_usd)
        return earlier_usd + added_usd

    def _count_unknown(self, budget: Budget, reserved_usd: float) -> None:
        budget.count_unknown(reserved_usd)
        self.unknown_usd += reserved_usd

    def _take_up(self, budget: Budget, unknown_usd: float) -> None:
        budget.take_up(unknown_usd)
        self.unknown_usd -= unknown_usd

    def settle(
        self, reserved_usd: float | None, prompt: Prompt, usage: Usage, cost_usd: float | None, *, is_whole: bool = True
    ) -> None:
        """Count what a row has cost: see `Budget.settle`."""
        if self.budget is not None:
            self.budget.settle(reserved_usd or 0.0, prompt.chars, usage, cost_usd, is_whole=is_whole)
            self.unknown_usd += 0.0 if is_whole and cost_usd is not None else reserved_usd or 0.0

    def stop(self, prompt: Prompt) -> Stop:
        """Return the reason to end the batch: there is not enough money for a row."""
        budget = self.budget
        assert budget is not None
        unknown_usd = budget.unknown_usd + budget.purse.unknown_elsewhere_usd
        spent_usd = budget.spent_usd + budget.purse.spent_elsewhere_usd - unknown_usd
        unknown = f"up to ${unknown_usd:,.4f} more for requests whose answer was not seen or has no usage, "
        return Stop(
            f"the budget of ${budget.purse.limit_usd:,.4g} is reached: ${spent_usd:,.4f} is spent, "
            f"{unknown if unknown_usd >= SHOWN_USD else ''}and the next row may cost "
            f"${budget.estimate(prompt.chars):,.4f}; rerun with a larger --budget to continue",
            exit_code=BUDGET_REACHED,
        )

    def release(self, reserved_usd: float | None, *, may_have_cost: bool = False) -> None:
        """Release the money of a row that ends without an outcome, or has cost nothing; it counts as spent if the row
        may have cost something."""
        if self.budget is None:
            return
        if may_have_cost:
            self._count_unknown(self.budget, reserved_usd or 0.0)
        else:
            self.budget.release(reserved_usd or 0.0)

    def defer(self, row_key: str, reserved_usd: float | None) -> None:
        """Hold the money of a row whose reply comes later."""
        if self.budget is not None and reserved_usd is not None:
            self._held[row_key] = reserved_usd
            self.budget.hold(reserved_usd)

    def hold(self, row_key: str, prompt_chars: int) -> None:
        """Reserve money for a row that an earlier run deferred."""
        if self.budget is not None and row_key not in self._held:
            self._held[row_key] = self.budget.hold_earlier(prompt_chars)
