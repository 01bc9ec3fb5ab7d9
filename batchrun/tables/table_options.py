"""Options for reading and writing tables, and the format that a file extension names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal, TypeAlias

from batchrun.errors import InputError
from batchrun.records import OUTPUT_COLUMNS
from batchrun.tables.compression import COMPRESSIONS, Compression

__all__ = [
    "BINARY",
    "KINDS",
    "Format",
    "Kind",
    "ReadOptions",
    "WriteOptions",
    "check_added_columns",
    "check_output_format",
    "delimiter_named",
    "format_of",
    "without_ending",
]

Kind: TypeAlias = Literal["csv", "tsv", "jsonl", "json", "txt", "parquet", "feather", "xlsx"]
"""`txt` has one prompt a line and is only read. `feather` is Arrow's file format."""

KINDS: Mapping[str, Kind] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".txt": "txt",
    ".parquet": "parquet",
    ".feather": "feather",
    ".arrow": "feather",
    ".xlsx": "xlsx",
    ".xlsm": "xlsx",
}
"""File extension → format."""
BINARY: Final = frozenset({"parquet", "feather", "xlsx"})
"""Formats with a compression of their own: another one around them is refused."""


@dataclass(frozen=True, slots=True)
class Format:
    """The format that a file extension names.

    Attributes:
        kind: the format of the table.
        compression: the one that a second extension such as `.gz` names, None for none; text formats only.
    """

    kind: Kind
    compression: Compression | None = None


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """Options for reading a table.

    Attributes:
        encoding: name of a Python text encoding. None: from the byte order mark, otherwise UTF-8. Text formats only.
        delimiter: one character, or `tab`. None: detected from the header and the first rows, among `,` `;` tab `|`.
            CSV only; the delimiter of TSV is always the tab.
        no_header: the first line is a row; the columns are named `column_1`, `column_2`, … CSV and TSV only.
        format: the format of the input. None: from its content and its extension; CSV for standard input.
        sheet: title of the sheet of a workbook. None: the first visible one with cells.
        skip_rows: lines above the header of a CSV or TSV, rows above that of a workbook. None: found by itself.
    """

    encoding: str | None = None
    delimiter: str | None = None
    no_header: bool = False
    format: Kind | None = None
    sheet: str | None = None
    skip_rows: int | None = None


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """Options for writing the output.

    Attributes:
        prefix: prefix for the names of the columns that batchrun adds (`--output-prefix`).
        safe_csv: disarm cells that a spreadsheet would run as a formula (`--safe-csv`); CSV and TSV only.
        delimiter: one character, or `tab`. None: that of a CSV input, otherwise the comma. CSV only.
        bom: begin with a byte order mark, which is also done if a CSV input has one. CSV and TSV only.
        parts: the ending of the parts, such as `.csv.gz`, if the output is a folder of parts; None if it is a file.
        extra_columns: name → type of the columns after `OUTPUT_COLUMNS`. The types are those of `OUTPUT_COLUMNS` or
            `bool`; cells of any other type are written as JSON text.
    """

    prefix: str = ""
    safe_csv: bool = False
    delimiter: str | None = None
    bom: bool = False
    parts: str | None = None
    extra_columns: Mapping[str, type] = field(default_factory=dict)

    def output_format(self, path: Path) -> Format:
        """Return the format of an output at `path`, or of its parts.

        Raises:
            InputError: the extension is unknown, or names a format that is only read.
        """
        return check_output_format(path if self.parts is None else Path(f"part{self.parts}"), str(path))

    def of_file(self, path: Path) -> WriteOptions:
        """Return the options for another output, which is a file, without those that its format does not have.

        Raises:
            InputError: as for `output_format`.
        """
        kind = check_output_format(path, str(path)).kind
        is_delimited = kind in ("csv", "tsv")
        return replace(
            self,
            safe_csv=self.safe_csv and is_delimited,
            delimiter=self.delimiter if kind == "csv" else None,
            bom=self.bom and is_delimited,
            parts=None,
        )

    @property
    def keys(self) -> Mapping[str, type]:
        """The types of the added columns by their names without prefix, in the order of the output."""
        return {**OUTPUT_COLUMNS, **self.extra_columns}

    @property
    def added_columns(self) -> tuple[str, ...]:
        """The names of the added columns with the prefix, in the order of the output."""
        return tuple(self.prefix + key for key in self.keys)


_DELIMITER_NAMES: Final = {"tab": "\t", "\\t": "\t"}


def delimiter_named(text: str, option: str) -> str:
    """Return the delimiter that an option names.

    Raises:
        InputError: it is not one character that can separate cells.
    """
    delimiter = _DELIMITER_NAMES.get(text, text)
    if len(delimiter) != 1 or delimiter in '"\r\n\0':
        raise InputError(f"--{option} {text!r}: expected one character such as ; or |, or 'tab'")
    return delimiter


def format_of(path: Path, name: str) -> Format:
    """Return the format that the extension of `path` names, regardless of case.

    Args:
        path: path of the table, which need not exist.
        name: the name that the user gave, for the message.

    Raises:
        InputError: the extension is unknown.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    compression = COMPRESSIONS.get(suffixes[-1]) if suffixes else None
    if compression is not None:
        suffixes.pop()
    kind = KINDS.get(suffixes[-1]) if suffixes else None
    if kind is None or (compression is not None and kind in BINARY):
        remedy = "" if suffixes else f"; give it one, such as {path.name}.csv"
        problem = "unknown" if suffixes else "no"
        raise InputError(
            f"{name}: {problem} file extension; expected {', '.join(KINDS)}"
            f" (text formats may be followed by {', '.join(COMPRESSIONS)}){remedy}"
        )
    return Format(kind, compression)


def check_output_format(path: Path, name: str) -> Format:
    """Return the format of an output.

    Raises:
        InputError: the extension is unknown, or names a format that is only read.
    """
    form = format_of(path, name)
    if form.kind == "txt" or form.compression == "zip" or path.suffix.lower() == ".xlsm":
        writable = [ending for ending in KINDS if ending not in (".txt", ".xlsm")]
        raise InputError(f"{name}: batchrun only reads {''.join(path.suffixes[-2:])}; expected {', '.join(writable)}")
    return form


def without_ending(name: str) -> str:
    """Return a file's name without its extension, and without that of a compression: `a.csv.zst` → `a`."""
    path = Path(name)
    return (path.with_suffix("") if path.suffix.lower() in COMPRESSIONS else path).stem


def check_added_columns(options: WriteOptions, columns: Sequence[str], name: str) -> None:
    """Raise InputError if a column that batchrun adds has the name of another column.

    Args:
        options: prefix and extra columns.
        columns: the columns of the input.
        name: name of the input, for the message.
    """
    counts = Counter(options.added_columns)
    counts.update(set(columns))
    counts.update(OUTPUT_COLUMNS.keys() & options.extra_columns.keys())
    twice = [column for column, count in counts.items() if count > 1]
    if twice:
        several = len(twice) > 1
        raise InputError(
            f"{name}: the column{'s' if several else ''} {', '.join(map(repr, twice))} "
            f"{'are also names of output columns' if several else 'is also the name of an output column'};"
            f" rename {'them' if several else 'it'}, or give the output columns a prefix with --output-prefix, such as "
            "new_"
        )
