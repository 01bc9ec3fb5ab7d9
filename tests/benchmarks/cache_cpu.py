"""CPU time of a row that is paid for, of one whose answer is stored in a cache too, and of one that a cache answers.

    python tests/benchmarks/cache_cpu.py [--rows 10000] [--repetitions 3]

Each batch runs from a CSV file to a CSV file in this process, over Chat Completions at the stand-in. The batches take
turns, and medians are compared.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import anyio
from measuring import Standin, standin, table, write_questions

from batchrun.batch.plan import make_plan
from batchrun.batch.run import run_batch
from batchrun.job.environment import Environment
from batchrun.job.validation import make_job

ARMS = ("paid, no cache", "paid and stored", "from the cache")


def batch_ms(folder: Path, name: str, rows: int, service: Standin, cache: Path | None) -> float:
    """Return the CPU milliseconds of a row of a batch."""
    job = make_job({"api": "chat", "model": "standin", "base_url": service.url, "concurrency": 64, "cache": cache})
    environment = Environment()
    began_s = time.process_time()
    plan = make_plan(job, folder / "in.csv", environment, folder / f"{name}.csv")
    summary = anyio.run(lambda: run_batch(plan, environment), backend_options={"use_uvloop": True})
    spent_s = time.process_time() - began_s
    if summary.totals.by_status["completed"] != rows or summary.statistics.from_cache != rows * (name == ARMS[2]):
        raise SystemExit(f"{name}: {dict(summary.totals.by_status)}, {summary.statistics.from_cache} from the cache")
    return spent_s / rows * 1_000


def main() -> None:
    """Measure the three kinds of rows and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    costs_ms: dict[str, list[float]] = {arm: [] for arm in ARMS}
    size = 0
    with standin(latency_ms=5, deltas=20, gap_ms=0) as service:
        for _ in range(options.repetitions):
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                write_questions(folder / "in.csv", options.rows)
                for arm in ARMS:
                    cache = None if arm == ARMS[0] else folder / "answers.cache"
                    costs_ms[arm].append(batch_ms(folder, arm, options.rows, service, cache))
                size = (folder / "answers.cache").stat().st_size
    paid_ms = median(costs_ms[ARMS[0]])
    print(f"{options.rows:,} rows, {options.repetitions} repetitions, {size / options.rows:.0f} bytes of cache a row\n")
    print(
        table(
            ("row", "CPU ms", "lowest", "highest", "times a paid row"),
            [
                (arm, f"{median(each):.3f}", f"{min(each):.3f}", f"{max(each):.3f}", f"{median(each) / paid_ms:.2f}")
                for arm, each in costs_ms.items()
            ],
        )
    )


if __name__ == "__main__":
    main()
