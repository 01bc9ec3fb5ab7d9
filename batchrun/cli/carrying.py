"""`assistants`: carry assistants over into job files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batchrun.cli.group import cli, run_loop
from batchrun.cli.options import LocalPath
from batchrun.cli.printing import deliver, note

if TYPE_CHECKING:
    pass

__all__ = ["assistants", "assistants_export", "assistants_import"]


@cli.group()
def assistants() -> None:
    """Carry assistants over into job files, for services that know none."""


@assistants.command("export")
@click.argument("assistant_id", metavar="ASST_ID")
@click.option("-o", "--output", type=LocalPath(path_type=Path), help="Write there. Default: standard output")
@click.option("--base-url", help="Where the assistant is. Default: the environment's OPENAI_BASE_URL", metavar="URL")
def assistants_export(assistant_id: str, output: Path | None, base_url: str | None) -> None:
    """Read the assistant ASST_ID from a server and write it as a job file."""
    from batchrun.inspection import fetch_assistant
    from batchrun.job import Environment

    _write_job(run_loop(fetch_assistant(assistant_id, base_url, Environment.read(os.environ))), output)


@assistants.command("import")
@click.argument("file", type=LocalPath(path_type=Path), metavar="FILE.json")
@click.option("-o", "--output", type=LocalPath(path_type=Path), help="Write there. Default: standard output")
def assistants_import(file: Path, output: Path | None) -> None:
    """Read the JSON of an assistant, as the API returned it, and write it as a job file."""
    from batchrun.carryover import read_assistant

    _write_job(read_assistant(file), output)


def _write_job(assistant: Mapping[str, Any], output: Path | None) -> None:
    from batchrun.carryover import job_of_assistant
    from batchrun.jobfile import job_toml
    from batchrun.starting import write_new

    options, lost = job_of_assistant(assistant)
    title = " · ".join(str(assistant[key]) for key in ("name", "id", "description") if assistant.get(key))
    comments = [f"From the assistant {' '.join(title.split())}"] if title else ["From an assistant"]
    comments += [f"Not carried over: {line}" for line in lost]
    comments += [
        "",
        "input is missing: say here which table to ask, and the file can be run:",
        'input = "questions.csv"',
    ]
    text = job_toml(options, tuple(comments))
    if output is None:
        deliver(*text.splitlines())
    else:
        write_new(output, text)
    note(*(f"not carried over: {line}" for line in lost))
