"""The commands `assistants export` and `assistants import`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from batchrun.cli.app import cli, run_loop
from batchrun.cli.console import note, print_result
from batchrun.cli.env_file import env_file_option, read_environment
from batchrun.cli.options import LocalPath
from batchrun.records import Settings

__all__ = ["assistants", "assistants_export", "assistants_import"]


@cli.group()
def assistants() -> None:
    """Convert assistants into job files.

    Use them to move to a service that has no assistants.
    """


@assistants.command("export")
@click.argument("assistant_id", metavar="ASST_ID")
@click.option("-o", "--output", type=LocalPath(path_type=Path), help="File to write. Default: standard output")
@click.option(
    "--base-url", help="Base URL of the service. Default: environment variable OPENAI_BASE_URL", metavar="URL"
)
@env_file_option
def assistants_export(assistant_id: str, output: Path | None, base_url: str | None) -> None:
    """Fetch an assistant from a service and write it as a job file."""
    from batchrun.services.assistant_object import fetch_assistant

    _write_job(run_loop(partial(fetch_assistant, assistant_id, base_url, read_environment())), output)


@assistants.command("import")
@click.argument("file", type=LocalPath(path_type=Path), metavar="FILE.json")
@click.option("-o", "--output", type=LocalPath(path_type=Path), help="File to write. Default: standard output")
def assistants_import(file: Path, output: Path | None) -> None:
    """Convert the JSON of an assistant into a job file.

    FILE.json holds the assistant as the API returns it.
    """
    from batchrun.job.assistant import read_assistant

    _write_job(read_assistant(file), output)


def _write_job(assistant: Settings, output: Path | None) -> None:
    from batchrun.batch.first_job import write_new
    from batchrun.job.assistant import job_of_assistant
    from batchrun.job.file import job_toml

    options, dropped = job_of_assistant(assistant)
    title = " · ".join(str(assistant[key]) for key in ("name", "id", "description") if assistant.get(key))
    comments = [f"From the assistant {' '.join(title.split())}"] if title else ["From an assistant"]
    comments += [f"Not carried over: {line}" for line in dropped]
    comments += [
        "",
        "To run this file, name the input table here:",
        'input = "questions.csv"',
    ]
    text = job_toml(options, tuple(comments))
    if output is None:
        print_result(*text.splitlines())
    else:
        write_new(output, text)
    note(*(f"not carried over: {line}" for line in dropped))
