"""The commands `run`, `init` and `check`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batchrun.cli.app import cli, interrupts, run_loop
from batchrun.cli.console import deliver, facts_line, note, say, terminal, warn
from batchrun.cli.given import given_options, job_and_output
from batchrun.cli.options import CostOption, LocalPath, SectionedCommand, SectionedOption, job_parameters
from batchrun.cli.progress import seen
from batchrun.cli.score_run import run_spec, score_run
from batchrun.cli.scoring_flags import run_score_options, scoring_flags

if TYPE_CHECKING:
    from batchrun.batch.plan import Plan
    from batchrun.batch.run_summary import Summary
    from batchrun.job.environment import Environment
    from batchrun.scoring.score_options import ScoreOptions

__all__ = ["check", "init", "run"]


@cli.command(cls=SectionedCommand)
@click.argument("table", type=LocalPath(), metavar="TABLE|JOB.toml")
@job_parameters
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
def run(table: str, *, dry_run: bool, pilot: int | None, quiet: bool, as_json: bool, **options: Any) -> int:
    """Run every row of a table, or a job file.

    TABLE is a .csv, .tsv, .jsonl or .parquet file, or - for CSV on standard input. Run the same command again to
    resume: finished rows are not run again, and rows in flight continue where they were. Flags override the job file.
    """
    from batchrun.batch.ping import pinged
    from batchrun.batch.run_summary import summary_line
    from batchrun.job.environment import Environment

    environment = Environment.read(os.environ)
    scoring = run_score_options(table, options)
    name, folder, given = given_options(table, options)
    if dry_run and pilot is not None:
        raise click.UsageError("--dry-run sends nothing, --pilot sends some rows: say one of them")
    if name == "-" and not quiet and sys.stdin is not None and sys.stdin.isatty():
        end = "Ctrl-Z and Enter end" if os.name == "nt" else "Ctrl-D ends"
        note(f"reading CSV from standard input: a line of column names, then rows; {end} it")
    if dry_run:
        return _dry_run(name, folder, given, environment, scoring, quiet=quiet, as_json=as_json)
    if pilot is not None:
        plan = _plan(name, folder, given, environment)
        return _run_pilot(plan, pilot, environment, quiet=quiet, as_json=as_json)
    _refuse_overlap(name, folder, given)
    url = given.get("ping")
    # Whatever goes wrong from here on, the watch hears of it; a wrong type of URL is `make_job`'s to refuse.
    with pinged(url if isinstance(url, str) else None, warn) as (verdict, leaving):
        plan = _plan(name, folder, given, environment)
        spec = None
        if scoring is not None:
            spec = run_spec(plan, scoring, given, quiet=quiet or as_json, leaving=leaving)
        summary = _run_plan(plan, environment, leaving, quiet=quiet, as_json=as_json)
        verdict.exit_code, verdict.line = summary.exit_code, summary_line(summary)
        if scoring is not None and spec is not None:
            below, line = score_run(summary, scoring, spec, quiet=quiet, as_json=as_json)
            if below:
                verdict.exit_code, verdict.line = summary.exit_code or below, f"{line} · {verdict.line}"
    if _is_logged(quiet=quiet, as_json=as_json):
        note(f"{_now()} · ended with exit code {verdict.exit_code}")
    return verdict.exit_code


def _refuse_overlap(name: str, folder: Path, given: Mapping[str, Any]) -> None:
    """Where another batch works on the output, that is said before the watch hears of a start: the other one is fine.

    Raises:
        OutputHeld: it does, and this one is not to wait.
    """
    from batchrun.batch.lock import refuse_held
    from batchrun.batch.paths import paths_for
    from batchrun.errors import BatchrunError

    try:
        job, output = job_and_output(name, folder, given)
    except BatchrunError:
        return  # it is raised again where the watch hears of it
    if not job.wait:
        refuse_held(paths_for(output).lock)


def _is_logged(*, quiet: bool, as_json: bool) -> bool:
    """Whether lines for people go to a log, where they need a date."""
    return not quiet and not as_json and not terminal().isatty()


def _now() -> str:
    """Date, time and offset of the machine's time zone."""
    from batchrun.clock import utc_now

    return utc_now().astimezone().isoformat(sep=" ", timespec="seconds")


def _tell_no_key(problem: str) -> None:
    warn(f"no API key is set: batchrun run would stop with exit code 2: {problem}")


def _plan(name: str, folder: Path, given: Mapping[str, Any], environment: Environment) -> Plan:
    from batchrun.batch.plan import make_plan

    job, output = job_and_output(name, folder, given)
    return make_plan(job, name, environment, output)


def _dry_run(
    name: str,
    folder: Path,
    given: Mapping[str, Any],
    environment: Environment,
    scoring: ScoreOptions | None,
    *,
    quiet: bool,
    as_json: bool,
) -> int:
    from batchrun.estimate.dry_plan import dry_plan
    from batchrun.estimate.dry_run import dry_run, dry_run_facts, dry_run_lines
    from batchrun.estimate.token_guess import o200k_counter

    job, output = job_and_output(name, folder, given)
    with dry_plan(job, name, environment, output) as plan:
        if scoring is not None:
            run_spec(plan, scoring, given, on_no_key=_tell_no_key)
        found = dry_run(plan, count=o200k_counter())
    if as_json:
        deliver(facts_line(dry_run_facts(found)))
    elif not quiet:
        deliver(*dry_run_lines(found))
    else:
        for line in (*found.examples, *found.problems):
            warn(line)
    return found.exit_code


def _run_pilot(plan: Plan, size: int, environment: Environment, *, quiet: bool, as_json: bool) -> int:
    from batchrun.estimate.pilot import pilot_facts, pilot_lines, run_pilot

    watch, leave = seen(plan, os._exit, quiet=quiet, as_json=as_json)
    found = run_loop(run_pilot(plan, environment, size, watch=watch, interrupts=interrupts(), leave=leave))
    if as_json:
        say(facts_line(pilot_facts(found)))
    elif not quiet:
        note(*pilot_lines(found))
    elif found.summary.stop is not None:
        warn(found.summary.stop.reason)
    return found.exit_code


def _run_plan(
    plan: Plan, environment: Environment, leaving: Callable[[int], None], *, quiet: bool, as_json: bool
) -> Summary:
    from batchrun.batch.assembly import price_list
    from batchrun.batch.run import run_batch
    from batchrun.batch.run_summary import summary_facts, summary_line, summary_lines
    from batchrun.wording import rows_text, shown_path

    price_list(plan)  # a wrong table of prices is refused before anything is said to have started
    if _is_logged(quiet=quiet, as_json=as_json):
        what = f"{rows_text(plan.rows)} of {shown_path(Path(plan.input_name or '-'))}"
        where = f"{plan.answered_by()}, answers to {shown_path(plan.paths.output)}"
        note(f"{_now()} · started: {what}, to be asked of {where}")
    watch, leave = seen(plan, leaving, quiet=quiet, as_json=as_json)
    tell = (lambda _: None) if quiet else note
    summary = run_loop(run_batch(plan, environment, watch=watch, interrupts=interrupts(), leave=leave, notify=tell))
    if as_json:
        say(facts_line(summary_facts(summary)))
    elif not quiet:
        note(*summary_lines(summary))
    elif summary.exit_code:
        warn(f"{_now()} · {summary_line(summary)}")
    return summary


@cli.command()
@click.argument("table", type=LocalPath(), metavar="TABLE")
@click.option("-o", "--output", type=LocalPath(path_type=Path), help="File to write. Default: TABLE's name with .toml")
def init(table: str, output: Path | None) -> None:
    """Write a first job file for a table.

    The file can be run as it is; its comments explain every option.
    """
    from batchrun.batch.first_job import first_job, write_new
    from batchrun.tables import ReadOptions, open_source

    source = open_source(table, ReadOptions())
    path = output or Path(table).with_suffix(".toml")
    write_new(path, first_job(os.path.relpath(table, path.parent), source.columns))
    note(f"written: {path}; next: batchrun check {path}")


@cli.command()
@click.argument("job", type=LocalPath(), metavar="JOB.toml")
def check(job: str) -> None:
    """Check a job file, its table and its template without sending anything."""
    from batchrun.estimate.dry_plan import dry_plan
    from batchrun.estimate.dry_run import cost_text, dry_run
    from batchrun.estimate.token_guess import o200k_counter
    from batchrun.job.environment import Environment
    from batchrun.wording import rows_text, shown_path

    name, folder, given = given_options(job, {})
    made, output = job_and_output(name, folder, given)
    scoring = run_score_options(job, {})
    with dry_plan(made, name, Environment.read(os.environ), output) as plan:
        if scoring is not None:
            run_spec(plan, scoring, given, on_no_key=_tell_no_key)
        found = dry_run(plan, count=o200k_counter())
        deliver(
            f"{job}: {rows_text(plan.rows)} of {shown_path(Path(name))}, to be asked of {plan.answered_by()}, "
            f"answers to {shown_path(plan.paths.output)}",
            f"cost: {cost_text(found)}",
            *found.notices,
        )
