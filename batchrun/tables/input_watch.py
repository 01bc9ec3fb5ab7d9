"""InputWatch: detects changes of an input file during a batch."""

from __future__ import annotations

from pathlib import Path

from batchrun.errors import InputError
from batchrun.tables.source import Source

__all__ = ["InputWatch"]


class InputWatch:
    """Detects that the file of a table was rewritten, truncated, replaced or deleted. A frame does not change.

    Mutable state: `_stamp`, the device, inode, size and time of the file when its content was last unchanged.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._path: Path | None = getattr(source, "path", None)
        self._stamp = self._current_stamp()
        self._fingerprint = None if self._path is None else source.fingerprint()

    def changed(self) -> bool:
        """Return whether the content has changed. It is read only if size, time or inode of the file have changed."""
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

    def _current_stamp(self) -> tuple[int, int, int, int] | None:
        if self._path is None:
            return None
        try:
            status = self._path.stat()
        except OSError:
            return (0, 0, 0, 0)
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
