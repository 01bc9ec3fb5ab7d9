"""CPU time and requests per row of batchrun, of a bare loop, of a hand-written loop and of the overview's pattern.

    python tests/benchmarks/engine_cpu.py [--ask chat ...] [--rows 500 2500] [--repetitions 5] [--gap-ms 0]
    python tests/benchmarks/engine_cpu.py --all          the tables of docs/explanation/performance.md, in 10 minutes

Each client (see `arms.py`) runs in its own process with two numbers of rows. The difference of the two CPU times,
divided by the difference of the rows, is the cost of a row without imports and start. The clients take turns, so that a
busy machine affects all of them, and medians are compared. With `--gap-ms 5` the stand-in sends its deltas one by one,
as a model does.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import resume
import row_parts
from arms import ASKS
from measuring import Standin, markdown, run_child, standin, table, write_questions

ARMS = ("bare", "batchrun", "semaphore", "overview")
COMPARED = ("chat", "chat-stream", "responses", "responses-stream", "assistants")
FEWER_ROWS = {"overview": 5, "semaphore": 2}
"""Divisors of the rows of clients whose rows take many times the CPU."""
AT_MOST_BARE = 1.25
AT_LEAST_OVERVIEW = 10


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
    """Return (arm → CPU ms a row in each repetition, arm → requests a row)."""
    arms = [arm for arm in options.arms if arm != "overview" or ask == "assistants"]
    arms = [arm for arm in arms if arm != "semaphore" or ask in COMPARED]
    few, many = options.rows
    costs_ms: dict[str, list[float]] = {arm: [] for arm in arms}
    requests: dict[str, float] = {}
    for _ in range(options.repetitions):
        for arm in arms:
            share = FEWER_ROWS.get(arm, 1)
            base_s = cpu_s(arm, few // share, ask, options, service)
            full_s = cpu_s(arm, many // share, ask, options, service)
            costs_ms[arm].append((full_s - base_s) / ((many - few) // share) * 1_000)
            requests[arm] = service.stats()["requests"] / (many // share)
    return costs_ms, requests


def shown(costs_ms: Mapping[str, Sequence[float]], requests: Mapping[str, float]) -> str:
    """Return the table of one way to ask, and the ratios that have a target."""
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
    if "bare" in medians:
        lowest = min(costs_ms["batchrun"]) / min(costs_ms["bare"]) if "batchrun" in medians else float("nan")
        text += f"\nbatchrun / bare     {batchrun_ms / medians['bare']:.2f}, of the lowest {lowest:.2f}"
        text += f"   (figure to reach: at most {AT_MOST_BARE})"
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
        ratios = [f"{medians[arm] / medians['batchrun']:.1f}" if arm in medians else "" for arm in ARMS[2:]]
        rows.append((ask, *cells, f"{medians['batchrun'] / medians['bare']:.2f}", *ratios))
    heading = ("", *(f"{arm}, ms" for arm in ARMS), "batchrun / bare", *(f"{arm} / batchrun" for arm in ARMS[2:]))
    return f"{markdown(heading, rows)}"


def main() -> None:
    """Measure the clients and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs=2, default=(500, 2_500), metavar=("FEW", "MANY"))
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--latency-ms", type=int, default=50, help="until a run's answer begins")
    parser.add_argument("--gap-ms", type=int, default=0, help="between two deltas; 0: all in one piece")
    parser.add_argument("--deltas", type=int, default=20)
    parser.add_argument("--ask", nargs="+", choices=ASKS, default=["assistants"], help="protocol and mode")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS)
    parser.add_argument("--all", action="store_true", help="every way to ask, the parts of a row, and a resumed batch")
    options = parser.parse_args()
    found = {}
    with standin(latency_ms=options.latency_ms, deltas=options.deltas, gap_ms=options.gap_ms) as service:
        for ask in COMPARED if options.all else options.ask:
            costs_ms, requests = measure(ask, options, service)
            found[ask] = costs_ms
            print(
                f"\n{ask}, {options.deltas} deltas a row, {options.concurrency} rows at once, "
                f"{options.repetitions} repetitions\n\n{shown(costs_ms, requests)}",
                flush=True,
            )
    if options.all:
        print(f"\n{page(found)}\n", flush=True)
        row_parts.report(row_parts.ASKED, plot=row_parts.PICTURE)
        print(flush=True)
        resume.report(resume.ASKED)


if __name__ == "__main__":
    main()
