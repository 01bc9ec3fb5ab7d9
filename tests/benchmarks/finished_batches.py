"""Peak memory and CPU time of every command on finished batches, by their number of rows.

    python tests/benchmarks/finished_batches.py [--rows 10000 100000 1000000] [--only run,report] [--folder KEPT]

The journals are filled through the journal's own calls, many rows in a transaction, so that no service has to answer a
million requests. Each command then runs in its own process. Its peak is the most resident memory that the system
counted for that process.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from measuring import table

HERE: Final = Path(__file__).parent
OPTIONS: Final = ("--model", "gpt-4o-mini", "--api", "chat", "--base-url", "http://127.0.0.1:9/v1")
ENVIRONMENT: Final = {"OPENAI_API_KEY": "unused"}
SCORING: Final = ("--target", "minutes", "--scorer", "numeric", "--by", "hour")
SHOWN_ROWS: Final = 2_000
EXPORTED: Final = ("csv", "jsonl", "parquet", "xlsx")
MADE_BY: Final = {
    **{f"convert {each}": f"export {each}" for each in EXPORTED[1:]},
    "convert --join": "convert --to batch-results",
}
"""Command → the one that writes its input."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A finished batch of this benchmark."""

    folder: Path
    rows: int
    with_key: bool

    @property
    def output(self) -> Path:
        """Path of its output."""
        return self.folder / ("keyed.csv" if self.with_key else "out.csv")

    @property
    def run(self) -> list[str]:
        """The arguments that made it."""
        key = ["--key", "id"] if self.with_key else []
        return ["run", str(self.folder / "in.csv"), "-o", str(self.output), *OPTIONS, *key, "--json"]


@dataclass(frozen=True, slots=True)
class Peak:
    """The cost of a process."""

    mib: float
    cpu_s: float


def main() -> None:
    """Fill the journals, run the commands and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--only", default="", metavar="NAMES", help="commands to run, separated by commas")
    parser.add_argument("--folder", type=Path, help="folder that keeps the batches, so that they are made once")
    options = parser.parse_args()
    only = options.only.split(",") if options.only else []
    with tempfile.TemporaryDirectory() as temporary:
        measured: dict[str, list[Peak]] = {}
        for rows in options.rows:
            folder = (options.folder or Path(temporary)) / str(rows)
            for name, peak in peaks(folder, rows, only):
                measured.setdefault(name, []).append(peak)
                print(f"{rows:>9,} rows, {name}: {peak.mib:.0f} MiB, {peak.cpu_s:.1f} s", flush=True)
    heading = ["command", *(f"{rows:,} rows: MiB" for rows in options.rows), "last / first", "last, CPU µs a row"]
    lines = [
        [
            name,
            *(f"{each.mib:.0f}" for each in of_command),
            f"{of_command[-1].mib / of_command[0].mib:.2f}",
            f"{1e6 * of_command[-1].cpu_s / options.rows[-1]:.1f}",
        ]
        for name, of_command in measured.items()
    ]
    print("\n" + table(heading, lines))


def peaks(folder: Path, rows: int, only: Sequence[str]) -> Iterator[tuple[str, Peak]]:
    """Make the batches of a size and yield the peak of each command."""
    batch, keyed = (Batch(folder, rows, with_key) for with_key in (False, True))
    commands = commands_for(batch, keyed)
    chosen = {name: arguments for name, arguments in commands.items() if not only or name in only}
    for each in (batch, keyed) if {"run --key", "compare"} & chosen.keys() else (batch,):
        prepare(each)
    for name, arguments in chosen.items():
        maker = MADE_BY.get(name)
        if maker is not None and maker not in chosen:
            peak_of(commands[maker])
        if name == "costs --write":
            shutil.copyfile(f"{batch.output}.journal", folder / "priced.csv.journal")
        yield name, peak_of_view(arguments) if name == "view" else peak_of(arguments)
        if name == "run, rewritten":
            peak_of(batch.run)


def commands_for(batch: Batch, keyed: Batch) -> dict[str, list[str]]:
    """Return name → arguments of each command that is measured."""
    output, folder = str(batch.output), batch.folder
    report = ["report", output, "-o", str(folder / "page.html"), "--rows", str(SHOWN_ROWS)]
    join = ["--from", "batch-results", "--join", str(folder / "in.csv"), "--key", "id"]
    return {
        "run": batch.run,
        "run, rewritten": [*batch.run, "--bom"],
        "run --key": keyed.run,
        "status": ["status", output],
        "costs": ["costs", output],
        "costs --write": ["costs", str(folder / "priced.csv"), "--write"],
        **{f"export {each}": ["export", output, "--to", str(folder / f"copy.{each}")] for each in EXPORTED},
        "report": report,
        "report, scored": [*report, *SCORING],
        "score": ["score", output, *SCORING],
        "compare": ["compare", output, str(keyed.output), "--key", "id", *SCORING],
        "convert csv": ["convert", output, str(folder / "converted.jsonl")],
        **{
            f"convert {each}": ["convert", str(folder / f"copy.{each}"), str(folder / "converted.csv")]
            for each in EXPORTED[1:]
        },
        "convert --to batch-results": [
            *("convert", output, str(folder / "results.jsonl"), "--to", "batch-results", "--key", "id"),
        ],
        "convert --join": ["convert", str(folder / "results.jsonl"), str(folder / "joined.csv"), *join],
        "view": ["view", output, "--no-browser", "--rows", str(SHOWN_ROWS)],
    }


def prepare(batch: Batch) -> None:
    """Write the input, the journal and the output of a batch, unless its folder has them."""
    if batch.output.exists():
        return
    batch.folder.mkdir(parents=True, exist_ok=True)
    if not (batch.folder / "in.csv").exists():
        write_input(batch.folder / "in.csv", batch.rows)
    key = ["--key", "id"] if batch.with_key else []
    # In its own process: what this one ever held would count as the peak of its children.
    filled = [sys.executable, str(HERE / "filled_journal.py"), str(batch.folder / "in.csv"), str(batch.output), *key]
    subprocess.run(filled, check=True)
    peak_of(batch.run)


def write_input(path: Path, rows: int) -> None:
    """Write questions of some 80 characters, with their ids and expected answers."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "question", "hour", "minutes"])
        for number in range(rows):
            question = f"A train leaves at {number % 24} h and takes {number} minutes, with two stops. When is it due?"
            writer.writerow([f"q{number}", question, number % 24, number])


def peak_of(arguments: Sequence[str]) -> Peak:
    """Run a command to its end."""
    with open(os.devnull, "wb") as nowhere:
        process = subprocess.Popen(command(arguments), stdout=nowhere, env={**os.environ, **ENVIRONMENT})
        return waited(process, arguments)


def peak_of_view(arguments: Sequence[str]) -> Peak:
    """Serve the page of a batch, read all its rows as a browser does, and stop."""
    process = subprocess.Popen(command(arguments), stderr=subprocess.PIPE, text=True, env={**os.environ, **ENVIRONMENT})
    assert process.stderr is not None
    url = process.stderr.readline().strip()
    news = {"generation": 0, "version": 0, "more": True}
    while news["more"]:
        query = f"generation={news['generation']}&after={news['version']}"
        with urllib.request.urlopen(f"{url}facts?{query}", timeout=900) as reply:
            news = json.load(reply)
    process.send_signal(signal.SIGTERM)
    peak = waited(process, arguments)
    process.stderr.close()
    return peak


def command(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-W", "ignore::DeprecationWarning", "-m", "batchrun", *arguments]


def waited(process: subprocess.Popen[str] | subprocess.Popen[bytes], arguments: Sequence[str]) -> Peak:
    """Wait for a process, and return what the system counted for it.

    Raises:
        SystemExit: it failed.
    """
    began_s = time.monotonic()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1, 3):  # failed rows are no failure of the benchmark
        raise SystemExit(
            f"batchrun {' '.join(arguments)}: exit code {process.returncode} after {time.monotonic() - began_s:.0f} s"
        )
    return Peak(usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime)


if __name__ == "__main__":
    main()
