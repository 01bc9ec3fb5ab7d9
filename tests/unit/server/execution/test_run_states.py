from __future__ import annotations

from itertools import product
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrun.server.execution.run_states import (
    ACTIVE,
    TERMINAL,
    TRANSITIONS,
    IllegalTransition,
    RunEvent,
    RunStatus,
    advance,
)  # fmt: skip

STATUSES: tuple[RunStatus, ...] = get_args(RunStatus)
EVENTS: tuple[RunEvent, ...] = get_args(RunEvent)


def test_every_status_is_active_or_terminal() -> None:
    """Active and terminal states are disjoint, and together they are the protocol's nine states."""
    assert set(STATUSES) == ACTIVE | TERMINAL
    assert not ACTIVE & TERMINAL
    assert len(STATUSES) == 9


@pytest.mark.parametrize(("status", "event"), list(product(STATUSES, EVENTS)))
def test_only_the_table_changes_a_status(status: RunStatus, event: RunEvent) -> None:
    """Every pair of status and event follows the table or raises an error."""
    if (status, event) in TRANSITIONS:
        assert advance(status, event) == TRANSITIONS[status, event]
    else:
        with pytest.raises(IllegalTransition, match=f"status {status} cannot {event}"):
            advance(status, event)


@settings(deadline=None)
@given(st.lists(st.sampled_from(EVENTS), max_size=40))
def test_terminal_states_are_final(events: list[RunEvent]) -> None:
    """No sequence of events leaves a terminal state."""
    status: RunStatus = "queued"
    for event in events:
        before = status
        try:
            status = advance(status, event)
        except IllegalTransition:
            continue
        assert before in ACTIVE


@pytest.mark.parametrize("status", sorted(ACTIVE))
def test_every_active_state_can_end(status: RunStatus) -> None:
    """Every active state can reach a terminal state without the client."""
    reached, frontier = {status}, [status]
    while frontier:
        current = frontier.pop()
        for (source, event), target in TRANSITIONS.items():
            if source == current and event not in ("submit", "cancel") and target not in reached:
                reached.add(target)
                frontier.append(target)
    assert reached & TERMINAL


def test_cancelling_is_possible_from_every_other_active_state() -> None:
    """Cancel is accepted in queued, in_progress and requires_action only."""
    assert {status for status, event in TRANSITIONS if event == "cancel"} == ACTIVE - {"cancelling"}
