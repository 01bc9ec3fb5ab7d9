"""Reading plain text: one prompt on each line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from batchrun.records import Row
from batchrun.tables.files import OfTextFile, TextFile

__all__ = ["LinesSource"]

COLUMN: Final = "prompt"


@dataclass(frozen=True, slots=True)
class LinesSource(OfTextFile):
    """A text file as a table with the one column `prompt`. Blank lines are skipped; other lines are kept as they are.

    Attributes:
        file: the text file.
    """

    file: TextFile

    @classmethod
    def open(cls, file: TextFile) -> LinesSource:
        """Return the source after checking that the text can be decoded."""
        for _ in file.blocks(newline=""):
            break
        return cls(file)

    @property
    def columns(self) -> tuple[str, ...]:
        """Always `prompt`."""
        return (COLUMN,)

    def rows(self) -> Iterator[Row]:
        """Yield the rows, streamed from the file."""
        line = row_index = 0
        for block in self.file.blocks(newline=""):
            for raw in block:
                line += 1
                text = raw.rstrip("\r\n")
                if text.strip():
                    yield Row(row_index, {COLUMN: text}, line)
                    row_index += 1
