"""InputWatch: detects changes of an input's files during a batch."""

from __future__ import annotations

from typing import TypeAlias

from batchrun.errors import InputError
from batchrun.tables.source import Source, files_of

__all__ = ["InputStamp", "InputWatch", "stamp_of"]

InputStamp: TypeAlias = tuple[tuple[int, int, int, int], ...]
"""The device, inode, size and time of each file of a table; empty for a frame."""
_GONE = (0, 0, 0, 0)
_FILES_A_ROW = 8
"""Files to look at for each row of a table of many parts, on average."""


class InputWatch:
    """Detects that a file of a table was rewritten, truncated, replaced or deleted, or that a part was added. A frame
    does not change.

    Mutable state: `_stamp`, the device, inode, size and time of each file when the content was last unchanged;
    `_rows`, the rows since the last look.
    """

    def __init__(self, source: Source, before: InputStamp | None = None) -> None:
        """
        Args:
            before: the stamp that the table had before its rows were counted; None if they were not.

        Raises:
            InputError: a file has changed since then.
        """
        self._source = source
        self._stamp = stamp_of(source)
        if before is not None and before != self._stamp:
            raise InputError(f"{source.name}: changed while its rows were checked; run the same command again")
        self._fingerprint = source.fingerprint() if self._stamp else None
        self._rows = 0

    def changed_before_row(self) -> bool:
        """Return `changed()` for one of many rows. A table of many parts is looked at every few rows only."""
        self._rows += 1
        if self._rows * _FILES_A_ROW < len(self._stamp):
            return False
        self._rows = 0
        return self.changed()

    def changed(self) -> bool:
        """Return whether the content has changed. It is read only if size, time or inode of a file have changed."""
        stamp = stamp_of(self._source)
        if stamp == self._stamp:
            return False
        try:
            same = self._source.fingerprint() == self._fingerprint
        except InputError:
            return True
        if same:
            self._stamp = stamp
        return not same


def stamp_of(source: Source) -> InputStamp:
    """Return the stamp of a table as it is now."""
    try:
        stamps = []
        for path in files_of(source):
            status = path.stat()
            stamps.append((status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))
    except (OSError, InputError):
        return (_GONE,)
    return tuple(stamps)
