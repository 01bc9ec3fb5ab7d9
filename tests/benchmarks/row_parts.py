"""What a row costs by part: CPU time, sampled while batches run.

    python tests/benchmarks/row_parts.py [--ask chat ...] [--rows 500 4500] [--repetitions 3] [--plot SVG]

A timer of the process (`ITIMER_PROF`) interrupts it after every few milliseconds of CPU time, user and system. The sample
counts for the part whose code is innermost on the stack: time in a library, in SQLite or in a system call counts for the
part that called it. Nothing is added to the calls themselves, as a tracing profiler would do. As in `engine_cpu.py`, each
batch runs with two numbers of rows, and the difference leaves out imports and start.

The event loop runs callbacks from C: what it does between two of them counts for the next one.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

import anyio
import arms
from chart import Bar, bars
from measuring import markdown, run_child, standin, write_questions

ASKED = ("chat", "responses", "assistants")
PICTURE = Path(__file__).parents[2] / "docs" / "pictures" / "row_cpu.svg"
INTERVAL_S = 0.001
"""Of CPU time between two samples; the kernel may round it up, so the samples are scaled to the CPU time."""
CONCURRENCY = 64

PARTS: Mapping[str, Sequence[str]] = {
    "HTTP": (
        "/aiohttp/",
        "/batchrun/services/lean_",
        "/batchrun/services/client.py",
        "/batchrun/services/route.py",
        "/openai/",
    ),
    "journal": ("/batchrun/journal/",),
    "engine, limits, tasks": ("/batchrun/engine/", "/batchrun/clock.py", "/anyio/"),
    "request and reply": ("/batchrun/services/", "/batchrun/thoughts.py"),
    "prompt": ("/batchrun/prompts/",),
    "tables": ("/batchrun/tables/", "/batchrun/batch/", "/batchrun/records.py"),
    "prices": ("/batchrun/pricing.py", "/batchrun/token_usage.py", "/genai_prices/"),
}
"""Part → pieces of the paths of its modules. A file belongs to the first part that fits."""


def part_of(frame: FrameType | None) -> str:
    """Return the part whose code is innermost on the stack."""
    while frame is not None:
        path = frame.f_code.co_filename
        for part, pieces in PARTS.items():
            if any(piece in path for piece in pieces):
                return part
        frame = frame.f_back
    return "other"


def sample(options: argparse.Namespace) -> None:
    """Run one batch in this process and print its samples by part."""
    counts: Counter[str] = Counter()
    signal.signal(signal.SIGPROF, lambda _, frame: counts.update([part_of(frame)]))
    signal.setitimer(signal.ITIMER_PROF, INTERVAL_S, INTERVAL_S)
    anyio.run(arms.batchrun, options, backend_options={"use_uvloop": sys.platform != "win32"})
    signal.setitimer(signal.ITIMER_PROF, 0)
    print(json.dumps(counts))


def measure(ask: str, rows: Sequence[int], repetitions: int) -> Mapping[str, float]:
    """Return the CPU of a row in µs, by part."""
    samples: Counter[str] = Counter()
    cpu_s = 0.0
    with standin() as service:
        for _ in range(repetitions):
            for sign, number in zip((-1, 1), rows, strict=True):
                with tempfile.TemporaryDirectory() as folder:
                    write_questions(Path(folder) / "in.csv", number)
                    cost = run_child(["row_parts.py", f"--sample={service.url}", f"--folder={folder}", f"--ask={ask}"])
                cpu_s += sign * cost.cpu_s
                for part, count in cost.printed.items():
                    samples[part] += sign * count
    each_us = cpu_s * 1e6 / repetitions / (rows[1] - rows[0]) / max(samples.total(), 1)
    return {part: max(samples[part], 0) * each_us for part in (*PARTS, "other")}


def report(
    asked: Sequence[str], rows: Sequence[int] = (500, 4_500), repetitions: int = 2, plot: Path | None = None
) -> None:
    """Measure these ways to ask, print the table in Markdown, and draw the picture."""
    found = {ask: measure(ask, rows, repetitions) for ask in asked}
    lines = [
        (ask, f"{sum(parts.values()):.0f}", *(f"{us:.0f}" for us in parts.values())) for ask, parts in found.items()
    ]
    print(markdown(("µs of CPU a row", "in all", *PARTS, "other"), lines))
    if plot is not None:
        plot.write_text(bars([Bar(ask, parts) for ask, parts in found.items()], unit="µs"), encoding="utf-8")


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ask", nargs="+", choices=arms.ASKS, default=ASKED, help="protocol and mode")
    parser.add_argument("--rows", type=int, nargs=2, default=(500, 4_500), metavar=("FEW", "MANY"))
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--plot", type=Path, metavar="SVG", help="draw the picture of docs/explanation/performance.md")
    parser.add_argument("--sample", metavar="URL", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.sample is None:
        report(options.ask, options.rows, options.repetitions, options.plot)
        return
    batch = {"url": options.sample, "folder": options.folder, "ask": options.ask[0], "fresh": True}
    sample(argparse.Namespace(**batch, concurrency=CONCURRENCY, rpm=0.0))


if __name__ == "__main__":
    main()
