"""Importer: the interface of what makes rows from the documents of another tool."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar, TypeAlias

from batchrun.records import Value
from batchrun.scoring.formats.documents import Document
from batchrun.scoring.formats.fields import Fields
from batchrun.scoring.formats.notes import Notes

__all__ = ["Cells", "Importer"]

Cells: TypeAlias = dict[str, Value]
"""Column → cell of a row."""


class Importer(ABC):
    """Makes rows from documents. One object reads all files of a conversion in order, once.

    An importer takes the fields that it uses out of a document. What it leaves is listed by `importers.imported`, for
    all importers alike.

    Attributes:
        notes: what the user has to know about the conversion.
    """

    repeats_columns: ClassVar[bool] = False
    """Whether columns of a CSV may have the same name; they are numbered then: `Score`, `Score (2)`."""

    def __init__(self, notes: Notes) -> None:
        self.notes = notes

    @abstractmethod
    def rows(self, fields: Fields, document: Document) -> Iterator[Cells]:
        """Yield the rows of a document.

        Args:
            fields: the fields of the document.
            document: where the fields are from.

        Raises:
            InputError: the document does not have this format.
        """

    def last_rows(self) -> Iterator[Cells]:
        """Yield the rows that are complete only when all documents are read, and note what is missing."""
        yield from ()
