"""Conversion of tables from and to the files of other tools."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from batchrun.errors import InputError
from batchrun.records import OUTPUT_COLUMNS, Row, Value
from batchrun.scoring.formats.conversion import Conversion
from batchrun.scoring.formats.readers import READERS, Notes
from batchrun.scoring.formats.writers import WRITERS
from batchrun.scoring.scorers.base import as_text
from batchrun.tables import ReadOptions, Source, open_source
from batchrun.tables.atomic import replacing
from batchrun.tables.compression import Sink, compressed
from batchrun.tables.sink import CsvLines, write_table
from batchrun.tables.table_options import Format, Kind, WriteOptions, check_output_format, format_of
from batchrun.tables.values import KindOf, json_text

__all__ = ["FORMATS", "convert"]

Cells: TypeAlias = Mapping[str, Value]


def convert(name: str, output: Path, conversion: Conversion) -> tuple[int, Notes]:
    """Convert a file. The result is written completely or not at all.

    Returns:
        The number of rows, and notes about everything that was not carried over.

    Raises:
        InputError: the file does not have the given format, or an option is wrong.
        OutputError: the result cannot be written.
    """
    source = open_source(name, ReadOptions(no_header=conversion.no_header and conversion.join is None))
    form = check_output_format(output, str(output))
    _check(name, output, form, conversion)
    # A text table names its columns before its rows, so a first pass finds them, and all faults.
    notes = Notes()
    table = _Table.read(source, conversion, notes)
    rows: Iterator[Cells] = (row.values for row in table.rows())
    if conversion.to_format != "table":
        write = WRITERS[conversion.to_format]
        rows = (write(row, index, conversion, notes) for index, row in enumerate(rows))
    if form.kind not in ("csv", "tsv", "jsonl"):
        _note_json_text(table, form, notes)
        write_table(output, table, ({} for _ in range(table.count)), _NoColumns())
        return table.count, notes
    with replacing(output) as file, compressed(file, form.compression) as stream:
        if form.kind == "jsonl":
            for line in rows:
                stream.write(json_text(line).encode("utf-8", "backslashreplace") + b"\n")
        else:
            _write_text(stream, "\t" if form.kind == "tsv" else ",", rows, notes)
    return table.count, notes


@dataclass(frozen=True, slots=True)
class _Table:
    """A file that has been read once, as a table.

    Attributes:
        source: the file.
        conversion: options of its format.
        kinds: column → types of its cells, in order of first occurrence.
        count: number of rows.
    """

    source: Source
    conversion: Conversion
    kinds: Mapping[str, KindOf]
    count: int

    @classmethod
    def read(cls, source: Source, conversion: Conversion, notes: Notes) -> _Table:
        kinds: dict[str, KindOf] = {}
        count = 0
        for row in _rows(source, conversion, notes):
            count += 1
            for column, value in row.items():
                if column not in kinds:
                    kinds[column] = KindOf(set())
                kinds[column].add(value)
        return cls(source, conversion, kinds, count)

    @property
    def name(self) -> str:
        """Name of the file, for messages."""
        return self.source.name

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns, in order of first occurrence."""
        return tuple(self.kinds)

    def rows(self) -> Iterator[Row]:
        """Yield the rows again from the first, each with all columns."""
        for index, row in enumerate(_rows(self.source, self.conversion, Notes())):
            yield Row(index, {column: row.get(column) for column in self.kinds})

    def fingerprint(self) -> str:
        """Return the fingerprint of the file."""
        return self.source.fingerprint()


def _check(name: str, output: Path, form: Format, conversion: Conversion) -> None:
    if conversion.from_format == conversion.to_format == "table" and form.kind == format_of(Path(name), name).kind:
        raise InputError(f"{output}: input and output have the same format; choose another with --from or --to")
    kinds = {"table": ("csv", "tsv", "jsonl", "json", "parquet", "feather", "xlsx"), "promptfoo": ("csv",)}.get(
        conversion.to_format, ("jsonl",)
    )
    if form.kind not in kinds:
        raise InputError(
            f"{output}: convert --to {conversion.to_format} writes {' or '.join(f'.{kind}' for kind in kinds)}"
        )
    if output.exists() and Path(name).exists() and output.samefile(name):
        raise InputError(f"{output}: the output is the input file itself; name another file")
    if conversion.join is not None and (conversion.from_format != "batch-results" or conversion.key is None):
        raise InputError("--join requires --from batch-results, and --key with the id column of the joined table")
    if conversion.to_format == "batch-requests" and conversion.model is None:
        raise InputError("--to batch-requests: each request names its model; add --model NAME")


def _rows(source: Source, conversion: Conversion, notes: Notes) -> Iterator[dict[str, Value]]:
    if conversion.join is not None:
        yield from _joined(source, conversion, notes)
        return
    read = READERS.get(conversion.from_format)
    for row in source.rows():
        where = f"{source.name}, line {row.line}" if row.line is not None else f"{source.name}, row {row.row_index}"
        yield dict(row.values) if read is None else read(row.values, where, notes)


def _joined(source: Source, conversion: Conversion, notes: Notes) -> Iterator[dict[str, Value]]:
    """Yield the rows of the joined table with the answers of batch results."""
    assert conversion.join is not None
    assert conversion.key is not None
    table = open_source(conversion.join, ReadOptions(no_header=conversion.no_header))
    if conversion.key not in table.columns:
        raise InputError(f"--key {conversion.key}: {table.name} has no such column")
    twice = [column for column in table.columns if column in OUTPUT_COLUMNS]
    if twice:
        raise InputError(f"{table.name}: the results have a column {twice[0]!r} too; rename the table's column")
    answers: dict[str, dict[str, Value]] = {}
    for result in _rows(source, Conversion(conversion.from_format), notes):
        answers[as_text(result.pop("custom_id"))] = result
    unanswered = {"response": None, "status": "pending"}
    for row in table.rows():
        yield {**row.values, **answers.pop(as_text(row.values[conversion.key]), unanswered)}
    for _ in answers:
        notes.add(f"results whose custom_id is not in {table.name}")


def _note_json_text(table: _Table, form: Format, notes: Notes) -> None:
    if form.kind == "json":
        return
    for column, seen in table.kinds.items():
        if seen.kind == "json":
            notes.rows[
                f"{column}: lists, objects or values of several types, which become JSON text in {_CALLED[form.kind]}"
            ] = table.count


_CALLED: Final[Mapping[Kind, str]] = {"parquet": "Parquet", "feather": "Arrow", "xlsx": "Excel"}


class _NoColumns(WriteOptions):
    """Write options that add no columns."""

    __slots__ = ()

    @property
    def keys(self) -> Mapping[str, type]:
        """No keys."""
        return {}


def _write_text(stream: Sink, delimiter: str, rows: Iterator[Cells], notes: Notes) -> None:
    writer = csv.writer(CsvLines(stream), delimiter=delimiter, lineterminator="\r\n")
    for index, row in enumerate(rows):
        if not index:
            writer.writerow(row)
        if any(isinstance(value, list | dict) for value in row.values()):
            notes.add("lists and objects, which become JSON text in CSV; write .jsonl to keep them")
        writer.writerow([as_text(value) for value in row.values()])


FORMATS: Final = ("table", *READERS)
