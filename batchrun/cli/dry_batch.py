"""A batch that is planned and estimated without sending anything: for `run --dry-run` and `check`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from batchrun.cli.console import warn
from batchrun.cli.score_run import run_spec

if TYPE_CHECKING:
    from batchrun.batch.plan import Plan
    from batchrun.cli.job_arguments import JobArguments
    from batchrun.estimate.dry_run import DryRun
    from batchrun.job.environment import Environment
    from batchrun.scoring.score_options import ScoreOptions

__all__ = ["batch_text", "dry_run_of", "rows_of_table"]


@contextmanager
def dry_run_of(
    arguments: JobArguments, environment: Environment, scoring: ScoreOptions | None
) -> Iterator[tuple[Plan, DryRun]]:
    """Plan a batch and estimate it; the files of the plan exist only inside the block.

    Args:
        arguments: input and options of the batch.
        environment: keys and addresses; a missing key is only a warning.
        scoring: how the output would be scored, which is checked too; None if it would not.
    """
    from batchrun.estimate.dry_plan import dry_plan
    from batchrun.estimate.dry_run import dry_run
    from batchrun.estimate.token_guess import o200k_counter

    job, output = arguments.job_and_output()
    with arguments.located(), dry_plan(job, arguments.input_name, environment, output) as plan:
        if scoring is not None:
            run_spec(plan, scoring, arguments.options, on_no_key=_warn_of_missing_key)
        yield plan, dry_run(plan, count=o200k_counter())


def batch_text(plan: Plan, input_name: str) -> str:
    """Return the rows, the service and the output of a batch in one text."""
    rows = rows_of_table(plan, input_name)
    return f"{rows} · answered by {plan.answered_by()} · output: {plan.output_name}"


def rows_of_table(plan: Plan, input_name: str) -> str:
    """Return the rows of a batch, with the combinations that they are run in, and their table."""
    from batchrun.prompts.combinations import rows_times_text

    return f"{rows_times_text(plan.rows_to_ask // len(plan.combinations), plan.settings)} of {input_name}"


def _warn_of_missing_key(problem: str) -> None:
    warn(f"no API key is set: batchrun run would stop with exit code 2: {problem}")
