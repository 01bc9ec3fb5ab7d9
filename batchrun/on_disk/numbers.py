"""StoredNumbers: numbers of many rows in a temporary file, read in parts."""

from __future__ import annotations

import tempfile
import weakref
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from batchrun.on_disk.temporary import close, not_written

__all__ = ["NumberColumn", "StoredNumbers"]

Part: TypeAlias = npt.NDArray[Any]

_PART_ROWS: Final = 16_384
"""Rows that are in memory; without more of them there is no file."""


class StoredNumbers:
    """Rows of a fixed number of numbers. Only the last ones are in memory.

    Mutable state: the file, if there are many rows, and the rows that are not in it yet.

    Example:
        >>> numbers = StoredNumbers(2)
        >>> numbers.append(1.0, 2.0)
        >>> numbers.append(3.0, 4.0)
        >>> [part.tolist() for part in numbers.parts()], [part.tolist() for part in numbers.column(1)]
        ([[[1.0, 2.0], [3.0, 4.0]]], [[2.0, 4.0]])
    """

    def __init__(self, width: int, kind: Literal["d", "q"] = "d") -> None:
        """
        Args:
            width: numbers of a row.
            kind: `d` for floating-point numbers, `q` for integers of 64 bits.
        """
        self._width = width
        self._last: array[Any] = array(kind)
        self._stored = 0
        self._file: IO[bytes] | None = None

    def append(self, *numbers: float) -> None:
        """Add a row."""
        self._last.extend(numbers)
        if len(self._last) >= _PART_ROWS * self._width:
            self._store()

    def extend(self, part: Part) -> None:
        """Add many rows."""
        for begin in range(0, len(part), _PART_ROWS):
            self._last.frombytes(part[begin : begin + _PART_ROWS].astype(self._last.typecode).tobytes())
            if len(self._last) >= _PART_ROWS * self._width:
                self._store()

    def _store(self) -> None:
        rows = len(self)
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the object
                weakref.finalize(self, close, self._file)
            self._file.seek(0, 2)
            self._last.tofile(self._file)
            self._file.flush()
        except OSError as exc:
            raise not_written(exc) from exc
        self._stored = rows
        del self._last[:]

    def __len__(self) -> int:
        return self._stored + len(self._last) // self._width

    def __getitem__(self, row: int) -> tuple[Any, ...]:
        if row >= self._stored:
            begin = (row - self._stored) * self._width
            return tuple(self._last[begin : begin + self._width])
        return tuple(self._read(row, 1)[0].tolist())

    def __setitem__(self, row: int, numbers: Sequence[float]) -> None:
        changed: array[Any] = array(self._last.typecode, numbers)
        if row >= self._stored:
            begin = (row - self._stored) * self._width
            self._last[begin : begin + self._width] = changed
        else:
            assert self._file is not None
            self._file.seek(row * 8 * self._width)
            changed.tofile(self._file)

    def parts(self) -> Iterator[Part]:
        """Yield the rows, in order, as arrays of one row per line."""
        for first in range(0, self._stored, _PART_ROWS):
            yield self._read(first, min(_PART_ROWS, self._stored - first))
        if self._last:
            yield np.array(self._last, self._last.typecode).reshape(-1, self._width)

    def _read(self, first: int, rows: int) -> Part:
        """Return some of the rows that are in the file."""
        assert self._file is not None
        self._file.seek(first * 8 * self._width)
        content = self._file.read(rows * 8 * self._width)
        return np.frombuffer(content, self._last.typecode).reshape(-1, self._width)

    def column(self, place: int) -> NumberColumn:
        """Return the known numbers at a place of the rows."""
        return NumberColumn(self, place)


@dataclass(frozen=True, slots=True)
class NumberColumn:
    """The known numbers at one place of the rows, in parts, for any number of passes. NaN is an unknown number."""

    rows: StoredNumbers
    place: int

    def __iter__(self) -> Iterator[Part]:
        for part in self.rows.parts():
            numbers = part[:, self.place]
            yield numbers[~np.isnan(numbers)]
