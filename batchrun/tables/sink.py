"""Stage 7: the output table, input and outcomes side by side, replaced as a whole."""

from __future__ import annotations

import csv
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from operator import itemgetter
from pathlib import Path
from typing import IO, Any, Final

from batchrun.errors import InputError
from batchrun.records import Value
from batchrun.tables.atomic import check_writable, replacing
from batchrun.tables.expanded import ExpandedSource
from batchrun.tables.jsonl import JSON_SPACE, JsonlSource
from batchrun.tables.source import Source
from batchrun.tables.table_options import Format, WriteOptions, check_added, format_of
from batchrun.tables.values import json_text, plain

__all__ = ["CsvLines", "check_output", "disarmed", "write_table"]

_ADVICE: Final = "; the answers are safe in the journal: mend that and run the same command again"

_FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_NUMBER: Final = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_CSV_ATOMS: Final = frozenset({str, int, float, type(None)})


def check_output(path: Path, source: Source, options: WriteOptions) -> None:
    """Finds out before any money is spent whether `write_table` would be refused.

    Makes the output's folder if it is missing, and writes and removes a file there.

    Raises:
        InputError: an unknown ending, a column that would be there twice, or an output that is the input.
        OutputError: the folder takes no files, or `path` is no regular file.
    """
    format_of(path, str(path))
    check_added(options, source.columns, source.name)
    check_writable(path)
    given: Path | None = getattr(source, "path", None)
    if given is not None and _is_same(path, given):
        raise InputError(f"{path}: the output is the input itself; name another file")


def write_table(path: Path, source: Source, cells: Iterator[Mapping[str, Any]], options: WriteOptions) -> int:
    """Writes the input's columns, untouched and in order, and behind them those of `options.keys`.

    The file is replaced as a whole once it is complete and on the disk; after any failure the old one stands
    (see `batchrun.tables.atomic.replacing`). CSV and TSV are UTF-8 without byte order mark, lines end in `\\n`,
    None is an empty cell, lists and objects are compact JSON, booleans `true` and `false`. In JSON Lines, rows
    that come from JSON Lines keep their text, without the keys that they lack. NUL in CSV, and lone surrogates
    anywhere, appear as escapes (`\\x00`, `\\ud800`), since an answer may hold anything. For Parquet see
    `batchrun.tables.arrow`.

    Args:
        path: the output; its ending names the format.
        source: the input.
        cells: one mapping for each row of `source`, in order, with the keys of `options.keys`.
        options: prefix, extra columns, `safe_csv` (see `disarmed`).

    Returns:
        The number of rows written.

    Raises:
        InputError: an unknown ending, or a fault of the input.
        OutputError: the system refused; one line, which says so if the disk is full.
        ValueError: `cells` has another number of rows than `source`.
        KeyError: a mapping lacks a key.
    """
    form = format_of(path, str(path))
    with replacing(path, advice=_ADVICE) as file:
        if form.kind == "parquet":
            from batchrun.tables.arrow import write_parquet

            return write_parquet(file, source, cells, options)
        with _stream(file, form) as stream:
            if form.kind == "jsonl":
                return _write_jsonl(stream, source, cells, options)
            return _write_delimited(stream, "\t" if form.kind == "tsv" else ",", source, cells, options)


def disarmed(text: str) -> str:
    """The text with an apostrophe in front if a spreadsheet might run it as a formula.

    That is text which begins with `=` `+` `-` `@`, tab, carriage return or line feed, after
    https://owasp.org/www-community/attacks/CSV_Injection, or with a full-width `＝` `＋` `－` `＠`, which some
    spreadsheets take for the same. Plain numbers such as `-5` and `+3.2e4` stay. The rule protects a file that
    is opened with the delimiter it was written with.
    """
    if text.startswith(_FORMULA_STARTS) and not _NUMBER.fullmatch(text):
        return "'" + text
    return text


def _is_same(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except OSError:
        return False  # most often, there is no output yet


def _stream(file: IO[bytes], form: Format) -> Any:
    return _gzipped(file) if form.gzipped else nullcontext(file)


class _Gzip:
    """Compresses what is written, and keeps nothing that is not compressed.

    Since Python 3.12 `gzip.GzipFile` has a buffer, which is written once more when it is collected after a disk was
    full. There is neither a name nor a time in the header: the same table gives the same bytes.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._compressor = zlib.compressobj(9, zlib.DEFLATED, wbits=16 + zlib.MAX_WBITS)  # 16: gzip's header and end

    def write(self, data: bytes) -> int:
        self._file.write(self._compressor.compress(data))
        return len(data)

    def finish(self) -> None:
        """Write what is left, and the checksum."""
        self._file.write(self._compressor.flush())


@contextmanager
def _gzipped(file: IO[bytes]) -> Iterator[_Gzip]:
    stream = _Gzip(file)
    yield stream
    stream.finish()


class CsvLines:
    """Takes whole rows from csv.writer: UTF-8, lines end in `\\n`, what text cannot hold appears as an escape.

    The writer must be told that lines end in CRLF: up to Python 3.12 it quotes a carriage return inside
    a cell only if the line end has one.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def write(self, line: str) -> int:
        text = line[:-2].replace("\0", "\\x00") + "\n"
        return self._stream.write(text.encode("utf-8", "backslashreplace"))


def _write_delimited(
    stream: IO[bytes],
    delimiter: str,
    source: Source,
    cells: Iterator[Mapping[str, Any]],
    options: WriteOptions,
) -> int:
    writer = csv.writer(CsvLines(stream), delimiter=delimiter, lineterminator="\r\n")
    writer.writerow([*source.columns, *options.added_columns])
    take = itemgetter(*options.keys)
    rows = 0
    for row, outcome in zip(source.rows(), cells, strict=True):
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


def _write_jsonl(stream: IO[bytes], source: Source, cells: Iterator[Mapping[str, Any]], options: WriteOptions) -> int:
    names = dict(zip(options.keys, options.added_columns, strict=True))
    rows = 0
    for start, outcome in zip(_openings(source), cells, strict=True):
        added = json_text({name: plain(outcome[key]) for key, name in names.items()})
        line = f"{start}{'' if start == '{' else ','}{added[1:]}\n"
        # In JSON text the escape of a lone surrogate is JSON's own.
        stream.write(line.encode("utf-8", "backslashreplace"))
        rows += 1
    return rows


def _openings(source: Source) -> Iterator[str]:
    """Each row as a JSON object without its closing brace.

    What came as JSON keeps its text, so that no number loses a digit, and a key that a row lacks is still lacking:
    for some readers that is another thing than null.
    """
    if isinstance(source, ExpandedSource):
        added = [json_text(dict(cells))[1:-1] for cells in source.combinations]
        for opening in _openings(source.source):
            yield from (f"{opening}{'' if opening == '{' else ','}{cells}" for cells in added)
        return
    if not isinstance(source, JsonlSource):
        for row in source.rows():
            yield json_text(dict(row.values))[:-1]
        return
    for _, text, _ in source.objects():
        yield text[:-1].rstrip(JSON_SPACE)
