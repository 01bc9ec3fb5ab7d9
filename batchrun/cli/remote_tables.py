"""Copies of remote tables for the commands that only read a table."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from batchrun.local_paths import is_url

__all__ = ["local_table", "need_output"]


def local_table(name: str) -> str:
    """Return a path of a table: its own, or that of a copy of a remote table, which is deleted after the command.

    Raises:
        InputError: the remote table cannot be read.
        OutputError: the copy cannot be written.
    """
    if not is_url(name):
        return name
    from batchrun.tables.place import Place, copy_in

    place = Place.find(name)
    folder = click.get_current_context().with_resource(tempfile.TemporaryDirectory(prefix="batchrun-"))
    # The name of a folder of parts is in messages and on pages.
    copy = Path(folder) / (place.url.rstrip("/").rpartition("/")[2] or "table")
    place.copy(copy)
    return copy_in(copy, place.url)


def need_output(table: str, output: Path | None) -> None:
    """Refuse a remote table without --output, since the default is next to the table.

    Raises:
        UsageError: --output is missing.
    """
    if is_url(table) and output is None:
        raise click.UsageError("--output is required for a table at a URL: the default is next to the table")
