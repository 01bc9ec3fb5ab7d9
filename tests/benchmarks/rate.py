"""Use of a rate limit against a service that enforces it.

    python tests/benchmarks/rate.py [--rpm 600] [--seconds 60] [--tpm]

The stand-in accepts no more requests than the limit in any 60 s, measured by exact arrival times, and answers 429 to the
others. Batchrun gets the same limit and more rows than it allows. The requests that arrived in the first `--seconds` are
compared with the allowed number. `Pacer` states the burst: 1 + 0.5 % of the limit; in one second no more may arrive than
the burst plus one second's share.

With `--tpm`, batchrun gets a limit in tokens instead: those of so many requests. It learns from the replies how many a
request takes, and keeps 2 % of the limit to correct its estimates, which may be used at any moment.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from pathlib import Path

from measuring import run_child, standin, table, write_questions

from batchrun.engine.pacer import TOKEN_CREDIT_SHARE, Pacer

TOKENS = 62
"""Of a row that the stand-in answers with 20 words."""


def main() -> None:
    """Run one batch under the limit and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rpm", type=int, default=600)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--tpm", action="store_true", help="limit the tokens of so many requests instead")
    options = parser.parse_args()
    rpm, seconds = options.rpm, options.seconds
    limit = f"--tpm={rpm * TOKENS}" if options.tpm else f"--rpm={rpm}"
    with standin(rpm=rpm) as service, tempfile.TemporaryDirectory() as folder:
        # Two seconds more than are looked at, so that the end of the table does not show in them.
        write_questions(Path(folder) / "in.csv", math.ceil(rpm * (seconds + 2) / 60))
        run_child(["arms.py", "batchrun", f"--url={service.url}", limit, "--rows=0", f"--folder={folder}"])
        stats = service.stats()
    arrived = sum(stats["per_second"][:seconds])
    allowed = rpm * seconds / 60
    burst = Pacer(rpm).burst
    bound = burst + math.ceil((rpm - (burst - 1)) / 60) + (math.ceil(rpm * TOKEN_CREDIT_SHARE) if options.tpm else 0)
    print(f"{rpm} requests a minute allowed{f', as {rpm * TOKENS} tokens' if options.tpm else ''}, {seconds} s\n")
    print(
        table(
            ("", "measured", "to reach"),
            [
                (
                    "share of the allowance used",
                    f"{arrived / allowed:.1%}",
                    f"{96 if options.tpm else 99} to 100 %",
                ),
                ("requests answered with 429", str(stats["refused"]), "0"),
                ("most in any one second", str(stats["most_in_any_second"]), f"at most {bound}"),
                ("most in any one minute", str(stats["most_in_any_minute"]), f"at most {rpm}"),
            ],
        )
    )


if __name__ == "__main__":
    main()
