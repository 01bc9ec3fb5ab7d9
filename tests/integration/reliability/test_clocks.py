"""A wall clock that is set forward or back, by hours or years, during a run or between two runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest

from batchrun.batch.plan import make_plan
from batchrun.batch.run import run_batch
from batchrun.batch.run_summary import Summary
from batchrun.batch.show import row_facts
from batchrun.batch.status import batch_status, status_lines
from batchrun.job.environment import Environment
from batchrun.job.validation import make_job
from tests.support.command import batchrun

pytestmark = pytest.mark.anyio

ROWS = 6
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
YEARS = timedelta(days=3_650)


def jumping(step: timedelta) -> Callable[[], datetime]:
    """Return a clock that is set by `step`, there and back, each time it is read."""
    looks: Iterator[int] = count()
    return lambda: NOON + step * (next(looks) % 2)


def standing(moment: datetime) -> Callable[[], datetime]:
    return lambda: moment


async def run(folder: Path, clock: Callable[[], datetime], **options: object) -> Summary:
    (folder / "q.csv").write_text("question\n" + "".join(f"{row} + 1\n" for row in range(ROWS)))
    (folder / "s.toml").write_text('[default]\nreply = "answer"\n')
    job = make_job({"script": str(folder / "s.toml"), **options})
    plan = make_plan(job, folder / "q.csv", Environment(), folder / "a.csv")
    return await run_batch(plan, Environment(), clock=clock)


@pytest.mark.parametrize("step", [timedelta(hours=3), -timedelta(hours=3), YEARS, -YEARS], ids=str)
async def test_a_clock_that_jumps_while_a_batch_runs(tmp_path: Path, step: timedelta) -> None:
    """Rows, durations and the next run are unaffected, and `status`, the report and the costs can show them."""
    summary = await run(tmp_path, jumping(step))
    assert (summary.exit_code, 0 <= summary.elapsed_s < 60) == (0, True)
    assert (await run(tmp_path, jumping(-step))).statistics.finished_before == ROWS
    assert status_lines(batch_status(tmp_path / "a.csv"))
    assert (await row_facts(tmp_path / "a.csv", "0", Environment()))["outcome"]["status"] == "completed"
    for command in (["report", "a.csv", "-o", "a.html"], ["costs", "a.csv"]):
        result = batchrun(tmp_path, *command)
        assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("later", "asked"),
    [(timedelta(hours=1), 0), (timedelta(hours=25), ROWS), (-timedelta(hours=1), 0), (-YEARS, 0)],
    ids=["an hour on", "a day on", "set back", "set back by years"],
)
async def test_ages_where_the_clock_was_set(tmp_path: Path, later: timedelta, asked: int) -> None:
    """An answer with a date in the future is not too old: a clock that was set back makes nothing to be paid for twice."""
    await run(tmp_path, standing(NOON), max_age="24h")
    summary = await run(tmp_path, standing(NOON + later), max_age="24h")
    assert summary.exit_code == 0
    assert summary.statistics.finished_before == ROWS - asked


async def test_ages_are_those_at_the_start(tmp_path: Path) -> None:
    """A clock that jumps forward while the batch runs makes no further answer too old."""
    await run(tmp_path, standing(NOON))
    looks = count()
    summary = await run(tmp_path, lambda: NOON + (YEARS if next(looks) > 1 else timedelta(0)), max_age="24h")
    assert summary.statistics.finished_before == ROWS
