"""CPU time of scoring a table with the numeric scorer in its own process: reading, scoring, writing and statistics."""

from __future__ import annotations

import argparse
import csv
import random
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

LIMIT_S = 6.0


def write_answers(path: Path, rows: int) -> None:
    """Write answers of about 400 characters with steps, as a model writes them; 4 of 5 are right."""
    rng = random.Random(1)
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "answer", "response", "status"])
        for number in range(rows):
            target = rng.randrange(100_000)
            said = target if rng.random() < 0.8 else target + 1
            steps = " ".join(
                f"Then {each} * {number % 97} = {each * (number % 97)}, which we keep." for each in range(8)
            )
            writer.writerow([number, target, f"{steps}\nThe answer is **${said:,}**.", "completed"])


def main() -> None:
    """Print the CPU seconds; fail above the target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "answers.csv"
        write_answers(table, rows)
        command = [sys.executable, "-m", "batchrun", "score", str(table), "--target", "answer", "--scorer", "numeric"]
        subprocess.run(command, check=True)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = used.ru_utime + used.ru_stime
    print(f"{rows:,} rows: {cpu_s:.1f} s of CPU, {1e6 * cpu_s / rows:.0f} µs a row")
    if rows <= 100_000 and cpu_s > LIMIT_S:
        raise SystemExit(f"more than {LIMIT_S:g} s")


if __name__ == "__main__":
    main()
