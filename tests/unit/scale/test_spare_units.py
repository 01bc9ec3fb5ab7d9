"""Spare units: never more than may be, for no longer than they may be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.scale.spare_units import EXTRA_S, KEPT_S, SpareUnits

AGE_S = 1.0
MOST = 10.0


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from([0.0, 0.01, 0.2, 0.6, 1.9, 2.1]), st.sampled_from([0.0, 0.1, 4.0, 1e9]), st.booleans()
        ),
        max_size=60,
    )
)
def test_no_more_is_spare_than_may_be(steps: list[tuple[float, float, bool]]) -> None:
    """In no period as long as a unit can be spare is more given away than may be spare at a moment."""
    spare = SpareUnits(AGE_S)
    now_s = 0.0
    given: list[tuple[float, float]] = []
    for passed_s, units, gives in steps:
        now_s += passed_s
        spare.take_in(units, MOST, now_s)
        if gives:
            given.append((now_s, spare.give(now_s)))
        exists_s = AGE_S + EXTRA_S  # besides the time for which they are kept, which is added to their first moment
        assert sum(units for at_s, units in given if at_s > now_s - exists_s) <= MOST + 1e-9


def test_units_are_kept_for_a_moment() -> None:
    """Units that nobody has wanted for half a second are gone, whatever has come in since."""
    spare = SpareUnits(AGE_S)
    spare.take_in(3.0, MOST, 0.0)
    spare.take_in(2.0, MOST, KEPT_S - 0.01)
    assert spare.give(KEPT_S - 0.01) == 5.0
    spare.take_in(3.0, MOST, 1.0)
    spare.take_in(1.0, MOST, 1.0 + KEPT_S - 0.01)
    assert spare.give(1.0 + KEPT_S) == 0.0
    spare.take_in(1.0, MOST, 1.0 + KEPT_S)
    assert spare.give(1.0 + KEPT_S) == pytest.approx(1.0)


def test_what_was_taken_in_counts_until_it_is_gone() -> None:
    """Room for further units is there when the earlier ones cannot be in use any more."""
    spare = SpareUnits(AGE_S)
    spare.take_in(100.0, MOST, 0.0)
    assert spare.give(0.0) == MOST
    spare.take_in(100.0, MOST, AGE_S + KEPT_S + EXTRA_S - 0.01)
    assert spare.give(1.99) == 0.0
    spare.take_in(100.0, MOST, AGE_S + KEPT_S + EXTRA_S)
    assert spare.give(2.0) == MOST
