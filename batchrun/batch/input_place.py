"""Where the input of a batch is: at its path, or, if it is in object storage, in a copy next to the journal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from batchrun.batch.lock import is_held
from batchrun.batch.paths import Paths
from batchrun.errors import OutputHeld
from batchrun.local_paths import is_url, shown_url
from batchrun.tables import folder_of_parts, is_parts
from batchrun.tables.place import Place, copy_in
from batchrun.tables.web_file import UNKNOWN_SIZE
from batchrun.wording import counted, shown_path

__all__ = ["attachments_folder", "input_name", "recorded_name", "with_local_copy"]


def with_local_copy(table: Any, paths: Paths, *, is_kept: bool) -> tuple[Any, tuple[str, ...]]:
    """Return a table that can be opened, and lines for people: the copy of a remote table, otherwise the table itself.

    The copy of an earlier run is used again if sizes and times of the remote files are the same.

    Args:
        is_kept: the copy is next to the journal; otherwise nobody else uses it, and the caller deletes it.

    Raises:
        InputError: the remote table cannot be read.
        OutputError: the copy cannot be written.
        OutputHeld: the copy must be replaced, and another batch is reading it.
    """
    if not is_url(table):
        return table, ()
    place = Place.find(table)
    if is_kept and is_held(paths.lock) and not place.has_copy(paths.copy):
        raise OutputHeld(f"another batch is writing this output (lock: {paths.lock}); a remote input cannot wait")
    is_new = place.copy(paths.copy)
    sizes = [size for _, size, _ in place.files]
    count = counted(len(sizes), "file") + (f", {sum(sizes):,} bytes" if UNKNOWN_SIZE not in sizes else "")
    what = "copied to" if is_new else "unchanged since it was copied to"
    where = shown_path(paths.copy) if is_kept else "a temporary folder"
    return copy_in(paths.copy, place.url), (f"{place.url}: {what} {where} ({count})",)


def input_name(table: object) -> str | None:
    """Return the path or the URL as people and the journal get it; None for a table in memory."""
    if isinstance(table, str) and is_url(table):
        return shown_url(table)
    return str(table) if isinstance(table, (str, Path)) else None


def recorded_name(name: str | None) -> str | None:
    """Return the name of an input for the journal: a path is absolute."""
    return name if name is None or name == "-" or is_url(name) else str(Path(name).absolute())


def attachments_folder(table: object) -> Path:
    """Return the base of relative attachment paths: the table's folder, or the working directory."""
    if not isinstance(table, (str, Path)) or table == "-" or is_url(table):
        return Path()
    return folder_of_parts(str(table)) if is_parts(str(table)) else Path(str(table)).parent
