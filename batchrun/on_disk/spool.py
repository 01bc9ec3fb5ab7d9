"""Spool: values in a temporary file; SpooledSequence: what is made of such values."""

from __future__ import annotations

import pickle
import tempfile
import weakref
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Final, Generic, TypeVar, overload

from batchrun.on_disk.numbers import StoredNumbers
from batchrun.on_disk.temporary import close, not_written

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
        weakref.finalize(self, close, self._file)
        self._places = StoredNumbers(2, "q")
        self._length = 0

    def append(self, value: Any) -> None:
        """Add a value that pickle can write."""
        self._places.append(*self._written(value))

    def __setitem__(self, position: int, value: Any) -> None:
        self._places[position] = self._written(value)

    def _written(self, value: Any) -> tuple[int, int]:
        """Write a value, and return where it begins and ends."""
        content = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        begin = self._length
        try:
            self._file.seek(begin)
            self._file.write(content)
        except OSError as exc:
            raise not_written(exc) from exc
        self._length += len(content)
        return begin, self._length

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, position: int) -> Any:
        return pickle.loads(self._read(*self._places[position]))

    def __iter__(self) -> Iterator[Any]:
        for part in self._places.parts():
            begins, ends = part[:, 0].tolist(), part[:, 1].tolist()
            for first in range(0, len(part), _CHUNK):
                yield from self._values(begins[first : first + _CHUNK], ends[first : first + _CHUNK])

    def _values(self, begins: list[int], ends: list[int]) -> Iterator[Any]:
        if begins[1:] != ends[:-1]:  # some of them were replaced
            yield from (pickle.loads(self._read(*place)) for place in zip(begins, ends, strict=True))
            return
        content, first = memoryview(self._read(begins[0], ends[-1])), begins[0]
        for begin, end in zip(begins, ends, strict=True):
            yield pickle.loads(content[begin - first : end - first])

    def _read(self, begin: int, end: int) -> bytes:
        try:
            self._file.seek(begin)  # writes what is in the buffer
        except OSError as exc:
            raise not_written(exc) from exc
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
