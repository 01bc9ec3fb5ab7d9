"""Opening a table in any format: from a path, standard input or memory."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from batchrun.errors import InputError
from batchrun.local_paths import check_local
from batchrun.records import Value
from batchrun.tables.arrow_table import ArrowSource
from batchrun.tables.atomic import replacing
from batchrun.tables.columnar import ColumnarSource
from batchrun.tables.compression import COMPRESSIONS, open_bytes
from batchrun.tables.content import CALLED, Found, content_of
from batchrun.tables.dialect import CANDIDATES
from batchrun.tables.expanded import ExpandedSource
from batchrun.tables.files import STANDARD_INPUT, TextFile, check_readable, reading
from batchrun.tables.frame import FrameSource
from batchrun.tables.jsonl import JsonlSource
from batchrun.tables.lines import LinesSource
from batchrun.tables.part_names import is_parts, part_files
from batchrun.tables.parts import PartSource, PartsSource
from batchrun.tables.place import url_of_copy
from batchrun.tables.source import Source
from batchrun.tables.table_options import BINARY, Kind, ReadOptions, delimiter_named, format_of
from batchrun.tables.text import TextSource

if TYPE_CHECKING:
    from io import BufferedReader

    import pandas as pd
    import pyarrow as pa

__all__ = ["cells_of", "has_answers", "open_source", "validate"]


_ANSWER_COLUMNS: Final = ("response", "status", "error_type", "run_id", "attempts", "completed_at")
"""Columns that occur together only in tables that batchrun wrote."""


def open_source(
    input: str | os.PathLike[str] | pd.DataFrame | pa.Table,  # noqa: A002 - the word of the command line and the job file
    options: ReadOptions,
    *,
    spool: Path | None = None,
) -> Source:
    """Open a table and read its columns.

    Args:
        input: a path whose extension names the format, a folder or a pattern of such files, `-` for CSV on standard
            input, a pandas frame or an Arrow table. Messages name the URL of a table that is a copy (`Place.copy`).
        options: encoding, delimiter, and whether the first line is a row.
        spool: file that standard input is copied to, so that it can be read again. Required for `-`.

    Raises:
        InputError: the input is not a table or has no rows.
        OutputError: the spool cannot be written.
        ValueError: `-` is given without a spool.
    """
    if not isinstance(input, str | os.PathLike):
        _refuse(options, "data", encoding=True)
        return FrameSource.open(input) if hasattr(input, "iloc") else ArrowSource.open(input)
    name = os.fspath(input)
    path, where = Path(name), name
    if name == "-":
        if spool is None:
            raise ValueError("a spool file is required, because standard input can be read only once")
        _copy_stdin(spool)
        path, where = spool, STANDARD_INPUT
    else:
        check_local(name, "the table")
        if is_parts(name):
            return _open_parts(name, options)
        where = url_of_copy(path) or name
    check_readable(path, where)
    return _open_file(path, where, options)


def _open_parts(name: str, options: ReadOptions) -> PartsSource:
    """Open every file of a folder or a pattern. All CSV parts have the delimiter of the first one."""
    parts: list[PartSource] = []
    empty = 0
    for path in part_files(name):
        where = url_of_copy(path) or str(path)
        if _is_empty_text(path, where, options):
            empty += 1
            continue
        first = parts[0] if parts else None
        known = first.delimiter if isinstance(first, TextSource) and first.delimiter in CANDIDATES else None
        part = _open_file(path, where, options, known)
        if not isinstance(part, PartSource):
            raise InputError(f"{where}: is a workbook; parts are CSV, TSV, JSON Lines, Parquet or Arrow files")
        parts.append(part)
    return PartsSource.of(url_of_copy(Path(name)) or name, name, parts, empty)


def _is_empty_text(path: Path, name: str, options: ReadOptions) -> bool:
    """Return whether a file is text without a character, compressed or not: the part of an empty partition."""
    kind = options.format or format_of(path, name).kind
    if kind not in BINARY and path.is_file() and path.stat().st_size == 0:
        return True
    check_readable(path, name)
    found = content_of(path, name)
    if found.content != "text" or found.compression is None:
        return False
    with reading(name), open_bytes(path, name, found.compression) as file:
        return not file.read(1)


def _open_file(path: Path, name: str, options: ReadOptions, delimiter: str | None = None) -> Source:
    """Open a file by its content; a text file by the format that an option or its extension names.

    Args:
        delimiter: that of a CSV if no option names one; None detects it.
    """
    found = content_of(path, name)
    kind, notes = _kind(path, name, found, options)
    if kind != "xlsx" and options.sheet is not None:
        raise InputError(f"{name}: --sheet is for .xlsx only")
    if kind == "xlsx":
        from batchrun.tables.excel import ExcelSource

        _refuse(replace(options, no_header=False, skip_rows=None), name, encoding=True)
        return ExcelSource.open(path, name, options, notes)
    if kind in ("parquet", "feather"):
        _refuse(options, name, encoding=True)
        return ColumnarSource.open(path, name, kind, notes)
    file = replace(TextFile.find(path, name, encoding=options.encoding, compression=found.compression), notes=notes)
    if kind == "csv":
        delimiter = _delimiter(options) or delimiter
        return TextSource.open(file, delimiter, has_header=not options.no_header, skip=options.skip_rows)
    if kind == "tsv":
        if _delimiter(options) not in (None, "\t"):
            raise InputError(f"{name}: --delimiter is for .csv only; the delimiter of TSV is the tab")
        return TextSource.open(file, "\t", has_header=not options.no_header, skip=options.skip_rows, is_tsv=True)
    _refuse(options, name, encoding=False)
    return LinesSource.open(file) if kind == "txt" else JsonlSource.open(file)


def _kind(path: Path, name: str, found: Found, options: ReadOptions) -> tuple[Kind, tuple[str, ...]]:
    """Return the format of a file, and a line if its name promises another.

    Raises:
        InputError: the extension is unknown, or content and name or option contradict each other.
    """
    named = options.format
    if named is None and found.content != "text":
        try:
            promised = format_of(path, name).kind
        except InputError:
            promised = None
        if promised == found.content or name == STANDARD_INPUT:
            return found.content, ()
        return found.content, (f"{name}: is {CALLED[found.content]}, whatever its name says, and is read as one",)
    if named is not None and found.content not in ("text", named):
        raise InputError(f"{name}: is {CALLED[found.content]}; --format {named} does not fit")
    if named is None:
        named = "csv" if name == STANDARD_INPUT else _format_inside(path, name, found)
        if named in ("csv", "tsv") and found.is_json:
            notes = () if name == STANDARD_INPUT else (f"{name}: is JSON, whatever its name says, and is read as such",)
            return "jsonl", (*notes, *_compression_note(path, name, found))
    if named in BINARY and found.content == "text" and options.format is not None:
        raise InputError(f"{name}: is text, or damaged; --format {named} does not fit")
    if named in BINARY and found.content == "text":
        raise InputError(f"{name}: is not {CALLED[named]}, but text or damaged; name its format with --format")
    return named, _compression_note(path, name, found)


def _format_inside(path: Path, name: str, found: Found) -> Kind:
    """Return the format that the name of a text file promises, or that of the file in an archive."""
    if found.member is not None:
        return format_of(Path(found.member), f"{name} ({found.member})").kind
    stem = path.with_suffix("") if path.suffix.lower() in COMPRESSIONS else path
    return format_of(stem, name).kind


def _compression_note(path: Path, name: str, found: Found) -> tuple[str, ...]:
    promised = COMPRESSIONS.get(path.suffix.lower())
    if name == STANDARD_INPUT or promised == found.compression:
        return ()
    if found.compression is None:
        return (f"{name}: is not compressed, whatever its name says, and is read as it is",)
    return (f"{name}: is compressed with {found.compression}, whatever its name says, and is read so",)


def has_answers(path: Path) -> bool:
    """Return whether `path` is a table with the columns that batchrun adds, with any prefix."""
    try:
        columns = set(open_source(path, ReadOptions()).columns)
    except InputError:
        return False
    prefixes = {name.removesuffix("completed_at") for name in columns if name.endswith("completed_at")}
    return any(columns >= {prefix + name for name in _ANSWER_COLUMNS} for prefix in prefixes)


def validate(source: Source) -> int:
    """Read the whole table once, so that a bad row is found before the batch costs anything, and count its rows.

    Raises:
        InputError: a row cannot be read.
    """
    if isinstance(source, ExpandedSource):
        return validate(source.source) * len(source.combinations)
    return source.count() if isinstance(source, TextSource | PartsSource) else sum(1 for _ in source.rows())


def cells_of(source: Source, column: str) -> Iterator[Value]:
    """Yield the cells of a column.

    Raises:
        InputError: a row cannot be read.
    """
    if isinstance(source, TextSource | PartsSource):
        return source.cells(column)
    return (row.values[column] for row in source.rows())


def _copy_stdin(spool: Path) -> None:
    stream = sys.stdin
    if stream is None:  # a process may be started without standard input
        raise InputError(f"{STANDARD_INPUT}: is closed; pipe a CSV table in, or give a file")
    # Prompts may be private: other users cannot read the copy.
    with replacing(spool, mode=0o600) as file:
        # `read` would continue after the end that a user types at a terminal, and wait for a second one.
        while block := cast("BufferedReader", stream.buffer).read1(1 << 20):
            file.write(block)


def _delimiter(options: ReadOptions) -> str | None:
    return None if options.delimiter is None else delimiter_named(options.delimiter, "delimiter")


def _refuse(options: ReadOptions, name: str, *, encoding: bool) -> None:
    """Raise InputError for options that do not apply to this format."""
    if options.delimiter is not None:
        raise InputError(f"{name}: --delimiter is for .csv only")
    if options.no_header:
        raise InputError(f"{name}: --no-header is for CSV, TSV and Excel only")
    if options.skip_rows is not None:
        raise InputError(f"{name}: --skip-rows is for CSV, TSV and Excel only")
    if encoding and options.encoding is not None:
        raise InputError(f"{name}: --encoding is for text formats only")
