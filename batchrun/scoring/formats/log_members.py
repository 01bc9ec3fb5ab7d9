"""The members of an `.eval` log of inspect_ai, a zip archive whose members are compressed with deflate or Zstandard."""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from batchrun.errors import InputError
from batchrun.records import JsonDict
from batchrun.tables.files import reading

__all__ = ["log_members"]

_ZSTANDARD: Final = 93
"""The compression method of the zip format (APPNOTE 6.3.10, section 4.4.5). Python's zipfile knows it since 3.14."""
_LOCAL_HEADER: Final = struct.Struct("<4s22x2H")
"""Signature, length of the name, length of the extra field. Source: APPNOTE 6.3.10, section 4.3.7."""


def log_members(path: Path, name: str) -> Iterator[tuple[str, JsonDict]]:
    """Yield the name and the object of the header, then of each sample, in the archive's order.

    The journal of the log repeats what the samples have, unless the log is that of a run that was stopped.

    Raises:
        InputError: the file is not such a log, or is damaged.
    """
    with reading(name), path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            raise InputError(f"{name}: is not a log of inspect_ai, whose .eval files are zip archives")
        with zipfile.ZipFile(file) as archive:
            members = {each.filename: each for each in archive.infolist()}
            header = next((key for key in ("header.json", "_journal/start.json") if key in members), None)
            if header is None:
                raise InputError(f"{name}: is not a log of inspect_ai: the archive has no header.json")
            samples = [key for key in members if key.startswith("samples/") and key.endswith(".json")]
            for key in (header, *samples):
                yield key, _object(_content(file, archive, members[key], name), f"{name}, {key}")


def _content(file: IO[bytes], archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> bytes:
    if member.compress_type != _ZSTANDARD:
        return archive.read(member)
    # Arrow has Zstandard on every version of Python.
    import pyarrow as pa

    file.seek(member.header_offset)
    signature, name_length, extra_length = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    file.seek(name_length + extra_length, 1)
    compressed = file.read(member.compress_size)
    if signature != b"PK\x03\x04" or len(compressed) != member.compress_size:
        raise InputError(f"{name}, {member.filename}: is damaged; copy the log again")
    try:
        content: bytes = pa.CompressedInputStream(pa.BufferReader(compressed), "zstd").read()
    except OSError as exc:
        raise InputError(f"{name}, {member.filename}: is damaged ({exc}); copy the log again") from exc
    if zlib.crc32(content) != member.CRC:
        raise InputError(f"{name}, {member.filename}: is damaged; copy the log again")
    return content


def _object(content: bytes, where: str) -> JsonDict:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as exc:
        raise InputError(f"{where}: is not valid JSON ({exc})") from exc
    if not isinstance(value, dict):
        raise InputError(f"{where}: expected a JSON object")
    return value
