"""CSV and TSV in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from batchrun.errors import InputError
from batchrun.records import Row
from batchrun.tables.dialect import find_delimiter, records
from batchrun.tables.files import TextFile, digest

__all__ = ["TextSource", "check_columns"]


@dataclass(frozen=True, slots=True)
class TextSource:
    """A table of delimited text. Every cell is the text that the user wrote.

    `007` and `NA` stay what they are, and an empty cell is `""`, never None.

    Blank lines are no rows, as for every csv reader, also in a table of one column; there an empty
    cell is written `""`.

    Attributes:
        file: where the text is.
        delimiter: one character.
        columns: the header's cells.
    """

    file: TextFile
    delimiter: str
    columns: tuple[str, ...]

    @classmethod
    def open(cls, file: TextFile, delimiter: str | None) -> TextSource:
        """Reads the header and makes sure that a row follows.

        Args:
            file: where the text is.
            delimiter: one character; None finds it.

        Raises:
            InputError: no header, unusable column names, no row, or a fault in the first block of the file.
        """
        if delimiter is None:
            delimiter = find_delimiter(file)
        first = list(islice(chain.from_iterable(records(file, delimiter, None)), 2))
        if not first:
            raise InputError(f"{file.name}: empty; a table has a header and at least one row")
        line, header = first[0]
        check_columns(header, f"{file.name}, line {line}")
        if len(first) == 1:
            raise InputError(f"{file.name}: a header without rows; nothing to do")
        return cls(file, delimiter, tuple(header))

    @property
    def name(self) -> str:
        """The file as the user gave it."""
        return self.file.name

    @property
    def path(self) -> Path:
        """Where the text is read from."""
        return self.file.path

    def rows(self) -> Iterator[Row]:
        """The rows from the first on, streamed."""
        columns = self.columns
        row_index = -1
        for batch in records(self.file, self.delimiter, len(columns)):
            for line, cells in batch:
                # The first record is the header. `records` has checked the width of each.
                if row_index >= 0:
                    yield Row(row_index, dict(zip(columns, cells, strict=False)), line)
                elif tuple(cells) != columns:
                    raise InputError(f"{self.name}, line {line}: other columns; the file changed while it was read")
                row_index += 1

    def fingerprint(self) -> str:
        """SHA-256 (hex) of name, size and content."""
        return digest(self.file.path, self.file.name)


def check_columns(columns: list[str], where: str) -> None:
    """Raises InputError for a name that is empty or there twice.

    Args:
        columns: the names, in order.
        where: start of the message.
    """
    seen: set[str] = set()
    for position, column in enumerate(columns, start=1):
        if not column:
            raise InputError(f"{where}: column {position} of {len(columns)} has no name; give it one")
        if column in seen:
            raise InputError(f"{where}: two columns are named {column!r}; rename one")
        seen.add(column)
