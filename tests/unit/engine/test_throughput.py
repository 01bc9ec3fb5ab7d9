"""The slots that the policy finds, compared with fixed numbers, against services of known capacity in virtual time."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from uuid import uuid4

import anyio
import pytest

from batchrun.engine import Limits, RowTask
from batchrun.journal import Journal
from batchrun.records import Completed, Outcome
from tests.support.capacity_service import Capacity, CapacityService, straight
from tests.support.engine_bench import engine_for
from tests.support.rows import prompt

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


ONE_SLOT = Capacity(work_s=0.42, spread=0.4, slots=1)
"""llama.cpp with one slot: 2.4 rows a second, one after the other."""
FOUR_SLOTS = Capacity(work_s=0.42, spread=0.4, slots=4)
"""llama.cpp with four slots, on a machine that can work on four at once."""
BATCHING = Capacity(work_s=0.42, spread=0.4, speed=straight((4, 4.0), (8, 5.0)))
"""An engine that batches: its rate grows up to 8 requests at once, then no more."""
FAST = Capacity(work_s=0.05)
"""50 ms, any number at once."""
SLOW_PARALLEL = Capacity(work_s=2.0)
"""A hosted service: 2 s, any number at once."""
THRASHING = Capacity(work_s=0.5, speed=straight((16, 16.0), (48, 8.0), (64, 4.0)))
"""A service that gets slower on the whole with more than 16 requests at once."""
CUTTING = Capacity(work_s=0.42, spread=0.4, slots=1, cuts=True)
"""llama-cpp-python: a request that comes ends the stream that runs."""
TWENTY_A_MINUTE = Capacity(work_s=1.0, per_minute=20)
"""429 without Retry-After beyond 20 requests in a minute."""
AWAY = Capacity(work_s=1.0, away=(5.0, 65.0))
"""Connections are refused for 60 s."""


@dataclass
class Run:
    """A batch that has run.

    Attributes:
        ended_at_s: loop time at which each row ended, in the order of their ends.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    ended_at_s: list[float] = field(default_factory=list)
    requests: int = 0
    most_in_flight: int = 0

    @property
    def completed(self) -> int:
        return sum(isinstance(outcome, Completed) for outcome in self.outcomes)

    @property
    def tries(self) -> int:
        return sum(outcome.attempts for outcome in self.outcomes)

    @property
    def took_s(self) -> float:
        return self.ended_at_s[-1]

    def rate(self, after: int, until: int) -> float:
        """Rows a second between the ends of two rows."""
        return (until - after) / (self.ended_at_s[until - 1] - self.ended_at_s[after - 1])


async def run(
    capacity: Capacity, rows: int, folder: Path, concurrency: int | None = None, row_timeout_s: float = 600.0
) -> Run:
    """Rows through a real engine and a real journal to a service of this capacity."""
    begun_at_s = anyio.current_time()
    found = Run()

    def ended(outcome: Outcome) -> None:
        found.outcomes.append(outcome)
        found.ended_at_s.append(anyio.current_time() - begun_at_s)

    limits = Limits(concurrency=concurrency, row_timeout_s=row_timeout_s)
    service = CapacityService(capacity, limits)
    with Journal(folder / f"{uuid4().hex}.journal") as journal:
        engine = engine_for(service, journal, limits, random_unit=lambda: 0.5, on_outcome=ended)
        await engine.run(RowTask(prompt(row, f"q{row}")) for row in range(rows))
    found.requests, found.most_in_flight = service.requests, service.most_in_flight
    return found


@pytest.mark.parametrize(
    ("capacity", "rows", "compared"),
    [
        pytest.param(ONE_SLOT, 200, (1, 2), id="one slot"),
        pytest.param(FOUR_SLOTS, 200, (4, 8), id="four slots"),
        pytest.param(BATCHING, 200, (8, 16), id="batching"),
        pytest.param(THRASHING, 1_000, (16,), id="thrashing"),  # where its speed is greatest
    ],
)
async def test_a_small_service_is_used_well(
    capacity: Capacity, rows: int, compared: tuple[int, ...], tmp_path: Path
) -> None:
    """Every row is answered at its first attempt, in at most 1.3 times the time of the best fixed number of slots."""
    best_s = min([(await run(capacity, rows, tmp_path, number)).took_s for number in compared])
    found = await run(capacity, rows, tmp_path)
    assert (found.completed, found.tries) == (rows, rows)
    assert found.took_s <= 1.3 * best_s


@pytest.mark.parametrize(
    ("capacity", "most"),
    [
        pytest.param(ONE_SLOT, 40, id="one slot"),
        pytest.param(FOUR_SLOTS, 40, id="four slots"),
        pytest.param(BATCHING, 60, id="batching"),
        pytest.param(THRASHING, 48, id="thrashing"),
    ],
)
async def test_slots_follow_throughput(capacity: Capacity, most: int, tmp_path: Path) -> None:
    """Where more rows at once are not answered faster, the number of slots stays small, and no row queues for long."""
    found = await run(capacity, 1_000, tmp_path)
    assert found.completed == 1_000
    assert found.most_in_flight <= most


@pytest.mark.parametrize("capacity", [pytest.param(ONE_SLOT, id="one slot"), pytest.param(THRASHING, id="thrashing")])
async def test_no_row_fails_for_waiting_its_turn(capacity: Capacity, tmp_path: Path) -> None:
    """With a time limit that each row keeps easily where few are sent at once, none is lost to it."""
    found = await run(capacity, 1_000, tmp_path, row_timeout_s=15.0)
    assert (found.completed, found.tries) == (1_000, 1_000)


@pytest.mark.parametrize("capacity", [pytest.param(FAST, id="fast"), pytest.param(SLOW_PARALLEL, id="slow, parallel")])
async def test_a_large_service_is_used_well(capacity: Capacity, tmp_path: Path) -> None:
    """After 500 rows, at 90 % or more of the throughput of the best fixed number of slots up to 256."""
    rows = 1_200
    best = await run(capacity, rows, tmp_path, 256)  # the service works on any number of requests at once
    found = await run(capacity, rows, tmp_path)
    assert found.completed == rows
    assert found.rate(500, 1_000) >= 0.9 * best.rate(500, 1_000)


async def test_cut_streams_end_in_one_slot(tmp_path: Path) -> None:
    """Where each new request ends the one before, rows go one by one soon: none fails, few are asked again."""
    found = await run(CUTTING, 60, tmp_path)
    assert found.completed == 60
    assert found.requests <= 90


async def test_a_limit_that_nobody_told(tmp_path: Path) -> None:
    """With a limit of 20 requests per minute without Retry-After, all of 100 rows are answered."""
    found = await run(TWENTY_A_MINUTE, 100, tmp_path)
    assert found.completed == 100
    assert found.requests <= 200
    assert found.took_s <= 2 * 240


@pytest.mark.parametrize("concurrency", [40, None])
async def test_an_outage_costs_no_row(tmp_path: Path, concurrency: int | None) -> None:
    """Connections that are refused for 60 s cost no row, few requests, and little more time than they last."""
    rows = 500
    steady = await run(replace(AWAY, away=None), rows, tmp_path, concurrency)
    found = await run(AWAY, rows, tmp_path, concurrency)
    assert found.completed == rows
    assert found.requests <= rows + 2 * found.most_in_flight + 20
    assert found.took_s <= steady.took_s + 60 + 30
