"""The commands `status`, `list`, `export`, `costs`, `show`, `cancel` and `cleanup`, which work on an existing batch."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

import click

from batchrun.cli.app import cli, run_loop
from batchrun.cli.console import (
    facts_line,
    note,
    print_result,
    print_summary,
    progress_line,
    terminal,
    terminal_width,
    warn,
)
from batchrun.cli.env_file import announce_env_file, env_file_option, name_job_file, read_environment, variables_for
from batchrun.cli.job_arguments import JobArguments
from batchrun.cli.logs import with_log
from batchrun.cli.options import (
    CancelCommand,
    CleanupCommand,
    CleanupOption,
    LocalPath,
    OutputPath,
    SectionedOption,
    job_parameters,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchrun.job.options import Job

__all__ = [
    "CLEANUP_OPTIONS",
    "cancel",
    "cleanup",
    "costs",
    "export",
    "list_",
    "named_output",
    "output_argument",
    "show",
    "status",
]


CLEANUP_OPTIONS = frozenset(
    {
        "api_version",
        "azure",
        "concurrency",
        "header",
        "max_attempts",
        "organization",
        "project",
        "query",
        "rpm",
        "wait",
    }
)
"""The options of `Job` that `cleanup` accepts."""


def _output_path(name: str) -> Path:
    from batchrun.batch.paths import paths_of_output
    from batchrun.local_paths import check_local

    check_local(name, "OUTPUT")
    return paths_of_output(Path(name)).output


def named_output(context: click.Context, name: str) -> Path:
    """Return the given output, or the output that `run` would write today for the given job file."""
    from batchrun.job.file import is_job_file

    if not is_job_file(name) or context.resilient_parsing:
        return _output_path(name)
    name_job_file(context, name)
    return JobArguments.read(name, {}, sends=False).job_and_output()[1]


output_argument: Callable[[Callable[..., Any]], Callable[..., Any]] = click.argument(
    "output",
    type=OutputPath(),
    metavar="OUTPUT|JOB.toml",
    callback=lambda context, _parameter, name: named_output(context, name),
)
"""The argument that names a batch: its output, or a job file with that output."""


@cli.command()
@output_argument
@click.option("--json", "as_json", is_flag=True, help="Print JSON")
def status(output: Path, *, as_json: bool) -> None:
    """Show the status of a batch, even while it runs.

    If a job file is given, the output that it names is used.
    """
    from batchrun.batch.status import batch_status, status_lines

    facts = batch_status(output)
    print_result(*([facts_line(facts)] if as_json else status_lines(facts)))


@cli.command("list")
@click.argument("folder", required=False, type=LocalPath(path_type=Path), metavar="[FOLDER]")
@click.option("-r", "--recursive", is_flag=True, help="List the batches in all subfolders too")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array")
def list_(folder: Path | None, *, recursive: bool, as_json: bool) -> int:
    """List the batches in a folder, even while they run.

    FOLDER holds outputs with their journals. Default: the working folder and its folder outputs. Batches that run come
    first, then those that ran last. Nothing is written.
    """
    from batchrun.batch.listing import list_batches
    from batchrun.batch.listing_table import listing_lines
    from batchrun.clock import utc_now

    if folder is not None and not folder.is_dir():
        raise click.UsageError(f"{folder}: no such folder" if not folder.exists() else f"{folder}: is not a folder")
    folders = [folder] if folder is not None else [Path(), Path("outputs")]
    batches, unreadable = list_batches(folders, recursive=recursive)
    if as_json:
        print_result(facts_line([*batches, *({"journal": str(e.journal), "problem": e.problem} for e in unreadable)]))
        return 0
    if not batches and not unreadable:
        note(f"no batches in {' or '.join(str(each) for each in folders)}" + ("" if recursive else "; -r looks deeper"))
    print_result(*listing_lines(batches, unreadable, now=utc_now().astimezone(), width=terminal_width()))
    return 0


@cli.command()
@output_argument
@click.option("-o", "--to", type=LocalPath(path_type=Path), help="File to write. Default: OUTPUT")
def export(output: Path, *, to: Path | None) -> None:
    """Write the output of a batch from its journal.

    It works while the batch runs, and writes the answers so far. If a job file is given, the output that it names is
    used.
    """
    from batchrun.batch.export import export_table
    from batchrun.wording import rows_text

    rows = export_table(output, to or output)
    note(f"{rows_text(rows)} written: {to or output}")


@cli.command()
@output_argument
@click.option(
    "--prices",
    type=LocalPath(path_type=Path),
    help="Job file with the [prices] to use. Default: the prices of the batch and the current price list",
    metavar="FILE.toml",
)
@env_file_option
@click.option("--write", is_flag=True, help="Replace the recorded costs in the journal with the recalculated ones")
@click.option("--json", "as_json", is_flag=True, help="Print JSON")
def costs(output: Path, prices: Path | None, *, write: bool, as_json: bool) -> None:
    """Recalculate the cost of a batch.

    The cost is calculated from the recorded token usage, and shown next to the recorded cost. If a job file is given,
    the output that it names is used; its prices are used only with --prices.
    """
    from batchrun.estimate.recount import batch_costs, cost_facts, cost_lines, prices_of_file

    own_prices = prices_of_file(prices, variables_for(str(prices))) if prices is not None else None
    if own_prices is not None:
        announce_env_file()
    batch_cost = batch_costs(output, own_prices, write=write)
    print_result(*([facts_line(cost_facts(batch_cost))] if as_json else cost_lines(batch_cost)))


@cli.command()
@output_argument
@click.argument("row", metavar="ROW")
@env_file_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON")
def show(output: Path, row: str, *, as_json: bool) -> None:
    """Print the thread of one row.

    The thread is printed with its prompt, attempts, messages, run, steps and usage. ROW is the position of the row,
    starting at 0, or its key if the batch has --key. If a job file is given, the output that it names is used.
    """
    from batchrun.batch.show import row_facts, row_lines

    story = run_loop(partial(row_facts, output, row, read_environment()))
    print_result(*([facts_line(story)] if as_json else row_lines(story)))


@cli.command(cls=CleanupCommand)
@click.argument("target", type=OutputPath(), metavar="OUTPUT|JOB.toml")
@partial(job_parameters, only=CLEANUP_OPTIONS)
@env_file_option
@click.option("--in-flight", is_flag=True, help="Also delete objects that rows in flight need", cls=CleanupOption)
@click.option("--dry-run", is_flag=True, help="List the objects without deleting them", cls=CleanupOption)
@click.option("--quiet", is_flag=True, help="Print only errors", cls=SectionedOption)
@click.option("--json", "as_json", is_flag=True, help="Print JSON", cls=SectionedOption)
@with_log()
def cleanup(target: str, *, in_flight: bool, dry_run: bool, quiet: bool, as_json: bool, **options: Any) -> int:
    """Delete the objects that a batch created at the service.

    These are threads, conversations, responses, files (also those of the Batch API) and the batch's assistant. The
    answers are kept. Objects that rows in flight need are kept too, so that the batch can be resumed. Run the same
    command again to continue an interrupted cleanup. If a job file is given, its headers and other connection options
    are used. OUTPUT may also be a journal that --fresh set aside.
    """
    from batchrun.batch.cleanup import clean_up
    from batchrun.batch.cleanup_summary import cleanup_facts, cleanup_line
    from batchrun.batch.display import watch_cleanup

    job, output = _connection(target, options)
    summary = run_loop(
        partial(
            clean_up,
            output,
            job,
            read_environment(target),
            in_flight=in_flight,
            show=(lambda made: print_result(f"{made.kind} {made.object_id}")) if dry_run else None,
            watch=None if quiet or as_json else partial(watch_cleanup, cast(TextIO, terminal()), progress_line),
        )
    )
    if as_json and not dry_run:
        print_summary(facts_line(cleanup_facts(summary)))
    elif not quiet or summary.stop is not None:
        note(cleanup_line(summary, dry_run=dry_run))
    return 0 if dry_run else summary.exit_code


@cli.command(cls=CancelCommand)
@click.argument("target", type=OutputPath(), metavar="OUTPUT|JOB.toml")
@partial(job_parameters, only=CLEANUP_OPTIONS - {"concurrency", "rpm", "max_attempts"})
@env_file_option
@click.option("--quiet", is_flag=True, help="Print only errors", cls=SectionedOption)
@click.option("--json", "as_json", is_flag=True, help="Print JSON", cls=SectionedOption)
@with_log()
def cancel(target: str, *, quiet: bool, as_json: bool, **options: Any) -> int:
    """Cancel what a batch has at the service's Batch API.

    This cancels the service's batches that --batch-api made for this output, waits up to 15 minutes until they have
    ended, and writes the answers that came back. Rows without an answer are pending; the next run asks them. Other
    batches at the service are not touched. If a job file is given, its headers and other connection options are used.
    """
    from batchrun.batch.cancel import cancel_batch, cancel_exit_code, cancel_lines
    from batchrun.errors import BatchRefused, ServiceFault

    job, output = _connection(target, options)
    show = None if quiet or as_json else progress_line
    try:
        facts = run_loop(partial(cancel_batch, output, job, read_environment(target), show=show))
    except ServiceFault as fault:
        warn(str(fault))
        return BatchRefused.exit_code if isinstance(fault, BatchRefused) else 3
    if as_json:
        print_summary(facts_line(facts))
    elif not quiet:
        note(*cancel_lines(facts))
    return cancel_exit_code(facts)


def _connection(target: str, options: dict[str, Any]) -> tuple[Job, Path]:
    """Return the job with the options of the connection, and the output that the argument of a command means."""
    from batchrun.job.file import is_job_file
    from batchrun.job.validation import make_job

    arguments = JobArguments.read(target, options)
    if is_job_file(target):
        return arguments.job_and_output()
    return make_job(arguments.options), _output_path(target)
