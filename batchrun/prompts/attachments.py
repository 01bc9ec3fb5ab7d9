"""Attachments of rows: the files and URLs that cells name, with hashes of local files."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import urlsplit

from batchrun.prompts.local_files import UnusableFileError, checked_status, local_file
from batchrun.records import Attachment, Value

__all__ = ["IMAGE_TYPES", "AttachmentError", "Attachments", "attachments_in", "is_url", "kind_of"]


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
        except UnusableFileError as exc:
            hint = ""
            if "no such file" in str(exc):
                several = (
                    "; write several paths one per line, or as a JSON list" if ";" in source or "," in source else ""
                )
                hint = f" in {folder.absolute()}{several}"
            raise AttachmentError(f"attachment {source[:200]!r}: {exc}{hint}") from None

    def _hash(self, path: Path) -> str:
        """Return the hash of a file, or raise `UnusableFileError`."""
        status = checked_status(path)
        known = (str(path), status.st_mtime_ns, status.st_size)
        if known not in self._hashes:
            self._hashes[known] = local_file(path).sha256
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
