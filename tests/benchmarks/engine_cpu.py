"""CPU time and requests per row of batchrun, of a bare loop and of the overview's pattern.

    python tests/benchmarks/engine_cpu.py [--rows 1000 6000] [--repetitions 5] [--gap-ms 0]

Each client (see `arms.py`) runs in its own process with two numbers of rows. The difference of the two CPU times,
divided by the difference of the rows, is the cost of a row without imports and start. The clients take turns, so that a
busy machine affects all of them, and medians are compared. With `--gap-ms 5` the stand-in sends its deltas one by one,
as a model does.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from statistics import median

from arms import ASKS
from measuring import Standin, run_child, standin, table, write_questions

ARMS = ("bare", "batchrun", "overview")


def ask(arm: str, rows: int, options: argparse.Namespace, service: Standin) -> float:
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
                f"--ask={options.ask}",
            ]
        )
    if cost.printed["answered"] != rows:
        raise SystemExit(f"{arm}: {cost.printed['answered']} of {rows} rows were answered")
    cpu_s: float = cost.cpu_s
    return cpu_s


def main() -> None:
    """Measure all clients and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs=2, default=(1_000, 6_000), metavar=("FEW", "MANY"))
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--latency-ms", type=int, default=50, help="until a run's answer begins")
    parser.add_argument("--gap-ms", type=int, default=0, help="between two deltas; 0: all in one piece")
    parser.add_argument("--deltas", type=int, default=20)
    parser.add_argument("--ask", choices=ASKS, default="assistants", help="protocol and mode")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS)
    options = parser.parse_args()
    if options.ask != "assistants":
        options.arms = [arm for arm in options.arms if arm != "overview"]
    few, many = options.rows
    costs_ms: dict[str, list[float]] = {arm: [] for arm in options.arms}
    requests: dict[str, float] = {}
    with standin(latency_ms=options.latency_ms, deltas=options.deltas, gap_ms=options.gap_ms) as service:
        for _ in range(options.repetitions):
            for arm in options.arms:
                # A fifth of the rows is enough for the overview, whose rows take many times the CPU.
                share = 5 if arm == "overview" else 1
                base_s = ask(arm, few // share, options, service)
                full_s = ask(arm, many // share, options, service)
                costs_ms[arm].append((full_s - base_s) / ((many - few) // share) * 1_000)
                requests[arm] = service.stats()["requests"] / (many // share)
    batchrun_ms = median(costs_ms["batchrun"]) if "batchrun" in costs_ms else float("nan")
    print(
        f"{options.ask}, {options.deltas} deltas a row, {options.concurrency} rows at once, {options.repetitions} repetitions\n"
    )
    print(
        table(
            ("arm", "CPU ms a row", "lowest", "highest", "rows/s a core", "times batchrun", "requests a row"),
            [
                (
                    arm,
                    f"{median(costs):.3f}",
                    f"{min(costs):.3f}",
                    f"{max(costs):.3f}",
                    f"{1_000 / median(costs):,.0f}",
                    f"{median(costs) / batchrun_ms:.2f}",
                    f"{requests[arm]:.4f}",
                )
                for arm, costs in costs_ms.items()
            ],
        )
    )
    if "bare" in costs_ms:
        print(f"\nbatchrun / bare     {batchrun_ms / median(costs_ms['bare']):.2f}   (figure to reach: at most 1.6)")
    if "overview" in costs_ms:
        print(f"overview / batchrun {median(costs_ms['overview']) / batchrun_ms:.2f}   (figure to reach: at least 6)")


if __name__ == "__main__":
    main()
