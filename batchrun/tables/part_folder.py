"""A folder of parts that batchrun wrote: the names of its files, and the marker by which it is known."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from batchrun.errors import OutputError
from batchrun.tables.atomic import check_folder_writable, check_writable

__all__ = ["MARKER", "check_names", "check_place", "is_written", "mark", "part_name"]

MARKER: Final = "_SUCCESS"
"""The file that is written last, as Spark does."""
_PART: Final = re.compile(r"part-[0-9]{5,}(\.[a-z0-9]+)+")


def part_name(number: int, ending: str) -> str:
    """Return the name of a part, counted from 0, with its ending such as `.csv.gz`."""
    return f"part-{number:05}{ending}"


def mark(folder: Path, parts: int, rows: int) -> None:
    """Write the marker of a folder that is whole.

    Raises:
        OSError: it cannot be written.
    """
    with (folder / MARKER).open("xb") as file:
        file.write(json.dumps({"written_by": "batchrun", "parts": parts, "rows": rows}).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def is_written(folder: Path) -> bool:
    """Return whether batchrun wrote the folder."""
    try:
        return bool(json.loads((folder / MARKER).read_bytes())["written_by"] == "batchrun")
    except (OSError, ValueError, KeyError, TypeError):
        return False


def check_place(path: Path, *, is_folder: bool) -> None:
    """Check that an output, a file or a folder of parts, can be written at `path`. The folder above it is created.

    Raises:
        OutputError: it cannot be written, something else is there, or the folder has files of others.
    """
    if not is_folder:
        check_writable(path)
        return
    check_folder_writable(path)
    if path.exists():
        check_names(str(path), os.listdir(path), is_own=is_written(path))  # noqa: PTH208 - names


def check_names(place: str, names: Iterable[str], *, is_own: bool) -> None:
    """Check that nothing of others is in a folder whose parts are going to be replaced.

    Args:
        place: the folder, for the message.
        names: the names of the files in it.
        is_own: the folder has a marker of batchrun.

    Raises:
        OutputError: it has such a file. Names that begin with `_` or `.` do not count.
    """
    seen = sorted(name for name in names if not name.startswith(("_", ".")))
    others = [name for name in seen if not is_own or _PART.fullmatch(name) is None]
    if others:
        raise OutputError(
            f"{place}: this folder has files that batchrun has not written, such as {others[0]}, and an output "
            "replaces all of it; name another one"
        )
