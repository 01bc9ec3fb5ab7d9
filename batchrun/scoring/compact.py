"""Lists of one kind of value that take 1 or 8 bytes an entry, or those of a text, for the columns of a scored table."""

from __future__ import annotations

import math
from abc import abstractmethod
from array import array
from collections.abc import Iterable, Iterator, MutableSequence, Sequence
from typing import Any, Generic, Self, TypeVar, overload

import numpy as np
import numpy.typing as npt

__all__ = ["Choices", "Flags", "Numbers", "Texts"]

T = TypeVar("T")


class _Compact(MutableSequence[T], Generic[T]):
    """A list whose entries are stored as numbers.

    Mutable state: `_stored`, the numbers.
    """

    _stored: Any

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
        chosen, stored = self._empty(), self._stored
        for position in positions:
            chosen._stored.append(stored[position])
        return chosen

    def append(self, value: T) -> None:
        self._stored.append(self._number(value))

    def insert(self, index: int, value: T) -> None:
        self._stored.insert(index, self._number(value))

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
    """Numbers and None, 8 bytes each.

    Example:
        >>> list(Numbers([1.0, None])), Numbers([1.0, None]).array
        ([1.0, None], array([ 1., nan]))
    """

    def __init__(self, values: Iterable[float | None] = ()) -> None:
        self._stored = array("d", map(self._number, values))

    @property
    def array(self) -> npt.NDArray[np.float64]:
        """A copy of the numbers, with NaN for None."""
        return np.array(self._stored, dtype=np.float64)

    @property
    def known(self) -> npt.NDArray[np.float64]:
        """A copy of the numbers, without None."""
        numbers = self.array
        return numbers[~np.isnan(numbers)]

    def _number(self, value: float | None) -> float:
        return math.nan if value is None else value

    def _value(self, number: float) -> float | None:
        return None if number != number else number

    def _empty(self) -> Numbers:
        return Numbers()


class Flags(_Compact[bool]):
    """Truth values, a byte each."""

    def __init__(self, values: Iterable[bool] = ()) -> None:
        self._stored = bytearray(values)

    @property
    def array(self) -> npt.NDArray[np.bool_]:
        """A copy of the values."""
        return np.array(self._stored, dtype=np.bool_)

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
        self._codes = {choice: code for code, choice in enumerate(choices)}
        self._stored = bytearray(map(self._number, values))

    def are(self, choice: T) -> npt.NDArray[np.bool_]:
        """Return which entries are this one."""
        found: npt.NDArray[np.bool_] = np.array(self._stored, dtype=np.uint8) == self._codes[choice]
        return found

    def count(self, value: Any) -> int:
        return self._stored.count(self._codes[value])  # type: ignore[no-any-return]

    def _number(self, value: T) -> int:
        return self._codes[value]

    def _value(self, number: int) -> T:
        return self._choices[number]

    def _empty(self) -> Choices[T]:
        return Choices(self._choices)


class Texts(Sequence[str]):
    """A list of texts that only grows; each takes its bytes in UTF-8 and 8 more.

    Mutable state: the bytes of all texts, and where each of them ends.

    Example:
        >>> texts = Texts(["one", "two"])
        >>> texts.append("three")
        >>> texts[2], len(texts), list(texts)
        ('three', 3, ['one', 'two', 'three'])
    """

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._bytes = bytearray()
        self._ends = array("q", [0])
        for text in texts:
            self.append(text)

    def append(self, text: str) -> None:
        """Add a text."""
        self._bytes += text.encode("utf-8", "surrogatepass")
        self._ends.append(len(self._bytes))

    def part(self, positions: Iterable[int]) -> Texts:
        """Return the texts at these positions."""
        return Texts(self[position] for position in positions)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __iter__(self) -> Iterator[str]:
        return map(self.__getitem__, range(len(self)))

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> Texts: ...

    def __getitem__(self, index: int | slice) -> str | Texts:
        if isinstance(index, slice):
            return self.part(range(*index.indices(len(self))))
        place = range(len(self))[index]
        return self._bytes[self._ends[place] : self._ends[place + 1]].decode("utf-8", "surrogatepass")

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Sequence) else NotImplemented

    def __repr__(self) -> str:
        return f"Texts({list(self)})"
