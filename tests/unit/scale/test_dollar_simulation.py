"""Many workers with one budget, in virtual time: rows of any price, messages that take time, and workers that are killed."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field

import anyio
import anyio.abc
import pytest

from batchrun.clock import loop_time
from batchrun.engine import Budget
from batchrun.scale.dollar_governor import DollarGovernor
from batchrun.scale.leased_purse import LeasedPurse
from batchrun.token_usage import Usage

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]

REPORT_EVERY_S = 0.5
SHARD_ROWS = 20


@dataclass(frozen=True)
class SimulatedRow:
    """A row of a table.

    Attributes:
        chars: decide what is reserved.
        share: of its reservation that it costs.
        lasts_s: from its request to its end.
    """

    chars: int
    share: float
    lasts_s: float


@dataclass
class Simulation:
    """A leader with workers.

    Attributes:
        delay_s: longest time of a message.
        kills: number of workers killed, one after the other.
        unknown_share: of rows whose cost the service does not report.
        announcing_s: longest time of an announcement of what the governor may lend; None for none.
    """

    limit_usd: float
    workers: int
    rows: deque[SimulatedRow]
    seed: int
    slots: int = 4
    delay_s: float = 0.2
    kills: int = 0
    unknown_share: float = 0.0
    announcing_s: float | None = None

    live: dict[str, SimulatedWorker] = field(default_factory=dict)
    spent_usd: float = 0.0
    refused_usd: list[float] = field(default_factory=list)
    ended: int = 0
    waits: list[tuple[float, float]] = field(default_factory=list)
    reports: int = 0

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.governor = DollarGovernor(self.limit_usd, 0.0, announces=self.announcing_s is not None)
        self.announced_usd: list[float] = []

    async def run(self) -> float:
        """Return the seconds until every worker has no row left, or none that can be paid."""
        async with anyio.create_task_group() as everything:
            if self.announcing_s is not None:
                everything.start_soon(self.announce, self.announcing_s)
            async with anyio.create_task_group() as tasks:
                for number in range(self.workers):
                    self.start(f"worker {number}", tasks, everything)
                tasks.start_soon(self.kill, tasks, everything)
            took_s = loop_time()
            await anyio.sleep(REPORT_EVERY_S + 3 * self.delay_s)  # all have reported their last rows
            everything.cancel_scope.cancel()
        return took_s

    def start(self, name: str, tasks: anyio.abc.TaskGroup, everything: anyio.abc.TaskGroup) -> None:
        worker = SimulatedWorker(name, self)
        self.live[name] = worker
        tasks.start_soon(worker.work)
        everything.start_soon(worker.speak)

    async def kill(self, tasks: anyio.abc.TaskGroup, everything: anyio.abc.TaskGroup) -> None:
        """Kill a worker now and then; bury it later, and let another one continue its rows."""
        for number in range(self.kills):
            await anyio.sleep(self.chance.uniform(0.0, 4.0))
            victim = self.live.pop(self.chance.choice(sorted(self.live)))
            victim.scope.cancel()
            await anyio.sleep(self.chance.uniform(0.0, 3.0))
            self.governor.buried(victim.name, victim.journal_usd)
            self.rows.extendleft([*victim.in_flight, *victim.shard])
            self.start(f"replacement {number}", tasks, everything)

    async def announce(self, longest_s: float) -> None:
        """Announce each ceiling that is due; the governor knows it later."""
        while True:
            await anyio.sleep(0.01)
            if (ceiling_usd := self.governor.ceiling_due()) is not None:
                self.announced_usd.append(ceiling_usd)
                await anyio.sleep(self.chance.uniform(0.1, longest_s))
                self.governor.ceiling_usd = ceiling_usd

    def check(self) -> None:
        """What is spent and what rows of live workers reserve is within the budget."""
        reserved_usd = sum(worker.budget.reserved_usd + worker.budget.unknown_usd for worker in self.live.values())
        assert self.spent_usd + reserved_usd <= min(self.limit_usd, self.governor.ceiling_usd) + 1e-9


class SimulatedWorker:
    """A worker with a real budget and a real purse. A row needs a dollar for every 4,000 characters or so."""

    def __init__(self, name: str, simulation: Simulation) -> None:
        self.name = name
        self.simulation = simulation
        self.purse = LeasedPurse(simulation.limit_usd)
        self.budget = Budget(self.purse, 0.0, lambda usage: (usage.prompt_tokens or 0) / 1_600, max_completion_tokens=1)
        self.scope = anyio.CancelScope()
        self.shard: deque[SimulatedRow] = deque()
        self.in_flight: list[SimulatedRow] = []
        self.journal_usd = 0.0

    def is_dead(self) -> bool:
        return self.scope.cancel_called

    async def work(self) -> None:
        """Take shards while there are any; end with the first row that cannot be paid."""
        simulation, slots = self.simulation, anyio.Semaphore(self.simulation.slots)
        with self.scope:
            async with anyio.create_task_group() as tasks:
                while self.shard or simulation.rows:
                    while simulation.rows and len(self.shard) < SHARD_ROWS:
                        self.shard.append(simulation.rows.popleft())
                    await slots.acquire()
                    began_s = loop_time()
                    reserved_usd = await self.budget.reserve(self.shard[0].chars)
                    simulation.waits.append((began_s, loop_time() - began_s))
                    if reserved_usd is None:
                        simulation.refused_usd.append(self.budget.estimate(self.shard[0].chars))
                        return
                    row = self.shard.popleft()
                    self.in_flight.append(row)
                    simulation.check()
                    tasks.start_soon(self.run, row, reserved_usd, slots)

    async def run(self, row: SimulatedRow, reserved_usd: float, slots: anyio.Semaphore) -> None:
        await anyio.sleep(row.lasts_s)
        self.in_flight.remove(row)
        cost_usd = None if self.simulation.chance.random() < self.simulation.unknown_share else reserved_usd * row.share
        self.budget.settle(reserved_usd, row.chars, Usage(), cost_usd)
        self.journal_usd += cost_usd or 0.0
        self.simulation.spent_usd += cost_usd or 0.0
        self.simulation.ended += 1
        slots.release()

    async def speak(self) -> None:
        """Report as a worker does, also when it has no more rows. A message takes a while; the dead send none."""
        chance, delay_s = self.simulation.chance, self.simulation.delay_s
        while True:
            with anyio.move_on_after(REPORT_EVERY_S):
                await self.purse.short()
            if self.is_dead():
                return
            report = self.purse.report(self.budget)
            self.simulation.reports += 1
            await anyio.sleep(chance.uniform(0.0, delay_s))
            if self.is_dead() and chance.random() < 0.5:
                return  # its last report was lost with it
            answer = self.simulation.governor.reported(self.name, report)
            await anyio.sleep(chance.uniform(0.0, delay_s))
            self.purse.answer(answer)


def table(rows: int, seed: int) -> deque[SimulatedRow]:
    """Rows that reserve from a tenth of a cent to a dollar, most of them little."""
    chance = random.Random(seed)
    return deque(
        SimulatedRow(int(4 * 1_000 ** chance.random()), chance.random(), chance.uniform(0.1, 5.0)) for _ in range(rows)
    )


@pytest.mark.parametrize("announcing_s", [None, 2.0])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("workers", [1, 5, 20])
async def test_workers_spend_one_budget_to_its_end(workers: int, seed: int, announcing_s: float | None) -> None:
    """They spend no more than it holds, and than is announced; nobody waits for ever, and the rest suffices for none of
    the rows that wait."""
    simulation = Simulation(
        workers * 2.0, workers, table(workers * 100, seed), seed, kills=workers, announcing_s=announcing_s
    )
    await simulation.run()
    assert simulation.refused_usd
    assert simulation.governor.spent_usd == pytest.approx(simulation.spent_usd)
    assert simulation.limit_usd - simulation.spent_usd < min(simulation.refused_usd) + 1e-9


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(2))
async def test_two_hundred_workers_spend_one_budget_to_its_end(seed: int) -> None:
    """The same with 200 workers, of which 100 are killed."""
    await test_workers_spend_one_budget_to_its_end(200, seed, 2.0)


async def test_rows_of_unknown_cost_count_as_reserved() -> None:
    """If the service reports no cost for some rows, the rest still never passes the budget, and nobody waits."""
    simulation = Simulation(20.0, 10, table(1_000, 1), 1, unknown_share=0.3)
    await simulation.run()
    unknown_usd = sum(worker.budget.unknown_usd for worker in simulation.live.values())
    assert unknown_usd > 1.0
    assert simulation.spent_usd + unknown_usd <= 20.0
    assert 20.0 - simulation.spent_usd - unknown_usd < min(simulation.refused_usd) + 1e-9


async def test_a_dear_row_is_not_overtaken_for_ever() -> None:
    """The money for it is kept back as it comes from all workers, although cheaper rows could be paid with it."""
    rows = table(2_000, 3)
    limit_usd = 40.0
    dear = SimulatedRow(int(0.58 * limit_usd * 4_000), 1.0, 1.0)
    rows.insert(150, dear)
    simulation = Simulation(limit_usd, 20, rows, 3)
    await simulation.run()
    assert not any(dear in worker.shard for worker in simulation.live.values())
    assert dear not in simulation.rows


@pytest.mark.parametrize("announcing_s", [None, 2.0])
async def test_a_large_budget_holds_nobody_up(announcing_s: float | None) -> None:
    """While there is money enough for all, rows hardly wait for it, at messages of 5 ms. If each announcement takes up
    to 2 s, they wait for the first ones only, and there are few."""
    chance = random.Random(1)
    rows = deque(SimulatedRow(400, chance.random(), chance.uniform(0.5, 1.5)) for _ in range(5_000))
    simulation = Simulation(1e4, 5, rows, 1, slots=50, delay_s=0.005, announcing_s=announcing_s)
    began_s = loop_time() + (0.0 if announcing_s is None else 3 * announcing_s)
    took_s = await simulation.run()
    assert simulation.ended == 5_000
    assert sum(lasted_s for since_s, lasted_s in simulation.waits if since_s >= began_s) < 0.02 * 5 * took_s
    assert simulation.reports < 5 * 6 * took_s
    assert len(simulation.announced_usd) < took_s
