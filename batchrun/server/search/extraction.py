"""Text extraction from uploaded files of several formats. Files are not trusted, and sizes are bounded.

It uses the standard library, and pypdf for PDF. `text_reader.py` also starts it as a program, as a file.
"""

from __future__ import annotations

import codecs
import csv
import html
import io
import json
import re
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from itertools import chain, count
from pathlib import PurePath
from xml.parsers import expat

__all__ = ["MAX_TEXT_BYTES", "MAX_XML_BYTES", "ExtractionError", "extract_text"]

MAX_TEXT_BYTES = 20_000_000
"""Maximum size of a file's text, in bytes of UTF-8: the protocol's 5,000,000 tokens at 4 bytes each."""

MAX_XML_BYTES = 10 * MAX_TEXT_BYTES
"""Maximum size of an unpacked part of a Word document, in bytes."""

_MAX_PAGES = 10_000
_PIECE_BYTES = 1 << 16


class ExtractionError(ValueError):
    """The text of a file cannot be extracted; the message is one line with the file's name and what to do."""


def extract_text(filename: str, data: bytes) -> str:
    """Return the text of a file. The extension of its name decides its format.

    Plain text in any language or markup is returned unchanged. CSV becomes one line per row, `column: value; …`. HTML
    and DOCX lose their markup, and each paragraph becomes a line.

    Raises:
        ExtractionError: the format is unknown or damaged, the file has no text or too much, or a library is missing.
    """
    ending = PurePath(filename).suffix.lower()
    try:
        pieces = _READERS.get(ending, _plain)(data)
        text = _joined(pieces)
    except _Unusable as exc:
        raise ExtractionError(f"{filename}: {exc}") from exc
    except RecursionError:
        raise ExtractionError(f"{filename}: is nested too deeply") from None
    # No format forbids a half of a surrogate pair or a NUL everywhere, and neither can be stored and searched.
    text = text.encode("utf-8", "replace").decode().replace("\0", "")
    text = text.replace("\r\n", "\n").replace("\r", "\n").strip()
    if not text:
        hint = "; scanned pages need text recognition first" if ending == ".pdf" else ""
        raise ExtractionError(f"{filename}: contains no text{hint}")
    return text


class _Unusable(Exception):
    """A file cannot be read; the message states why, without the file's name."""


def _too_much() -> _Unusable:
    return _Unusable(f"contains more than {MAX_TEXT_BYTES:,} bytes of text; split it")


def _joined(pieces: Iterator[str]) -> str:
    """Return the pieces as one text, and stop reading as soon as it is too large."""
    kept: list[str] = []
    size = 0
    for piece in pieces:
        size += len(piece.encode("utf-8", "replace"))
        if size > MAX_TEXT_BYTES:
            raise _too_much()
        kept.append(piece)
    return "".join(kept)


def _decoded(data: bytes) -> str:
    """Return the text, decoded as UTF-8 or by its byte order mark."""
    if len(data) > 4 * MAX_TEXT_BYTES:  # too much even in UTF-32
        raise _too_much()
    encoding = "utf-8"
    for mark, name in (
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
        (codecs.BOM_UTF32_BE, "utf-32"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if data.startswith(mark):
            encoding = name
            break
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as exc:
        raise _Unusable(
            f"byte {exc.start} is not {encoding.upper().removesuffix('-SIG')} text; save it as UTF-8"
        ) from exc
    if "\0" in text:
        raise _Unusable("is not text, and its format is unknown; use PDF, DOCX, HTML, CSV, JSON, Markdown or text")
    return text


def _plain(data: bytes) -> Iterator[str]:
    yield _decoded(data)


def _json(data: bytes) -> Iterator[str]:
    try:
        value = json.loads(_decoded(data))
    except (ValueError, RecursionError) as exc:
        raise _Unusable(f"is not valid JSON ({exc})") from exc
    # One value per line, so that chunks can end between values.
    yield from json.JSONEncoder(ensure_ascii=False, indent=1).iterencode(value)


def _table(data: bytes) -> Iterator[str]:
    text = _decoded(data)
    header_line = text.partition("\n")[0]
    delimiter = max(",;\t|", key=header_line.count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        header = next(rows, [])
        empty = True
        for row in rows:
            empty = False
            names = chain(header, (f"column {n}" for n in count(len(header) + 1)))
            cells = (f"{name}: {value}" for name, value in zip(names, row, strict=False) if value)
            yield "; ".join(cells) + "\n"
    except csv.Error as exc:
        raise _Unusable(f"line {rows.line_num} is not valid CSV ({exc})") from exc
    if empty:
        yield header_line


_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9:-]*)")
_HIDDEN = frozenset({"script", "style", "template", "noscript", "svg", "math", "textarea", "iframe"})
_CLOSING = {name: re.compile(rf"</{name}\b", re.I) for name in _HIDDEN}
_BLOCKS = frozenset(
    {"address", "article", "aside", "blockquote", "body", "br", "dd", "div", "dl", "dt", "fieldset", "figure"}
    | {"footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "li", "main", "nav", "ol"}
    | {"option", "p", "pre", "section", "table", "title", "tr", "ul"}
)


def _visible(page: str) -> Iterator[str]:
    """Yield the visible text of an HTML page. Block elements begin and end a line; tabs separate cells.

    Every step searches forward from the end of the last one, and the search ends when it finds nothing, so the time is
    linear in the size of the page. (`html.parser` takes minutes for some pages of 100 kB.)
    """
    position = 0
    while (start := page.find("<", position)) >= 0:
        yield _flowing(page[position:start])
        tag = _TAG.match(page, start)
        if page.startswith("<!--", start):
            end = page.find("-->", start + 4)
        elif tag is None and page[start + 1 : start + 2] not in ("!", "?", "/"):
            yield "<"
            position = start + 1
            continue
        else:
            end = page.find(">", start)
        if end < 0:
            return
        position = end + (3 if page.startswith("<!--", start) else 1)
        name = tag[2].lower() if tag else ""
        if name in _HIDDEN and tag and not tag[1]:
            closing = _CLOSING[name].search(page, position)
            if closing is None:
                return
            position = closing.start()
        yield "\n" if name in _BLOCKS else "\t" if name in ("td", "th") else ""
    yield _flowing(page[position:])


def _flowing(text: str) -> str:
    return re.sub(r"\s+", " ", html.unescape(text))


_META_CHARSET = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?([\w.:-]{1,40})""", re.I)


_NOT_OF_PAGES = frozenset({"idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape"})
"""Python's names of codecs that no page is written in. Some need hours for a page, and some garble it."""


def _html(data: bytes) -> Iterator[str]:
    named = _META_CHARSET.search(data[:2048])
    try:
        text = _decoded(data)
    except _Unusable:
        if named is None:
            raise
        name = named[1].decode("ascii")
        try:
            if codecs.lookup(name).name in _NOT_OF_PAGES:
                raise LookupError(name)
            text = data.decode(name, "replace")
        except (LookupError, ValueError) as exc:
            raise _Unusable(f"has the unknown encoding {name!r}; save it as UTF-8") from exc
    flowing = re.sub(r" {2,}", " ", "".join(_visible(text)))
    lines = (re.sub(r" ?\t[ \t]*", "\t", line).strip() for line in flowing.split("\n"))
    yield "\n".join(line for line in lines if line)


class _WordText:
    """The text of WordprocessingML (ECMA-376 part 1, §17): `w:t` inside `w:p`."""

    _NAMESPACE = "http://schemas.openxmlformats.org/wordprocessingml/2006/main "

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self._in_text = False
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters
        # Word writes no document type. Without one there are no entities that could expand.
        self._parser.StartDoctypeDeclHandler = self._refuse

    def feed(self, data: bytes, *, last: bool = False) -> Iterator[str]:
        self._parser.Parse(data, last)
        yield "".join(self.pieces)
        self.pieces.clear()

    def _start(self, name: str, _: Mapping[str, str]) -> None:
        local = name.removeprefix(self._NAMESPACE)
        self._in_text = local == "t"
        if local in ("tab", "br", "cr"):
            self.pieces.append("\t" if local == "tab" else "\n")

    def _end(self, name: str) -> None:
        self._in_text = False
        if name == f"{self._NAMESPACE}p":
            self.pieces.append("\n")

    def _characters(self, text: str) -> None:
        if self._in_text:
            self.pieces.append(text)

    def _refuse(self, *_: object) -> None:
        raise _Unusable("contains a document type declaration, which is not allowed in a Word document")


def _docx(data: bytes) -> Iterator[str]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = set(archive.namelist())
            if "word/document.xml" not in names:
                raise _Unusable("is not a Word document")
            for name in ("word/document.xml", "word/footnotes.xml", "word/endnotes.xml"):
                if name in names:
                    yield from _word_part(archive, name)
    except (zipfile.BadZipFile, expat.ExpatError, NotImplementedError, RuntimeError, EOFError, OSError) as exc:
        raise _Unusable(f"is a damaged or protected Word document ({exc})") from exc


def _word_part(archive: zipfile.ZipFile, name: str) -> Iterator[str]:
    text, size = _WordText(), 0
    with archive.open(name) as part:
        # Read in pieces, because the sizes that an archive states may be false.
        while piece := part.read(_PIECE_BYTES):
            size += len(piece)
            if size > MAX_XML_BYTES:
                raise _Unusable(f"unpacks to more than {MAX_XML_BYTES:,} bytes")
            yield from text.feed(piece)
    yield from text.feed(b"", last=True)


def _pdf(data: bytes) -> Iterator[str]:
    try:
        import pypdf
    except ImportError as exc:
        raise _Unusable("PDF needs a library that is not installed: pip install 'batchrun-llm[files]'") from exc
    try:
        reader = pypdf.PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise _Unusable("is protected by a password")
        if len(reader.pages) > _MAX_PAGES:
            raise _Unusable(f"has more than {_MAX_PAGES:,} pages; split it")
        for page in reader.pages:
            yield page.extract_text() + "\n"
    except (_Unusable, MemoryError):
        raise
    except Exception as exc:
        raise _Unusable(f"is a damaged PDF ({type(exc).__name__})") from exc


_READERS: Mapping[str, Callable[[bytes], Iterator[str]]] = {
    ".html": _html,
    ".htm": _html,
    ".xhtml": _html,
    ".pdf": _pdf,
    ".docx": _docx,
    ".csv": _table,
    ".tsv": _table,
    ".json": _json,
}


def _main() -> None:
    """Read a line of JSON and a file, and write `+` and its text, or `-` and the reason for which there is none.

    The line has `filename`, `cpu_s` and `memory_bytes` (limits of this process), and `path` (for `sys.path`).
    """
    head = json.loads(sys.stdin.buffer.readline())
    sys.path[:] = head["path"]
    filename = head["filename"]
    try:
        data = sys.stdin.buffer.read()
        _limit(head["cpu_s"], head["memory_bytes"])
        reply = "+" + extract_text(filename, data)
    except ExtractionError as exc:
        reply = f"-{exc}"
    except MemoryError:
        reply = f"-{filename}: reading it takes more than {head['memory_bytes'] >> 20:,} MiB of memory; split it"
    except Exception as exc:  # noqa: BLE001 -- a file that a parser cannot take is a failed file, whatever the parser raises
        reply = f"-{filename}: cannot be read ({type(exc).__name__}); convert it to text"
    sys.stdout.buffer.write(reply.encode("utf-8", "replace"))


def _limit(cpu_s: int, memory_bytes: int) -> None:
    """Set the limits of this process. Windows has none: there, only the time on the clock is limited."""
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for limit, value in ((resource.RLIMIT_CPU, cpu_s), (resource.RLIMIT_AS, memory_bytes)):
        # An administrator's own limit may be lower, and cannot be raised.
        _, hard = resource.getrlimit(limit)
        soft = value if hard == resource.RLIM_INFINITY else min(value, hard)
        try:
            resource.setrlimit(limit, (soft, hard))
        except (ValueError, OSError):  # macOS does not limit the address space
            continue


if __name__ == "__main__":
    _main()
