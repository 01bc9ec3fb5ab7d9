"""Options for reading and writing tables, and the format that a file extension names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from batchrun.errors import InputError
from batchrun.records import OUTPUT_COLUMNS

__all__ = ["Format", "Kind", "ReadOptions", "WriteOptions", "check_added_columns", "format_of"]

Kind: TypeAlias = Literal["csv", "tsv", "jsonl", "parquet"]

_KINDS: Mapping[str, Kind] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}


_SPREADSHEET = "; save the sheet as CSV UTF-8 from the spreadsheet program"
_REMEDIES: Mapping[str, str] = {
    ".xlsx": _SPREADSHEET,
    ".xls": _SPREADSHEET,
    ".ods": _SPREADSHEET,
    ".json": "; write one JSON object per line, and name the file .jsonl",
    ".txt": "; if each line is a prompt, name the file .tsv and add --no-header",
}
"""What to do with a file of another format, by its extension."""


@dataclass(frozen=True, slots=True)
class Format:
    """The format that a file extension names.

    Attributes:
        kind: the format of the table.
        gzipped: the extension is followed by `.gz`; text formats only.
    """

    kind: Kind
    gzipped: bool = False


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """Options for reading a table.

    Attributes:
        encoding: name of a Python text encoding. None: from the byte order mark, otherwise UTF-8. Text formats only.
        delimiter: one character, or `tab`. None: detected from the header and the first rows, among `,` `;` tab `|`.
            CSV only; the delimiter of TSV is always the tab.
        no_header: the first line is a row; the columns are named `column_1`, `column_2`, … CSV and TSV only.
    """

    encoding: str | None = None
    delimiter: str | None = None
    no_header: bool = False


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """Options for writing the output.

    Attributes:
        prefix: prefix for the names of the columns that batchrun adds (`--output-prefix`).
        safe_csv: disarm cells that a spreadsheet would run as a formula (`--safe-csv`); CSV and TSV only.
        extra_columns: name → type of the columns after `OUTPUT_COLUMNS`. The types are those of `OUTPUT_COLUMNS` or
            `bool`; cells of any other type are written as JSON text.
    """

    prefix: str = ""
    safe_csv: bool = False
    extra_columns: Mapping[str, type] = field(default_factory=dict)

    @property
    def keys(self) -> Mapping[str, type]:
        """The types of the added columns by their names without prefix, in the order of the output."""
        return {**OUTPUT_COLUMNS, **self.extra_columns}

    @property
    def added_columns(self) -> tuple[str, ...]:
        """The names of the added columns with the prefix, in the order of the output."""
        return tuple(self.prefix + key for key in self.keys)


def format_of(path: Path, name: str) -> Format:
    """Return the format that the extension of `path` names, regardless of case.

    Args:
        path: path of the table, which need not exist.
        name: the name that the user gave, for the message.

    Raises:
        InputError: the extension is unknown.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    gzipped = suffixes[-1:] == [".gz"]
    if gzipped:
        suffixes.pop()
    kind = _KINDS.get(suffixes[-1]) if suffixes else None
    if kind is None or (gzipped and kind == "parquet"):
        remedy = _REMEDIES.get(suffixes[-1], "") if suffixes else f"; give it one, such as {path.name}.csv"
        problem = "unknown" if suffixes else "no"
        raise InputError(
            f"{name}: {problem} file extension; expected {', '.join(_KINDS)} "
            f"(all except .parquet may be followed by .gz){remedy}"
        )
    return Format(kind, gzipped)


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
            f" rename {'them' if several else 'it'}, or give the output columns a prefix with --output-prefix"
        )
