"""Text files of unknown encoding: opened, read in blocks of lines, and their faults named by line and byte."""

from __future__ import annotations

import codecs
import gzip
import hashlib
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, cast

from batchrun.errors import InputError

__all__ = ["TextFile", "check_readable", "digest", "reading"]

BLOCK_CHARS: Final = 1 << 18
"""Characters read at a time (a block ends with a whole line)."""

_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    # UTF-32's little-endian mark begins with UTF-16's.
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_BOM_FAMILIES: Final = frozenset({"utf-8", "utf-8-sig", "utf-16", "utf-32"})


def check_readable(path: Path, name: str) -> None:
    """Raises InputError if `path` is missing, no file, or empty."""
    with reading(name):
        if not path.exists():
            raise InputError(f"{name}: no such file")
        if path.is_dir():
            raise InputError(f"{name}: a folder, where a table is expected")
        if not path.is_file():
            raise InputError(f"{name}: not a regular file; pipe it in and give - as the input")
        if path.stat().st_size == 0:
            raise InputError(f"{name}: empty; a table has a header (or keys) and at least one row")


def digest(path: Path, name: str) -> str:
    """SHA-256 (hex) over name, size and content of a file; the content is streamed, the folder is left out."""
    with reading(name), path.open("rb") as file:
        content = hashlib.file_digest(file, "sha256")
        identity = f"{Path(name).name}\0{file.tell()}\0{content.hexdigest()}"
    return hashlib.sha256(identity.encode("utf-8", "surrogateescape")).hexdigest()


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Turns what the system says while a file is read into an InputError of one line."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{name}: broken gzip file ({error}); compress it again") from error
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({error.strerror or error})") from error


@dataclass(frozen=True, slots=True)
class TextFile:
    """A text file, compressed or not, with its encoding settled.

    Attributes:
        name: as the user gave it, for messages.
        path: where it is.
        encoding: name of a Python codec without a byte order mark of its own where the file has one.
        gzipped: the content is gzip.
    """

    name: str
    path: Path
    encoding: str
    gzipped: bool

    @classmethod
    def find(cls, path: Path, name: str, *, encoding: str | None, gzipped: bool) -> TextFile:
        """Settles the encoding: the byte order mark, else `encoding`, else UTF-8.

        Raises:
            InputError: the file cannot be read or is empty, or the encoding is unknown.
        """
        check_readable(path, name)
        if encoding is not None:
            _check_encoding(encoding)
        with reading(name), _open_bytes(path, gzipped) as file:
            head = file.read(4)
        marked = next((codec for bom, codec in _BOMS if head.startswith(bom)), None)
        if encoding is None or (marked and codecs.lookup(encoding).name in _BOM_FAMILIES):
            encoding = marked or encoding or "utf-8"
        return cls(name, path, encoding, gzipped)

    def blocks(self, newline: str) -> Iterator[list[str]]:
        r"""The lines, line ends kept, in lists of about `BLOCK_CHARS` characters; no byte order mark.

        Args:
            newline: `""` ends a line at \n, \r\n and a lone \r; `"\n"` at \n only.

        Raises:
            InputError: bytes that the encoding does not have, a NUL, or a fault of the file system.
        """
        count = 0
        with self._decoding(), self._open(newline) as file:
            while lines := file.readlines(BLOCK_CHARS):
                if count == 0:
                    lines[0] = lines[0].removeprefix("\ufeff")
                if "\0" in "".join(lines):
                    raise self._nul_found(lines, count)
                count += len(lines)
                yield lines

    def _open(self, newline: str) -> io.TextIOWrapper:
        return io.TextIOWrapper(
            _open_bytes(self.path, self.gzipped), encoding=self.encoding, errors="strict", newline=newline
        )

    def _nul_found(self, lines: list[str], count: int) -> InputError:
        line = count + next(i for i, text in enumerate(lines, start=1) if "\0" in text)
        return InputError(
            f"{self.name}, line {line}: a NUL byte, which text does not have;"
            " remove it, or, if the file is UTF-16, try --encoding utf-16-le"
        )

    @contextmanager
    def _decoding(self) -> Iterator[None]:
        try:
            with reading(self.name):
                yield
        except UnicodeError as error:
            raise self._undecodable() from error

    def _undecodable(self) -> InputError:
        """Decodes anew to find the place: the error of a text stream counts from the start of its own buffer."""
        decoder = codecs.getincrementaldecoder(self.encoding)("strict")
        newlines = io.IncrementalNewlineDecoder(None, translate=True)
        offset, line = 0, 1
        where = f"{self.name}"
        with reading(self.name), _open_bytes(self.path, self.gzipped) as file:
            while True:
                chunk = file.read(BLOCK_CHARS)
                offset += len(chunk)
                try:
                    text = decoder.decode(chunk, final=not chunk)
                except UnicodeDecodeError as found:
                    good = found.object[: found.start].decode(self.encoding, "replace")
                    line += newlines.decode(good, final=True).count("\n")
                    at = offset - len(found.object) + found.start
                    where = f"{self.name}, line {line}, byte {at} (0x{found.object[found.start]:02x})"
                    break
                except UnicodeError:
                    break
                line += newlines.decode(text).count("\n")
                if not chunk:
                    break
        other = "--encoding cp1252" if codecs.lookup(self.encoding).name == "utf-8" else "another --encoding"
        return InputError(f"{where}: not {self.encoding.upper()} text; save it as UTF-8, or try {other}")


def _check_encoding(encoding: str) -> None:
    try:
        # Refuses unknown names and codecs that are no text encodings, such as base64; finding `undefined`
        # out takes a decoding.
        b"a".decode(encoding)
        codecs.getincrementaldecoder(encoding)
    except UnicodeDecodeError:
        return  # UTF-16 and UTF-32 want more than one byte
    except (LookupError, ValueError) as error:
        raise InputError(
            f"--encoding {encoding!r}: unknown text encoding; usual ones are utf-8, utf-16, cp1252, latin-1"
        ) from error


def _open_bytes(path: Path, gzipped: bool) -> IO[bytes]:
    # GzipFile is a binary stream, though typeshed does not declare it as IO[bytes].
    return cast("IO[bytes]", gzip.open(path, "rb")) if gzipped else path.open("rb")
