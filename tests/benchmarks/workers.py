"""Speed, CPU time and memory of a batch by its number of workers.

    python tests/benchmarks/workers.py [--rows 40000] [--workers 1 2] [--ask chat] [--repetitions 3]

Each batch is a command of its own, from its start to its end, against the stand-in on the same cores. The numbers of
workers take turns, so that a busy machine affects all of them, and medians are compared. CPU time is that of the
command and its workers; memory is the most resident memory of any worker. `N apart` are N commands without workers at
the same time, each with its part of the rows: what the machine allows at most, and what a row costs when cores share
their caches.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

import psutil
from measuring import running, table, write_questions

LOOK_EVERY_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Ran:
    """One batch: elapsed and CPU seconds, and the most bytes of a worker."""

    elapsed_s: float
    cpu_s: float
    worker_bytes: int


@dataclass(frozen=True, slots=True)
class Way:
    """A way to run a batch: by one command with `workers`, or by so many commands with an equal part of the rows."""

    workers: int
    apart: bool = False

    def __str__(self) -> str:
        return f"{self.workers} apart" if self.apart else str(self.workers)


def run(folder: Path, url: str, way: Way, rows: int, ask: str, concurrency: int) -> Ran:
    """Run a batch."""
    number = way.workers if way.apart else 1
    before, began_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    processes = []
    for _ in range(number):
        output = folder / f"answers-{time.monotonic_ns()}.csv"
        command = [
            *(sys.executable, "-m", "batchrun", "run", str(folder / f"{rows // number}.csv"), "-o", str(output)),
            *("--base-url", url, "--model", "m", "--api", ask, "--prompt", "{{ question }}", "--json"),
            *("--workers", "1" if way.apart else str(way.workers), "--concurrency", str(concurrency // number)),
        ]
        environment = {**os.environ, "OPENAI_API_KEY": "unused"}
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment))
    most = 0

    def look() -> None:
        nonlocal most
        while any(process.poll() is None for process in processes):
            for process in processes:
                with suppress(psutil.NoSuchProcess):
                    most = max([most, *(child.memory_info().rss for child in psutil.Process(process.pid).children())])
            time.sleep(LOOK_EVERY_S)

    looking = threading.Thread(target=look)
    looking.start()
    printed = [process.communicate()[0] for process in processes]
    looking.join()
    elapsed_s, after = time.monotonic() - began_s, resource.getrusage(resource.RUSAGE_CHILDREN)
    facts = [json.loads(each.splitlines()[-1]) for each in printed]
    completed = sum(each["completed"] for each in facts)
    if completed != rows // number * number:
        raise SystemExit(f"{way}: {completed} of {rows} rows completed: {[each['stop'] for each in facts]}")
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Ran(elapsed_s, cpu_s, most)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=40_000)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--ask", default="chat", choices=["chat", "responses", "assistants"])
    parser.add_argument("--concurrency", type=int, default=200)
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    ways = [Way(workers) for workers in options.workers]
    ways += [Way(workers, apart=True) for workers in options.workers if workers > 1]
    found: dict[Way, list[Ran]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as name, running("standin.js", {"latency-ms": 20, "deltas": 1}) as service:
        psutil.Process(service.pid).cpu_affinity(psutil.Process().cpu_affinity())  # it shares all cores
        folder = Path(name)
        for number in {1, *(way.workers for way in ways if way.apart)}:
            write_questions(folder / f"{options.rows // number}.csv", options.rows // number)
        for _ in range(options.repetitions):
            for way, runs in found.items():
                runs.append(run(folder, service.url, way, options.rows, options.ask, options.concurrency))
    first = found[ways[0]]
    lines = []
    for way, runs in found.items():
        elapsed_s, cpu_s = median(each.elapsed_s for each in runs), median(each.cpu_s for each in runs)
        faster = median(one.elapsed_s / each.elapsed_s for one, each in zip(first, runs, strict=True))
        dearer = median(each.cpu_s / one.cpu_s for one, each in zip(first, runs, strict=True))
        lines.append(
            [
                str(way),
                f"{elapsed_s:.1f}",
                f"{options.rows / elapsed_s:,.0f}",
                f"{faster:.2f}",
                f"{1_000 * cpu_s / options.rows:.3f}",
                f"{dearer:.2f}",
                f"{max(each.worker_bytes for each in runs) / 2**20:.0f}",
            ]
        )
    heading = ["workers", "s", "rows/s", "× as fast", "ms of CPU a row", "× the CPU", "MiB a worker"]
    print(table(heading, lines))


if __name__ == "__main__":
    main()
