"""The commands `init` and `check`, which write and check job files."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import click

from batchrun.cli.app import cli
from batchrun.cli.console import note, print_result, warn
from batchrun.cli.dry_batch import dry_run_of, rows_of_table
from batchrun.cli.env_file import env_file_option, read_environment
from batchrun.cli.job_arguments import JobArguments
from batchrun.cli.options import LocalPath, TablePath, job_parameters
from batchrun.cli.remote_tables import local_table, need_output
from batchrun.cli.scoring_flags import run_score_options
from batchrun.job.file import is_job_file
from batchrun.local_paths import is_url, shown_table

__all__ = ["check", "init"]

READ_OPTIONS = ("encoding", "delimiter", "no_header", "format", "sheet", "skip_rows")
"""The options of `Job` that say how a table is read; `init` writes those that are given into the job file."""


@cli.command()
@click.argument("table", type=TablePath(), metavar="TABLE")
@click.option("-o", "--output", type=LocalPath(path_type=Path), help="File to write. Default: TABLE's name with .toml")
@click.option("--all", "every_option", is_flag=True, help="Show every option, not only what most people set")
@partial(job_parameters, only=READ_OPTIONS)
def init(table: str, output: Path | None, *, every_option: bool, **read: Any) -> None:
    """Write a first job file for a table.

    The file can be run as it is. The prompt is the column `prompt` or `question`, or the longest text column. A column
    of unique ids becomes the key. The other options are comments with examples.
    """
    from batchrun.batch.first_job import first_job, write_new
    from batchrun.job.validation import make_job
    from batchrun.shell_hint import command
    from batchrun.tables import ReadOptions, header_hint, open_source, path_beside

    if table == "-":
        raise click.UsageError("a job file names its table: give a file, not standard input")
    if output is not None and not is_job_file(output.name):
        raise click.UsageError(f"--output: the name of a job file ends with .toml, got {output}")
    job = make_job({name: value for name, value in read.items() if value is not None})
    options = ReadOptions(**{name: getattr(job, name) for name in READ_OPTIONS})
    need_output(table, output)
    source = open_source(local_table(table), options)
    path = output or _job_path(path_beside(table))
    name = table if is_url(table) else os.path.relpath(table, path.parent)
    write_new(path, first_job(source, name, options, path.name, every_option=every_option))
    if hint := header_hint(source):
        note(f"{shown_table(table)}: {hint}")
    note(f"written: {path}; next: {command('check', path)}")


def _job_path(table: Path) -> Path:
    """Return the path of a table with .toml in place of its extension."""
    from batchrun.tables.table_options import without_ending

    return table.with_name(f"{without_ending(table.name)}.toml")


@cli.command()
@click.argument("job", type=LocalPath(), metavar="JOB.toml")
@env_file_option
def check(job: str) -> int:
    """Check a job file without sending anything.

    Everything that is wrong in the file is listed. The table, the template and the output are checked too. The result
    states how many rows would be sent, who answers, what it costs, and what prevents a start.
    """
    from batchrun.estimate.dry_run import check_lines

    arguments = JobArguments.read(job, {})
    scoring = run_score_options(job, {})
    with dry_run_of(arguments, read_environment(job), scoring) as (plan, estimate):
        rows = f"{job}: {rows_of_table(plan, shown_table(arguments.input_name))}"
        print_result(*check_lines(estimate, rows, plan.output_name))
    for problem in estimate.problems:
        warn(problem)
    return 2 if estimate.problems else 0
