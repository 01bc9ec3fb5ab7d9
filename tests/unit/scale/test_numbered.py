"""Messages between a leader and a worker, whose calls may be cancelled, lost, repeated or overtaken."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from batchrun.scale.numbered import Arrivals, Numbered, Unconfirmed

CALLS = st.lists(
    st.tuples(
        st.integers(0, 3),  # messages that are added before the call
        st.booleans(),  # the call arrives
        st.booleans(),  # its answer arrives
        st.integers(0, 2),  # earlier calls that arrive once more, and late
    ),
    max_size=30,
)


@given(CALLS)
def test_each_message_arrives_once_and_in_order(calls: list[tuple[int, bool, bool, int]]) -> None:
    """Whatever happens to the calls: after one that succeeds, all messages so far have arrived, each once."""
    unconfirmed, arrivals = Unconfirmed(), Arrivals()
    added, arrived = 0, []
    earlier: list[tuple[Numbered, ...]] = []
    for new, comes, is_answered, repeated in [*calls, (0, True, True, 0)]:
        for _ in range(new):
            added += 1
            unconfirmed.add(f"message {added}")
        earlier.append(unconfirmed.all())
        if comes:
            arrived += arrivals.new(earlier[-1])
            assert len(arrived) == added
            if is_answered:
                unconfirmed.confirm(arrivals.last)
                assert unconfirmed.all() == ()
        for messages in earlier[-repeated - 1 : -1]:
            arrived += arrivals.new(messages)
    assert arrived == [f"message {number}" for number in range(1, added + 1)]


def test_an_old_confirmation_forgets_nothing_more() -> None:
    """Confirmations may come late: those of earlier messages keep the later ones."""
    unconfirmed = Unconfirmed()
    for message in ("a", "b", "c"):
        unconfirmed.add(message)
    unconfirmed.confirm(2)
    unconfirmed.confirm(1)
    assert unconfirmed.all() == ((3, "c"),)
