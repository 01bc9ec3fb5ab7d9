"""Spool: values in a temporary file, a few bytes of memory each; SpooledSequence: what is made of such values."""

from __future__ import annotations

import pickle
import tempfile
import weakref
from abc import abstractmethod
from array import array
from collections.abc import Iterator, Sequence
from typing import Any, Final, Generic, TypeVar, overload

__all__ = ["Spool", "SpooledSequence"]

T = TypeVar("T")

_IN_MEMORY_BYTES: Final = 16 * 1024 * 1024
"""Size up to which there is no file."""

_CHUNK: Final = 256


class Spool:
    """A list of values that grows. A replaced value stays in its file, which is removed when the object is.

    Mutable state: the file, its length, and the places at which each value begins and ends in it.

    Example:
        >>> spool = Spool()
        >>> spool.append({"answer": 42})
        >>> spool[0], len(spool), list(spool)
        ({'answer': 42}, 1, [{'answer': 42}])
    """

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES)  # noqa: SIM115 - closed with the object
        weakref.finalize(self, self._file.close)
        self._begins, self._ends = array("q"), array("q")
        self._length = 0

    def append(self, value: Any) -> None:
        """Add a value that pickle can write."""
        begin = self._length
        self._write(value)
        self._begins.append(begin)
        self._ends.append(self._length)

    def __setitem__(self, position: int, value: Any) -> None:
        begin = self._length
        self._write(value)
        self._begins[position], self._ends[position] = begin, self._length

    def _write(self, value: Any) -> None:
        content = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        self._file.seek(self._length)
        self._file.write(content)
        self._length += len(content)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, position: int) -> Any:
        return pickle.loads(self._read(self._begins[position], self._ends[position]))

    def __iter__(self) -> Iterator[Any]:
        begins, ends = self._begins, self._ends
        for first in range(0, len(self), _CHUNK):
            until = min(len(self), first + _CHUNK)
            if begins[first + 1 : until] != ends[first : until - 1]:  # some of them were replaced
                yield from (self[position] for position in range(first, until))
                continue
            content, begin = memoryview(self._read(begins[first], ends[until - 1])), begins[first]
            for position in range(first, until):
                yield pickle.loads(content[begins[position] - begin : ends[position] - begin])

    def _read(self, begin: int, end: int) -> bytes:
        self._file.seek(begin)
        return self._file.read(end - begin)


class SpooledSequence(Sequence[T], Generic[T]):
    """A sequence whose entries are stored in a spool. Each is read when it is asked for.

    Mutable state: `_spool`, what is stored of the entries.
    """

    def __init__(self) -> None:
        self._spool = Spool()

    @abstractmethod
    def _entry(self, position: int, stored: Any) -> T:
        """Return the entry of which this is stored."""

    def __len__(self) -> int:
        return len(self._spool)

    def __iter__(self) -> Iterator[T]:
        for position, stored in enumerate(self._spool):
            yield self._entry(position, stored)

    @overload
    def __getitem__(self, position: int) -> T: ...

    @overload
    def __getitem__(self, position: slice) -> Sequence[T]: ...

    def __getitem__(self, position: int | slice) -> T | Sequence[T]:
        if isinstance(position, slice):
            return [self[each] for each in range(*position.indices(len(self)))]
        place = range(len(self))[position]
        return self._entry(place, self._spool[place])
