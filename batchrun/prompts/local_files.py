"""Local files for a service: finding, checking and hashing them before anything is sent."""

from __future__ import annotations

import glob
import hashlib
import itertools
import json
import math
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import urlsplit

from batchrun.errors import InputError
from batchrun.local_paths import check_local
from batchrun.records import Attachment, Value

__all__ = [
    "IMAGE_TYPES",
    "MAX_FILE_BYTES",
    "AttachmentError",
    "Attachments",
    "LocalFile",
    "attachments_in",
    "is_url",
    "kind_of",
    "matching_files",
    "sha256_of",
]

MAX_FILE_BYTES = 512 * 1024 * 1024
"""Maximum bytes of one file that services accept."""

_MAX_FILES = 10_000
"""Maximum files of a vector store (https://platform.openai.com/docs/assistants/tools/file-search)."""

IMAGE_TYPES: Mapping[str, str] = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
}
"""Image types that models accept, by file extension. Other images are sent as files."""


class AttachmentError(Exception):
    """The files of a row cannot be attached. The row fails and the batch continues. The text is one line."""

    error_type = "bad_attachment"


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
            file = _local_file(path)
        except _UnusableFileError as exc:
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


class _UnusableFileError(Exception):
    """A file cannot be sent. The text is the reason without the name of the file."""


def _local_file(path: Path) -> LocalFile:
    """Return the file with its hash, or raise `_UnusableFileError`."""
    size = _checked_status(path).st_size
    try:
        return LocalFile(path, sha256_of(path), size)
    except OSError as exc:
        raise _UnusableFileError(f"cannot be read ({_reason(exc)})") from exc


def _checked_status(path: Path) -> os.stat_result:
    """Return the status of a file that can be sent, or raise `_UnusableFileError`."""
    try:
        status = path.stat()
    except FileNotFoundError:
        raise _UnusableFileError("no such file") from None
    except (OSError, ValueError) as exc:
        raise _UnusableFileError(f"cannot be read ({_reason(exc)})") from None
    if not stat.S_ISREG(status.st_mode):
        raise _UnusableFileError("is a folder; expected a file" if path.is_dir() else "is not a regular file")
    if status.st_size == 0:
        raise _UnusableFileError("is empty; services do not accept empty files")
    if status.st_size > MAX_FILE_BYTES:
        raise _UnusableFileError(f"has {status.st_size:,} bytes; services accept at most {MAX_FILE_BYTES:,}")
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


# -- files of rows ----------------------------------------------------------------------------------------------


class Attachments:
    """The attachments that the cells of rows name. A batch has one instance.

    Mutable state: `_hashes`, the hashes of files by path, modification time and size, so that a file in many rows is
    read once.
    """

    def __init__(self) -> None:
        self._hashes: dict[tuple[str, int, int], str] = {}

    def of_cell(self, cell: Value, folder: Path) -> tuple[Attachment, ...]:
        """Return the attachments of one row; empty if the cell is empty.

        A cell has a path or an http(s) URL, or several of them: one per line, as a JSON list, or as a list.

        Args:
            cell: the cell of the row.
            folder: folder that relative paths start from: the folder of the input file.

        Raises:
            AttachmentError: an attachment cannot be used.
        """
        return self.with_hashes(attachments_in(cell), folder)

    def with_hashes(self, attachments: Sequence[Attachment], folder: Path) -> tuple[Attachment, ...]:
        """Return the attachments, with the hashes of those that are local files.

        Raises:
            AttachmentError: an attachment cannot be used.
        """
        return tuple(self._with_hash(attachment, folder) for attachment in attachments)

    def _with_hash(self, attachment: Attachment, folder: Path) -> Attachment:
        source = attachment.source
        if "://" in source:
            return attachment
        path = folder / source
        try:
            return replace(attachment, sha256=self._hash(path))
        except _UnusableFileError as exc:
            hint = ""
            if "no such file" in str(exc):
                several = (
                    "; write several paths one per line, or as a JSON list" if ";" in source or "," in source else ""
                )
                hint = f" in {folder.absolute()}{several}"
            raise AttachmentError(f"attachment {source[:200]!r}: {exc}{hint}") from None

    def _hash(self, path: Path) -> str:
        """Return the hash of a file, or raise `_UnusableFileError`."""
        status = _checked_status(path)
        known = (str(path), status.st_mtime_ns, status.st_size)
        if known not in self._hashes:
            self._hashes[known] = _local_file(path).sha256
        return self._hashes[known]


def attachments_in(cell: Value) -> tuple[Attachment, ...]:
    """Return the attachments that a cell names, without checking that they exist.

    Raises:
        AttachmentError: the cell contains something that cannot be a path or a URL.
    """
    sources = dict.fromkeys(_sources(cell))
    for source in sources:
        _check_url(source)
    return tuple(Attachment(source, kind_of(source), None) for source in sources)


def _check_url(source: str) -> None:
    if "://" in source and not is_url(source):
        raise AttachmentError(f"attachment {source[:200]!r}: is not the URL of a file; expected one such as https://…")


def is_url(source: str) -> bool:
    """Return whether a source is an http(s) URL, which the service fetches itself."""
    try:
        parts = urlsplit(source)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not any(map(str.isspace, source))


def _sources(cell: Value) -> Iterator[str]:
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return
    if isinstance(cell, str):
        listed = _json_list(cell)
        for source in cell.splitlines() if listed is None else listed:
            yield from _source(source)
    elif isinstance(cell, (list, tuple)):
        for each in cell:
            yield from _source(each)
    else:
        yield from _source(cell)


def _source(each: Any) -> Iterator[str]:
    if isinstance(each, Path):
        each = str(each)
    if not isinstance(each, str):
        raise AttachmentError(f"attachment {str(each)[:80]!r}: expected a path or a URL, not {type(each).__name__}")
    if "\0" in each:
        raise AttachmentError(f"attachment {each[:80]!r}: a path cannot contain a NUL character")
    if each.strip():
        yield each.strip()


def _json_list(text: str) -> list[Any] | None:
    if not text.lstrip().startswith("["):
        return None
    try:
        listed = json.loads(text)
    except ValueError:
        return None  # a path may begin with a bracket
    return listed if isinstance(listed, list) else None


def kind_of(source: str) -> Literal["image", "file"]:
    """Return the kind of an attachment by its file extension. A URL without an extension is taken for an image."""
    remote = "://" in source
    ending = PurePosixPath(urlsplit(source).path).suffix if remote else Path(source).suffix
    return "image" if ending.lower() in IMAGE_TYPES or (remote and not ending) else "file"
