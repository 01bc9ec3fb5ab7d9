"""InputWatch: detects changes of an input's files during a batch."""

from __future__ import annotations

from batchrun.errors import InputError
from batchrun.tables.source import Source, files_of

__all__ = ["InputWatch"]

_Stamp = tuple[tuple[int, int, int, int], ...]
_GONE = (0, 0, 0, 0)
_FILES_A_ROW = 8
"""Files to look at for each row of a table of many parts, on average."""


class InputWatch:
    """Detects that a file of a table was rewritten, truncated, replaced or deleted, or that a part was added. A frame
    does not change.

    Mutable state: `_stamp`, the device, inode, size and time of each file when the content was last unchanged;
    `_rows`, the rows since the last look.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._stamp = self._current_stamp()
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
        stamp = self._current_stamp()
        if stamp == self._stamp:
            return False
        try:
            same = self._source.fingerprint() == self._fingerprint
        except InputError:
            return True
        if same:
            self._stamp = stamp
        return not same

    def _current_stamp(self) -> _Stamp:
        try:
            stamps = []
            for path in files_of(self._source):
                status = path.stat()
                stamps.append((status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))
        except (OSError, InputError):
            return (_GONE,)
        return tuple(stamps)
