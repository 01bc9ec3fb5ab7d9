"""The commands `init` and `check`, which write and check job files."""

from __future__ import annotations

import os
from pathlib import Path

import click

from batchrun.cli.app import cli
from batchrun.cli.console import note, print_result
from batchrun.cli.dry_batch import batch_text, dry_run_of
from batchrun.cli.env_file import env_file_option, read_environment
from batchrun.cli.job_arguments import JobArguments
from batchrun.cli.options import LocalPath
from batchrun.cli.scoring_flags import run_score_options

__all__ = ["check", "init"]


@cli.command()
@click.argument("table", type=LocalPath(), metavar="TABLE")
@click.option("-o", "--output", type=LocalPath(path_type=Path), help="File to write. Default: TABLE's name with .toml")
@click.option("--no-header", is_flag=True, help="The first line of TABLE is a row; columns are column_1, column_2, …")
def init(table: str, output: Path | None, *, no_header: bool) -> None:
    """Write a first job file for a table.

    The file can be run as it is; its comments explain every option.
    """
    from batchrun.batch.first_job import first_job, write_new
    from batchrun.shell_hint import command
    from batchrun.tables import ReadOptions, open_source

    source = open_source(table, ReadOptions(no_header=no_header))
    path = output or Path(table).with_suffix(".toml")
    write_new(path, first_job(os.path.relpath(table, path.parent), source.columns, no_header=no_header))
    note(f"written: {path}; next: {command('check', path)}")


@cli.command()
@click.argument("job", type=LocalPath(), metavar="JOB.toml")
@env_file_option
def check(job: str) -> None:
    """Check a job file without sending anything.

    The table, the template and the output are checked too, and the cost is estimated.
    """
    from batchrun.estimate.dry_run import estimated_cost_text
    from batchrun.wording import shown_path

    arguments = JobArguments.read(job, {})
    scoring = run_score_options(job, {})
    with dry_run_of(arguments, read_environment(job), scoring) as (plan, estimate):
        print_result(
            f"{job}: {batch_text(plan, shown_path(Path(arguments.input_name)))}",
            f"cost: {estimated_cost_text(estimate)}",
            *estimate.notices,
        )
