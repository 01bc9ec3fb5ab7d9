"""The retry policy: which faults are tried again, after how long, and who waits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.engine.retry import GiveUp, RetryAfter, RetryPolicy
from batchrun.errors import (
    BatchRefused,
    ConnectionLost,
    PermanentFault,
    RateLimited,
    RunLost,
    ServerFault,
    ServiceFault,
    Silence,
)

TRANSIENT: list[type[ServiceFault]] = [RateLimited, ServerFault, ConnectionLost, Silence, RunLost]
units = st.floats(0, 1, exclude_max=True)


def fault(kind: type[ServiceFault], retry_after_s: float | None = None) -> ServiceFault:
    return kind("x", error_type="x", retry_after_s=retry_after_s)


def wait_of(decision: RetryAfter | GiveUp) -> float:
    assert isinstance(decision, RetryAfter)
    return decision.wait_s


@pytest.mark.parametrize("kind", TRANSIENT)
def test_transient_faults_are_tried_again(kind: type[ServiceFault]) -> None:
    """Every fault that may pass is tried again up to the last attempt but one, and never after the last."""
    policy = RetryPolicy(max_attempts=5)
    assert all(isinstance(policy.decide(fault(kind), attempt, 0.5), RetryAfter) for attempt in (1, 2, 3, 4))
    assert policy.decide(fault(kind), 5, 0.5) == GiveUp()


@pytest.mark.parametrize("kind", [PermanentFault, BatchRefused])
def test_permanent_faults_are_not(kind: type[ServiceFault]) -> None:
    """A fault that will come again is not paid for twice, even where the service names a time to wait."""
    assert RetryPolicy().decide(fault(kind, 1.0), 1, 0.5) == GiveUp()


def test_one_attempt_means_no_retry() -> None:
    """--max-attempts 1 gives up on the first fault."""
    assert RetryPolicy(max_attempts=1).decide(fault(ServerFault), 1, 0.0) == GiveUp()


@pytest.mark.parametrize(
    ("attempt", "least", "most"), [(1, 0.5, 1), (2, 1, 2), (3, 2, 4), (6, 16, 32), (7, 30, 60), (40, 30, 60)]
)
def test_waits_grow_from_one_to_sixty_seconds(attempt: int, least: float, most: float) -> None:
    """The n-th wait is between half of and the whole of min(60, 2ⁿ⁻¹) seconds, and reaches both ends."""
    policy = RetryPolicy(max_attempts=99)
    assert wait_of(policy.decide(fault(ServerFault), attempt, 0.0)) == least
    assert wait_of(policy.decide(fault(ServerFault), attempt, 1 - 1e-12)) == pytest.approx(most)


@given(attempt=st.integers(1, 10_000), unit=units)
def test_waits_are_bounded_for_any_attempt(attempt: int, unit: float) -> None:
    """No number of attempts makes a wait overflow, vanish or exceed the cap."""
    decision = RetryPolicy(max_attempts=100_000).decide(fault(ConnectionLost), attempt, unit)
    assert 0.5 <= wait_of(decision) <= 60.0


@given(asked=st.floats(0, 1e9), unit=units, kind=st.sampled_from([RateLimited, ServerFault]))
def test_retry_after_is_honoured(asked: float, unit: float, kind: type[ServiceFault]) -> None:
    """The wait is never shorter than the service asks, up to ten minutes, and at most a second longer than that."""
    wait_s = wait_of(RetryPolicy().decide(fault(kind, asked), 1, unit))
    honoured_s = min(asked, 600.0)
    assert honoured_s <= wait_s <= max(honoured_s + 1.0, 1.0)


@pytest.mark.parametrize(
    ("kind", "retry_after_s", "shared"),
    [
        (RateLimited, None, True),
        (RateLimited, 3.0, True),
        (ServerFault, 3.0, True),
        (ServerFault, None, False),
        (ConnectionLost, None, False),
        (Silence, None, False),
        (RunLost, None, False),
    ],
)
def test_who_waits(kind: type[ServiceFault], retry_after_s: float | None, shared: bool) -> None:
    """The whole batch waits for a rate limit and where a service names a time; else the row alone."""
    decision = RetryPolicy().decide(fault(kind, retry_after_s), 1, 0.5)
    assert isinstance(decision, RetryAfter)
    assert decision.shared is shared
