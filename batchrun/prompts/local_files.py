"""Local files for a service: finding, checking and hashing them before anything is sent."""

from __future__ import annotations

import glob
import hashlib
import itertools
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from batchrun.errors import InputError
from batchrun.local_paths import check_local

__all__ = [
    "MAX_FILE_BYTES",
    "LocalFile",
    "UnusableFileError",
    "checked_status",
    "local_file",
    "matching_files",
    "sha256_of",
]

MAX_FILE_BYTES = 512 * 1024 * 1024
"""Maximum bytes of one file that services accept."""

_MAX_FILES = 10_000
"""Maximum files of a vector store (https://platform.openai.com/docs/assistants/tools/file-search)."""


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file on this machine.

    Attributes:
        path: path of the file.
        sha256: SHA-256 of its content (hex).
        size: its bytes.
    """

    path: Path
    sha256: str
    size: int


def matching_files(globs: Sequence[str], folder: Path) -> tuple[LocalFile, ...]:
    """Return the files that match the patterns, sorted by path. Of files with the same content, the first is returned.

    A pattern is a path, a folder (for all files in it) or a text with `*`, `?`, `[…]` or `**`. Hidden files and folders
    match only if the pattern names them.

    Args:
        globs: the patterns.
        folder: folder that relative patterns start from.

    Raises:
        InputError: a pattern matches no file, or a file that services do not accept. The message names both.
    """
    pattern_of: dict[Path, str] = {}
    for pattern in globs:
        check_local(pattern, "--file-search")
        paths = _matching(pattern, folder)
        if not paths:
            raise InputError(f"--file-search {pattern}: matches no file in {folder.absolute()}")
        for path in paths:
            pattern_of.setdefault(path, pattern)
    distinct: dict[str, LocalFile] = {}
    for path in sorted(pattern_of):
        try:
            file = local_file(path)
        except UnusableFileError as exc:
            raise InputError(f"--file-search {pattern_of[path]}: {path}: {exc}") from exc
        distinct.setdefault(file.sha256, file)
    return tuple(distinct.values())


def _matching(pattern: str, folder: Path) -> list[Path]:
    mode = _mode(folder / pattern)
    if stat.S_ISREG(mode):
        return [folder / pattern]  # even if its name looks like a pattern
    if stat.S_ISDIR(mode):
        pattern = f"{glob.escape(pattern)}/**"
    names = glob.iglob(pattern, root_dir=folder, recursive=True)  # noqa: PTH207 - Path.glob finds hidden files too
    paths = (path for name in names if stat.S_ISREG(_mode(path := folder / name)))
    matching = list(itertools.islice(paths, _MAX_FILES + 1))
    if len(matching) > _MAX_FILES:
        raise InputError(f"--file-search {pattern}: matches more than {_MAX_FILES:,} files, the maximum of services")
    return matching


def _mode(path: Path) -> int:
    """Return the mode of a file or folder; 0 if it does not exist or cannot be read."""
    try:
        return path.stat().st_mode
    except (OSError, ValueError):
        return 0


class UnusableFileError(Exception):
    """A file cannot be sent. The text is the reason without the name of the file."""


def local_file(path: Path) -> LocalFile:
    """Return the file with its hash, or raise `UnusableFileError`."""
    size = checked_status(path).st_size
    try:
        return LocalFile(path, sha256_of(path), size)
    except OSError as exc:
        raise UnusableFileError(f"cannot be read ({_reason(exc)})") from exc


def checked_status(path: Path) -> os.stat_result:
    """Return the status of a file that can be sent, or raise `UnusableFileError`."""
    try:
        status = path.stat()
    except FileNotFoundError:
        raise UnusableFileError("no such file") from None
    except (OSError, ValueError) as exc:
        raise UnusableFileError(f"cannot be read ({_reason(exc)})") from None
    if not stat.S_ISREG(status.st_mode):
        raise UnusableFileError("is a folder; expected a file" if path.is_dir() else "is not a regular file")
    if status.st_size == 0:
        raise UnusableFileError("is empty; services do not accept empty files")
    if status.st_size > MAX_FILE_BYTES:
        raise UnusableFileError(f"has {status.st_size:,} bytes; services accept at most {MAX_FILE_BYTES:,}")
    return status


def _reason(error: Exception) -> str:
    return ((error.strerror if isinstance(error, OSError) else None) or str(error)).lower()


def sha256_of(path: Path) -> str:
    """Return the SHA-256 (hex) of a file's content.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
