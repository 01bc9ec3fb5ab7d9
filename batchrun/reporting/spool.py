"""Spool: values in a temporary file, so that a table of any length takes a few bytes of memory a row."""

from __future__ import annotations

import pickle
import tempfile
import weakref
from array import array
from collections.abc import Iterator
from typing import Any, Final

__all__ = ["Spool"]

_IN_MEMORY_BYTES: Final = 16 * 1024 * 1024
"""Size up to which there is no file."""

_CHUNK: Final = 256


class Spool:
    """A list of values that only grows. Its file is removed when the object is.

    Mutable state: the file, and the place at which each value ends in it.

    Example:
        >>> spool = Spool()
        >>> spool.append({"answer": 42})
        >>> spool[0], len(spool), list(spool)
        ({'answer': 42}, 1, [{'answer': 42}])
    """

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES)  # noqa: SIM115 - closed with the object
        weakref.finalize(self, self._file.close)
        self._ends = array("q", [0])

    def append(self, value: Any) -> None:
        """Add a value that pickle can write."""
        content = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        self._file.seek(self._ends[-1])
        self._file.write(content)
        self._ends.append(self._ends[-1] + len(content))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, position: int) -> Any:
        return pickle.loads(self._read(position, position + 1))

    def __iter__(self) -> Iterator[Any]:
        ends = self._ends
        for first in range(0, len(self), _CHUNK):
            until = min(len(self), first + _CHUNK)
            content, begin = memoryview(self._read(first, until)), ends[first]
            for position in range(first, until):
                yield pickle.loads(content[ends[position] - begin : ends[position + 1] - begin])

    def _read(self, first: int, until: int) -> bytes:
        self._file.seek(self._ends[first])
        return self._file.read(self._ends[until] - self._ends[first])
