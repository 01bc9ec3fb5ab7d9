"""Units of a shared rate that nobody has used, on their way to a worker that can use them at once."""

from __future__ import annotations

import math
from collections import deque
from typing import Final

__all__ = ["EXTRA_S", "GRAIN", "SPARE_SHARE", "SpareUnits", "grains"]

SPARE_SHARE: Final = 0.005
"""Share of a limit that is kept back for spare units."""
KEPT_S: Final = 0.5
"""Seconds for which spare units wait for a worker that wants them."""
EXTRA_S: Final = 0.5
"""Seconds, from its ask on, within which a worker must use spare units that it was given."""
GRAIN: Final = 2.0**-20
"""Units and leased rates are multiples of this, so that their sums are exact."""


def grains(amount: float) -> float:
    """Return the greatest multiple of a grain that is not above an amount."""
    return amount if amount == math.inf else math.floor(amount / GRAIN) * GRAIN


class SpareUnits:
    """Takes in units that flowed and were not used, and gives them away.

    A unit is spare from when it was not used until it is used after all, or lost: for up to `age_s` until it is taken
    in, for up to `KEPT_S` until it is given away, and for up to `EXTRA_S` in a worker's hand. No more than `most` are
    taken in within any period as long as these three together. So at no moment are more than `most` units spare, and
    that is what they can add to a minute: units that became spare before it and are used within it.

    Mutable state: `_units`, not yet given away, and until when they may be; `_taken_in`, what was taken in and until
    when it counts, and its sum.
    """

    def __init__(self, age_s: float) -> None:
        """
        Args:
            age_s: the most seconds between the time at which a unit was not used and the call that takes it in.
        """
        self._lasts_s = age_s + KEPT_S + EXTRA_S
        self._units = 0.0
        self._ends_s = -math.inf
        self._taken_in: deque[tuple[float, float]] = deque()
        self._taken_in_sum = 0.0

    def take_in(self, units: float, most: float, now_s: float) -> None:
        """Take in as many of the units as may be spare."""
        while self._taken_in and self._taken_in[0][0] <= now_s:
            self._taken_in_sum -= self._taken_in.popleft()[1]
        units = grains(min(units, most - self._taken_in_sum))
        if units <= 0:
            return
        if self._units == 0 or now_s >= self._ends_s:
            self._units = 0.0
            self._ends_s = now_s + KEPT_S
        self._units += units
        self._taken_in.append((now_s + self._lasts_s, units))
        self._taken_in_sum += units

    def give(self, now_s: float) -> float:
        """Return all units that are there. They may be used until `EXTRA_S` from now."""
        units = self._units if now_s < self._ends_s else 0.0
        self._units = 0.0
        return units
