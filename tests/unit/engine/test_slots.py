"""The slot policy: from 20 up by slow start, down once a burst, never out of bounds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from batchrun.engine.slots import SlotPolicy


def grown(policy: SlotPolicy, successes: int) -> SlotPolicy:
    for _ in range(successes):
        policy.succeeded(policy.capacity)
    return policy


def test_starts_at_twenty_and_grows_with_each_success() -> None:
    """Until the first 429 every success adds a slot."""
    assert SlotPolicy().capacity == 20
    assert grown(SlotPolicy(), 30).capacity == 50


def test_stops_at_a_thousand() -> None:
    """No number of successes takes it over 1,000 slots."""
    assert grown(SlotPolicy(), 5_000).capacity == 1_000


def test_never_more_than_are_possible() -> None:
    """A bound of this machine holds for adaptive slots, from the first, and for a number that the user gave."""
    assert SlotPolicy(max_slots=8).capacity == 8
    assert grown(SlotPolicy(max_slots=30), 100).capacity == 30
    assert SlotPolicy(50, max_slots=8).capacity == 8
    assert SlotPolicy(5, max_slots=8).capacity == 5


def test_one_cut_per_burst() -> None:
    """Of 429s to requests that were sent before the first cut, only the first cuts; a later one cuts again."""
    policy = grown(SlotPolicy(), 80)
    assert [policy.rate_limited(sent_at_s=10.0, now_s=11.0 + n / 10) for n in range(9)] == [True] + [False] * 8
    assert policy.capacity == 75
    assert policy.rate_limited(sent_at_s=12.0, now_s=13.0)
    assert policy.capacity == 56


def test_after_a_cut_one_slot_for_25_successes() -> None:
    """The slow start ends with the first 429: then it takes 25 successes a slot, counted from the cut."""
    policy = grown(SlotPolicy(), 80)
    policy.rate_limited(1.0, 2.0)
    grown(policy, 24)
    policy.rate_limited(3.0, 4.0)
    assert policy.capacity == 56
    assert [grown(policy, 1).capacity for _ in range(50)] == [56] * 24 + [57] * 25 + [58]


def test_unused_slots_prove_nothing() -> None:
    """A success while most slots are free does not grow the number."""
    policy = SlotPolicy()
    for _ in range(100):
        policy.succeeded(15)
    assert policy.capacity == 20
    policy.succeeded(16)
    assert policy.capacity == 21


events = st.lists(st.one_of(st.just("ok"), st.floats(0, 5), st.sampled_from(["late"])), max_size=400)


@given(events)
def test_never_out_of_bounds(moves: list[str | float]) -> None:
    """Whatever the order of successes and refusals, there are 1 to 1,000 slots."""
    policy, now_s = SlotPolicy(), 0.0
    for move in moves:
        now_s += 1.0
        if move == "ok":
            policy.succeeded(policy.capacity)
        else:
            policy.rate_limited(now_s - (move if isinstance(move, float) else 0.0), now_s)
        assert 1 <= policy.capacity <= 1_000


@given(st.integers(1, 5_000), events)
def test_a_fixed_number_stays(fixed: int, moves: list[str | float]) -> None:
    """--concurrency is what the user said, whatever the service does; it still tells bursts apart."""
    policy = SlotPolicy(fixed)
    for number, move in enumerate(moves):
        if move == "ok":
            policy.succeeded(fixed)
        else:
            policy.rate_limited(number, number)
    assert policy.capacity == fixed


def test_repeated_cuts_end_at_one() -> None:
    """A service that refuses everything is still asked, one row at a time, and may recover from there."""
    policy = SlotPolicy()
    for second in range(60):
        policy.rate_limited(float(second), second + 0.5)
    assert policy.capacity == 1
    assert grown(policy, 25).capacity == 2
