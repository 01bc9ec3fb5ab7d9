"""Source: the interface of an input table of any format."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from batchrun.records import Row

__all__ = ["PartOfSource", "Source", "files_of", "notes_of"]


class Source(Protocol):
    """An input table that can be read any number of times."""

    @property
    def name(self) -> str:
        """The name for messages: the path that the user gave, `standard input`, or `data` for a table in memory."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns in order. There is at least one; names are not empty and not repeated."""

    def rows(self) -> Iterator[Row]:
        """Yield the rows; each call starts with the first. Memory is limited by a chunk, not by the table.

        Raises:
            InputError: a row cannot be read.
        """

    def fingerprint(self) -> str:
        """Return the identity of the table, which is the same in every process.

        It is the SHA-256 (hex) of a file's name, size and content, or of the columns and values of a table in memory.
        """


class PartOfSource:
    """What a `Source` with only some rows of a table has of the table.

    Attributes:
        source: the table.
    """

    __slots__ = ()
    source: Source

    @property
    def name(self) -> str:
        """The table's name."""
        return self.source.name

    @property
    def columns(self) -> tuple[str, ...]:
        """The table's columns."""
        return self.source.columns

    def files(self) -> tuple[Path, ...]:
        """Return the files of the table."""
        return files_of(self.source)

    def fingerprint(self) -> str:
        """Return the fingerprint of the whole table, since the batch is the same."""
        return self.source.fingerprint()


def files_of(source: Source) -> tuple[Path, ...]:
    """Return the files of a table as they are now: its file, or its parts; none for a table in memory.

    Raises:
        InputError: a table of parts has none now, or its folder cannot be read.
    """
    files: Callable[[], tuple[Path, ...]] | None = getattr(source, "files", None)
    if files is not None:
        return files()
    path: Path | None = getattr(source, "path", None)
    return (path,) if path is not None else ()


def notes_of(source: Source) -> tuple[str, ...]:
    """Return lines for people about what was read and how, such as the sheet of a workbook."""
    notes: tuple[str, ...] = getattr(source, "notes", ())
    return notes
