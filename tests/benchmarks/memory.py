"""Peak memory of a batch by its number of rows.

    python tests/benchmarks/memory.py [--rows 10000 200000] [--deltas 1]

Each batch runs in its own process with a fixed concurrency, and the peaks of resident memory are compared. Batchrun keeps
no deltas, so a small number of them saves time without changing the result.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from measuring import run_child, standin, table, write_questions


def main() -> None:
    """Run the batches, smallest first, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs=2, default=(10_000, 200_000), metavar=("FEW", "MANY"))
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--deltas", type=int, default=1)
    options = parser.parse_args()
    peaks_mib = []
    lines = []
    with standin(latency_ms=20, deltas=options.deltas) as service:
        for rows in options.rows:
            with tempfile.TemporaryDirectory() as folder:
                write_questions(Path(folder) / "in.csv", rows)
                printed = run_child(
                    [
                        "arms.py",
                        "batchrun",
                        f"--url={service.url}",
                        f"--rows={rows}",
                        f"--concurrency={options.concurrency}",
                        f"--folder={folder}",
                    ]
                ).printed
            if printed["answered"] != rows:
                raise SystemExit(f"{printed['answered']} of {rows} rows were answered")
            peaks_mib.append(printed["peak_memory_mib"])
            lines.append((f"{rows:,}", f"{peaks_mib[-1]:.0f}", f"{printed['elapsed_s']:.0f}"))
    print(table(("rows", "peak MiB", "seconds"), lines))
    print(f"\nratio {peaks_mib[1] / peaks_mib[0]:.2f}   (figure to reach: at most 1.25)")


if __name__ == "__main__":
    main()
