"""`convert`: tables from and to the files of other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from batchrun.cli.app import cli
from batchrun.cli.console import note
from batchrun.cli.env_file import read_environment
from batchrun.cli.options import LocalPath, TablePath
from batchrun.cli.remote_tables import local_table

__all__ = ["convert"]

_FORMATS = ("table", "openai-evals", "batch-requests", "batch-results", "messages", "inspect", "promptfoo", "lm-eval")
"""As `batchrun.scoring.formats.convert.FORMATS`, which is too heavy to import for `--help`; a test compares the two."""
_WRITTEN = tuple(name for name in _FORMATS if name not in ("messages", "lm-eval"))
"""Those that can be written."""


@cli.command()
@click.argument("files", type=TablePath(), metavar="INPUT...", nargs=-1, required=True)
@click.argument("output", type=LocalPath(path_type=Path))
@click.option(
    "--from", "from_format", type=click.Choice(_FORMATS), default="table", show_default=True, help="Format of INPUT"
)
@click.option(
    "--to", "to_format", type=click.Choice(_WRITTEN), default="table", show_default=True, help="Format of OUTPUT"
)
@click.option("--prompt", metavar="COLUMN", help="Column with the prompt. Default: question, prompt or messages")
@click.option("--target", metavar="COLUMN", help="Column with the expected answer. Default: target or answer")
@click.option(
    "--key", metavar="COLUMN", help="Column with row ids. Default: custom_id or id, else the rows are numbered"
)
@click.option("--model", metavar="NAME", help="Model of batch requests")
@click.option("--api", type=click.Choice(("responses", "chat")), help="Endpoint of batch requests. Default: as for run")
@click.option("--instructions", metavar="TEXT", help="System instructions of batch requests, or @FILE")
@click.option("--schema", type=LocalPath(), metavar="FILE", help="JSON schema of the answers to batch requests")
@click.option("--param", multiple=True, metavar="NAME=VALUE", help="Model parameter of batch requests; repeatable")
@click.option(
    "--join",
    type=LocalPath(),
    metavar="TABLE",
    help="Table whose rows get the batch results, matched by --key",
)
@click.option(
    "--no-header",
    is_flag=True,
    help="Read the first line of a CSV or TSV as a row; the columns are named column_1, column_2, …",
)
def convert(files: tuple[str, ...], output: Path, **options: Any) -> None:
    """Convert a table to the file format of another tool, or back.

    Several files, such as the pages of a list, become one table. An eval of
    OpenAI with its runs, and a configuration of promptfoo, become a job file
    if OUTPUT ends in .toml. With --to batch-requests, INPUT may be a job file.
    Parts that cannot be converted are listed.
    """
    from batchrun.scoring.formats.conversion import Conversion
    from batchrun.scoring.formats.convert import convert as convert_file
    from batchrun.wording import rows_text

    files = tuple(map(local_table, files))
    # Only requests depend on the environment: the service decides their endpoint.
    environment = read_environment(files[0]) if options["to_format"] == "batch-requests" else None
    rows, notes = convert_file(files, output, Conversion(**options), environment)
    note(*notes.lines(), f"{rows_text(rows)} written: {output}")
