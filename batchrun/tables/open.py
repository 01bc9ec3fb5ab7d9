"""Opening a table in any format: from a path, standard input or memory."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from batchrun.errors import InputError
from batchrun.local_paths import check_local
from batchrun.tables.arrow_table import ArrowSource
from batchrun.tables.atomic import replacing
from batchrun.tables.files import TextFile, check_readable
from batchrun.tables.frame import FrameSource
from batchrun.tables.jsonl import JsonlSource
from batchrun.tables.parquet import ParquetSource
from batchrun.tables.source import Source
from batchrun.tables.table_options import ReadOptions, format_of
from batchrun.tables.text import TextSource

if TYPE_CHECKING:
    from io import BufferedReader

    import pandas as pd
    import pyarrow as pa

__all__ = ["has_answers", "open_source", "validate"]


_ANSWER_COLUMNS: Final = ("response", "status", "error_type", "run_id", "attempts", "completed_at")
"""Columns that occur together only in tables that batchrun wrote."""


_STDIN: Final = "standard input"


_DELIMITER_NAMES: Final = {"tab": "\t", "\\t": "\t"}


def open_source(
    input: str | os.PathLike[str] | pd.DataFrame | pa.Table,  # noqa: A002 - the word of the command line and the job file
    options: ReadOptions,
    *,
    spool: Path | None = None,
) -> Source:
    """Open a table and read its columns.

    Args:
        input: a path whose extension names the format, `-` for CSV on standard input, a pandas frame or an Arrow table.
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
    if name == "-":
        if spool is None:
            raise ValueError("a spool file is required, because standard input can be read only once")
        _copy_stdin(spool)
        file = TextFile.find(spool, _STDIN, encoding=options.encoding, gzipped=False)
        return TextSource.open(file, _delimiter(options), has_header=not options.no_header)
    check_local(name, "the table")
    path = Path(name)
    check_readable(path, name)
    form = format_of(path, name)
    if form.kind == "parquet":
        _refuse(options, name, encoding=True)
        return ParquetSource.open(path, name)
    file = TextFile.find(path, name, encoding=options.encoding, gzipped=form.gzipped)
    if form.kind == "csv":
        return TextSource.open(file, _delimiter(options), has_header=not options.no_header)
    if form.kind == "tsv":
        if _delimiter(options) not in (None, "\t"):
            raise InputError(f"{name}: --delimiter is for .csv only; the delimiter of TSV is the tab")
        return TextSource.open(file, "\t", has_header=not options.no_header)
    _refuse(options, name, encoding=False)
    return JsonlSource.open(file)


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
    return sum(1 for _ in source.rows())


def _copy_stdin(spool: Path) -> None:
    stream = sys.stdin
    if stream is None:  # a process may be started without standard input
        raise InputError(f"{_STDIN}: is closed; pipe a CSV table in, or give a file")
    # Prompts may be private: other users cannot read the copy.
    with replacing(spool, mode=0o600) as file:
        # `read` would continue after the end that a user types at a terminal, and wait for a second one.
        while block := cast("BufferedReader", stream.buffer).read1(1 << 20):
            file.write(block)


def _delimiter(options: ReadOptions) -> str | None:
    if options.delimiter is None:
        return None
    delimiter = _DELIMITER_NAMES.get(options.delimiter, options.delimiter)
    if len(delimiter) != 1 or delimiter in '"\r\n\0':
        raise InputError(f"--delimiter {options.delimiter!r}: expected one character such as ; or |, or 'tab'")
    return delimiter


def _refuse(options: ReadOptions, name: str, *, encoding: bool) -> None:
    """Raise InputError for options that do not apply to this format."""
    if options.delimiter is not None:
        raise InputError(f"{name}: --delimiter is for .csv only")
    if options.no_header:
        raise InputError(f"{name}: --no-header is for CSV and TSV only")
    if encoding and options.encoding is not None:
        raise InputError(f"{name}: --encoding is for text formats only")
