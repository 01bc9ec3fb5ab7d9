"""CPU time and requests per row of batchrun, of a bare loop, of a hand-written loop and of the overview's pattern.

    python tests/benchmarks/engine_cpu.py [--ask chat ...] [--rows 500 2500] [--repetitions 5] [--gap-ms 0]
    python tests/benchmarks/engine_cpu.py --all          the tables of docs/explanation/performance.md, in 20 minutes

Each client (see `arms.py`) runs in its own process with two numbers of rows. The difference of the two CPU times,
divided by the difference of the rows, is the cost of a row without imports and start. The clients take turns, so that a
busy machine affects all of them, and medians are compared. batchrun and the bare loop take more turns until the median
of their ratio is known to `--spread` percent, or `--most` turns were made: a figure whose spread is larger is of no
use, and the output says so. With `--gap-ms 5` the stand-in sends its deltas one by one, as a model does.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median, quantiles

import resume
import row_parts
from arms import ASKS
from measuring import Standin, markdown, run_child, standin, table, write_questions

ARMS = ("bare", "batchrun", "semaphore", "overview")
BY_HAND = ("chat", "chat-stream", "responses", "responses-stream", "assistants")
"""The ways to ask for which people write a loop by hand."""
FEWER_ROWS = {"overview": 5, "semaphore": 2}
"""Divisors of the rows of clients whose rows take many times the CPU."""
AT_MOST_BARE = 1.25
AT_LEAST_OVERVIEW = 10
COMPARED = ("bare", "batchrun")
"""The arms whose ratio is measured to a given spread."""


def cpu_s(arm: str, rows: int, ask: str, options: argparse.Namespace, service: Standin) -> float:
    """Return the CPU seconds of a client for this many rows."""
    service.stats(reset=True)
    with tempfile.TemporaryDirectory() as folder:
        write_questions(Path(folder) / "in.csv", rows)
        cost = run_child(
            [
                "arms.py",
                arm,
                f"--url={service.url}",
                f"--rows={rows}",
                f"--concurrency={options.concurrency}",
                f"--folder={folder}",
                f"--ask={ask}",
            ]
        )
    if cost.printed["answered"] != rows:
        raise SystemExit(f"{arm}: {cost.printed['answered']} of {rows} rows were answered")
    found_s: float = cost.cpu_s
    return found_s


def measure(
    ask: str, options: argparse.Namespace, service: Standin
) -> tuple[Mapping[str, list[float]], Mapping[str, float]]:
    """Return (arm → CPU ms a row in each turn, arm → requests a row)."""
    arms = [arm for arm in options.arms if arm != "overview" or ask == "assistants"]
    arms = [arm for arm in arms if arm != "semaphore" or ask in BY_HAND]
    costs_ms: dict[str, list[float]] = {arm: [] for arm in arms}
    requests: dict[str, float] = {}
    for turn in range(max(options.most, options.repetitions)):
        if turn >= options.repetitions:
            arms = [arm for arm in arms if arm in COMPARED]
            if len(arms) < len(COMPARED) or spread_of(ratios(costs_ms)) <= options.spread / 100:
                break
        for arm in arms:
            few, many = (rows // FEWER_ROWS.get(arm, 1) for rows in options.rows)
            base_s = cpu_s(arm, few, ask, options, service)
            full_s = cpu_s(arm, many, ask, options, service)
            costs_ms[arm].append((full_s - base_s) / (many - few) * 1_000)
            requests[arm] = service.stats()["requests"] / many
    return costs_ms, requests


def ratios(costs_ms: Mapping[str, Sequence[float]]) -> list[float]:
    """Return batchrun / bare in each turn; an empty list if one of them was not measured."""
    return [ours / bare for ours, bare in zip(costs_ms.get("batchrun", ()), costs_ms.get("bare", ()), strict=False)]


def spread_of(found: Sequence[float]) -> float:
    """Return the half width of the median's 95 % interval, as a share of the median: 1.57 IQR / √n (McGill, Tukey and
    Larsen, Variations of Box Plots, 1978). Infinite for a single value."""
    if len(found) < 2:
        return math.inf
    first, _, third = quantiles(found, n=4, method="inclusive")
    return 1.57 * (third - first) / math.sqrt(len(found)) / median(found)


def shown(costs_ms: Mapping[str, Sequence[float]], requests: Mapping[str, float], spread: float) -> str:
    """Return the table of one way to ask, and the ratios that have a target.

    Args:
        spread: share of the median to which batchrun / bare was to be measured.
    """
    medians = {arm: median(costs) for arm, costs in costs_ms.items()}
    batchrun_ms = medians.get("batchrun", float("nan"))
    lines = [
        (
            arm,
            f"{medians[arm]:.3f}",
            f"{min(costs):.3f}",
            f"{max(costs):.3f}",
            f"{1_000 / medians[arm]:,.0f}",
            f"{medians[arm] / batchrun_ms:.2f}",
            f"{requests[arm]:.4f}",
        )
        for arm, costs in costs_ms.items()
    ]
    heading = ("arm", "CPU ms a row", "lowest", "highest", "rows/s a core", "times batchrun", "requests a row")
    text = f"{table(heading, lines)}\n"
    if found := ratios(costs_ms):
        lowest = min(costs_ms["batchrun"]) / min(costs_ms["bare"])
        text += f"\nbatchrun / bare     {median(found):.2f} ± {spread_of(found):.1%} in {len(found)} turns"
        text += f", of the lowest {lowest:.2f}   (figure to reach: at most {AT_MOST_BARE})"
        if spread_of(found) > spread:
            text += f"\nThe spread is above {spread:.0%}: measure again without other work or with --most."
    if "overview" in medians:
        text += f"\noverview / batchrun {medians['overview'] / batchrun_ms:.2f}"
        text += f"   (figure to reach: at least {AT_LEAST_OVERVIEW})"
    return text


def page(found: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """Return the table of docs/explanation/performance.md in Markdown."""
    rows = []
    for ask, costs_ms in found.items():
        medians = {arm: median(costs) for arm, costs in costs_ms.items()}
        cells = [f"{medians[arm]:.2f}" if arm in medians else "" for arm in ARMS]
        in_turns = ratios(costs_ms)
        ratio = f"{median(in_turns):.2f} ± {spread_of(in_turns):.0%}" if len(in_turns) > 1 else ""
        others = [
            f"{medians[arm] / medians['batchrun']:.1f}" if {arm, "batchrun"} <= medians.keys() else ""
            for arm in ARMS[2:]
        ]
        rows.append((ask, *cells, ratio, *others))
    heading = ("", *(f"{arm}, ms" for arm in ARMS), "batchrun / bare", *(f"{arm} / batchrun" for arm in ARMS[2:]))
    return f"{markdown(heading, rows)}"


def main() -> None:
    """Measure the clients and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs=2, default=(500, 2_500), metavar=("FEW", "MANY"))
    parser.add_argument("--repetitions", type=int, default=5, help="turns of every client")
    parser.add_argument("--spread", type=float, default=5.0, help="percent to which batchrun / bare is measured")
    parser.add_argument("--most", type=int, default=25, help="maximum turns")
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--latency-ms", type=int, default=50, help="until a run's answer begins")
    parser.add_argument("--gap-ms", type=int, default=0, help="between two deltas; 0: all in one piece")
    parser.add_argument("--deltas", type=int, default=20)
    parser.add_argument("--ask", nargs="+", choices=ASKS, default=["assistants"], help="protocol and mode")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS)
    parser.add_argument("--all", action="store_true", help="every way to ask, the parts of a row, and a resumed batch")
    parser.add_argument("--plot", type=Path, metavar="SVG", help="with --all: draw the picture of the parts of a row")
    options = parser.parse_args()
    found = {}
    with standin(latency_ms=options.latency_ms, deltas=options.deltas, gap_ms=options.gap_ms) as service:
        for ask in ASKS if options.all else options.ask:
            costs_ms, requests = measure(ask, options, service)
            found[ask] = costs_ms
            print(
                f"\n{ask}, {options.deltas} deltas a row, {options.concurrency} rows at once, "
                f"{max(map(len, costs_ms.values()))} turns\n\n{shown(costs_ms, requests, options.spread / 100)}",
                flush=True,
            )
    if options.all:
        print(f"\n{page(found)}\n", flush=True)
        row_parts.report(row_parts.ASKED, options.rows, options.repetitions, options.plot)
        print(flush=True)
        resume.report(resume.ASKED, options.rows[1])


if __name__ == "__main__":
    main()
