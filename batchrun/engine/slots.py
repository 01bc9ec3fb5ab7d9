"""How many rows may be in flight at once, found out from how the service takes it. Pure."""

from __future__ import annotations

__all__ = ["SlotPolicy"]

START = 20
CEILING = 1_000
FLOOR = 1
CUT = 0.75
SUCCESSES_PER_SLOT = 25


class SlotPolicy:
    """The number of slots: fixed where the user said one, else adaptive.

    Adaptive: begins at 20 and grows by one with every success (so it doubles each round trip) until the service
    first says 429; each burst of 429s cuts it once to three quarters; from then on one slot comes back for
    every 25 successes. The shape is TCP's slow start and congestion avoidance (RFC 5681), with a gentler cut
    because a refused request costs a round trip and no data.

    All state: `capacity` (slots now), `_slow_start`, `_successes` since the last growth, `_cut_at_s` (loop
    time of the last cut).
    """

    def __init__(self, fixed: int | None = None, *, max_slots: int | None = None) -> None:
        """
        Args:
            max_slots: that are possible on this machine, None for no such bound.
        """
        self.fixed = fixed
        wanted = CEILING if fixed is None else fixed
        self.max_slots = wanted if max_slots is None else min(wanted, max_slots)
        self.capacity = min(START if fixed is None else fixed, self.max_slots)
        self._slow_start = True
        self._successes = 0
        self._cut_at_s = float("-inf")

    def succeeded(self, in_use: int) -> None:
        """A row ended well while `in_use` slots were taken.

        Slots that nobody used prove nothing about the service, so the number grows only near its limit.
        """
        if self.fixed is not None or self.capacity >= self.max_slots or in_use < self.capacity * 0.8:
            return
        self._successes += 1
        if self._slow_start or self._successes >= SUCCESSES_PER_SLOT:
            self._successes = 0
            self.capacity += 1

    def rate_limited(self, sent_at_s: float, now_s: float) -> bool:
        """The service refused a request that was sent at `sent_at_s`; returns whether slots were cut.

        Requests sent before the last cut belong to the burst that caused it and cut nothing more.
        """
        if sent_at_s < self._cut_at_s:
            return False
        self._cut_at_s = now_s
        self._slow_start = False
        self._successes = 0
        if self.fixed is None:
            self.capacity = max(FLOOR, int(self.capacity * CUT))
        return True

    def __repr__(self) -> str:
        return f"<SlotPolicy capacity={self.capacity} fixed={self.fixed is not None} slow_start={self._slow_start}>"
