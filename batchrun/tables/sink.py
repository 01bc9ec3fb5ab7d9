"""Stage 7: writing the output table, with input and outcomes side by side."""

from __future__ import annotations

import codecs
import csv
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from operator import itemgetter
from pathlib import Path
from typing import IO, Any, Final, Protocol

from batchrun.errors import InputError
from batchrun.records import Cells, Row, Value
from batchrun.tables.atomic import replacing, replacing_folder
from batchrun.tables.compression import Sink, compressed
from batchrun.tables.dialect import CANDIDATES
from batchrun.tables.excel import need_openpyxl
from batchrun.tables.expanded import ExpandedSource
from batchrun.tables.jsonl import JSON_SPACE, JsonlSource
from batchrun.tables.part_folder import check_place, mark, part_name
from batchrun.tables.part_names import would_be_part
from batchrun.tables.parts import PartsSource
from batchrun.tables.source import Source, files_of
from batchrun.tables.table_options import Format, Kind, WriteOptions, check_added_columns, delimiter_named
from batchrun.tables.text import TextSource
from batchrun.tables.values import json_text, plain

__all__ = ["CsvLines", "check_not_input", "check_output", "disarmed", "write_table"]

PART_ROWS: Final = 100_000
"""Maximum rows of a part of an output that is a folder."""

_ADVICE: Final = "; the answers are safe in the journal; fix the problem and run the same command again"

_FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_NUMBER: Final = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_SPLIT_AT: Final = (",", ";", "\t")
"""Delimiters at which LibreOffice splits cells by default, whichever of them a file uses. An answer must not end up in
two columns, and what is behind its delimiter must not become a formula."""
_END_CHARS: Final = len(_SPLIT_AT) + 2
_CSV_ATOMS: Final = frozenset({str, int, float, type(None)})


def check_output(path: Path, source: Source, options: WriteOptions) -> None:
    """Check before the batch costs anything that `write_table` can write the output.

    The output's folder is created if it is missing, and a file is written and removed there.

    Raises:
        InputError: the extension is unknown, two columns would have the same name, or the output is the input.
        OutputError: the folder is not writable, or `path` is not a regular file.
    """
    form = options.output_format(path)
    if form.kind == "xlsx":
        need_openpyxl(str(path))
    if form.kind != "csv" and options.delimiter is not None:
        raise InputError(f"{path}: --output-delimiter is for .csv only")
    if form.kind not in ("csv", "tsv") and options.bom:
        raise InputError(f"{path}: --bom is for .csv and .tsv only")
    if form.kind not in ("csv", "tsv") and options.safe_csv:
        why = "text in a workbook is never a formula" if form.kind == "xlsx" else "no spreadsheet runs its texts"
        raise InputError(f"{path}: --safe-csv is for .csv and .tsv only; leave it out: {why}")
    if options.delimiter is not None:
        delimiter_named(options.delimiter, "output-delimiter")
    check_added_columns(options, source.columns, source.name)
    if options.parts is not None and any(_is_same(path, each.parent) for each in files_of(source)):
        raise InputError(f"{path}: the output is the folder of the input; choose another name")
    check_place(path, is_folder=options.parts is not None)
    check_not_input(path, source, "the output is the input file; choose another name")


def check_not_input(path: Path, source: Source, problem: str) -> None:
    """Raise InputError if the output is a file of the input, or would become one of its parts.

    Args:
        problem: what the message says of the former.
    """
    if any(_is_same(path, each) for each in files_of(source)):
        raise InputError(f"{path}: {problem}")
    original = source.source if isinstance(source, ExpandedSource) else source
    if isinstance(original, PartsSource) and would_be_part(path, original.place):
        raise InputError(f"{path}: the output would be a part of the input {original.name}; choose another folder")


def write_table(path: Path, source: Source, cells: Iterator[Cells], options: WriteOptions) -> int:
    """Write the input's columns, unchanged and in order, followed by the columns of `options.keys`.

    With `options.parts` the output is a folder of parts of at most `PART_ROWS` rows and `MARKER`.
    The old file is replaced when the new one is complete and on the disk; after any failure the old file is kept (see
    `batchrun.tables.atomic.replacing`). CSV and TSV are UTF-8; delimiter, byte order mark and line ends are those
    of a CSV input, otherwise the comma, no mark and `\\n`.
    None is an empty cell, lists and objects are compact JSON, booleans are `true` and `false`. Rows that were read from
    JSON Lines keep their text in JSON Lines, and no missing keys are added. NUL in CSV and lone surrogates in any
    format become escapes (`\\x00`, `\\ud800`), because an answer may contain anything. For Parquet see
    `batchrun.tables.arrow`.

    Args:
        path: the output; its extension names the format.
        source: the input.
        cells: one mapping for each row of `source`, in order, with the keys of `options.keys`.
        options: prefix, extra columns, `safe_csv` (see `disarmed`).

    Returns:
        The number of rows written.

    Raises:
        InputError: the extension is unknown, or the input cannot be read.
        OutputError: the file cannot be written, for example because the disk is full.
        ValueError: `cells` and `source` have different numbers of rows.
        KeyError: a mapping lacks a key.
    """
    form = options.output_format(path)
    if options.parts is None:
        with replacing(path, advice=_ADVICE) as file:
            return sum(write(file) for write in _writers(form, path, source, cells, options, sys.maxsize))
    with replacing_folder(path, advice=_ADVICE) as folder:
        counts: list[int] = []
        for write in _writers(form, path, source, cells, options, PART_ROWS):
            with (folder / part_name(len(counts), options.parts)).open("xb") as file:
                counts.append(write(file))
                file.flush()
                os.fsync(file.fileno())
        mark(folder, len(counts), sum(counts))
    return sum(counts)


def _writers(
    form: Format, path: Path, source: Source, cells: Iterator[Cells], options: WriteOptions, most: int
) -> Iterator[Callable[[IO[bytes]], int]]:
    """Yield, for each portion of at most `most` rows, the function that writes it to a file and returns its rows. Each
    must be called before the next is taken. There is one portion at least."""
    if form.kind in ("parquet", "feather"):
        from batchrun.tables.arrow import joined, portions, write_columnar

        schema, batches = joined(source, cells, options)
        for portion in portions(batches, most):
            yield partial(write_columnar, kind=form.kind, schema=schema, batches=portion)
        return
    if form.kind == "xlsx":
        from batchrun.tables.excel_sink import write_excel

        yield partial(write_excel, name=str(path), source=source, cells=cells, options=options)
        return
    write: Callable[[Sink, Any], int]
    pairs: Iterator[tuple[Any, Cells]]
    if form.kind in ("jsonl", "json"):
        pairs = zip(_openings(source), cells, strict=True)
        write = partial(_write_json, as_array=form.kind == "json", options=options)
    else:
        pairs = zip(source.rows(), cells, strict=True)
        write = partial(_write_delimited, dialect=_dialect(form.kind, source, options), options=options)

    def write_text(portion: Iterator[tuple[Any, Cells]], file: IO[bytes]) -> int:
        with compressed(file, form.compression) as stream:
            return write(stream, portion)

    yield partial(write_text, islice(pairs, most))
    for pair in pairs:
        yield partial(write_text, chain((pair,), islice(pairs, most - 1)))


def disarmed(text: str) -> str:
    """Return the text, with an apostrophe before it if a spreadsheet might run it as a formula.

    Such text begins with `=` `+` `-` `@`, tab, carriage return or line feed, according to
    https://owasp.org/www-community/attacks/CSV_Injection, or with a full-width `＝` `＋` `－` `＠`, which some
    spreadsheets treat alike. Plain numbers such as `-5` and `+3.2e4` are unchanged. The rule protects a file that is
    opened with the usual delimiters: cells that contain one are quoted.
    """
    if text.startswith(_FORMULA_STARTS) and not _NUMBER.fullmatch(text):
        return "'" + text
    return text


def _is_same(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except OSError:
        return False  # usually the output does not exist yet


@dataclass(frozen=True, slots=True)
class _Dialect:
    """How delimited text is written.

    Attributes:
        header: the names of the input's columns. A column without a name keeps none.
    """

    delimiter: str
    bom: bool
    line_end: str
    header: tuple[str, ...]


def _dialect(kind: Kind, source: Source, options: WriteOptions) -> _Dialect:
    """Return the dialect that the options name, otherwise that of an input of the same format."""
    original = source.source if isinstance(source, ExpandedSource) else source
    if isinstance(original, PartsSource):
        original = original.parts[0]
    delimiter, bom, line_end, header = ",", False, "\n", source.columns
    if isinstance(original, TextSource):
        if original.header is not None:
            header = (*original.header, *source.columns[len(original.columns) :])
        bom, line_end = original.file.bom, original.line_end
        if original.delimiter in CANDIDATES and not original.is_tsv:
            delimiter = original.delimiter
    if kind == "tsv":
        delimiter = "\t"
    elif options.delimiter is not None:
        delimiter = delimiter_named(options.delimiter, "output-delimiter")
    return _Dialect(delimiter, bom or options.bom, line_end, header)


class CsvWriter(Protocol):
    """What `csv.writer` returns."""

    def writerow(self, row: Iterable[Any], /) -> Any:
        """Write a row."""


class CsvLines:
    """A file for its `writer` that writes UTF-8, ends lines as asked and escapes what text cannot contain."""

    def __init__(self, stream: Sink, line_end: str = "\n") -> None:
        self._stream = stream
        self._line_end = line_end

    def write(self, line: str) -> int:
        text = line[:-_END_CHARS].replace("\0", "\\x00") + self._line_end
        return self._stream.write(text.encode("utf-8", "backslashreplace"))

    def writer(self, delimiter: str) -> CsvWriter:
        """Return a writer of rows that quotes cells with a line end or with any delimiter of `_SPLIT_AT`.

        The module quotes a cell that contains a character of the line end, so these are in it, and `write` replaces it.
        """
        split_at = "".join(each for each in _SPLIT_AT if each != delimiter)
        line_end = f"{split_at}\r\n".ljust(_END_CHARS, "\n")
        return csv.writer(self, delimiter=delimiter, lineterminator=line_end)


def _write_delimited(
    stream: Sink, pairs: Iterable[tuple[Row, Cells]], *, dialect: _Dialect, options: WriteOptions
) -> int:
    if dialect.bom:
        stream.write(codecs.BOM_UTF8)
    writer = CsvLines(stream, dialect.line_end).writer(dialect.delimiter)
    writer.writerow([*dialect.header, *options.added_columns])
    take = itemgetter(*options.keys)
    rows = 0
    for row, outcome in pairs:
        values = [
            value if type(value) in _CSV_ATOMS else _csv_cell(value) for value in (*row.values.values(), *take(outcome))
        ]
        if options.safe_csv:
            values = [disarmed(value) if type(value) is str else value for value in values]
        writer.writerow(values)
        rows += 1
    return rows


def _csv_cell(value: Any) -> Value:
    value = plain(value)
    return json_text(value) if isinstance(value, bool | dict | list) else value


def _write_json(stream: Sink, pairs: Iterable[tuple[str, Cells]], *, as_array: bool, options: WriteOptions) -> int:
    """Write JSON Lines, or one array with an object on each line."""
    names = dict(zip(options.keys, options.added_columns, strict=True))
    rows = 0
    for start, outcome in pairs:
        added = json_text({name: plain(outcome[key]) for key, name in names.items()})
        before = "" if not as_array else ",\n" if rows else "[\n"
        line = f"{before}{start}{'' if start == '{' else ','}{added[1:]}{'' if as_array else chr(10)}"
        # The escape that Python writes for a lone surrogate is also JSON's.
        stream.write(line.encode("utf-8", "backslashreplace"))
        rows += 1
    if as_array:
        stream.write(b"\n]\n" if rows else b"[]\n")
    return rows


def _openings(source: Source) -> Iterator[str]:
    """Yield each row as a JSON object without its closing brace.

    Rows that were read from JSON keep their text, so that no number loses a digit. A missing key stays missing, because
    some readers distinguish it from null.
    """
    if isinstance(source, ExpandedSource):
        added = [json_text(dict(cells))[1:-1] for cells in source.combinations]
        for opening in _openings(source.source):
            yield from (f"{opening}{'' if opening == '{' else ','}{cells}" for cells in added)
        return
    if isinstance(source, PartsSource) and isinstance(source.parts[0], JsonlSource):
        for part in source.parts:
            yield from _openings(part)
        return
    if not isinstance(source, JsonlSource):
        for row in source.rows():
            yield json_text(dict(row.values))[:-1]
        return
    for _, text, _ in source.objects():
        yield text[:-1].rstrip(JSON_SPACE)
