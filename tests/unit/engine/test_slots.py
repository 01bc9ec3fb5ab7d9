"""The slot policy: doubling while the throughput rises, trying fewer and more, down once a burst, never out of
bounds."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.engine.slots import ANSWERS_PER_SLOT, CEILING, START, SlotPolicy


class Service:
    """A service whose throughput depends on the number of rows in work, asked round after round.

    Mutable state: `now_s`.
    """

    def __init__(self, throughput: Callable[[int], float]) -> None:
        """
        Args:
            throughput: rows in work → answers a second.
        """
        self._throughput = throughput
        self.now_s = 0.0

    def answer(self, policy: SlotPolicy, answers: int = 1) -> SlotPolicy:
        for _ in range(answers):
            policy.sending(self.now_s)
            rate = self._throughput(policy.capacity)
            self.now_s += 1.0 / rate
            policy.answered(policy.capacity, policy.capacity / rate, self.now_s)
        return policy


def unlimited(rows: int) -> float:
    return rows / 2.0


def one_slot(_: int) -> float:
    return 2.4


def grown(policy: SlotPolicy, answers: int) -> SlotPolicy:
    return Service(unlimited).answer(policy, answers)


def test_doubles_from_round_to_round_while_the_throughput_rises() -> None:
    """A round is as many answers as there are slots; each that was worth it doubles them."""
    policy, seen = SlotPolicy(), []
    service = Service(unlimited)
    for _ in range(20 + 40 + 80):
        seen.append(policy.capacity)
        service.answer(policy)
    assert seen == [20] * 20 + [40] * 40 + [80] * 80
    assert policy.capacity == 160


def test_starts_at_the_given_number_and_stops_at_a_thousand() -> None:
    """The first round's number is a parameter; no number of answers takes it over 1,000."""
    assert SlotPolicy().capacity == START == 20
    assert SlotPolicy(start=4).capacity == 4
    assert max(grown(policy := SlotPolicy(start=4), 1).capacity for _ in range(9_000)) <= CEILING
    assert grown(policy, 20_000).capacity > CEILING / 2


@pytest.mark.parametrize("start", [4, 20])
def test_a_server_with_one_slot_is_not_given_a_queue(start: int) -> None:
    """Where more rows only wait, the number goes back at once, and then down, since fewer do as well."""
    policy, service = SlotPolicy(start=start), Service(one_slot)
    service.answer(policy, 24 + 3 * start)
    assert policy.capacity <= start
    for _ in range(400):
        service.answer(policy)
        assert policy.capacity <= start
    assert policy.capacity <= 2


def test_the_number_that_serves_best_is_found_and_kept() -> None:
    """Of a server that works on eight at a time, most rounds use eight to twelve slots, from below and from above."""
    for start in (4, 20):
        policy, service = SlotPolicy(start=start), Service(lambda rows: float(min(rows, 8)))
        service.answer(policy, 300)
        seen = [service.answer(policy).capacity for _ in range(1_000)]
        assert sum(7 <= each <= 12 for each in seen) > 700


def test_other_numbers_are_tried_from_time_to_time() -> None:
    """After some rounds with the best number, a smaller and a larger one are measured for a round each."""
    policy, service = SlotPolicy(start=8), Service(lambda rows: float(min(rows, 8)))
    service.answer(policy, 100)
    seen = [service.answer(policy).capacity for _ in range(600)]
    assert {5, 8, 12} <= set(seen)


def test_a_server_that_slows_down_under_load_is_relieved() -> None:
    """Where more rows make all of them slower, the number goes to where the throughput is best."""
    policy = SlotPolicy(start=20)
    service = Service(lambda rows: rows if rows <= 8 else 8 * (8 / rows))
    service.answer(policy, 600)
    seen = [service.answer(policy).capacity for _ in range(600)]
    assert sum(each <= 12 for each in seen) > 400


def test_a_server_that_grows_is_found_out() -> None:
    """A server that had one slot and is given more takes more rows before long."""
    policy = Service(one_slot).answer(SlotPolicy(start=4), 300)
    service = Service(unlimited)
    service.answer(policy, 600)
    assert policy.capacity >= 20


def test_no_growth_that_could_cost_a_row_its_time() -> None:
    """Where an answer takes almost half of the row's time, twice the rows could take all of it."""
    assert grown(SlotPolicy(start=4, patience_s=4.0), 500).capacity <= 4  # an answer takes 2 s of 4
    assert grown(SlotPolicy(start=4, patience_s=8.0), 500).capacity > 100


def test_never_more_than_are_possible() -> None:
    """A bound of this machine holds for adaptive slots, from the first, and for a number that the user gave."""
    assert SlotPolicy(max_slots=8).capacity == 8
    policy = SlotPolicy(max_slots=30)
    assert max(grown(policy, 1).capacity for _ in range(500)) == 30
    assert SlotPolicy(50, max_slots=8).capacity == 8
    assert SlotPolicy(5, max_slots=8).capacity == 5


def test_a_shortage_bounds_the_slots() -> None:
    """Where this machine could not open another connection, there will never be as many rows again."""
    policy = grown(SlotPolicy(), 60)
    policy.short(in_use=50, sent_at_s=100.0, now_s=101.0)
    assert policy.capacity <= 49
    assert max(grown(policy, 1).capacity for _ in range(5_000)) <= 49


def test_one_cut_per_burst() -> None:
    """Of 429s to requests that were sent before the first cut, only the first cuts; a later one cuts again."""
    policy = grown(SlotPolicy(), 60)
    assert policy.capacity == 80
    assert [policy.rate_limited(sent_at_s=10.0, now_s=11.0 + n / 10) for n in range(9)] == [True] + [False] * 8
    assert policy.capacity == 60
    assert policy.rate_limited(sent_at_s=12.0, now_s=13.0)
    assert policy.capacity == 45


def test_a_timeout_halves_the_slots() -> None:
    """A row that got no answer in its time says that too many are waiting; once for each burst."""
    policy = grown(SlotPolicy(), 60)
    for _ in range(5):
        policy.timed_out(sent_at_s=10.0, now_s=130.0)
    assert policy.capacity == 40


def test_after_a_cut_one_slot_for_25_answers() -> None:
    """The doubling ends with the first cut: then it takes 25 answers a slot, counted from the cut."""
    policy, service = SlotPolicy(), Service(unlimited)
    service.answer(policy, 10)
    policy.rate_limited(service.now_s, service.now_s)
    assert policy.capacity == 15
    seen = [service.answer(policy).capacity for _ in range(2 * ANSWERS_PER_SLOT)]
    assert seen == [15] * 24 + [16] * 25 + [17]


def test_unused_slots_prove_nothing() -> None:
    """Answers while most slots are free do not change the number."""
    policy = SlotPolicy()
    for second in range(200):
        policy.sending(second)
        policy.answered(15, 1.0, second + 1.0)
    assert policy.capacity == 20


def test_replies_that_break_off_together_make_it_one_row_at_a_time() -> None:
    """A server that drops a reply when another request arrives is asked for one row at a time. After 25 answers two are
    tried; where a reply breaks off then too, it is one at a time for good."""
    policy = SlotPolicy(start=4)
    assert [policy.broke_off() for _ in range(3)] == [False, False, True]
    assert (policy.capacity, policy.one_at_a_time) == (1, True)
    assert grown(policy, ANSWERS_PER_SLOT - 1).capacity == 1
    assert (grown(policy, 1).capacity, policy.one_at_a_time) == (2, False)
    assert policy.broke_off()
    assert (grown(policy, 500).capacity, policy.one_at_a_time) == (1, True)


def test_a_server_that_was_started_again_is_used_as_before() -> None:
    """All its replies broke off at once: where it was seen to be away the slots are as before, else they grow again."""
    policy = grown(SlotPolicy(), 60)
    assert [policy.broke_off() for _ in range(5)] == [False, False, True, False, False]
    policy.was_away()
    assert (policy.capacity, policy.one_at_a_time) == (80, False)
    unseen = grown(SlotPolicy(), 60)
    for _ in range(5):
        unseen.broke_off()
    assert grown(unseen, 2_000).capacity > 50
    assert not unseen.one_at_a_time


def test_a_bad_network_does_not() -> None:
    """One reply in ten that breaks off is the network's fault, and changes nothing."""
    policy, service = SlotPolicy(), Service(unlimited)
    for _ in range(100):
        policy.broke_off()
        service.answer(policy, 9)
    assert not policy.one_at_a_time
    assert policy.capacity > 100


events = st.lists(
    st.sampled_from(["answered", "late answer", "429", "late 429", "timeout", "broken", "short"]), max_size=400
)


def play(policy: SlotPolicy, moves: list[str]) -> None:
    now_s = 0.0
    for move in moves:
        now_s += 1.0
        policy.sending(now_s)
        match move:
            case "answered" | "late answer":
                policy.answered(policy.capacity, 1.0 if move == "answered" else 50.0, now_s)
            case "429" | "late 429":
                policy.rate_limited(now_s - (0.0 if move == "429" else 5.0), now_s)
            case "timeout":
                policy.timed_out(now_s, now_s)
            case "broken":
                policy.broke_off()
            case _:
                policy.short(policy.capacity, now_s, now_s)
        assert 1 <= policy.capacity <= 1_000


@given(events)
def test_never_out_of_bounds(moves: list[str]) -> None:
    """Whatever the order of answers and faults, there are 1 to 1,000 slots."""
    play(SlotPolicy(), moves)


@given(st.integers(2, 1_000), events)
def test_a_fixed_number_stays(fixed: int, moves: list[str]) -> None:
    """--concurrency is what the user said, whatever the service does; only this machine can bound it."""
    policy = SlotPolicy(fixed)
    play(policy, [move for move in moves if move != "short"])
    assert policy.capacity == fixed


def test_repeated_cuts_end_at_one() -> None:
    """A service that refuses everything is still asked, one row at a time, and may recover from there."""
    policy = SlotPolicy()
    for second in range(60):
        policy.rate_limited(float(second), second + 0.5)
    assert policy.capacity == 1
    service = Service(unlimited)
    service.now_s = 60.0
    assert service.answer(policy, ANSWERS_PER_SLOT).capacity == 2


def test_a_server_that_becomes_slow_gets_fewer_rows_at_once() -> None:
    """A latency well above the usual one is followed by a trial of fewer slots, long before the next trial is due."""
    speed = [1.0]
    policy, service = SlotPolicy(start=8), Service(lambda rows: speed[0] * min(rows, 8))
    service.answer(policy, 1_500)  # by now the rests between two trials are long
    while policy.capacity == 8:
        service.answer(policy)
    while policy.capacity != 8:
        service.answer(policy)
    service.answer(policy, 4 * 12)
    assert policy.capacity == 8, "the rest lasts for more than four rounds of twelve answers"
    speed[0] = 0.5
    service.answer(policy, 2 * 12)
    assert policy.capacity == 5
