"""`convert`: tables from and to the files of other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from batchrun.cli.app import cli
from batchrun.cli.console import note
from batchrun.cli.options import LocalPath

__all__ = ["convert"]

_FORMATS = ("table", "openai-evals", "batch-requests", "batch-results", "inspect", "promptfoo")
"""As `batchrun.scoring.formats.convert.FORMATS`, which is too heavy to import for `--help`; a test compares the two."""


@cli.command()
@click.argument("file", type=LocalPath(), metavar="INPUT")
@click.argument("output", type=LocalPath(path_type=Path))
@click.option(
    "--from", "from_format", type=click.Choice(_FORMATS), default="table", show_default=True, help="Format of INPUT"
)
@click.option(
    "--to", "to_format", type=click.Choice(_FORMATS), default="table", show_default=True, help="Format of OUTPUT"
)
@click.option("--prompt", metavar="COLUMN", help="Column with the prompt. Default: question or prompt")
@click.option("--target", metavar="COLUMN", help="Column with the expected answer. Default: target or answer")
@click.option(
    "--key", metavar="COLUMN", help="Column with row ids. Default: custom_id or id, else the rows are numbered"
)
@click.option("--model", metavar="NAME", help="Model of batch requests")
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
def convert(file: str, output: Path, **options: Any) -> None:
    """Convert a table to the file format of another tool, or back.

    Parts that cannot be converted are listed.
    """
    from batchrun.scoring.formats.conversion import Conversion
    from batchrun.scoring.formats.convert import convert as convert_file
    from batchrun.wording import rows_text

    rows, notes = convert_file(file, output, Conversion(**options))
    note(*notes.lines(), f"{rows_text(rows)} written: {output}")
