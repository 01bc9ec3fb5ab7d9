"""Writing Excel workbooks with openpyxl (extra `excel`)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final

from batchrun.errors import InputError, OutputError
from batchrun.records import Cells, Value
from batchrun.tables.source import Source
from batchrun.tables.table_options import WriteOptions
from batchrun.tables.values import json_text, plain

__all__ = ["check_workbook", "write_excel"]

MAX_ROWS: Final = 1_048_576
MAX_COLUMNS: Final = 16_384
MAX_CELL_CHARS: Final = 32_767
"""Limits of Excel (https://support.microsoft.com/office/1672b34d-7043-467e-8e27-269d656771c3)."""
_EXACT: Final = 2**53
_UNWRITABLE: Final = re.compile("[\x00-\x08\x0b-\x1f\ufffe\uffff]|_(?=x[0-9A-Fa-f]{4}_)")
"""Characters that XML cannot hold or would change, and the beginning of text that looks like the escape of one."""
_BEFOREHAND: Final = "choose an --output with .csv, .jsonl or .parquet"
_OTHER: Final = "write .csv, .jsonl or .parquet instead (`batchrun export`); the answers are safe in the journal"


def check_workbook(path: Path, source: Source, options: WriteOptions) -> None:
    """Check before the batch costs anything that a workbook can hold the input with its output columns.

    The table is read once for it. Answers may still be too long for a cell.

    Raises:
        InputError: there are more rows, columns or characters in a cell than Excel allows.
    """
    columns = len(source.columns) + len(options.added_columns)
    if columns > MAX_COLUMNS:
        raise InputError(f"{path}: {columns:,} columns, and Excel has at most {MAX_COLUMNS:,}; {_BEFOREHAND}")
    for number, row in enumerate(source.rows(), start=2):
        if number > MAX_ROWS:
            raise InputError(f"{path}: more than {MAX_ROWS - 1:,} rows, which is Excel's limit; {_BEFOREHAND}")
        for column, value in row.values.items():
            found = _excel_value(value)
            if isinstance(found, str) and (length := _length(found)) > MAX_CELL_CHARS:
                raise InputError(
                    f"{source.name}, {row.where}, column {column!r}: {length:,} characters, and a cell of {path} has at"
                    f" most {MAX_CELL_CHARS:,}; {_BEFOREHAND}"
                )


def write_excel(file: IO[bytes], name: str, source: Source, cells: Iterator[Cells], options: WriteOptions) -> int:
    """Write input and outcomes to the first sheet of a workbook, and return the number of rows.

    Text is never a formula. Control characters, which XML cannot hold, become Excel's own escapes such as `_x0007_`.
    Integers that Excel would round are text. Lists and objects are compact JSON.

    Args:
        name: the output, for messages.

    Raises:
        OutputError: there are more rows, columns or characters in a cell than Excel allows.
        ValueError: `cells` and `source` have different numbers of rows.
        KeyError: a mapping lacks a key.
    """
    from openpyxl import Workbook

    columns = [*source.columns, *options.added_columns]
    if len(columns) > MAX_COLUMNS:
        raise OutputError(f"{name}: {len(columns):,} columns, and Excel has at most {MAX_COLUMNS:,}; {_OTHER}")
    book = Workbook(write_only=True)
    sheet = book.create_sheet("answers")
    sheet.freeze_panes = "A2"
    keys = tuple(options.keys)
    rows = 0
    try:
        sheet.append(_cells(sheet, columns, columns, name, 1))
        for row, outcome in zip(source.rows(), cells, strict=True):
            rows += 1
            if rows >= MAX_ROWS:
                raise OutputError(f"{name}: more than {MAX_ROWS - 1:,} rows, which is Excel's limit; {_OTHER}")
            values = [*row.values.values(), *(outcome[key] for key in keys)]
            sheet.append(_cells(sheet, values, columns, name, rows + 1))
    except BaseException:
        # Otherwise the garbage collector ends openpyxl's writers, in an order in which they fail.
        with suppress(Exception):
            sheet.close()
        raise
    book.save(file)
    return rows


def _cells(sheet: Any, values: Iterable[Value], columns: list[str], name: str, number: int) -> list[Any]:
    from openpyxl.cell import WriteOnlyCell

    cells: list[Any] = []
    for column, value in zip(columns, values, strict=True):
        value = _excel_value(value)
        if isinstance(value, str):
            if (length := _length(value)) > MAX_CELL_CHARS:
                raise OutputError(
                    f"{name}, row {number}, column {column!r}: {length:,} characters, and a cell of Excel has at"
                    f" most {MAX_CELL_CHARS:,}; {_OTHER}"
                )
            cell = WriteOnlyCell(sheet, value)
            cell.data_type = "s"  # otherwise text that begins with = would be a formula
            cells.append(cell)
        else:
            cells.append(value)
    return cells


def _length(text: str) -> int:
    """Return the length as Excel counts it, in units of UTF-16."""
    return len(text) if len(text) <= MAX_CELL_CHARS // 2 else len(text.encode("utf-16-le")) // 2


def _excel_value(value: Any) -> str | int | float | bool | None:
    value = plain(value)
    if isinstance(value, dict | list):
        value = json_text(value)
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return value if abs(value) <= _EXACT else str(value)
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    text = value.encode("utf-8", "backslashreplace").decode()
    return _UNWRITABLE.sub(lambda found: f"_x{ord(found[0]):04X}_", text.replace("\r\n", "\n"))
