"""Files on this machine that go to a service: found, told apart by their content, checked before anything is sent."""

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
    "files_of",
    "is_url",
    "kind_of",
    "named_in",
    "sha256_of",
]

MAX_FILE_BYTES = 512 * 1024 * 1024
"""What services take at most as one file."""

_MOST_FILES = 10_000
"""What a vector store takes (https://platform.openai.com/docs/assistants/tools/file-search)."""

IMAGE_TYPES: Mapping[str, str] = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
}
"""What models look at, by its ending; pictures of other kinds go along as files."""


class AttachmentError(Exception):
    """This row's files cannot be attached: the row fails, the batch goes on. `str(error)` is one line."""

    error_type = "bad_attachment"


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file on this machine.

    Attributes:
        sha256: of its content, hex.
        size: bytes.
    """

    path: Path
    sha256: str
    size: int


def files_of(globs: Sequence[str], folder: Path) -> tuple[LocalFile, ...]:
    """The files that the patterns name, sorted by path; of several with the same content the first.

    A pattern may be a path, a folder (all files below it) or hold `*`, `?`, `[…]` and `**`. What it finds in
    hidden files and folders is left out unless it names them.

    Args:
        folder: where relative patterns begin.

    Raises:
        InputError: a pattern finds nothing, or a file that no service takes; names both.
    """
    found: dict[Path, str] = {}
    for pattern in globs:
        check_local(pattern, "--file-search")
        paths = _matching(pattern, folder)
        if not paths:
            raise InputError(f"--file-search {pattern}: matches no file in {folder.absolute()}")
        for path in paths:
            found.setdefault(path, pattern)
    distinct: dict[str, LocalFile] = {}
    for path in sorted(found):
        try:
            file = _local_file(path)
        except _Unusable as exc:
            raise InputError(f"--file-search {found[path]}: {path}: {exc}") from exc
        distinct.setdefault(file.sha256, file)
    return tuple(distinct.values())


def _matching(pattern: str, folder: Path) -> list[Path]:
    named = _mode(folder / pattern)
    if stat.S_ISREG(named):
        return [folder / pattern]  # also where its name looks like a pattern
    if stat.S_ISDIR(named):
        pattern = f"{glob.escape(pattern)}/**"
    names = glob.iglob(pattern, root_dir=folder, recursive=True)  # noqa: PTH207 - Path.glob finds hidden files too
    paths = (path for name in names if stat.S_ISREG(_mode(path := folder / name)))
    matching = list(itertools.islice(paths, _MOST_FILES + 1))
    if len(matching) > _MOST_FILES:
        raise InputError(f"--file-search {pattern}: matches more than {_MOST_FILES:,} files, which no service takes")
    return matching


def _mode(path: Path) -> int:
    """What is there, 0 where there is nothing or it cannot be told."""
    try:
        return path.stat().st_mode
    except (OSError, ValueError):
        return 0


class _Unusable(Exception):
    """Why a file cannot be sent, without its name."""


def _local_file(path: Path) -> LocalFile:
    """Raises `_Unusable`."""
    size = _checked(path).st_size
    try:
        return LocalFile(path, sha256_of(path), size)
    except OSError as exc:
        raise _Unusable(f"cannot be read ({_reason(exc)})") from exc


def _checked(path: Path) -> os.stat_result:
    """Raises `_Unusable`."""
    try:
        status = path.stat()
    except FileNotFoundError:
        raise _Unusable("no such file") from None
    except (OSError, ValueError) as exc:
        raise _Unusable(f"cannot be read ({_reason(exc)})") from None
    if not stat.S_ISREG(status.st_mode):
        raise _Unusable("is a folder, where a file is expected" if path.is_dir() else "is no regular file")
    if status.st_size == 0:
        raise _Unusable("is empty, and services take no empty file")
    if status.st_size > MAX_FILE_BYTES:
        raise _Unusable(f"has {status.st_size:,} bytes, and services take {MAX_FILE_BYTES:,} at most")
    return status


def _reason(error: Exception) -> str:
    return ((error.strerror if isinstance(error, OSError) else None) or str(error)).lower()


def sha256_of(path: Path) -> str:
    """The hash of a file's content, hex.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# -- files of rows ----------------------------------------------------------------------------------------------


class Attachments:
    """What the cells of the column of attachments name. One for a batch.

    All state: the hashes of files seen so far, by path, time of change and size, so that a file that many rows name is
    read once.
    """

    def __init__(self) -> None:
        self._hashes: dict[tuple[str, int, int], str] = {}

    def of_cell(self, cell: Value, folder: Path) -> tuple[Attachment, ...]:
        """The attachments of one row; none where the cell is empty.

        A cell holds a path or an http(s) URL, or several of them: one a line, as a JSON list, or as a list.

        Args:
            folder: where relative paths begin: that of the input table.

        Raises:
            AttachmentError: one of them cannot be used.
        """
        return self.found(named_in(cell), folder)

    def found(self, named: Sequence[Attachment], folder: Path) -> tuple[Attachment, ...]:
        """The attachments with the hashes of those that are files here.

        Raises:
            AttachmentError: one of them cannot be used.
        """
        return tuple(self._found(attachment, folder) for attachment in named)

    def _found(self, attachment: Attachment, folder: Path) -> Attachment:
        source = attachment.source
        if "://" in source:
            return attachment
        path = folder / source
        try:
            return replace(attachment, sha256=self._hash(path))
        except _Unusable as exc:
            hint = ""
            if "no such file" in str(exc):
                several = (
                    "; several are written one a line, or as a JSON list" if ";" in source or "," in source else ""
                )
                hint = f" in {folder.absolute()}{several}"
            raise AttachmentError(f"attachment {source[:200]!r}: {exc}{hint}") from None

    def _hash(self, path: Path) -> str:
        """Raises `_Unusable`."""
        status = _checked(path)
        known = (str(path), status.st_mtime_ns, status.st_size)
        if known not in self._hashes:
            self._hashes[known] = _local_file(path).sha256
        return self._hashes[known]


def named_in(cell: Value) -> tuple[Attachment, ...]:
    """What a cell names, before anybody looks whether it is there.

    Raises:
        AttachmentError: something that can be no path and no URL.
    """
    sources = dict.fromkeys(_sources(cell))
    for source in sources:
        _check_url(source)
    return tuple(Attachment(source, kind_of(source), None) for source in sources)


def _check_url(source: str) -> None:
    if "://" in source and not is_url(source):
        raise AttachmentError(f"attachment {source[:200]!r}: is no URL of a file; one such as https://… is expected")


def is_url(source: str) -> bool:
    """Whether a source is fetched by the service itself."""
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
        raise AttachmentError(f"attachment {str(each)[:80]!r}: a path or a URL is expected, not {type(each).__name__}")
    if "\0" in each:
        raise AttachmentError(f"attachment {each[:80]!r}: no path holds a NUL character")
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
    """How the model is to take it, by its ending; a URL without one is taken for an image's."""
    remote = "://" in source
    ending = PurePosixPath(urlsplit(source).path).suffix if remote else Path(source).suffix
    return "image" if ending.lower() in IMAGE_TYPES or (remote and not ending) else "file"
