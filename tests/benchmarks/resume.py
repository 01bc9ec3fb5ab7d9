"""Requests and CPU of a batch that is killed in the middle and resumed, compared with one that is not disturbed.

    python tests/benchmarks/resume.py [--ask assistants responses chat] [--rows 2000]

The process is killed with SIGKILL when the service has got half of the requests. The same batch is then run again. Rows
whose answers are in the journal send nothing. Of rows that were in flight, a run of `assistants` is looked up by its id
until it has ended, and then its messages; the others are sent again under the same idempotency key.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from arms import ASKS
from measuring import run_child, standin, table, write_questions

ASKED = ("assistants", "responses", "chat")
CONCURRENCY = 64


def measure(ask: str, rows: int) -> tuple[str, ...]:
    """Return the line of the table for one way to ask."""
    with standin() as service, tempfile.TemporaryDirectory() as folder:
        write_questions(Path(folder) / "in.csv", rows)
        arguments = ["arms.py", "batchrun", f"--url={service.url}", f"--rows={rows}"]
        arguments += [f"--concurrency={CONCURRENCY}", f"--folder={folder}", f"--ask={ask}"]
        whole = run_child(arguments)
        undisturbed = service.stats()["requests"]
        service.stats(reset=True)
        killed = run_child(arguments, kill_when=lambda: service.stats()["requests"] >= rows // 2)
        before = service.stats()["requests"]
        resumed = run_child([*arguments, "--resume"])
        together = service.stats()["requests"]
    if whole.printed["answered"] != rows or resumed.printed["answered"] != rows:
        raise SystemExit(f"{ask}: {resumed.printed['answered']} of {rows} rows were answered")
    return (
        ask,
        f"{undisturbed:,}",
        f"{before:,} + {together - before:,}",
        f"{together - undisturbed:,}",
        f"{whole.cpu_s / rows * 1_000:.2f}",
        f"{killed.cpu_s / rows * 1_000:.2f} + {resumed.cpu_s / rows * 1_000:.2f}",
    )


def report(asked: Sequence[str], rows: int = 2_000) -> None:
    """Measure these ways to ask and print the table."""
    heading = ("", "requests", "killed + resumed", "more", "CPU ms a row, start included", "killed + resumed")
    print(table(heading, [measure(ask, rows) for ask in asked]))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ask", nargs="+", choices=ASKS, default=ASKED, help="protocol and mode")
    parser.add_argument("--rows", type=int, default=2_000)
    options = parser.parse_args()
    report(options.ask, options.rows)


if __name__ == "__main__":
    main()
