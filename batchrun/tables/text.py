"""Reading CSV and TSV."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain

from batchrun.errors import InputError
from batchrun.records import Row
from batchrun.tables.column_names import NO_HEADER, check_columns, looks_like_row, named, unnamed
from batchrun.tables.dialect import Record, find_delimiter, records
from batchrun.tables.files import OfTextFile, TextFile
from batchrun.tables.preamble import Preamble, preamble_of

__all__ = ["TextSource"]


@dataclass(frozen=True, slots=True)
class TextSource(OfTextFile):
    """A table of delimited text. Every cell is the text that the user wrote.

    `007` and `NA` are not converted, and an empty cell is `""`, never None. Blank lines are skipped, as in other csv
    readers, even in a table of one column, where `""` writes an empty cell.

    Attributes:
        file: the text file.
        delimiter: one character.
        columns: the names of the columns: the cells of the header, or `column_1`, `column_2`, … where there is none.
        header: the cells of the header as they are in the file, None if the first record is a row.
        skip: physical lines above the header.
        is_tsv: the format is TSV, whose delimiter says nothing about that of a CSV output.
    """

    file: TextFile
    delimiter: str
    columns: tuple[str, ...]
    header: tuple[str, ...] | None
    skip: int = 0
    is_tsv: bool = False

    @classmethod
    def open(
        cls,
        file: TextFile,
        delimiter: str | None,
        *,
        has_header: bool = True,
        skip: int | None = None,
        is_tsv: bool = False,
    ) -> TextSource:
        """Return the source after reading its header.

        Args:
            file: the text file.
            delimiter: one character; None detects it.
            has_header: the first record has the names of the columns.
            skip: physical lines above the header; None finds comments, titles and Excel's `sep=` line.
            is_tsv: see the attribute.

        Raises:
            InputError: there is no header, no column has a name, two have the same, or the first block of the file
                cannot be read.
        """
        above = Preamble(skip) if skip is not None else preamble_of(file, delimiter)
        if not has_header and above.delimiter is None and skip is None:
            above = Preamble()  # without a header nothing shows where the table begins
        notes = [f"{file.name}: {above.note}"] if above.note else []
        if delimiter is None:
            delimiter = above.delimiter or find_delimiter(file, above.lines)
        first = next(chain.from_iterable(records(file, delimiter, None, above.lines)), None)
        if first is None:
            why = f"--skip-rows {skip} leaves no line" if skip else "is empty"
            raise InputError(f"{file.name}: {why}; a table needs a header")
        line, header = first
        where = f"{file.name}, line {line}"
        if not has_header:
            names = unnamed(len(header))
        else:
            names, nameless = named(header)
            notes += [f"{where}: {nameless}"] if nameless else []
            remedy = f", or add {NO_HEADER} if this line is a row" if looks_like_row(header) else ""
            check_columns(names, where, remedy)
        own = tuple(header) if has_header else None
        file = replace(file, notes=(*file.notes, *notes))
        return cls(file, delimiter, tuple(names), own, above.lines, is_tsv)

    @property
    def line_end(self) -> str:
        """The end of the file's first line: `\\r\\n` or `\\n`."""
        first = next(chain.from_iterable(self.file.blocks(newline="")), "")
        return "\r\n" if first.endswith("\r\n") else "\n"

    @property
    def has_header(self) -> bool:
        """Whether the first record has the names of the columns."""
        return self.header is not None

    def rows(self) -> Iterator[Row]:
        """Yield the rows, streamed from the file."""
        columns = self.columns
        row_index = 0
        for batch in self._records():
            for line, cells in batch:
                # `records` checks the width of each record.
                yield Row(row_index, dict(zip(columns, cells, strict=False)), line)
                row_index += 1

    def count(self) -> int:
        """Return the number of rows after reading all of them."""
        return sum(map(len, self._records()))

    def cells(self, column: str) -> Iterator[str]:
        """Yield the cells of a column."""
        place = self.columns.index(column)
        return (cells[place] for batch in self._records() for _, cells in batch)

    def _records(self) -> Iterator[list[Record]]:
        """Yield the records of the rows in lists; the first record of a file with a header is checked and left out."""
        is_header = self.has_header
        for batch in records(self.file, self.delimiter, len(self.columns), self.skip):
            if is_header and batch:
                line, cells = batch.pop(0)
                if tuple(cells) != self.header:
                    raise InputError(
                        f"{self.name}, line {line}: the columns differ; the file changed while it was read"
                    )
                is_header = False
            yield batch
