"""Reading Excel workbooks with openpyxl (extra `excel`).

openpyxl was chosen because it reads and writes, and because python-calamine turns error cells into empty text. What it
leaves undone is done here: escapes such as `_x000D_`, formatted rows without cells, formulas without a stored value.
"""

from __future__ import annotations

import datetime as dt
import re
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from batchrun.errors import InputError
from batchrun.records import Row, Value
from batchrun.tables.column_names import check_columns, looks_like_row, unnamed
from batchrun.tables.files import check_readable, digest, reading
from batchrun.tables.table_options import ReadOptions
from batchrun.tables.values import ErrorCell
from batchrun.wording import shortened

if TYPE_CHECKING:
    from openpyxl.cell.cell import Cell, MergedCell
    from openpyxl.workbook.workbook import Workbook
    from openpyxl.worksheet.worksheet import Worksheet

__all__ = ["ExcelSource", "need_openpyxl"]

_NAMED: Final = 5
_TIME_OF_DAY: Final = re.compile(r"[hHsS]")
_ESCAPE: Final = re.compile("_x([0-9A-Fa-f]{4})_")
_FORMULA: Final = re.compile(rb"<(?:\w+:)?f[\s/>]")
"""A formula in the XML of a sheet, whose elements may have a prefix."""
_LITERAL: Final = re.compile(r'"[^"]*"|\\.|\[[^\]]*\]')


def need_openpyxl(name: str) -> None:
    """Raise InputError if openpyxl is not installed."""
    try:
        import openpyxl  # noqa: F401
    except ImportError as exc:
        raise InputError(f"{name}: Excel needs openpyxl; pip install 'batchrun-llm[excel]'") from exc


@dataclass(frozen=True, slots=True)
class ExcelSource:
    """One sheet of a workbook. Its rows are in memory, since a sheet has at most 1,048,576.

    Whole numbers are int, dates are ISO 8601 text, truth values are bool, error cells are `ErrorCell`, empty cells are
    None. A formula has the value that the program that saved it has stored. Rows without any cell are skipped.

    Attributes:
        path: path of the file.
        name: the name that the user gave, for messages.
        sheet: title of the sheet.
        columns: the cells of the first row that has any.
        table: for each row its physical number, from 1, and its cells.
        notes: lines about the choice of the sheet, a title, hidden rows and merged cells.
        header_row: number of the row with the names of the columns, from 1; None if there is none.
    """

    path: Path
    name: str
    sheet: str
    columns: tuple[str, ...]
    table: tuple[tuple[int, tuple[Value, ...]], ...]
    notes: tuple[str, ...]
    header_row: int | None = None

    @property
    def has_header(self) -> bool:
        """Whether a row has the names of the columns."""
        return self.header_row is not None

    @classmethod
    def open(cls, path: Path, name: str, options: ReadOptions, about: tuple[str, ...] = ()) -> ExcelSource:
        """Return the source after reading the sheet.

        Args:
            options: the sheet, the rows above the header, and whether there is a header.
            about: lines for people about the file.

        Raises:
            InputError: the file is not a workbook, the sheet does not exist or has no header, a column occurs twice, a
                formula has no stored value, or openpyxl is not installed.
        """
        check_readable(path, name)
        need_openpyxl(name)
        with reading(name):
            book = _load(path, name)
            chosen, notes = _chosen(book, name, options.sheet)
            missing = _formula_without_value(path, chosen)
        if missing is not None:
            raise InputError(
                f"{name}, sheet {chosen.title!r}, cell {missing}: the formula has no stored value;"
                " open the workbook and save it once in Excel or LibreOffice"
            )
        above = options.skip_rows or 0
        rows = [
            (number, cells) for number, cells in _rows(chosen) if number > above and any(c is not None for c in cells)
        ]
        if not rows:
            raise InputError(f"{name}: the sheet {chosen.title!r} has no cells; --sheet names another")
        if options.no_header:
            rows.insert(0, (rows[0][0], list(unnamed(len(rows[0][1])))))
        elif options.skip_rows is None and (titles := _titles(rows)):
            notes.append(f"the rows above the header are not part of the table: {', '.join(map(shortened, titles))}")
            rows = rows[len(titles) :]
        columns, used, renamed = _header(rows[0][1], [cells for _, cells in rows[1:]])
        check_columns(columns, f"{name}, sheet {chosen.title!r}, row {rows[0][0]}")
        table = tuple((number, tuple(cells[i] for i in used)) for number, cells in rows[1:])
        hidden = sum(1 for number, _ in rows if chosen.row_dimensions[number].hidden)
        notes += [*renamed, *_oddities(chosen, hidden)]
        about += tuple(f"{name}: {note}" for note in notes)
        header_row = None if options.no_header else rows[0][0]
        return cls(path, name, chosen.title, tuple(columns), table, about, header_row)

    def rows(self) -> Iterator[Row]:
        """Yield the rows; `line` is the number of the row in the sheet."""
        for row_index, (number, cells) in enumerate(self.table):
            yield Row(row_index, dict(zip(self.columns, cells, strict=True)), number)

    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) of the file's name, size and content."""
        return digest(self.path, self.name)


def _load(path: Path, name: str) -> Workbook:
    import openpyxl

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about styles and extensions that do not concern the cells
            with path.open("rb") as file:  # openpyxl refuses a path with another extension
                return openpyxl.load_workbook(file, data_only=True)
    except (KeyError, ValueError, IndexError, TypeError, AttributeError, SyntaxError) as exc:
        # openpyxl lets the errors of its parsers through; ElementTree's are SyntaxErrors.
        reason = " ".join(str(exc).split())
        raise InputError(f"{name}: is a damaged Excel workbook ({reason}); open it and save it again") from exc


def _chosen(book: Workbook, name: str, sheet: str | None) -> tuple[Worksheet, list[str]]:
    """Return the sheet to read, and a line that names it and the others if there are any."""
    sheets = list(book.worksheets)
    if sheet is not None:
        for each in sheets:
            if each.title == sheet:
                return each, []
        raise InputError(f"{name}: there is no sheet {sheet!r}; the sheets are {_listed([s.title for s in sheets])}")
    filled = [each for each in sheets if _has_cells(each)]
    visible = [each for each in filled if each.sheet_state == "visible"]
    if not visible:
        hidden = f"; hidden sheets: {_listed([each.title for each in filled])}; --sheet names one" if filled else ""
        raise InputError(f"{name}: no visible sheet has cells{hidden}")
    chosen = visible[0]
    others = [
        f"{each.title!r}{'' if each.sheet_state == 'visible' else ' (hidden)'}" for each in filled if each is not chosen
    ]
    if not others:
        return chosen, []
    return chosen, [f"reading the sheet {chosen.title!r}; not read: {', '.join(others)} (--sheet names another)"]


def _listed(titles: Sequence[str]) -> str:
    return ", ".join(map(repr, titles[:20])) + (", …" if len(titles) > 20 else "")


def _has_cells(sheet: Worksheet) -> bool:
    return any(value is not None for row in sheet.iter_rows(values_only=True) for value in row)


def _oddities(sheet: Worksheet, hidden: int) -> list[str]:
    notes = []
    if hidden:
        notes.append(f"{hidden} hidden row{'s are' if hidden > 1 else ' is'} read like the others")
    merged = [str(each) for each in sheet.merged_cells.ranges]
    if merged:
        named = ", ".join(merged[:_NAMED]) + (", …" if len(merged) > _NAMED else "")
        notes.append(f"merged cells ({named}): only the first cell of each has the value")
    return notes


def _formula_without_value(path: Path, sheet: Worksheet) -> str | None:
    """Return the first cell with a formula for which no value is stored. A stored empty text is a value."""
    with zipfile.ZipFile(path) as archive:
        sheets = [each for each in archive.namelist() if "worksheets/" in each.lower() and each.endswith(".xml")]
        if not any(_FORMULA.search(archive.read(each)) for each in sheets):
            return None
    import openpyxl

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with path.open("rb") as file:
            formulas = openpyxl.load_workbook(file)[sheet.title]
    for row in formulas.iter_rows():
        for cell in row:
            stored = sheet[cell.coordinate]
            if cell.data_type == "f" and stored.value is None and stored.data_type != "str":
                return str(cell.coordinate)
    return None


def _rows(sheet: Worksheet) -> Iterator[tuple[int, list[Value]]]:
    for number, row in enumerate(sheet.iter_rows(), start=sheet.min_row):
        yield number, [_value(cell) for cell in row]


def _value(cell: Cell | MergedCell) -> Value:
    value: Any = cell.value
    if isinstance(value, str):
        return ErrorCell(value) if cell.data_type == "e" else _text(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, dt.datetime):
        shown = _LITERAL.sub("", cell.number_format)
        has_time = _TIME_OF_DAY.search(shown) or value.time() != dt.time()
        return value.isoformat() if has_time else value.date().isoformat()
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, dt.timedelta):
        return str(value)
    return value


def _text(value: str) -> str | None:
    # Excel stores a carriage return as _x000D_; with the line feed after it, it is one line end.
    text = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), value) if "_x" in value else value
    return text.replace("\r\n", "\n") or None


def _titles(rows: Sequence[tuple[int, list[Value]]]) -> list[Value]:
    """Return the texts of the first rows of which only the first cell is filled, if a full header of at least three
    columns follows, as in a CSV."""
    titles = 0
    while titles < len(rows) and all(cell is None for cell in rows[titles][1][1:]):
        titles += 1
    header = rows[titles][1] if titles < len(rows) else []
    is_header = len(header) > 2 and None not in header and not looks_like_row(list(map(str, header)))
    return [cells[0] for _, cells in rows[:titles]] if is_header else []


def _header(header: list[Value], rows: list[list[Value]]) -> tuple[list[str], list[int], list[str]]:
    """Return the names of the columns, the positions of those that are used, and notes about columns without a name."""
    names, used, notes = [], [], []
    for position, cell in enumerate(header):
        if cell is None:
            if all(cells[position] is None for cells in rows):
                continue
            notes.append(f"column {position + 1} has no name and is called column_{position + 1}")
            cell = f"column_{position + 1}"
        names.append(str(cell))
        used.append(position)
    return names, used, notes
