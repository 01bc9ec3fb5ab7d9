"""Use of a rate limit against a service that enforces it.

    python tests/benchmarks/rate.py [--rpm 600] [--seconds 60]

The stand-in accepts no more requests than the limit in any 60 s, measured by exact arrival times, and answers 429 to the
others. Batchrun gets the same limit and more rows than it allows. The requests that arrived in the first `--seconds` are
compared with the allowed number. `Pacer` states the burst: 1 + 0.5 % of the limit; in one second no more may arrive than
the burst plus one second's share.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from pathlib import Path

from measuring import run_child, standin, table, write_questions

from batchrun.engine.pacer import Pacer


def main() -> None:
    """Run one batch under the limit and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rpm", type=int, default=600)
    parser.add_argument("--seconds", type=int, default=60)
    options = parser.parse_args()
    rpm, seconds = options.rpm, options.seconds
    with standin(rpm=rpm) as service, tempfile.TemporaryDirectory() as folder:
        # Two seconds more than are looked at, so that the end of the table does not show in them.
        write_questions(Path(folder) / "in.csv", math.ceil(rpm * (seconds + 2) / 60))
        run_child(["arms.py", "batchrun", f"--url={service.url}", f"--rpm={rpm}", "--rows=0", f"--folder={folder}"])
        stats = service.stats()
    arrived = sum(stats["per_second"][:seconds])
    allowed = rpm * seconds / 60
    burst = Pacer(rpm).burst
    bound = burst + math.ceil((rpm - (burst - 1)) / 60)
    print(f"{rpm} requests a minute allowed, {seconds} s\n")
    print(
        table(
            ("", "measured", "to reach"),
            [
                ("share of the allowance used", f"{arrived / allowed:.1%}", "98 to 100 %"),
                ("requests answered with 429", str(stats["refused"]), "0"),
                ("most in any one second", str(stats["most_in_any_second"]), f"at most {bound}"),
                ("most in any one minute", str(stats["most_in_any_minute"]), f"at most {rpm}"),
            ],
        )
    )


if __name__ == "__main__":
    main()
