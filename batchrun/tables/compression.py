"""Compressed files: gzip, Zstandard, xz, and zip archives with one member."""

from __future__ import annotations

import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import IO, Any, Final, Literal, Protocol, TypeAlias, cast

from batchrun.errors import InputError

__all__ = ["COMPRESSIONS", "DAMAGED", "Compression", "Sink", "compressed", "member_of", "open_bytes"]

Compression: TypeAlias = Literal["gzip", "zstd", "xz", "zip"]

COMPRESSIONS: Final[Mapping[str, Compression]] = {".gz": "gzip", ".zst": "zstd", ".xz": "xz", ".zip": "zip"}
"""File extension → compression."""

DAMAGED: Final = (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError, zipfile.BadZipFile, NotImplementedError)
"""What the readers raise for a damaged file, apart from OSError."""


class Sink(Protocol):
    """A binary file that can be written to."""

    def write(self, data: bytes, /) -> int: ...


def open_bytes(path: Path, name: str, compression: Compression | None) -> IO[bytes]:
    """Open a file for reading its uncompressed bytes.

    Args:
        name: the name that the user gave, for messages.

    Raises:
        InputError: a zip archive does not have exactly one member, or has a password.
        OSError: the file cannot be read.
    """
    if compression is None:
        return path.open("rb")
    if compression == "gzip":
        return cast("IO[bytes]", gzip.open(path, "rb"))  # a binary stream, which typeshed does not declare
    if compression == "xz":
        return lzma.open(path, "rb")
    if compression == "zstd":
        return io.BufferedReader(cast("io.RawIOBase", _zstd_reader(path)))
    return _open_member(path, name)


def _zstd_reader(path: Path) -> Any:
    # The standard library has Zstandard since Python 3.14; Arrow has it in every version.
    import pyarrow as pa

    return pa.CompressedInputStream(pa.OSFile(str(path), "rb"), "zstd")


def member_of(path: Path, name: str) -> zipfile.ZipInfo:
    """Return the only file in a zip archive. What macOS and folders add does not count.

    Raises:
        InputError: there is no file, or there are several, or the file has a password.
    """
    with zipfile.ZipFile(path) as archive:
        members = [
            each
            for each in archive.infolist()
            if not each.is_dir()
            and not each.filename.startswith("__MACOSX/")
            and each.filename.rpartition("/")[2] != ".DS_Store"
        ]
    if len(members) != 1:
        names = ", ".join(each.filename for each in members[:5]) + (", …" if len(members) > 5 else "")
        found = f"{len(members)} files ({names})" if members else "no file"
        raise InputError(f"{name}: the archive contains {found}; expected one table; unpack it and name the table")
    if members[0].flag_bits & 0x1:
        raise InputError(f"{name}: {members[0].filename} in the archive has a password; unpack it first")
    return members[0]


class _Member(io.BufferedReader):
    """The file in an archive. Closing it closes the archive too."""

    def __init__(self, archive: zipfile.ZipFile, raw: IO[bytes]) -> None:
        super().__init__(cast("io.RawIOBase", raw))
        self._archive = archive

    def close(self) -> None:
        super().close()
        self._archive.close()


def _open_member(path: Path, name: str) -> IO[bytes]:
    member = member_of(path, name)
    archive = zipfile.ZipFile(path)
    try:
        return _Member(archive, archive.open(member))
    except BaseException:
        archive.close()
        raise


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


class _Stream:
    """A compressed stream without a buffer of uncompressed data.

    Since Python 3.12 `gzip.GzipFile` has such a buffer. If the disk is full, it is written again when the object is
    garbage-collected.
    """

    def __init__(self, file: IO[bytes], compressor: _Compressor) -> None:
        self._file = file
        self._compressor = compressor

    def write(self, data: bytes, /) -> int:
        self._file.write(self._compressor.compress(data))
        return len(data)

    def finish(self) -> None:
        """Write the remaining data and the checksum."""
        self._file.write(self._compressor.flush())


def _gzip() -> _Compressor:
    # Adding 16 selects the header and trailer of gzip, without a name or a time: the same table gives the same bytes.
    return zlib.compressobj(9, zlib.DEFLATED, wbits=16 + zlib.MAX_WBITS)


class _Zstd:
    """Writes one frame for each megabyte: a file may be a sequence of frames (RFC 8878, section 3).

    Mutable state: `_waiting`, the bytes of the next frame.
    """

    FRAME_BYTES: Final = 1 << 20

    def __init__(self) -> None:
        self._waiting = bytearray()

    def compress(self, data: bytes, /) -> bytes:
        self._waiting += data
        return self.flush() if len(self._waiting) >= self.FRAME_BYTES else b""

    def flush(self) -> bytes:
        import pyarrow as pa

        frame: bytes = pa.Codec("zstd", 9).compress(bytes(self._waiting), asbytes=True)
        self._waiting.clear()
        return frame


_COMPRESSORS: Final[Mapping[Compression, Callable[[], _Compressor]]] = {
    "gzip": _gzip,
    "xz": lzma.LZMACompressor,
    "zstd": _Zstd,
}


def compressed(file: IO[bytes], compression: Compression | None) -> AbstractContextManager[Sink]:
    """Return a context in which bytes that are written arrive compressed in `file`.

    Raises:
        ValueError: the compression is zip, which is only read.
    """
    if compression is None:
        return nullcontext(file)
    if compression == "zip":
        raise ValueError("zip archives are only read")
    return _sink(file, _COMPRESSORS[compression]())


@contextmanager
def _sink(file: IO[bytes], compressor: _Compressor) -> Iterator[Sink]:
    stream = _Stream(file, compressor)
    yield stream
    stream.finish()
