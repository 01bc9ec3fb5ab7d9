"""Whether an input is still the table that was checked."""

from __future__ import annotations

from pathlib import Path

from batchrun.errors import InputError
from batchrun.tables.source import Source

__all__ = ["InputWatch"]


class InputWatch:
    """Notices that the file of a table was rewritten, cut, replaced or deleted. A frame does not change.

    All state: size, times and place of the file when its content was last known to be the same.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._path: Path | None = getattr(source, "path", None)
        self._stamp = self._look()
        self._fingerprint = None if self._path is None else source.fingerprint()

    def changed(self) -> bool:
        """Whether the content is another now. It is read only where the file system says that it may be."""
        stamp = self._look()
        if stamp == self._stamp:
            return False
        try:
            same = self._source.fingerprint() == self._fingerprint
        except InputError:
            return True
        if same:
            self._stamp = stamp
        return not same

    def _look(self) -> tuple[int, int, int, int] | None:
        if self._path is None:
            return None
        try:
            found = self._path.stat()
        except OSError:
            return (0, 0, 0, 0)
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
