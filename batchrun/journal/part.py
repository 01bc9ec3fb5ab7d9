"""A part of the journal: tables that go through its one connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["JournalPart"]


class JournalPart:
    """Some tables of the journal, through the journal's own connection.

    Methods raise OutputError where the journal cannot be used.
    """

    def __init__(self, write: Callable[[str, Any], None], read: Callable[[str, tuple[Any, ...]], list[Any]]) -> None:
        self._write = write
        self._read = read
