"""Use of a rate limit that workers share, in a simulation with the real governor and the real leases.

    python tests/benchmarks/shared_rate.py [--workers 2 10 100 1000] [--plot docs/pictures/shared_rate.svg]

The workers' clocks differ, messages take up to 10 ms and up to 200 ms each way, and requests up to 100 ms to the service.
For each number of workers and each kind of demand, it prints the share of the limit that was used in the last minute, and
the most that the service got in any minute.

- full: every worker wants more than there is.
- idle: one worker in ten wants more than there is, the others send once in twenty seconds.
- mixed: half of the workers want half of an equal part, at random moments; the others want more than there is.
- jumps: a quarter of the workers wants all, every ten seconds another quarter, and the others want nothing.
- killed: as full, and every five seconds a worker is killed and replaced by another.

A thousand workers take some minutes.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Literal

from chart import lines
from measuring import markdown

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.support.rate_simulation import Demand, Result, Scenario, simulate

DEMANDS: tuple[Demand | Literal["killed"], ...] = ("full", "idle", "mixed", "jumps", "killed")
LATENCIES_S = (0.01, 0.2)
EACH_PER_MINUTE = 600
"""Requests per minute for each worker, if the parts are equal."""


def run(workers: int, demand: Demand | Literal["killed"], latency_s: float) -> tuple[float, float, float]:
    """Return the use in the last minute, the worst minute as a share of the limit, and the asks of a worker in a second."""
    scenario = Scenario(
        workers=workers,
        limit_per_minute=workers * EACH_PER_MINUTE,
        demand="full" if demand == "killed" else demand,
        killed_per_s=0.2 if demand == "killed" else 0.0,
        latency_s=latency_s,
    )
    result = simulate(scenario)
    asks = result.asks / scenario.workers / scenario.lasts_s
    return result.use, result.worst_minute / scenario.limit_per_minute, asks


def per_second(result: Result, workers: list[int]) -> list[tuple[float, float]]:
    """Return the requests of some workers together in each half second, as requests a second."""
    counts = Counter(int(2 * at_s) for number in workers for at_s in result.sent_at_s[number])
    return [(half / 2, 2 * counts[half]) for half in range(2 * 20, 2 * 70)]


def plot() -> str:
    """Return the picture of a limit whose users change every ten seconds."""
    result = simulate(Scenario(workers=8, limit_per_minute=6_000, demand="jumps", latency_s=0.1))
    drawn = {f"workers {first + 1} and {first + 5}": per_second(result, [first, first + 4]) for first in range(4)}
    drawn = {name: [(at_s - 20, value) for at_s, value in line] for name, line in drawn.items()}
    drawing: str = lines(
        "Requests a second of 8 workers with a limit of 6,000 a minute; others want it every 10 s", drawn
    )
    return drawing


def main() -> None:
    """Run all simulations and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 10, 100, 1_000])
    parser.add_argument("--plot", type=Path, help="write the picture of a limit whose users change")
    options = parser.parse_args()
    if options.plot:
        options.plot.write_text(plot(), encoding="utf-8")
    cases = [(workers, latency_s) for workers in options.workers for latency_s in LATENCIES_S]
    runs = [(workers, demand, latency_s) for workers, latency_s in cases for demand in DEMANDS]
    with ProcessPoolExecutor(2) as processes:
        found = dict(zip(runs, processes.map(run, *zip(*runs, strict=True)), strict=True))
    rows = []
    for workers, latency_s in cases:
        those = [found[workers, demand, latency_s] for demand in DEMANDS]
        rows.append(
            [
                f"{workers:,}",
                f"{latency_s * 1000:.0f} ms",
                *(f"{use:.1%}" for use, _, _ in those),
                f"{max(worst for _, worst, _ in those):.1%}",
                f"{max(asks for _, _, asks in those):.1f}",
            ]
        )
    print(markdown(("workers", "messages", *DEMANDS, "most in any minute", "asks of a worker a second, at most"), rows))


if __name__ == "__main__":
    main()
