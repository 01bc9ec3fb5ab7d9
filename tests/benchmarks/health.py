"""How well the adaptive concurrency fits a service, and what faults of the service cost the rows.

    python tests/benchmarks/health.py [SCENARIO ...] [--default-only] [--plot docs/pictures/slots.svg]

Each scenario has a stand-in for a service of a certain capacity (`capacity.js`), a number of rows, and several ways to
run them: the adaptive concurrency (`default`) and fixed values (`--concurrency`) for comparison. For each way the table
gives how the rows ended, their attempts beyond the first, and the time from the first request to the last answer. `of
best` is the rate divided by that of the best fixed value. In scenarios with more than 500 rows, `after 500` is the same
ratio for the rows that ended later, without the last tenth.

The services are faster than real ones, so that all scenarios together take a few minutes. The timeouts of rows are
shortened accordingly; batchrun's waits between attempts and in cool-downs are not.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
from chart import Panel, chart
from measuring import Standin, running, table, write_questions

from batchrun.batch.plan import make_plan
from batchrun.batch.progress import BatchView
from batchrun.batch.run import run_batch
from batchrun.job.environment import Environment
from batchrun.job.validation import make_job
from batchrun.records import Outcome

SAMPLE_EVERY_S = 0.05
FIRST_ROWS = 500
DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Way:
    """One way to run the rows of a scenario.

    Attributes:
        options: of the job, in addition to those of the scenario.
        service: options of the stand-in; they replace those of the scenario.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    service: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A service of a certain capacity, and rows for it.

    Attributes:
        about: one line above the table.
        service: options of `capacity.js`.
        ways: in addition to the default, which comes first.
    """

    about: str
    rows: int
    service: Mapping[str, Any]
    ways: Sequence[Way]
    options: Mapping[str, Any] = field(default_factory=dict)


def fixed(*numbers: int) -> list[Way]:
    """Return one way for each fixed concurrency."""
    return [Way(str(number), {"concurrency": number}) for number in numbers]


FAST = {"work-ms": 50}
HOSTED = {"work-ms": 1_000}
SCENARIOS = {
    "one-slot": Scenario(
        "like llama.cpp with one slot, but 10 rows/s instead of 2.4; row timeout 150 s",
        200,
        {"work-ms": 104, "slots": 1, "spread": 0.4},
        fixed(1, 2, 4, 8),
        {"row_timeout": 150.0},
    ),
    "four-slots": Scenario(
        "an engine that batches: the rate grows up to 4 requests at once, less up to 8, then no more; 38 to 48 rows/s",
        400,
        {"work-ms": 104, "speed": "4:4,8:5", "spread": 0.4},
        fixed(2, 4, 8, 16),
    ),
    "fast-500": Scenario("50 ms, any number at once", 500, FAST, fixed(4, 8, 16, 32, 64, 128, 256)),
    "fast-2000": Scenario("50 ms, any number at once", 2_000, FAST, fixed(16, 32, 64, 128, 256)),
    "slow-parallel-500": Scenario("a hosted service: 1 s, any number at once", 500, HOSTED, fixed(32, 64, 128, 256)),
    "slow-parallel-2000": Scenario("a hosted service: 1 s, any number at once", 2_000, HOSTED, fixed(64, 128, 256)),
    "cuts-streams": Scenario(
        "llama-cpp-python: one stream at a time, cut by the request that comes next",
        60,
        {"work-ms": 104, "cuts": 1, "spread": 0.4},
        fixed(1, 2, 4),
        {"stream": True},
    ),
    "twenty-a-minute": Scenario(
        "429 without Retry-After beyond 20 requests in 6 s (a tenth of a minute); rpm: batchrun is told the limit",
        100,
        {"work-ms": 100, "allowed": 20, "window-ms": 6_000},
        [Way("rpm", {"rpm": 200.0})],
    ),
    "outage": Scenario(
        "connections are refused for 15 s after the 250th answer; steady: the same without the outage",
        500,
        {"work-ms": 200, "speed": "32:32,64:32", "outage-after": 250, "outage-ms": 15_000},
        [Way("steady", service={"outage-after": 0})],
    ),
    "overload": Scenario(
        "slower on the whole with more than 16 requests at once: 64 rows/s at 16, 32 at 48, 16 from 64 on",
        1_000,
        {"work-ms": 250, "speed": "16:16,48:8,64:4"},
        fixed(8, 12, 16, 24),
    ),
}
PLOTTED = ("one-slot", "four-slots", "fast-2000", "overload")


@dataclass(frozen=True, slots=True)
class Sample:
    """The slots at one moment, `at_s` seconds after the start."""

    at_s: float
    capacity: int
    in_use: int


@dataclass(slots=True)
class Record:
    """Measurements during a batch.

    Attributes:
        outcomes: (seconds after the start, how the row ended).
    """

    started_s: float = field(default_factory=time.perf_counter)
    samples: list[Sample] = field(default_factory=list)
    outcomes: list[tuple[float, Outcome]] = field(default_factory=list)

    async def watch(self, view: BatchView) -> None:
        """Record the slots repeatedly."""
        while True:
            limits = view.statistics().limits
            self.samples.append(Sample(self._now_s(), limits.capacity, limits.in_use))
            await anyio.sleep(SAMPLE_EVERY_S)

    def ended(self, outcome: Outcome) -> None:
        """Record how a row ended."""
        self.outcomes.append((self._now_s(), outcome))

    def rate(self, first: int, last: int) -> float:
        """Return rows per second between the ends of two rows, given by their place in the order of ends."""
        return (last - first) / max(1e-9, self.outcomes[last - 1][0] - self.outcomes[first - 1][0])

    def _now_s(self) -> float:
        return time.perf_counter() - self.started_s


@dataclass(frozen=True, slots=True)
class Measured:
    """The result of one way.

    Attributes:
        stats: the counts of the stand-in.
        stop: why the batch ended before its last row.
    """

    way: str
    rows: int
    record: Record
    stats: Mapping[str, Any]
    stop: str

    def ended(self, status: str) -> int:
        """Return the number of rows with this status."""
        return sum(outcome.status == status for _, outcome in self.record.outcomes)

    @property
    def tries(self) -> int:
        """Attempts beyond the first of each ended row."""
        return sum(outcome.attempts - 1 for _, outcome in self.record.outcomes)

    @property
    def span_s(self) -> float:
        """Seconds from the first request to the last answer, measured by the service."""
        first, last = self.stats["first_at_ms"], self.stats["last_at_ms"]
        return (last - first) / 1_000 if last is not None else float("nan")

    @property
    def rate(self) -> float:
        """Answers per second."""
        return self.ended("completed") / self.span_s if self.span_s else 0.0

    @property
    def later_rate(self) -> float | None:
        """Answers per second after the first 500 rows; None for fewer than 750 rows."""
        ended = len(self.record.outcomes)
        return self.record.rate(FIRST_ROWS, round(ended * 0.9)) if ended >= FIRST_ROWS * 1.5 else None


async def run_rows(
    scenario: Scenario, way: Way, service: Standin, folder: Path, rows: int
) -> tuple[Record, dict[str, Any], str]:
    """Run the rows once."""
    write_questions(folder / "in.csv", rows)
    options = {"base_url": service.url, "model": "capacity", "api": "chat", "fresh": True}
    environment = Environment(api_key="none")
    job = make_job({**options, **scenario.options, **way.options})
    plan = make_plan(job, str(folder / "in.csv"), environment, folder / "out.csv")
    service.stats(reset=True)
    record = Record()
    summary = await run_batch(plan, environment, watch=record.watch, on_outcome=record.ended)
    return record, service.stats(), summary.stop.reason if summary.stop is not None else ""


def measure(scenario: Scenario, way: Way) -> Measured:
    """Run a scenario in one way, after a few rows that trigger late imports."""
    with (
        running("capacity.js", {**scenario.service, **way.service}) as service,
        tempfile.TemporaryDirectory() as folder,
    ):

        def run(way: Way, service: Standin, rows: int) -> tuple[Record, dict[str, Any], str]:
            call = partial(run_rows, scenario, way, service, Path(folder), rows)
            return anyio.run(call, backend_options={"use_uvloop": True})

        with running("capacity.js", {"work-ms": 1}) as warm:
            run(Way("warm-up"), warm, 3)
        record, stats, stop = run(way, service, scenario.rows)
    return Measured(way.name, scenario.rows, record, stats, stop)


def report(found: Sequence[Measured]) -> str:
    """Return the table of a scenario."""
    compared = [measured for measured in found if measured.way != DEFAULT]
    best = max((measured.rate for measured in compared), default=0.0)
    later_best = max((measured.later_rate or 0.0 for measured in compared), default=0.0)
    lines = []
    for measured in found:
        completed, failed = measured.ended("completed"), measured.ended("failed")
        later = measured.later_rate
        lines.append(
            (
                measured.way,
                str(completed),
                str(failed),
                str(measured.rows - len(measured.record.outcomes)),
                str(measured.tries),
                f"{measured.span_s:.1f}",
                f"{measured.rate:.1f}",
                f"{measured.rate / best:.2f}" if best else "",
                f"{later:.1f}" if later else "",
                f"{later / later_best:.2f}" if later and later_best else "",
                str(measured.stats["requests"]),
                str(measured.stats["most_in_flight"]),
                "→".join(str(slots) for slots in milestones(measured.record.samples)),
            )
        )
    heading = ("", "completed", "failed", "pending", "tries", "seconds", "rows/s", "of best", "after 500", "of best")
    stops = [f"{measured.way} stopped: {measured.stop}" for measured in found if measured.stop]
    return "\n".join([table((*heading, "requests", "at once", "slots"), lines), *stops])


def milestones(samples: Sequence[Sample]) -> list[int]:
    """Return the slots at the start, at a quarter, at a half, at three quarters and at the end."""
    return [samples[round(part * (len(samples) - 1) / 4)].capacity for part in range(5)] if samples else []


def panel(name: str, measured: Measured) -> Panel:
    """Return the chart of one way."""
    samples = measured.record.samples
    moments = [moment_s for moment_s, _ in measured.record.outcomes]
    until_s = max(moments)
    width_s = until_s / 40
    edges = [width_s * number for number in range(41)]
    rates = [sum(low <= moment < high for moment in moments) / width_s for low, high in pairwise(edges)]
    return Panel(
        title=f"{name}: {re.split('[:;]', SCENARIOS[name].about)[0]}",
        slots=[(sample.at_s, sample.capacity) for sample in samples if sample.at_s <= until_s],
        in_use=[(sample.at_s, sample.in_use) for sample in samples if sample.at_s <= until_s],
        rates=[((low + high) / 2, rate) for (low, high), rate in zip(pairwise(edges), rates, strict=True)],
    )


def main() -> None:
    """Run the scenarios, print their tables and draw the chart."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"default: all ({', '.join(SCENARIOS)})")
    parser.add_argument("--default-only", action="store_true", help="do not run what the default is compared with")
    parser.add_argument("--plot", type=Path, metavar="SVG", help=f"draw {', '.join(PLOTTED)} (those that were run)")
    options = parser.parse_args()
    panels = []
    for name in options.scenarios or SCENARIOS:
        if name not in SCENARIOS:
            parser.error(f"{name} is not a scenario: {', '.join(SCENARIOS)}")
        scenario = SCENARIOS[name]
        ways = [Way(DEFAULT), *([] if options.default_only else scenario.ways)]
        print(f"{name}: {scenario.about}; {scenario.rows:,} rows\n", flush=True)
        found = [measure(scenario, way) for way in ways]
        print(report(found), end="\n\n", flush=True)
        if name in PLOTTED:
            panels.append(panel(name, found[0]))
    if options.plot is not None:
        options.plot.parent.mkdir(parents=True, exist_ok=True)
        options.plot.write_text(chart(panels), encoding="utf-8")


if __name__ == "__main__":
    main()
