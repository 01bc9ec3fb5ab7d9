"""Which format a path's ending names, and how a table is read and written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from batchrun.errors import InputError
from batchrun.records import OUTPUT_COLUMNS

__all__ = ["Format", "Kind", "ReadOptions", "WriteOptions", "check_added", "format_of"]

Kind: TypeAlias = Literal["csv", "tsv", "jsonl", "parquet"]

_KINDS: Mapping[str, Kind] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}


@dataclass(frozen=True, slots=True)
class Format:
    """What a path's ending says.

    Attributes:
        kind: the format of the table.
        gzipped: the ending is followed by `.gz`; text formats only.
    """

    kind: Kind
    gzipped: bool = False


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How the input is to be understood.

    Attributes:
        encoding: name of a Python text encoding. None: a byte order mark decides, else UTF-8. Text formats only.
        delimiter: one character, or `tab`. None: found from the header and the first rows, among `,` `;` tab `|`.
            CSV only; in TSV it is always the tab.
    """

    encoding: str | None = None
    delimiter: str | None = None


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """How the output is to look.

    Attributes:
        prefix: put before the name of every column that batchrun adds (`--output-prefix`).
        safe_csv: disarm cells that a spreadsheet would run as a formula (`--safe-csv`); CSV and TSV only.
        extra_columns: name → type of further columns behind `OUTPUT_COLUMNS`; types as there, or `bool`;
            cells of any other type are written as JSON text.
    """

    prefix: str = ""
    safe_csv: bool = False
    extra_columns: Mapping[str, type] = field(default_factory=dict)

    @property
    def keys(self) -> Mapping[str, type]:
        """Key in the cells → type, in output order, without the prefix."""
        return {**OUTPUT_COLUMNS, **self.extra_columns}

    @property
    def added_columns(self) -> tuple[str, ...]:
        """Names of the columns behind the input's own, with the prefix, in order."""
        return tuple(self.prefix + key for key in self.keys)


def format_of(path: Path, name: str) -> Format:
    """The format that the ending of `path` names, whatever its case.

    Args:
        path: where the table is or will be.
        name: the table as the user knows it, for the message.

    Raises:
        InputError: no known ending.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    gzipped = suffixes[-1:] == [".gz"]
    if gzipped:
        suffixes.pop()
    kind = _KINDS.get(suffixes[-1]) if suffixes else None
    if kind is None or (gzipped and kind == "parquet"):
        raise InputError(
            f"{name}: unknown file ending; tables end in {', '.join(_KINDS)} (all but .parquet may be followed by .gz)"
        )
    return Format(kind, gzipped)


def check_added(options: WriteOptions, columns: Sequence[str], name: str) -> None:
    """Raises InputError if a column that batchrun adds has the name of another.

    Args:
        options: prefix and extra columns.
        columns: the input's.
        name: the input, for the message.
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
            f" rename {'them' if several else 'it'}, or set the output's apart with --output-prefix"
        )
