"""Fills the journal of a batch as if every row of its input had been asked.

python tests/benchmarks/filled_journal.py INPUT OUTPUT [--key COLUMN]
"""

from __future__ import annotations

import argparse
import asyncio
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Final

from batchrun.batch.paths import paths_for
from batchrun.batch.plan import make_plan
from batchrun.batch.results import prompts_of
from batchrun.job.environment import Environment
from batchrun.job.options import Job
from batchrun.journal import Journal
from batchrun.prompts.templates import PromptError
from batchrun.records import Attempt, Completed, Failed, Outcome, Prompt
from batchrun.token_usage import Usage

TRANSACTION_ROWS: Final = 5_000
BEGUN: Final = datetime(2026, 11, 23, tzinfo=UTC)
FAILED_EVERY: Final = 50


def main() -> None:
    """Fill the journal of an output."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input")
    parser.add_argument("output", type=Path)
    parser.add_argument("--key")
    options = parser.parse_args()
    asyncio.run(fill(options.input, options.output, options.key))


async def fill(table: str, output: Path, key: str | None) -> None:
    """Write a journal as if every row had been asked."""
    job = Job(model="gpt-4o-mini", api="chat", base_url="http://127.0.0.1:9/v1", key=key)
    plan = make_plan(job, table, Environment("unused"), output)
    with Journal(paths_for(output).journal) as journal:
        journal.write_manifest({"batch_id": "batch_benchmark", "created_at": BEGUN.isoformat(), **plan.manifest()})
        prompts = enumerate(prompt for _, _, prompt in prompts_of(plan.source, plan.prompter))
        with journal.grouped(lambda: 0.0):  # by this clock no group of writes gets old
            while rows := list(islice(prompts, TRANSACTION_ROWS)):
                for number, prompt in rows:
                    if isinstance(prompt, PromptError):
                        raise SystemExit(f"row {number}: {prompt}")
                    record(journal, prompt, number)
                await journal.committed()
        journal.settle()


def record(journal: Journal, prompt: Prompt, number: int) -> None:
    """Write the attempt and the outcome of a row."""
    began = BEGUN + timedelta(milliseconds=40 * number)
    journal.begin_attempt(prompt, Attempt(1, 1, f"key-{number:032}"), began)
    journal.finish(outcome_of(prompt, number, began + timedelta(seconds=2)), prompt.fingerprint)


def outcome_of(prompt: Prompt, number: int, ended: datetime) -> Outcome:
    """Return the outcome of a row: an answer of some 100 characters, or a failure."""
    if number % FAILED_EVERY == 0:
        return Failed(prompt.row_key, "timeout", "the run took longer than 600 s", 1, 2.0, ended)
    usage = Usage(40 + number % 50, 60 + number % 80, 100 + number % 50 + number % 80, 0, 0)
    text = f"It takes {number} minutes, and with two stops of four minutes each it is due then. The answer is {number}."
    return Completed(
        row_key=prompt.row_key,
        response=text,
        thread_id=None,
        run_id=f"chatcmpl-{number:024x}",
        model="gpt-4o-mini-2024-07-18",
        usage=usage,
        attempts=1,
        duration_s=1.5 + number % 100 / 100,
        completed_at=ended,
        cost_usd=(number % 90 + 1) / 1e6,
    )


if __name__ == "__main__":
    main()
