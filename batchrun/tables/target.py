"""The place where an output is put: an object in a store, or a file elsewhere on this machine, whole or not at all.

Arrow is imported inside the functions that use it.
"""

from __future__ import annotations

import ctypes
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from batchrun.local_paths import is_url, shown_url
from batchrun.tables.atomic import replacing, replacing_folder
from batchrun.tables.part_folder import MARKER, check_names, check_place
from batchrun.tables.place import asking, opened

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

    @property
    def is_folder(self) -> bool:
        """Whether the address names a folder of parts."""
        return self.address.partition("?")[0].endswith("/") or (
            not is_url(self.address) and Path(self.address).is_dir()
        )

    def exists(self) -> bool:
        """Return whether something is there.

        Raises:
            OutputError: the store cannot be asked.
        """
        if not is_url(self.address):
            return Path(self.address).exists()
        with asking(self.shown, "written"):
            system, path = self._opened()
            return bool(_names(system, path) if self.is_folder else _is_file(system, path))

    def check(self, *, is_own: bool) -> None:
        """Check that the place can be written, without changing the old content.

        At S3 and Google Cloud Storage an upload is begun and never completed, which needs the permission to write and
        leaves no object. In other stores an empty file with a hidden name is written, moved and deleted.

        Args:
            is_own: the batch has put its output there before, or has begun to.

        Raises:
            OutputError: it cannot be written: a missing bucket, key or permission, for example; or it is a folder with
                files that are not parts of batchrun.
        """
        if not is_url(self.address):
            check_place(Path(self.address), is_folder=self.is_folder)
            return
        with asking(self.shown, "written"):
            system, path = self._opened()
            if self.is_folder:
                names = _names(system, path)
                check_names(self.shown, names, is_own=is_own or MARKER in names)
                path = f"{path}/{MARKER}"
            if system.type_name in _COMPLETED_AT_CLOSE:
                _abandon(system.open_output_stream(path))
                return
            first, second = _hidden(path), f"{_hidden(path)}-moved"
            system.open_output_stream(first).close()
            system.move(first, second)
            system.delete_file(second)

    def put(self, table: Path) -> None:
        """Replace the content by a copy of a table; after any failure it is the old one.

        Of a folder in a store each part is replaced whole. The old marker is removed first, then parts are put, surplus
        old parts are removed, and the new marker is put: such a folder is whole while it has a marker.

        Args:
            table: a file, or a folder of parts.

        Raises:
            OutputError: the table cannot be put; the message says that the answers are kept.
        """
        advice = f"; the answers are kept in {table}, and the same command puts them"
        if is_url(self.address):
            with asking(self.shown, "written", advice):
                system, path = self._opened()
                if table.is_dir():
                    _put_folder(system, path, table)
                else:
                    put_object(system, path, table)
        elif table.is_dir():
            with replacing_folder(Path(self.address), advice=advice) as folder:
                for part in table.iterdir():
                    with (folder / part.name).open("xb") as copy:
                        _copy(part, copy)
        else:
            with replacing(Path(self.address), advice=advice) as copy:
                _copy(table, copy)

    def _opened(self) -> tuple[Any, str]:
        """Return the file system and the path in it."""
        system, path = opened(self.address)
        return system, path.rstrip("/")


def _copy(part: Path, copy: IO[bytes]) -> None:
    with part.open("rb") as source:
        shutil.copyfileobj(source, copy, _CHUNK_BYTES)
    copy.flush()
    os.fsync(copy.fileno())


def _put_folder(system: Any, path: str, table: Path) -> None:
    before, names = _names(system, path), sorted(part.name for part in table.iterdir() if part.name != MARKER)
    if MARKER in before:
        system.delete_file(f"{path}/{MARKER}")
    for name in names:
        put_object(system, f"{path}/{name}", table / name)
    for name in before:
        if name not in names and not name.startswith(("_", ".")):
            system.delete_file(f"{path}/{name}")
    put_object(system, f"{path}/{MARKER}", table / MARKER)


def _is_file(system: Any, path: str) -> bool:
    from pyarrow import fs

    return bool(system.get_file_info(path).type == fs.FileType.File)


def _names(system: Any, path: str) -> list[str]:
    """Return the names in a folder of a store, none if there is no such folder."""
    from pyarrow import fs

    return [str(each.base_name) for each in system.get_file_info(fs.FileSelector(path, allow_not_found=True))]


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
