"""The names of a table's parts: the files of a folder, or those that fit a pattern."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from pathlib import Path
from typing import Final

from batchrun.errors import InputError
from batchrun.local_paths import is_url, shown_url
from batchrun.tables.files import reading
from batchrun.tables.table_options import format_of, without_ending

__all__ = [
    "default_name",
    "exists",
    "folder_of_parts",
    "is_parts",
    "name_of_url",
    "part_files",
    "path_beside",
    "would_be_part",
]

_WILDCARD: Final = re.compile(r"[*?[]")
_PASSED_OVER: Final = ("_", ".")
"""Beginnings of names that are not parts: `_SUCCESS` and `.part-0.crc` of Spark, `_delta_log`, `.DS_Store`."""
_ANY_DEPTH: Final = "**"


def is_parts(name: str) -> bool:
    """Return whether a path names parts: it is a folder, or a pattern such as `in/*.parquet` that is not a file."""
    return os.path.isdir(name) or (_WILDCARD.search(name) is not None and not os.path.lexists(name))  # noqa: PTH112 - False for a name that the system refuses


def exists(name: str) -> bool:
    """Return whether a table is at its place. For a pattern it is not looked for its parts."""
    return os.path.exists(name) or is_parts(name)  # noqa: PTH110 - False for a name that the system refuses


def folder_of_parts(name: str) -> Path:
    """Return the folder, or the folders of a pattern before its first wildcard.

    >>> folder_of_parts("in/*/part-?.csv").as_posix()
    'in'
    """
    path = Path(name)
    if os.path.isdir(name):  # noqa: PTH112
        return path
    parts = path.parts
    return Path(*parts[: next(i for i, part in enumerate(parts) if _WILDCARD.search(part))])


def part_files(name: str) -> tuple[Path, ...]:
    """Return the files that are the parts of a table now, in the order of their names.

    Names that begin with `_` or `.` are passed over.

    Raises:
        InputError: there is none, a part is a folder, or the folder cannot be read.
    """
    folder, is_folder = folder_of_parts(name), os.path.isdir(name)  # noqa: PTH112
    with reading(name):
        found = list(folder.iterdir()) if is_folder else [Path(each) for each in glob.glob(name, recursive=True)]  # noqa: PTH207 - takes absolute patterns
    files = []
    for path in sorted(found):
        if any(part.startswith(_PASSED_OVER) for part in path.relative_to(folder).parts):
            continue
        if not path.is_dir():
            files.append(path)
        elif is_folder or _ANY_DEPTH not in name:
            raise InputError(f"{path}: is a folder, and parts are files; try '{folder}/*/*.csv'")
    if not files:
        what = "the folder has no files" if is_folder else "no file fits the pattern"
        raise InputError(f"{name}: {what}; names that begin with _ or . are passed over")
    return tuple(files)


def would_be_part(output: Path, name: str) -> bool:
    """Return whether an output would be a part of the table `name` the next time it is read."""
    if output.name.startswith(_PASSED_OVER):
        return False
    if os.path.isdir(name):  # noqa: PTH112
        return os.path.realpath(output.parent) == os.path.realpath(name)
    path, pattern = Path(os.path.abspath(output)), Path(os.path.abspath(name))  # noqa: PTH100 - no symbolic links
    if _ANY_DEPTH in name:
        return fnmatch.fnmatchcase(str(path), str(pattern))
    return len(path.parts) == len(pattern.parts) and all(map(fnmatch.fnmatchcase, path.parts, pattern.parts))


def default_name(name: str) -> str:
    """Return a file name for a table of parts: that of its folder, with the ending of its first part.

    It is `parts` where the pattern names no folder; the ending is `.csv` where a part has none that is known. A folder
    whose own name has the ending, such as `answers.parquet`, keeps its name.

    Raises:
        InputError: there are no parts.
    """
    first = part_files(name)[0]
    stem = os.path.basename(os.path.realpath(name)) if os.path.isdir(name) else folder_of_parts(name).name  # noqa: PTH112, PTH119
    try:
        format_of(first, first.name)
        ending = first.name.removeprefix(without_ending(first.name))
    except InputError:
        ending = ".csv"
    return (stem or "parts").removesuffix(ending) + ending


def name_of_url(url: str) -> str:
    """Return a remote table's own name; for a pattern that of its folder, with the ending of the pattern."""
    folder, _, name = shown_url(url).rstrip("/").rpartition("/")
    is_pattern = _WILDCARD.search(name) is not None
    return folder.rpartition("/")[2] + name.removeprefix(without_ending(name)) if is_pattern else name


def path_beside(name: str) -> Path:
    """Return the path next to which files about a table are: a file's own; for parts, one next to their folder; for a
    remote table, one in `outputs`.

    >>> path_beside("answers.csv").as_posix()
    'answers.csv'
    >>> path_beside("s3://bucket/in/*.csv").as_posix()
    'outputs/in.csv'
    """
    if is_url(name):
        return Path("outputs") / name_of_url(name)
    return folder_of_parts(name).parent / default_name(name) if is_parts(name) else Path(name)
