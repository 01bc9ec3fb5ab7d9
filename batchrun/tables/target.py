"""The place where an output is put: an object in a store, or a file elsewhere on this machine, whole or not at all.

Arrow is imported inside the functions that use it.
"""

from __future__ import annotations

import ctypes
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from batchrun.local_paths import is_url, shown_url
from batchrun.tables.atomic import check_writable, replacing
from batchrun.tables.place import asking

__all__ = ["OutputPlace"]

_CHUNK_BYTES: Final = 1 << 22
_COMPLETED_AT_CLOSE: Final = ("s3", "gcs")
"""Stores in which the old object stays until the stream of the new one is closed. In others, such as Azure, opening the
stream empties it, so the new object gets another name first."""


@dataclass(frozen=True, slots=True)
class OutputPlace:
    """The place where an output is put.

    Attributes:
        address: the URL with its query, or a path.
    """

    address: str

    @property
    def shown(self) -> str:
        """The URL or the path for messages and for the journal."""
        return shown_url(self.address) if is_url(self.address) else str(Path(self.address).absolute())

    def exists(self) -> bool:
        """Return whether something is there.

        Raises:
            OutputError: the store cannot be asked.
        """
        if not is_url(self.address):
            return Path(self.address).exists()
        from pyarrow import fs

        with asking(self.shown, "written"):
            system, path = fs.FileSystem.from_uri(self.address)
            return bool(system.get_file_info(path).type != fs.FileType.NotFound)

    def check(self) -> None:
        """Check that the place can be written, without changing the old content.

        At S3 and Google Cloud Storage an upload is begun and never completed, which needs the permission to write and
        leaves no object. In other stores an empty file with a hidden name is written, moved and deleted.

        Raises:
            OutputError: it cannot be written: a missing bucket, key or permission, for example.
        """
        if not is_url(self.address):
            check_writable(Path(self.address))
            return
        from pyarrow import fs

        with asking(self.shown, "written"):
            system, path = fs.FileSystem.from_uri(self.address)
            if system.type_name in _COMPLETED_AT_CLOSE:
                _abandon(system.open_output_stream(path))
                return
            first, second = _hidden(path), f"{_hidden(path)}-moved"
            system.open_output_stream(first).close()
            system.move(first, second)
            system.delete_file(second)

    def put(self, file: Path) -> None:
        """Replace the content by a copy of a file; after any failure it is the old one.

        Raises:
            OutputError: the file cannot be put; the message says that the answers are kept.
        """
        advice = f"; the answers are kept in {file}, and the same command puts them"
        if not is_url(self.address):
            with replacing(Path(self.address), advice=advice) as copy, file.open("rb") as source:
                shutil.copyfileobj(source, copy, _CHUNK_BYTES)
            return
        from pyarrow import fs

        with asking(self.shown, "written", advice):
            system, path = fs.FileSystem.from_uri(self.address)
            put_object(system, path, file)


def put_object(system: Any, path: str, file: Path) -> None:
    """Replace an object of a store (`pyarrow.fs.FileSystem`) by a copy of a file.

    Raises:
        OSError, pyarrow.ArrowException: it cannot be written whole.
    """
    name = path if system.type_name in _COMPLETED_AT_CLOSE else _hidden(path)
    stream = system.open_output_stream(name)
    try:
        with file.open("rb") as source:
            while chunk := source.read(_CHUNK_BYTES):
                stream.write(chunk)
        stream.close()
    except BaseException:
        _abandon(stream)
        raise
    if name != path:
        system.move(name, path)


def _hidden(path: str) -> str:
    """Return a name that readers of the folder pass over."""
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}_batchrun-{name}"


def _abandon(stream: Any) -> None:
    """Keep a stream open for ever: closing it, which its destructor does too, would complete an object that is cut off.

    Arrow cannot cancel an upload from Python. The parts that were sent stay at the store as an unfinished upload.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(stream))
