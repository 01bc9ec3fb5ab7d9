"""The number of rows in flight, adapted to the throughput of the service. Pure."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

__all__ = ["START", "START_ON_THIS_MACHINE", "SlotPolicy"]

START = 20
START_ON_THIS_MACHINE = 4
"""For a model server on this machine: many have one slot, and a row that is queued there uses its own time limit."""
CEILING = 1_000
SMALLEST_ROUND = 12
"""Minimum answers of a round: the throughput of fewer is mostly chance."""
SATURATED = 0.8
"""Share of the slots that must be taken for an answer to count as evidence about their number."""
WORTH_IT = 0.15
"""Share of the growth in slots that must appear as growth in throughput. 1 is a service without any limit, 0 one in
which additional rows only wait; batching servers are in between."""
AS_GOOD = 0.95
"""Share of the best throughput that fewer slots must keep to be preferred."""
STEP = 1.5
"""Factor of a trial of more slots, and divisor of a trial of fewer."""
SLOWER = 1.5
"""Latency, in multiples of the accepted one, at which fewer slots are tried without delay."""
FIRST_REST = 2
LONGEST_REST = 16
"""Rounds between two trials: doubled by each trial that changes nothing."""
SHORT_S = 0.5
"""Seconds. A shorter round is measured twice before more slots are given up."""
PATIENCE_SHARE = 0.4
"""Maximum share of a row's time limit that its latency may take for the slots to grow: twice the slots may mean twice
the latency."""
CUT = 0.75
TIMEOUT_CUT = 0.5
ANSWERS_PER_SLOT = 25
BROKEN_AT_ONCE = 3.0

Phase: TypeAlias = Literal["doubling", "resting", "more", "fewer", "limited"]


class SlotPolicy:
    """The number of slots: fixed if the user gave one, otherwise adaptive.

    Adaptive: answers are counted in rounds, each of as many answers as there are slots. The slots double from round to
    round while the throughput rises with them. Then the last number that was worth it is kept, and from time to time a
    smaller and a larger number are tried for a round. A rate limit, a timeout or a shortage cuts the slots once per
    burst; from then on one slot is added for every 25 answers. The idea is that of TCP Vegas (Brakmo and Peterson,
    1995): the throughput shows where a queue begins, long before anything is refused. A model server on the user's
    machine never refuses.

    Mutable state: `capacity`, slots now, and `max_slots`; the round (`_began_s`, `_answers`, `_saturated`; `_late`,
    answers in its second half, and the sum of their latencies, `_latency_s`; `_unsettled`, answers to leave out before
    it begins); the accepted point (`_slots`, `_rate` per second, `_usual_s`, its latency) and the `_phase` that tries
    another; `_rest` and `_rounds`, rounds between two trials and since the last; `_cut_at_s`, loop time of the last
    cut; `_broken`, the weight of replies that broke off; `one_at_a_time`, set while replies seem to break off because
    of other requests, `_suspicions`, how often that was so, and since the last `_alone`, answers, and `_before`, the
    slots before it; `_doubtful`, set if doubling has failed once.
    """

    def __init__(
        self,
        fixed: int | None = None,
        *,
        start: int = START,
        max_slots: int | None = None,
        patience_s: float = math.inf,
    ) -> None:
        """
        Args:
            start: slots of the first round.
            max_slots: slots that this machine can handle, None for no such bound.
            patience_s: maximum seconds of a row.
        """
        self.fixed = fixed
        wanted = CEILING if fixed is None else fixed
        self.max_slots = wanted if max_slots is None else min(wanted, max_slots)
        self.capacity = min(start if fixed is None else fixed, self.max_slots)
        self.one_at_a_time = False
        self._patience_s = patience_s
        self._phase: Phase = "doubling"
        self._slots, self._rate, self._usual_s = 0, 0.0, 0.0
        self._rest, self._rounds = FIRST_REST, 0
        self._began_s = math.nan
        self._unsettled = 0
        self._answers, self._saturated, self._late, self._latency_s = 0, 0, 0, 0.0
        self._cut_at_s = -math.inf
        self._broken = 0.0
        self._suspicions = self._alone = self._before = 0
        self._doubtful = False

    # -- events -------------------------------------------------------------------------------------------

    def sending(self, now_s: float) -> None:
        """Count a row that begins to send: the first round begins with the first row."""
        if math.isnan(self._began_s):
            self._began_s = now_s

    def answered(self, in_use: int, latency_s: float, now_s: float) -> None:
        """Count a run that ended well while `in_use` slots were taken, `latency_s` seconds after its request."""
        self._broken = max(0.0, self._broken - 0.5)
        if self.fixed is not None:
            return
        if self.one_at_a_time:
            self._alone += 1
            if self._alone == ANSWERS_PER_SLOT and self._suspicions == 1:
                self._trust(2)
            return
        if in_use > self.capacity or self._unsettled > 0:
            # Rows admitted under another number of slots are still in flight: this would not measure the new number.
            self._unsettled -= in_use <= self.capacity
            self._begin_round(now_s)
            return
        self._answers += 1
        self._saturated += in_use >= self.capacity * SATURATED
        size = ANSWERS_PER_SLOT if self._phase == "limited" else max(self.capacity, SMALLEST_ROUND)
        if self._answers * 2 > size:  # a queue that is only forming makes the first answers of a round look fast
            self._late += 1
            self._latency_s += latency_s
        if self._answers < size:
            return
        # Unused slots show nothing about the service.
        if self._saturated >= self._answers * SATURATED and now_s > self._began_s:
            self._round_over(self._answers / (now_s - self._began_s), self._latency_s / self._late)
        self._begin_round(now_s)

    def rate_limited(self, sent_at_s: float, now_s: float) -> bool:
        """Count a rate limit on a request sent at `sent_at_s`; return whether it began a burst.

        Requests sent before the last cut belong to the burst that caused it and cut nothing more.
        """
        return self._cut(CUT, sent_at_s, now_s)

    def timed_out(self, sent_at_s: float, now_s: float) -> None:
        """Count a row that got no answer in its time, or no byte in the time for that: too many may be queued."""
        self._cut(TIMEOUT_CUT, sent_at_s, now_s)

    def short(self, in_use: int, sent_at_s: float, now_s: float) -> None:
        """Count that this machine could not open another connection while `in_use` rows were in flight."""
        if self._cut(CUT, sent_at_s, now_s):
            self.max_slots = max(1, min(self.max_slots, in_use - 1))
            self.capacity = min(self.capacity, self.max_slots)

    def broke_off(self) -> bool:
        """Count a reply that broke off; return whether rows run one at a time from now on.

        Some servers (llama-cpp-python) drop the reply that they are writing when another request arrives. Then most
        replies break off; on a bad network few do. All break off at once if a server restarts: so after some answers
        two rows are tried, and only if these break off as well do rows run one at a time for good.
        """
        self._broken += 1.0
        if self._broken < BROKEN_AT_ONCE or self.capacity == 1 or self.fixed is not None:
            return False
        self.one_at_a_time = True
        self._suspicions += 1
        self._alone, self._before, self.capacity = 0, self.capacity, 1
        return True

    def was_away(self) -> None:
        """Count that the service is unavailable: earlier replies broke off because it went away."""
        self._broken = 0.0
        if self.one_at_a_time and self._alone == 0:
            self._suspicions -= 1
            self._trust(self._before)

    def _trust(self, slots: int) -> None:
        """Allow several rows at once; a single reply that breaks off before the next answer ends that."""
        self.one_at_a_time, self._broken = False, BROKEN_AT_ONCE - 1.0
        self._phase, self.capacity, self._unsettled = "limited", min(slots, self.max_slots), 0

    # -- the policy ---------------------------------------------------------------------------------------

    def _round_over(self, rate: float, latency_s: float) -> None:
        """Choose the slots of the next round, from the throughput and the mean latency of this one."""
        gain = rate / self._rate if self._rate else math.inf
        added = self.capacity / self._slots - 1.0 if self._slots else 0.0
        match self._phase:
            case "limited":
                self.capacity = min(self.capacity + 1, self.max_slots)  # it refused once: approach its limit slowly
            case "doubling" | "more" if gain >= 1.0 + WORTH_IT * added:
                self._accept(rate, latency_s)  # the throughput rose with the slots: continue
                self._try("doubling", self.capacity * 2)
            case "doubling" if not self._doubtful and self._answers < rate * SHORT_S:
                self._doubtful = True  # a pause of this machine looks the same: measure once more
            case "doubling" | "more":
                slowed = self._phase == "doubling" and gain < AS_GOOD
                self._return()  # the added rows only waited
                if slowed:
                    self._rounds = self._rest  # and slowed the others: the last number may be too large as well
            case "fewer" if gain >= AS_GOOD:
                # The rows that are gone had only waited: continue, but expect the throughput reached with more.
                self._accept(max(rate, self._rate), latency_s)
                self._try("fewer", self.capacity // 2)
            case "fewer":
                self._return()  # they had been worth it; perhaps more are worth it by now
                self._try("more", math.ceil(self.capacity * STEP))
            case "resting":
                slower = latency_s > SLOWER * self._usual_s and rate < self._rate
                self._rate += 0.5 * (rate - self._rate)
                self._usual_s += 0.5 * (latency_s - self._usual_s)
                self._rounds += 1
                if self._rounds >= self._rest or slower:
                    self._try("fewer", int(self.capacity / STEP))  # an unnecessary queue makes every row late

    def _accept(self, rate: float, latency_s: float) -> None:
        self._slots, self._rate, self._usual_s = self.capacity, rate, latency_s
        self._rest, self._doubtful = FIRST_REST, False

    def _return(self) -> None:
        """Return to the accepted number of slots, for longer than the last time."""
        self.capacity, self._phase, self._rounds, self._doubtful = self._slots, "resting", 0, False
        self._rest = min(2 * self._rest, LONGEST_REST)
        self._unsettled = self.capacity

    def _try(self, phase: Phase, slots: int) -> None:
        """Try another number of slots for a round, if it is possible and no row could be late because of it."""
        if slots == 0:
            phase, slots = "more", 2  # fewer than one cannot be tried
        if slots > self.capacity and self._usual_s > PATIENCE_SHARE * self._patience_s:
            slots = self.capacity
        slots = min(slots, self.max_slots)
        self._phase = phase if slots != self.capacity else "resting"
        self.capacity, self._rounds = slots, 0
        # Doubling need not be measured exactly: if it helps, even a throughput that is still rising shows it.
        self._unsettled = 0 if phase == "doubling" else slots

    def _begin_round(self, now_s: float) -> None:
        self._began_s, self._answers, self._saturated = now_s, 0, 0
        self._late, self._latency_s = 0, 0.0

    def _cut(self, share: float, sent_at_s: float, now_s: float) -> bool:
        if sent_at_s < self._cut_at_s:
            return False
        self._cut_at_s = now_s
        if self.fixed is None and not self.one_at_a_time:
            self._phase = "limited"
            self.capacity = max(1, int(self.capacity * share))
            self._begin_round(now_s)
        return True

    def __repr__(self) -> str:
        return f"<SlotPolicy capacity={self.capacity} fixed={self.fixed is not None} phase={self._phase}>"
