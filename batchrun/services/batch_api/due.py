"""The request lines that are due: those that this process may submit."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

__all__ = ["DueLines"]


class DueLines:
    """Numbers of request lines that a pass of this process has added or met.

    A line of a row that this run leaves out waits in the journal, and is not due. Eight bytes a line.

    Mutable state: `_lines`.
    """

    def __init__(self) -> None:
        self._lines = array("q")

    def __len__(self) -> int:
        return len(self._lines)

    def add(self, line: int) -> None:
        """Add a line."""
        self._lines.append(line)

    def extend(self, lines: Iterable[int]) -> None:
        """Add several lines."""
        self._lines.extend(lines)

    def take(self) -> array[int]:
        """Return the lines, and forget them."""
        taken, self._lines = self._lines, array("q")
        return taken
