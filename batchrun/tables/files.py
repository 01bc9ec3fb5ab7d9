"""Text files: detection of the encoding, reading in blocks of lines, and errors with line and byte."""

from __future__ import annotations

import codecs
import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from batchrun.errors import InputError
from batchrun.tables.compression import DAMAGED, Compression, open_bytes
from batchrun.tables.encodings import suggestions
from batchrun.wording import shown_path, visible_line

__all__ = ["STANDARD_INPUT", "OfTextFile", "TextFile", "check_readable", "digest", "reading"]

STANDARD_INPUT: Final = "standard input"
"""The name of a table that is read from there."""

BLOCK_CHARS: Final = 1 << 18
"""Characters to read at once. A block ends with a complete line."""

_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    # Before UTF-16: its little-endian mark is the beginning of this one.
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_BOM_FAMILIES: Final = frozenset({"utf-8", "utf-8-sig", "utf-16", "utf-32"})


def check_readable(path: Path, name: str) -> None:
    """Raise InputError if `path` does not exist, is not a regular file or is empty."""
    with reading(name):
        if not path.exists():
            raise InputError(f"{name}: no such file{_near_file(path)}")
        if path.is_dir():
            raise InputError(f"{name}: is a folder; expected a table")
        if not path.is_file():
            raise InputError(f"{name}: is not a regular file; pipe it in and give - as the input")
        if path.stat().st_size == 0:
            raise InputError(f"{name}: is empty; a table needs a header or keys")


def _near_file(path: Path) -> str:
    """Return a file of a similar name in the same folder, as a question; else the folder that was searched."""
    folder = path.absolute().parent
    try:
        others = sorted(each.name for each in folder.iterdir() if each.suffix.lower() == path.suffix.lower())
    except OSError:
        return "; its folder does not exist or cannot be read"
    import difflib

    near = difflib.get_close_matches(path.name, others, n=1, cutoff=0.75)
    return f"; did you mean {shown_path(path.with_name(near[0]))}?" if near else f" in {folder}"


def digest(path: Path, name: str) -> str:
    """Return the SHA-256 (hex) of a file's name, size and content. The folder does not count, nor does the name of the
    copy of standard input."""
    own = name if name == STANDARD_INPUT else path.name
    with reading(name), path.open("rb") as file:
        content = hashlib.file_digest(file, "sha256")
        identity = f"{own}\0{file.tell()}\0{content.hexdigest()}"
    return hashlib.sha256(identity.encode("utf-8", "surrogateescape")).hexdigest()


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Turn errors of the system while a file is read into an InputError of one line."""
    try:
        yield
    except DAMAGED as exc:
        raise InputError(f"{name}: is a damaged compressed file ({exc}); compress it again") from exc
    except OSError as exc:
        raise InputError(f"{name}: cannot be read ({exc.strerror or exc})") from exc


@dataclass(frozen=True, slots=True)
class TextFile:
    """A text file, compressed or not, with a known encoding.

    Attributes:
        name: the name that the user gave, for messages.
        path: path of the file.
        encoding: name of a Python codec. If the file has a byte order mark, the codec does not handle it.
        compression: how the content is compressed, None if it is not.
        bom: the file begins with the byte order mark of UTF-8.
        notes: lines for people about the file.
    """

    name: str
    path: Path
    encoding: str
    compression: Compression | None = None
    bom: bool = False
    notes: tuple[str, ...] = ()

    @classmethod
    def find(cls, path: Path, name: str, *, encoding: str | None, compression: Compression | None) -> TextFile:
        """Return the file with its encoding: from the byte order mark, otherwise `encoding`, otherwise UTF-8.

        Raises:
            InputError: the file cannot be read or is empty, or the encoding is unknown.
        """
        check_readable(path, name)
        if encoding is not None:
            _check_encoding(encoding)
        with reading(name), open_bytes(path, name, compression) as file:
            head = file.read(4)
        marked = next((codec for bom, codec in _BOMS if head.startswith(bom)), None)
        if encoding is None or (marked and codecs.lookup(encoding).name in _BOM_FAMILIES):
            encoding = marked or encoding or "utf-8"
        return cls(name, path, encoding, compression, head.startswith(codecs.BOM_UTF8))

    def blocks(self, newline: str) -> Iterator[list[str]]:
        r"""Yield the lines with their line ends, in lists of about `BLOCK_CHARS` characters, without byte order mark.

        Args:
            newline: `""` ends a line at \n, \r\n and a lone \r; `"\n"` ends it at \n only.

        Raises:
            InputError: bytes are not valid in the encoding, the text contains NUL, or the file cannot be read.
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
        stream = open_bytes(self.path, self.name, self.compression)
        return io.TextIOWrapper(stream, encoding=self.encoding, errors="strict", newline=newline)

    def _nul_found(self, lines: list[str], count: int) -> InputError:
        line = count + next(i for i, text in enumerate(lines, start=1) if "\0" in text)
        return InputError(
            f"{self.name}, line {line}: contains a NUL byte, which is not text;"
            " remove it or, if the file is UTF-16, try --encoding utf-16-le"
        )

    @contextmanager
    def _decoding(self) -> Iterator[None]:
        try:
            with reading(self.name):
                yield
        except UnicodeError as exc:
            raise self._undecodable() from exc

    def _undecodable(self) -> InputError:
        """Return the error with its line and byte, and the encodings that fit the line.

        The file is decoded again to find them, because the error of a text stream counts from the start of its buffer.
        """
        decoder = codecs.getincrementaldecoder(self.encoding)("strict")
        newlines = io.IncrementalNewlineDecoder(None, translate=True)
        offset, line = 0, 1
        where, sample, is_cut, head = f"{self.name}", b"", False, b""
        with reading(self.name), open_bytes(self.path, self.name, self.compression) as file:
            while True:
                chunk = file.read(BLOCK_CHARS)
                head = head or chunk[:_HEAD_BYTES]
                offset += len(chunk)
                try:
                    text = decoder.decode(chunk, final=not chunk)
                except UnicodeDecodeError as exc:
                    good = exc.object[: exc.start].decode(self.encoding, "replace")
                    line += newlines.decode(good, final=True).count("\n")
                    at = offset - len(exc.object) + exc.start
                    where = f"{self.name}, line {line}, byte {at} (0x{exc.object[exc.start]:02x})"
                    is_cut = not chunk
                    sample = exc.object[exc.object.rfind(b"\n", 0, exc.start) + 1 :] + file.read(_SAMPLE_BYTES)
                    break
                except UnicodeError:
                    break
                line += newlines.decode(text).count("\n")
                if not chunk:
                    break
        if is_cut:
            return InputError(f"{where}: the file ends in the middle of a character; it is cut off: copy it again")
        return InputError(f"{where}: is not {self.encoding.upper()} text; {_remedy(self.encoding, sample, head)}")


_SAMPLE_BYTES: Final = 1 << 16
_HEAD_BYTES: Final = 64
_SHOWN_CHARS: Final = 40


def _remedy(encoding: str, sample: bytes, head: bytes) -> str:
    """Return what to do about bytes that are not text in `encoding`: the encodings that fit, with the line in each."""
    if codecs.lookup(encoding).name != "utf-8":
        return "save it as UTF-8, or try another --encoding"
    lines = sample[:_SAMPLE_BYTES].rpartition(b"\n")[0] or sample[:_SAMPLE_BYTES]
    fitting = [
        f"--encoding {each.encoding} reads {visible_line(each.line)[:_SHOWN_CHARS]!r}"
        for each in suggestions(lines, head)
    ]
    if not fitting:
        return "save it as UTF-8, or name its --encoding (none of the usual ones fits)"
    return f"save it as UTF-8, or choose what reads right: {', '.join(fitting)}"


class OfTextFile:
    """What all tables of text files have of their file.

    Attributes:
        file: the text file.
    """

    __slots__ = ()
    file: TextFile

    @property
    def name(self) -> str:
        """The name that the user gave."""
        return self.file.name

    @property
    def path(self) -> Path:
        """The path of the file."""
        return self.file.path

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines for people about what was read."""
        return self.file.notes

    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) of the file's name, size and content."""
        return digest(self.file.path, self.file.name)


def _check_encoding(encoding: str) -> None:
    try:
        # Decoding refuses unknown names, codecs that are not text encodings, such as base64, and `undefined`.
        b"a".decode(encoding)
        codecs.getincrementaldecoder(encoding)
    except UnicodeDecodeError:
        return  # UTF-16 and UTF-32 need more than one byte
    except (LookupError, ValueError) as exc:
        raise InputError(
            f"--encoding {encoding!r}: unknown text encoding; common ones are utf-8, utf-16, cp1252, latin-1"
        ) from exc
