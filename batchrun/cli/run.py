"""The command `run`, with its dry run and its pilot."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from batchrun.cli.app import cli, interrupts, run_loop
from batchrun.cli.console import facts_line, note, now_text, print_result, print_summary, terminal, warn
from batchrun.cli.dry_batch import batch_text, dry_run_of
from batchrun.cli.env_file import env_file_option, read_environment
from batchrun.cli.job_arguments import JobArguments
from batchrun.cli.logs import with_log
from batchrun.cli.options import CostOption, SectionedCommand, SectionedOption, TablePath, job_parameters
from batchrun.cli.progress import progress_of, reading
from batchrun.cli.score_run import run_spec, score_run
from batchrun.cli.scoring_flags import run_score_options, scoring_flags

if TYPE_CHECKING:
    from batchrun.batch.plan import Plan
    from batchrun.batch.run_summary import Summary
    from batchrun.job.environment import Environment
    from batchrun.scoring.score_options import ScoreOptions

__all__ = ["run"]

logger = logging.getLogger("batchrun")


@cli.command(cls=SectionedCommand)
@click.argument("table", type=TablePath(), metavar="TABLE|JOB.toml")
@job_parameters
@env_file_option
@click.option(
    "--dry-run",
    is_flag=True,
    help="Check everything and estimate tokens, cost and time without sending anything",
    cls=CostOption,
)
@click.option(
    "--pilot",
    type=click.IntRange(1, 100_000_000),
    help="Number of random rows to run for an estimate of the whole table; the other rows stay pending",
    metavar="N",
    cls=CostOption,
)
@scoring_flags("run")
@click.option("--quiet", is_flag=True, help="Print only errors", cls=SectionedOption)
@click.option("--json", "as_json", is_flag=True, help="Print progress and summary as JSON lines", cls=SectionedOption)
@with_log(dates_errors=True)
def run(table: str, *, dry_run: bool, pilot: int | None, quiet: bool, as_json: bool, **options: Any) -> int:
    """Run every row of a table, or a job file.

    TABLE is a CSV, Excel, JSON, Parquet or Arrow file, a folder or a quoted pattern of such files, the URL of one
    (s3://, gs://, abfss://, https://, hf://), or - for CSV on standard input. Run the same command again to resume:
    finished rows are not run again, and rows in flight continue where they were. Flags override the job file.
    """
    arguments = JobArguments.read(table, options)
    scoring = run_score_options(table, options)
    environment = read_environment(table)
    if dry_run and pilot is not None:
        raise click.UsageError("--dry-run and --pilot cannot be combined; give one of them")
    if arguments.input_name == "-" and not quiet and sys.stdin is not None and sys.stdin.isatty():
        key = "Ctrl-Z and Enter" if os.name == "nt" else "Ctrl-D"
        note(f"reading CSV from standard input: a line of column names, then rows; end with {key}")
    if dry_run:
        return _dry_run(arguments, environment, scoring, quiet=quiet, as_json=as_json)
    if pilot is not None:
        with reading(arguments.input_name, quiet=quiet):
            plan = _plan(arguments, environment)
        return _run_pilot(plan, pilot, environment, quiet=quiet, as_json=as_json)
    return _run_and_score(arguments, environment, scoring, quiet=quiet, as_json=as_json)


def _run_and_score(
    arguments: JobArguments, environment: Environment, scoring: ScoreOptions | None, *, quiet: bool, as_json: bool
) -> int:
    """Run a batch, score its output and notify its monitor."""
    from batchrun.sdk_import import import_sdk

    import_sdk()
    from batchrun.batch.ping import pinged
    from batchrun.batch.run_summary import summary_line

    _refuse_overlap(arguments)
    url = arguments.options.get("ping")
    # From here on, every error is reported to the monitor. `make_job` refuses a URL that is not text.
    monitored = pinged(url if isinstance(url, str) else None, warn, with_start=not arguments.options.get("no_wait"))
    with monitored as (verdict, before_exit):
        with reading(arguments.input_name, quiet=quiet):
            plan = _plan(arguments, environment)
        spec = None
        if scoring is not None:
            spec = run_spec(plan, scoring, arguments.options, quiet=quiet or as_json, before_exit=before_exit)
        summary = _run_plan(plan, environment, before_exit, quiet=quiet, as_json=as_json)
        verdict.exit_code, verdict.line = summary.exit_code, summary_line(summary)
        if scoring is not None and spec is not None:
            score_code, missed_bars = score_run(summary, scoring, spec, quiet=quiet, as_json=as_json)
            if score_code:
                verdict.exit_code = summary.exit_code or score_code
                verdict.line = f"{missed_bars} · {verdict.line}"
    if _is_logged(quiet=quiet, as_json=as_json):
        note(f"{now_text()} · ended with exit code {verdict.exit_code}")
    return verdict.exit_code


def _refuse_overlap(arguments: JobArguments) -> None:
    """Raise OutputHeld if another batch is writing the output and --wait is not given.

    This is checked before the monitor is notified of a start, because the other batch may be healthy.
    """
    from batchrun.batch.lock import refuse_held
    from batchrun.batch.paths import paths_for
    from batchrun.errors import BatchrunError

    try:
        job, output = arguments.job_and_output()
    except BatchrunError:
        return  # the same error is raised again later, where the monitor is notified of it
    if not job.wait:
        refuse_held(paths_for(output).lock)


def _is_logged(*, quiet: bool, as_json: bool) -> bool:
    """Return whether lines for people go to a log, where they need a date."""
    return not quiet and not as_json and not terminal().isatty()


def _plan(arguments: JobArguments, environment: Environment) -> Plan:
    from batchrun.batch.plan import make_plan

    job, output = arguments.job_and_output()
    with arguments.located():
        return make_plan(job, arguments.input_name, environment, output)


def _dry_run(
    arguments: JobArguments, environment: Environment, scoring: ScoreOptions | None, *, quiet: bool, as_json: bool
) -> int:
    from batchrun.estimate.dry_run import dry_run_facts, dry_run_lines

    with reading(arguments.input_name, quiet=quiet), dry_run_of(arguments, environment, scoring) as (_, estimate):
        pass
    if as_json:
        print_result(facts_line(dry_run_facts(estimate)))
    elif not quiet:
        print_result(*dry_run_lines(estimate))
    else:
        for line in (*estimate.examples, *estimate.problems):
            warn(line)
    return estimate.exit_code


def _batch_text(plan: Plan) -> str:
    from batchrun.local_paths import shown_table

    return batch_text(plan, shown_table(plan.input_name or "-"))


def _run_pilot(plan: Plan, size: int, environment: Environment, *, quiet: bool, as_json: bool) -> int:
    from batchrun.estimate.pilot import pilot_facts, pilot_lines, run_pilot

    if _is_logged(quiet=quiet, as_json=as_json):
        note(f"{now_text()} · started: pilot of {size:,} of {_batch_text(plan)}")
    watch, leave = progress_of(plan, os._exit, quiet=quiet, as_json=as_json)
    pilot = run_loop(partial(run_pilot, plan, environment, size, watch=watch, interrupts=interrupts(), leave=leave))
    if as_json:
        print_summary(facts_line(pilot_facts(pilot)))
    elif not quiet:
        note(*pilot_lines(pilot))
    elif pilot.summary.stop is not None:
        warn(f"{now_text()} · {pilot.summary.stop.reason}")
    if _is_logged(quiet=quiet, as_json=as_json):
        note(f"{now_text()} · ended with exit code {pilot.exit_code}")
    return pilot.exit_code


def _run_plan(
    plan: Plan, environment: Environment, before_exit: Callable[[int], None], *, quiet: bool, as_json: bool
) -> Summary:
    from batchrun.batch.assembly import price_list
    from batchrun.batch.run import run_batch
    from batchrun.batch.run_summary import summary_facts, summary_line, summary_lines

    price_list(plan)  # wrong prices are refused before the log says that the batch has started
    if _is_logged(quiet=quiet, as_json=as_json):
        note(f"{now_text()} · started: {_batch_text(plan)}")
    watch, leave = progress_of(plan, before_exit, quiet=quiet, as_json=as_json)
    notify = (lambda _: None) if quiet else note
    is_new = not plan.paths.journal.exists()
    summary = run_loop(
        partial(run_batch, plan, environment, watch=watch, interrupts=interrupts(), leave=leave, notify=notify)
    )
    for line in summary_lines(summary):
        logger.info(line)
    if as_json:
        print_summary(facts_line(summary_facts(summary)))
    elif not quiet:
        note(*summary_lines(summary))
        if is_new and summary.output is not None:
            note(plan.paths.beside())
    elif summary.exit_code and not summary.is_submitted:
        warn(f"{now_text()} · {summary_line(summary)}")
    return summary
