"""What a file is by its first bytes, whatever its name says."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

from batchrun.errors import InputError
from batchrun.tables.compression import Compression, member_of, open_bytes
from batchrun.tables.files import reading

__all__ = ["CALLED", "Content", "Found", "content_of"]

Content: TypeAlias = Literal["text", "parquet", "feather", "xlsx"]
"""`text`: nothing else was recognised, so that the extension or the user decides."""

_HEAD_BYTES: Final = 4_096
_OLE: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_COMPRESSED: Final[tuple[tuple[bytes, Compression], ...]] = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xfd7zXZ\x00", "xz"),
)
_TABLES: Final[tuple[tuple[bytes, Content], ...]] = (
    (b"PAR1", "parquet"),
    (b"ARROW1", "feather"),
    (b"\xff\xff\xff\xff", "feather"),  # Arrow's stream format, which Hugging Face's `datasets` writes
)
_FOREIGN: Final = (
    (b"%PDF-", "a PDF document", "export its table as CSV or Excel"),
    (b"FEA1", "a Feather file of version 1", "write it again with a current pandas or Arrow"),
    (b"BZh", "compressed with bzip2", "decompress it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it first"),
    (b"Rar!\x1a\x07", "a RAR archive", "unpack it first"),
    (b"SQLite format 3\x00", "a SQLite database", "export the table as CSV"),
    (b"\x89PNG", "a PNG image", "give a table"),
    (b"\xff\xd8\xff", "a JPEG image", "give a table"),
    (b"{\\rtf", "an RTF document", "export its table as CSV or Excel"),
)
_JSON: Final = re.compile(rb"""(\xef\xbb\xbf)?\s*(\[\s*)?\{\s*"[^"\\]*"\s*:""")
_HTML: Final = (b"<!doctype html", b"<html", b"<table", b"<head", b"<?xml")


class Found(NamedTuple):
    """What a file is.

    Attributes:
        compression: the outer layer, None for none.
        content: what is inside.
        member: name of the file in a zip archive, None for other files.
        is_json: a text that begins as an array of objects or as an object does.
    """

    compression: Compression | None
    content: Content
    member: str | None = None
    is_json: bool = False


def content_of(path: Path, name: str) -> Found:
    """Return what a file is.

    Args:
        name: the name that the user gave, for messages.

    Raises:
        InputError: the file is not a table that batchrun reads (its real format and a remedy are named), is an archive
            of several files, or cannot be read.
    """
    with reading(name):
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
        if head.startswith(b"PK\x03\x04"):
            return _archive(path, name)
        if head.startswith(b"PK\x05\x06"):
            raise InputError(f"{name}: is an empty zip archive; expected a table")
        compression = next((each for magic, each in _COMPRESSED if head.startswith(magic)), None)
        if compression is not None:
            head = _head(path, name, compression)
        if head.startswith(_OLE):
            raise InputError(f"{name}: {_ole(path)}")
    return Found(compression, _content(head, name, compression), is_json=_JSON.match(head) is not None)


def _head(path: Path, name: str, compression: Compression) -> bytes:
    with open_bytes(path, name, compression) as file:
        return file.read(_HEAD_BYTES)


def _content(head: bytes, name: str, compression: Compression | None) -> Content:
    if compression is not None and any(head.startswith(magic) for magic, _ in _COMPRESSED):
        raise InputError(f"{name}: contains another compressed file; decompress it once")
    content = next((each for magic, each in _TABLES if head.startswith(magic)), None)
    if content is None and head.startswith(b"PK\x03\x04"):
        content = "xlsx"
    if content is not None:
        if compression is not None and content == "xlsx":
            raise InputError(f"{name}: contains another zip archive or an Excel workbook; unpack it first")
        if compression is not None:
            raise InputError(f"{name}: contains {CALLED[content]} in compressed form; decompress it first")
        return content
    for magic, called, remedy in _FOREIGN:
        if head.startswith(magic):
            raise InputError(f"{name}: is {called}, not a table; {remedy}")
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:20].lower()
    if start.startswith(_HTML):
        kind = "XML" if start.startswith(b"<?xml") else "HTML"
        raise InputError(
            f"{name}: is {kind}, not a table (some programs export it under another name);"
            " open it in a spreadsheet and save it as .xlsx or CSV"
        )
    return "text"


CALLED: Final = {"parquet": "a Parquet file", "feather": "an Arrow file", "xlsx": "an Excel workbook"}


def _archive(path: Path, name: str) -> Found:
    """Return what a zip archive is: an Excel workbook, or a table in an archive of its own."""
    with zipfile.ZipFile(path) as archive:
        members = set(archive.namelist())
        if "[Content_Types].xml" in members:
            if any(member.startswith("xl/workbook.") for member in members):
                if "xl/workbook.bin" in members:
                    raise InputError(f"{name}: is a binary Excel workbook (.xlsb); save it as .xlsx")
                return Found(None, "xlsx")
            raise InputError(f"{name}: is an Office document, not a workbook; save its table as .xlsx or CSV")
        if "mimetype" in members and b"opendocument" in archive.read("mimetype"):
            raise InputError(f"{name}: is an OpenDocument file; save it as .xlsx or CSV")
    member = member_of(path, name).filename
    head = _head(path, name, "zip")
    return Found("zip", _content(head, name, "zip"), member, _JSON.match(head) is not None)


def _ole(path: Path) -> str:
    """Return what a file in Microsoft's old container format is, and the remedy."""
    content = path.read_bytes()
    if "EncryptedPackage".encode("utf-16-le") in content:
        return "is an Excel workbook with a password; save it without one"
    if any(stream.encode("utf-16-le") in content for stream in ("Workbook", "Book")):
        return "is an Excel workbook of the old format (.xls, Excel 97); save it as .xlsx"
    return "is a document of an old Office format; save its table as .xlsx or CSV"
