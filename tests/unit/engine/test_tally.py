"""The counts of a running batch."""

from __future__ import annotations

from batchrun.engine import LimitsStatistics
from batchrun.engine.tally import Flight, Tally
from batchrun.journal import Carried
from batchrun.token_usage import Usage
from tests.support.rows import completed, failed

LIMITS = LimitsStatistics(
    in_use=0,
    capacity=20,
    waiting_for=None,
    cool_down_s=0.0,
    requests=0,
    max_requests_per_minute=None,
    max_tokens_per_minute=None,
)


def test_a_new_tally_is_empty() -> None:
    """Every count begins at zero, and the cost is unknown."""
    found = Tally().snapshot(LIMITS)
    counts = (
        found.completed,
        found.incomplete,
        found.failed,
        found.finished_before,
        found.asked_alike,
        found.in_flight,
    )
    assert counts == (0, 0, 0, 0, 0, 0)
    assert (found.retrying, found.faults, found.created_again, found.not_deleted) == (0, 0, 0, 0)
    assert (found.prompt_tokens, found.completion_tokens, found.cost_usd) == (0, 0, None)
    assert (found.tool_calls, found.tool_errors, found.stopping, found.oldest) == (0, 0, None, ())


def test_usage_that_an_earlier_run_counted_is_left_out() -> None:
    """Of an outcome that shares runs with an earlier one, only the new tokens and dollars count."""
    tally = Tally()
    outcome = completed(usage=Usage(100, 40, 140), cost_usd=1.5)
    tally.count(outcome, Carried(Usage(60, 25, 85), 0.5))
    assert (tally.prompt_tokens, tally.completion_tokens, tally.cost_usd) == (40, 15, 1.0)
    tally.count(completed(usage=Usage(1, 2, 3), cost_usd=None), Carried(Usage(), None))
    assert (tally.prompt_tokens, tally.completion_tokens, tally.cost_usd) == (41, 17, 1.0)


def test_outcomes_by_their_status() -> None:
    """Completed, incomplete and failed rows are counted apart; a failed row's tokens count too."""
    tally = Tally()
    tally.count(completed())
    tally.count(completed(status="incomplete", reason="max_completion_tokens"))
    tally.count(failed(usage=Usage(7, 3, 10), cost_usd=0.25))
    assert (tally.completed, tally.incomplete, tally.failed) == (1, 1, 1)


def test_notes_on_rows_in_flight() -> None:
    """A snapshot names the three rows longest in flight, and what they wait for; other rows take no note."""
    tally = Tally(in_flight={str(row): Flight(10.0 - row) for row in range(5)})
    tally.note("4", "waits for f to end")
    tally.note("gone", "nothing")
    waits = "waits for the service's first word"
    assert tally.snapshot(LIMITS).oldest == (
        ("4", 6.0, "waits for f to end"),
        ("3", 7.0, waits),
        ("2", 8.0, waits),
    )
