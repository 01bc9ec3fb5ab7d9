"""Reading CSV and TSV."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from batchrun.errors import InputError
from batchrun.records import Row
from batchrun.tables.dialect import find_delimiter, records
from batchrun.tables.files import TextFile, digest
from batchrun.tables.header import NO_HEADER, looks_like_row, unnamed

__all__ = ["TextSource", "check_columns"]


@dataclass(frozen=True, slots=True)
class TextSource:
    """A table of delimited text. Every cell is the text that the user wrote.

    `007` and `NA` are not converted, and an empty cell is `""`, never None. Blank lines are skipped, as in other csv
    readers, even in a table of one column, where `""` writes an empty cell.

    Attributes:
        file: the text file.
        delimiter: one character.
        columns: the cells of the header; `column_1`, `column_2`, … without one.
        has_header: the first record has the names of the columns; False if it is a row.
    """

    file: TextFile
    delimiter: str
    columns: tuple[str, ...]
    has_header: bool = True

    @classmethod
    def open(cls, file: TextFile, delimiter: str | None, *, has_header: bool = True) -> TextSource:
        """Return the source after reading its header and checking that a row follows.

        Args:
            file: the text file.
            delimiter: one character; None detects it.
            has_header: see the attribute.

        Raises:
            InputError: there is no header or no row, a column has no name or that of another, or the first block of the
                file cannot be read.
        """
        if delimiter is None:
            delimiter = find_delimiter(file)
        first = list(islice(chain.from_iterable(records(file, delimiter, None)), 2))
        if not first:
            raise InputError(f"{file.name}: is empty; a table needs a header and at least one row")
        line, header = first[0]
        if not has_header:
            return cls(file, delimiter, tuple(unnamed(len(header))), has_header)
        remedy = f", or add {NO_HEADER} if this line is a row" if looks_like_row(header) else ""
        if header[0].lower().startswith("sep="):
            raise InputError(f"{file.name}, line {line}: is a line for Excel, not the header; delete it")
        if not header[0]:  # as pandas names the index of a frame
            remedy = ", or write the table without its index (to_csv(index=False))"
        check_columns(header, f"{file.name}, line {line}", remedy)
        if len(first) == 1:
            raise InputError(
                f"{file.name}: the table has a header but no rows; add rows, or {NO_HEADER} if its only line is a row"
            )
        return cls(file, delimiter, tuple(header))

    @property
    def name(self) -> str:
        """The name that the user gave."""
        return self.file.name

    @property
    def path(self) -> Path:
        """The path of the file."""
        return self.file.path

    def rows(self) -> Iterator[Row]:
        """Yield the rows, streamed from the file."""
        columns = self.columns
        row_index = -1 if self.has_header else 0
        for batch in records(self.file, self.delimiter, len(columns)):
            for line, cells in batch:
                # The first record is the header. `records` checks the width of each record.
                if row_index >= 0:
                    yield Row(row_index, dict(zip(columns, cells, strict=False)), line)
                elif tuple(cells) != columns:
                    raise InputError(
                        f"{self.name}, line {line}: the columns differ; the file changed while it was read"
                    )
                row_index += 1

    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) of the file's name, size and content."""
        return digest(self.file.path, self.file.name)


def check_columns(columns: list[str], where: str, remedy: str = "") -> None:
    """Raise InputError if a name is empty or occurs twice.

    Args:
        columns: the names in order.
        where: beginning of the message.
        remedy: end of the message.
    """
    seen: set[str] = set()
    for position, column in enumerate(columns, start=1):
        if not column:
            raise InputError(f"{where}: column {position} of {len(columns)} has no name; give it one{remedy}")
        if column in seen:
            raise InputError(f"{where}: two columns are named {column!r}; rename one{remedy}")
        seen.add(column)
