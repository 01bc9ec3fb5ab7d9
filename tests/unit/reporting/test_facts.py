"""Figures of rows: exact on small tables."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.journal.live import CoolDown, RecordedAttempt
from batchrun.reporting.distributions import distribution, nice_step
from batchrun.reporting.facts import RowFigures, error_types
from batchrun.reporting.page_facts import TableFigures
from batchrun.reporting.rows import ReportRow, pending_cells
from batchrun.reporting.sessions import sessions


def row(status: str = "completed", attempts: tuple[RecordedAttempt, ...] = (), **cells: Any) -> ReportRow:
    return ReportRow("0", {}, {**pending_cells(), "status": status, **cells}, attempts=attempts)


def figures(rows: Iterable[ReportRow], cool_downs: Sequence[CoolDown] | None = None) -> TableFigures:
    counted = RowFigures()
    for each in rows:
        counted.add(each)
    return counted.facts(cool_downs)


def attempt(number: int, started_at: str, fault_type: str | None = None, fault: str | None = None) -> RecordedAttempt:
    return RecordedAttempt("0", number, started_at, "fp", None, None, False, fault_type, fault)


def at(seconds: float) -> str:
    return f"2026-11-23T12:{int(seconds // 60):02}:{seconds % 60:06.3f}+00:00"


def test_the_headline_counts_every_row_once() -> None:
    """Statuses, tokens and cost are sums over the rows; unknown values do not count as 0."""
    rows = [
        row(prompt_tokens=3, completion_tokens=4, total_tokens=7, cached_tokens=2, cost_usd=0.5, model="m"),
        row("incomplete", prompt_tokens=1, completion_tokens=9, total_tokens=10, model="m"),
        row("failed", error_type="timeout"),
        row("pending"),
    ]
    found = figures(rows)["headline"]
    assert found == {
        "rows": 4,
        "by_status": {"completed": 1, "incomplete": 1, "failed": 1, "pending": 1},
        "failed": 1,
        "prompt_tokens": 4,
        "completion_tokens": 13,
        "tokens_known": True,
        "cached_tokens": 2,
        "reasoning_tokens": 0,
        "cost_usd": 0.5,
        "unpriced": 1,
        "models": {"m": 2},
        "busy_s": None,
        "started_at": None,
        "ended_at": None,
    }


def test_figures_of_pending_rows() -> None:
    """A table of pending rows has figures too."""
    found = figures([row("pending")])
    assert (found["distributions"], found["sittings"], found["errors"]) == ([], [], [])
    assert found["headline"]["cost_usd"] is None


# -- distributions ------------------------------------------------------------------------------------------


def test_whole_numbers_have_bars_of_whole_numbers() -> None:
    """Small counts get one bar each, including the largest."""
    found = distribution([np.array([3.0, 3.0]), np.array([4.0, 5.0])], whole=True)
    assert found["bars"] == [[3.0, 4.0, 2], [4.0, 5.0, 1], [5.0, 6.0, 1]]
    assert (found["p50"], found["min"], found["max"], found["mean"], found["beyond"]) == (3.5, 3.0, 5.0, 3.75, 0)


def test_quantiles_are_interpolated() -> None:
    """p50, p90 and p99 of 0 to 100 are 50, 90 and 99."""
    found = distribution([np.arange(101.0)])
    assert (found["p50"], found["p90"], found["p99"]) == (50.0, 90.0, 99.0)
    assert sum(count for _, _, count in found["bars"]) == 101
    assert found["bars"][0] == [0.0, 2.5, 3]


def test_one_value_far_out_does_not_hide_the_others() -> None:
    """The bars end slightly above the 99th percentile, and the values beyond are counted."""
    found = distribution([np.array([1.0] * 500 + [2.0] * 499 + [1000.0])])
    assert found["bars"][-1][1] < 4
    assert (found["beyond"], found["max"]) == (1, 1000.0)


@pytest.mark.parametrize("values", [[0.0], [7.5, 7.5], [-2.0], [0.0, 0.0]])
def test_values_that_are_all_the_same_have_a_bar(values: list[float]) -> None:
    """Values without spread are all in one bar."""
    bars = distribution([np.array(values)])["bars"]
    assert sum(count for _, _, count in bars) == len(values)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=60), st.booleans())
def test_every_value_is_in_a_bar_or_beyond(values: list[float], whole: bool) -> None:
    """Each value is counted once, in a bar or beyond the bars, and there are never many bars."""
    given_values = [float(int(each)) for each in values] if whole else values
    found = distribution([np.array(given_values)], whole=whole)
    assert sum(count for _, _, count in found["bars"]) + found["beyond"] == len(values)
    assert len(found["bars"]) <= 43


@pytest.mark.parametrize(("least", "step"), [(1, 1), (1.1, 2), (2.2, 2.5), (3, 5), (6, 10), (0.013, 0.02), (700, 1000)])
def test_steps_are_round(least: float, step: float) -> None:
    """A step is 1, 2, 2.5 or 5 times a power of ten."""
    assert nice_step(least) == pytest.approx(step)


# -- over time ----------------------------------------------------------------------------------------------


def test_rows_tokens_and_attempts_are_counted_in_bins() -> None:
    """Each row is in the bin in which it ended, each attempt in the bin in which it began."""
    rows = [
        row(completed_at=at(0.5), duration_s=0.5, total_tokens=10, attempts=(attempt(1, at(0.1)),)),
        row("failed", completed_at=at(2.5), duration_s=1.0, prompt_tokens=1, completion_tokens=1,
            attempts=(attempt(1, at(1.0), "rate_limit_exceeded"), attempt(2, at(2.0)))),
    ]  # fmt: skip
    (found,) = sessions(rows)
    assert found["bin_s"] == 1
    assert found["ended"] == [1, 0, 1]
    assert found["failed"] == [0, 0, 1]
    assert found["tokens"] == [10, 0, 2]
    assert found["tries"] == [1, 1, 1]
    assert found["refusals"] == [0, 1, 0]
    assert found["ended_s"] - found["started_s"] == pytest.approx(2.5)


def test_a_pause_of_a_quarter_of_an_hour_separates_two_sessions() -> None:
    """The duration of a resumed batch is the sum of its sessions, without the pause between them."""
    rows = [row(completed_at=at(seconds), duration_s=1.0) for seconds in (1, 3, 1800, 1801)]
    found = figures(rows)
    assert [sum(each["ended"]) for each in found["sittings"]] == [2, 2]
    assert found["headline"]["busy_s"] == pytest.approx(3 + 2)
    assert [each["tries"] for each in found["sittings"]] == [None, None]


def test_cool_downs_belong_to_their_session() -> None:
    """Overlapping cool-downs become one, and none extends beyond its session; without a record there are none."""
    rows = [row(completed_at=at(seconds), duration_s=1.0) for seconds in (1, 60, 1800, 1830)]
    cool_downs = [
        CoolDown(at(10), 5.0, "rate_limit_exceeded"),
        CoolDown(at(12), 8.0, "overloaded"),
        CoolDown(at(40), 1.5, "no requests left"),
        CoolDown(at(900), 1.0, "between the sittings"),
        CoolDown(at(1820), 600.0, "rate_limit_exceeded"),
        CoolDown("nonsense", 600.0, "x"),
    ]
    found = [each["cool_downs"] for each in figures(rows, cool_downs)["sittings"]]
    begin_s = sessions(rows)[0]["started_s"]
    assert [[(pytest.approx(one - begin_s), pytest.approx(other - begin_s), why) for one, other, why in each or ()] for each in found] == [
        [(10, 20, "rate_limit_exceeded"), (40, 41.5, "no requests left")],
        [(1820, 1830, "rate_limit_exceeded")],
    ]  # fmt: skip
    assert [each["cool_downs"] for each in sessions(rows)] == [None, None]


def test_a_long_row_is_not_a_pause() -> None:
    """A row of an hour was in flight all the time."""
    rows = [row(completed_at=at(1), duration_s=1.0), row(completed_at=at(3000), duration_s=2999.0)]
    assert len(sessions(rows)) == 1


@pytest.mark.parametrize("moment", ["", "yesterday", "2026-13-45", "<script>"])
def test_a_wrong_date_is_unknown(moment: str) -> None:
    """An edited table with a wrong date has no figures over time, and no error."""
    assert sessions([row(completed_at=moment or None)]) == []


def test_there_are_never_too_many_bins() -> None:
    """A week has bins of hours, not of seconds."""
    rows = [
        row(completed_at=f"2026-11-{day:02}T{hour:02}:00:00Z", duration_s=3600.0)
        for day in range(1, 8)
        for hour in range(24)
    ]
    (found,) = sessions(rows)
    assert len(found["ended"]) <= 121
    assert sum(found["ended"]) == len(rows)


# -- errors -------------------------------------------------------------------------------------------------


def test_errors_count_rows_and_attempts_separately() -> None:
    """A fault that a retry solved is not a failed row, and both are counted."""
    rows = [
        row(attempts=(attempt(1, at(0), "server_error", "502 Bad Gateway"), attempt(2, at(1)))),
        row("failed", error_type="timeout", error="600 s", attempts=(attempt(1, at(0), "timeout", "600 s"),)),
        row("incomplete", error_type="max_completion_tokens"),
        row("expired"),
    ]
    assert error_types(rows) == [
        {"error_type": "timeout", "rows": 1, "cut_short": 0, "tries": 1, "example": "600 s"},
        {"error_type": "expired", "rows": 1, "cut_short": 0, "tries": 0, "example": ""},
        {"error_type": "max_completion_tokens", "rows": 0, "cut_short": 1, "tries": 0, "example": ""},
        {"error_type": "server_error", "rows": 0, "cut_short": 0, "tries": 1, "example": "502 Bad Gateway"},
    ]


def test_without_a_journal_attempts_are_unknown() -> None:
    """An unknown count is None, not 0."""
    assert error_types([row("failed", error_type="timeout", error="x" * 900)]) == [
        {"error_type": "timeout", "rows": 1, "cut_short": 0, "tries": None, "example": "x" * 500}
    ]


def test_answers_from_a_cache_belong_to_no_session() -> None:
    """A row whose answer another batch has got ended in no session; a duplicate ended with the row that was sent."""

    def ended(completed_at: str, status: str = "completed", attempts: int = 0) -> ReportRow:
        found = row(status, completed_at=completed_at, duration_s=0.0)
        return replace(found, cells={**found.cells, "attempts": attempts})

    sent, alike = ended(at(10), attempts=1), ended(at(10))
    cached, unaskable = ended("2026-01-01T00:00:00.000+00:00"), ended(at(12), "failed")
    [session] = sessions([sent, alike, cached, unaskable])
    assert (sum(session["ended"]), sum(session["failed"])) == (3, 1)
    assert sessions([cached]) == []


def test_counted_rows_take_no_memory() -> None:
    """Beyond the first thousands of rows, their numbers are in files; the figures do not need them all at once."""
    tried = attempt(1, at(1))
    one = row(attempts=(tried,), completed_at=at(9), duration_s=3.0, prompt_tokens=5, total_tokens=5, cost_usd=0.1)
    counted = RowFigures()
    for _ in range(20_000):
        counted.add(one)
    tracemalloc.start()
    for _ in range(20_000):
        counted.add(one)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 1_500_000  # the last rows of each file, which are written together
    facts = counted.facts()
    assert (facts["headline"]["rows"], sum(facts["sittings"][0]["ended"])) == (40_000, 40_000)
