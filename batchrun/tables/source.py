"""Stage 1: the input table, whatever its format, as rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from batchrun.records import Row

__all__ = ["Source"]


class Source(Protocol):
    """An input table that can be read as often as wanted."""

    @property
    def name(self) -> str:
        """For messages: the path as the user gave it, `standard input`, or `DataFrame`."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns in order; at least one, none empty, none twice."""

    def rows(self) -> Iterator[Row]:
        """The rows from the first on; each call starts anew. Memory is bounded by a chunk, not by the table.

        Raises:
            InputError: at the first row that cannot be used.
        """

    def fingerprint(self) -> str:
        """The table's identity, the same in every process: SHA-256 (hex) of a file's name, size and content, or
        of a frame's columns and values."""
