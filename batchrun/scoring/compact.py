"""Lists of one kind of value that take a byte an entry while few values differ, for the columns of a scored table."""

from __future__ import annotations

import math
from abc import abstractmethod
from array import array
from collections.abc import Iterable, Iterator, MutableSequence, Sequence
from contextlib import suppress
from typing import Any, Final, Generic, Self, TypeVar, overload

import numpy as np
import numpy.typing as npt

from batchrun.scoring.pieces import pieces_of

__all__ = ["Choices", "Coded", "CodedNumbers", "Flags", "Numbers"]

T = TypeVar("T")

_IN_A_BYTE: Final = 1 << 8
_IN_TWO_BYTES: Final = 1 << 16


class _Compact(MutableSequence[T], Generic[T]):
    """A list whose entries are stored as numbers.

    Mutable state: `_stored`, the numbers; and `_codes`, the number of each value if they are codes.
    """

    _stored: Any
    _codes: dict[T, int] | None = None

    @abstractmethod
    def _number(self, value: T) -> Any:
        """Return what is stored for a value."""

    @abstractmethod
    def _value(self, number: Any) -> T:
        """Return the value for which this is stored."""

    @abstractmethod
    def _empty(self) -> Self:
        """Return a list of the same kind without entries."""

    def part(self, positions: Iterable[int]) -> Self:
        """Return the entries at these positions."""
        chosen = self._empty()
        chosen.extend(map(self.__getitem__, positions))
        return chosen

    def append(self, value: T) -> None:
        number = self._number(value)  # may replace what stores the numbers
        self._stored.append(number)

    def extend(self, values: Iterable[T]) -> None:
        values, codes = list(values), self._codes
        if codes is not None:
            with suppress(KeyError):  # a value that is new
                self._stored.extend([codes[value] for value in values])
                return
        for value in values:
            self.append(value)

    def insert(self, index: int, value: T) -> None:
        number = self._number(value)
        self._stored.insert(index, number)

    def __len__(self) -> int:
        return len(self._stored)

    def __iter__(self) -> Iterator[T]:
        return map(self._value, self._stored)

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> Self: ...

    def __getitem__(self, index: int | slice) -> T | Self:
        if isinstance(index, slice):
            return self.part(range(*index.indices(len(self))))
        return self._value(self._stored[index])

    def __setitem__(self, index: Any, value: Any) -> None:
        self._stored[index] = self._number(value)

    def __delitem__(self, index: Any) -> None:
        del self._stored[index]

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Sequence) else NotImplemented

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self)})"


class Numbers(_Compact["float | None"]):
    """Numbers and None: a byte each while at most 255 numbers differ, else 8 bytes.

    Mutable state: also the numbers that differ, None first, and the code of each; no codes once there are more.

    Example:
        >>> list(Numbers([1.0, None])), Numbers([1.0, None]).array
        ([1.0, None], array([ 1., nan]))
    """

    def __init__(self, values: Iterable[float | None] = ()) -> None:
        self._stored: bytearray | array[float] = bytearray()
        self._different: list[float | None] = [None]
        self._codes: dict[float | None, int] | None = {None: 0}
        self.extend(values)

    def copy(self) -> Numbers:
        """Return the same numbers as another list."""
        copied = Numbers()
        copied._stored, copied._different = self._stored[:], self._different[:]
        copied._codes = None if self._codes is None else self._codes.copy()
        return copied

    @property
    def column(self) -> CodedNumbers:
        """The numbers for computing with them; it has the memory of this list, which must not grow meanwhile."""
        if self._codes is None:
            return CodedNumbers(np.frombuffer(self._stored, dtype=np.float64))
        different = np.array([math.nan, *self._different[1:]], dtype=np.float64)
        return CodedNumbers(np.frombuffer(self._stored, dtype=np.uint8), different)

    @property
    def array(self) -> npt.NDArray[np.float64]:
        """A copy of the numbers, with NaN for None."""
        return self.column[:].copy()

    @property
    def known(self) -> npt.NDArray[np.float64]:
        """A copy of the numbers, without None."""
        column = self.column
        return column[column.are_known()]

    def _number(self, value: float | None) -> float:
        if self._codes is None:
            return math.nan if value is None else value
        code = self._codes.get(value)
        if code is None:
            code = len(self._different)
            if value is None or value != value:
                return 0
            if code == _IN_A_BYTE:
                self._stored, self._codes = array("d", self.array.tobytes()), None
                return value
            self._codes[value] = code
            self._different.append(float(value))
        return code

    def _value(self, number: float) -> float | None:
        if self._codes is not None:
            return self._different[int(number)]
        return None if number != number else number

    def _empty(self) -> Numbers:
        return Numbers()


class CodedNumbers:
    """Numbers of a table as an array, with NaN for None; parts of it are made when they are asked for."""

    def __init__(self, stored: npt.NDArray[Any], different: npt.NDArray[np.float64] | None = None) -> None:
        """
        Args:
            stored: numbers, or their codes.
            different: code → number, with NaN for the code 0; None if `stored` has the numbers.
        """
        self._stored = stored
        self._different = different

    def __len__(self) -> int:
        return len(self._stored)

    def __getitem__(self, index: Any) -> npt.NDArray[np.float64]:
        """Return the numbers at a slice, at positions, or where a mask is true."""
        part: npt.NDArray[Any] = self._stored[index]
        return part if self._different is None else self._different[part]

    def are_known(self, index: slice = slice(None)) -> npt.NDArray[np.bool_]:
        """Return which numbers of a slice are not NaN."""
        part = self._stored[index]
        known: npt.NDArray[np.bool_] = part != 0 if self._different is not None else ~np.isnan(part)
        return known

    def scattered(self, places: npt.NDArray[np.int32], size: int) -> CodedNumbers:
        """Return a column of another length in which these numbers have these places; the rest is NaN.

        Numbers that are NaN are left out. Of several numbers with the same place, the last holds.
        """
        empty = math.nan if self._different is None else 0
        target = np.full(size, empty, dtype=self._stored.dtype)
        for piece in pieces_of(len(self)):
            known = self.are_known(piece)
            target[places[piece][known]] = self._stored[piece][known]
        return CodedNumbers(target, self._different)


class Flags(_Compact[bool]):
    """Truth values, a byte each."""

    def __init__(self, values: Iterable[bool] = ()) -> None:
        self._stored = bytearray(values)

    @property
    def array(self) -> npt.NDArray[np.bool_]:
        """The values; it has the memory of this list, which must not grow meanwhile."""
        return np.frombuffer(self._stored, dtype=np.bool_)

    def _number(self, value: bool) -> int:
        return int(value)

    def _value(self, number: int) -> bool:
        return bool(number)

    def _empty(self) -> Flags:
        return Flags()


class Choices(_Compact[T]):
    """Values out of a few, a byte each."""

    def __init__(self, choices: Sequence[T], values: Iterable[T] = ()) -> None:
        self._choices = choices
        self._codes: dict[T, int] = {choice: code for code, choice in enumerate(choices)}
        self._stored = bytearray(map(self._number, values))

    def are(self, choice: T, rows: slice = slice(None)) -> npt.NDArray[np.bool_]:
        """Return which entries of a slice are this one."""
        found: npt.NDArray[np.bool_] = np.frombuffer(self._stored, dtype=np.uint8)[rows] == self._codes[choice]
        return found

    def count(self, value: Any) -> int:
        return self._stored.count(self._codes[value])  # type: ignore[no-any-return]

    def _number(self, value: T) -> int:
        return self._codes[value]

    def _value(self, number: int) -> T:
        return self._choices[number]

    def _empty(self) -> Choices[T]:
        return Choices(self._choices)


class Coded(_Compact[T]):
    """Values of any kind: a byte each while at most 256 differ, 2 bytes up to 65,536, else a reference.

    Mutable state: also the values that differ, and the code of each; no codes once there are more.

    Example:
        >>> list(Coded(["a", "b", "a"])), Coded(["a", "b", "a"]).codes
        (['a', 'b', 'a'], (['a', 'b'], array([0, 1, 0], dtype=uint8)))
    """

    def __init__(self, values: Iterable[T] = ()) -> None:
        self._stored: bytearray | array[int] | list[T] = bytearray()
        self._different: list[T] = []
        self._codes: dict[T, int] | None = {}
        self.extend(values)

    @property
    def codes(self) -> tuple[list[T], npt.NDArray[Any]]:
        """The values that differ, and for each entry the place of its value among them."""
        if self._codes is not None:
            is_small = isinstance(self._stored, bytearray)
            return self._different, np.frombuffer(self._stored, dtype=np.uint8 if is_small else np.uint16)  # type: ignore[arg-type]
        places: dict[T, int] = {}
        found = np.fromiter((places.setdefault(value, len(places)) for value in self), np.int32, len(self))
        return list(places), found

    def _number(self, value: T) -> Any:
        if self._codes is None:
            return value
        code = self._codes.get(value)
        if code is None:
            code = len(self._different)
            if code == _IN_A_BYTE:
                self._stored = array("H", np.frombuffer(self._stored, dtype=np.uint8).astype(np.uint16).tobytes())  # type: ignore[arg-type]
            elif code == _IN_TWO_BYTES:
                self._stored, self._codes = list(self), None
                return value
            self._codes[value] = code
            self._different.append(value)
        return code

    def _value(self, number: Any) -> T:
        return number if self._codes is None else self._different[number]  # type: ignore[no-any-return]

    def _empty(self) -> Coded[T]:
        return Coded()
