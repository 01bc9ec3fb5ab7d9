"""Simulated workers that share a limit: how much of it they use, and that they never use more."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.rate_simulation import Scenario, simulate


@given(
    workers=st.integers(1, 5),
    limit=st.sampled_from([1, 10, 59, 60, 240, 1_001]),
    demand=st.sampled_from(["full", "even", "mixed", "jumps", "idle"]),
    latency_s=st.sampled_from([0.0, 0.01, 0.2, 1.5]),
    killed_per_s=st.sampled_from([0.0, 0.05, 1.0]),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=25, deadline=None)
def test_no_minute_holds_more_than_the_limit(**options: Any) -> None:
    """Whatever the workers want, however long messages take and however many workers are killed."""
    limit = options.pop("limit")
    assert simulate(Scenario(limit_per_minute=limit, lasts_s=90, **options)).worst_minute <= limit


@pytest.mark.parametrize(
    ("demand", "least_use"),
    [("full", 0.98), ("idle", 0.98), ("mixed", 0.95), ("jumps", 0.9)],
)
@pytest.mark.parametrize("latency_s", [0.01, 0.1])
def test_the_limit_is_used(demand: Any, least_use: float, latency_s: float) -> None:
    """With steady demand 98 % of a minute is used, with random demand 95 %, and with demand that jumps from worker
    to worker 90 %. No worker asks more than five times a second."""
    scenario = Scenario(workers=8, limit_per_minute=4_800, demand=demand, latency_s=latency_s)
    result = simulate(scenario)
    assert result.worst_minute <= 4_800
    assert result.use >= least_use
    assert result.asks <= 5 * scenario.lasts_s * scenario.workers


def test_shares_are_equal() -> None:
    """Workers that all want more than there is get the same, and ask little more often than every half second."""
    scenario = Scenario(workers=5, limit_per_minute=3_000)
    result = simulate(scenario)
    sent = [len([at_s for at_s in each if at_s >= 70]) for each in result.sent_at_s]
    assert max(sent) - min(sent) <= 2
    assert result.asks <= 2.2 * scenario.lasts_s * scenario.workers


@pytest.mark.nightly
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("demand", "least_use"), [("full", 0.98), ("jumps", 0.9), ("idle", 0.97), ("mixed", 0.94)])
def test_a_thousand_workers(demand: Any, least_use: float) -> None:
    """A thousand workers keep to the limit, and use it, with messages that take up to a fifth of a second."""
    scenario = Scenario(
        workers=1_000, limit_per_minute=200_000, demand=demand, latency_s=0.2, killed_per_s=1.0, lasts_s=100
    )
    result = simulate(scenario)
    assert result.worst_minute <= scenario.limit_per_minute
    assert result.use >= least_use
