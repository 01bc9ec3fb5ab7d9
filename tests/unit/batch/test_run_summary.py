"""What the summary of a run says of earlier runs."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from batchrun.batch.run_summary import Summary, summary_lines
from batchrun.batch.totals import Totals
from batchrun.engine import LimitsStatistics, Stop
from batchrun.engine.tally import Tally

STATISTICS = Tally().snapshot(LimitsStatistics(0, 0, None, 0.0, 0, None, None))


@pytest.mark.parametrize(
    ("stop", "met", "finished_before"),
    [(None, 7, 7), (Stop("the budget is reached", 4), 3, 7), (Stop("--timeout", 5), 0, 7)],
    ids=["to its end", "stopped in the middle", "stopped at once"],
)
def test_a_run_that_stops_counts_all_rows_of_earlier_runs(stop: Stop | None, met: int, finished_before: int) -> None:
    """It has not come to all of them, but the table has their answers."""
    totals = Totals(by_status=Counter(completed=8, failed=1, pending=4), failures=Counter(server_error=1))
    statistics = replace(STATISTICS, completed=2, finished_before=met)
    summary = Summary(None, 13, totals, statistics, 1.0, stop, embedded=False)
    assert summary.finished_before == finished_before


@pytest.mark.parametrize(
    ("stop", "shown"),
    [
        (Stop("interrupted by SIGINT", 130), "run the same command again to finish the rest"),
        (Stop("the budget is reached; rerun with a larger --budget to continue", 4), None),
        (Stop("no such endpoint", 5), "solve this, and run the command again to finish the rest"),
    ],
    ids=["interrupted", "budget", "refused"],
)
def test_the_summary_says_how_to_finish_the_rest(stop: Stop, shown: str | None) -> None:
    """The same command is named only if it does: not after a budget was reached or a service refused the batch."""
    summary = Summary(None, 2, Totals(by_status=Counter(pending=2)), STATISTICS, 1.0, stop, embedded=False)
    assert [line for line in summary_lines(summary) if "finish the rest" in line] == ([shown] if shown else [])
