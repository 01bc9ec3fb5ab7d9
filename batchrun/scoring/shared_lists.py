"""Texts and hashes of rows, one after the other; a table whose rows have those of another one shares its memory."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

__all__ = ["Hashes", "Texts"]


class Hashes(Sequence[int]):
    """A list of hashes that only grows; each takes 8 bytes, or none while they are those of another list.

    Mutable state: the hashes, which belong to the other list while they are shared, and how many are in use.

    Example:
        >>> first = Hashes([5, 7])
        >>> second = Hashes([5, 7], like=first)
        >>> second.is_same(first), Hashes([5, 8], like=first).is_same(first)
        (True, False)
    """

    def __init__(self, hashes: Iterable[int] = (), *, like: Hashes | None = None) -> None:
        """
        Args:
            like: a list that probably begins with the same hashes, and does not grow any more.
        """
        self._hashes: array[int] = array("q") if like is None else like._hashes
        self._count = 0
        self._is_shared = like is not None
        for each in hashes:
            self.append(each)

    def append(self, value: int) -> None:
        """Add a hash."""
        if self._is_shared:
            if self._count < len(self._hashes) and self._hashes[self._count] == value:
                self._count += 1
                return
            self._hashes, self._is_shared = self._hashes[: self._count], False
        self._hashes.append(value)
        self._count += 1

    @property
    def stored(self) -> array[int]:
        """The hashes, which must not be changed."""
        return self._hashes if self._count == len(self._hashes) else self._hashes[: self._count]

    def is_same(self, other: Hashes) -> bool:
        """Return whether both lists share all their memory: then they are equal."""
        return self._hashes is other._hashes and self._count == other._count

    def part(self, positions: Iterable[int]) -> Hashes:
        """Return the hashes at these positions."""
        return Hashes(self._hashes[position] for position in positions)

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> int: ...

    @overload
    def __getitem__(self, index: slice) -> Hashes: ...

    def __getitem__(self, index: int | slice) -> int | Hashes:
        if isinstance(index, slice):
            return self.part(range(*index.indices(self._count)))
        return self._hashes[range(self._count)[index]]


class Texts(Sequence[str]):
    """A list of texts that only grows; each takes its bytes in UTF-8 and 4 more, or none while shared as in `Hashes`.

    Mutable state: the bytes of all texts and where each of them ends, which belong to another list while they are
    shared, and how many texts are in use.

    Example:
        >>> texts = Texts(["one", "two"])
        >>> texts.append("three")
        >>> texts[2], len(texts), list(texts)
        ('three', 3, ['one', 'two', 'three'])
    """

    def __init__(self, texts: Iterable[str] = (), *, like: Texts | None = None) -> None:
        """
        Args:
            like: a list that probably begins with the same texts, and does not grow any more.
        """
        self._bytes: bytearray = bytearray() if like is None else like._bytes
        self._ends: array[int] = array("I", [0]) if like is None else like._ends
        self._count = 0
        self._is_shared = like is not None
        for text in texts:
            self.append(text)

    def append(self, text: str) -> None:
        """Add a text."""
        added = text.encode("utf-8", "surrogatepass")
        if self._is_shared:
            if self._count + 1 < len(self._ends) and self._at(self._count) == added:
                self._count += 1
                return
            ends = self._ends[: self._count + 1]
            self._bytes, self._ends, self._is_shared = self._bytes[: ends[-1]], ends, False
        self._bytes += added
        try:
            self._ends.append(len(self._bytes))
        except OverflowError:  # 4 GiB
            self._ends = array("Q", self._ends)
            self._ends.append(len(self._bytes))
        self._count += 1

    def is_same(self, other: Texts) -> bool:
        """Return whether both lists share all their memory: then they are equal."""
        return self._ends is other._ends and self._count == other._count

    def part(self, positions: Iterable[int]) -> Texts:
        """Return the texts at these positions."""
        return Texts(self[position] for position in positions)

    def _at(self, place: int) -> bytearray:
        return self._bytes[self._ends[place] : self._ends[place + 1]]

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[str]:
        return map(self.__getitem__, range(self._count))

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> Texts: ...

    def __getitem__(self, index: int | slice) -> str | Texts:
        if isinstance(index, slice):
            return self.part(range(*index.indices(self._count)))
        return self._at(range(self._count)[index]).decode("utf-8", "surrogatepass")

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Sequence) else NotImplemented

    def __repr__(self) -> str:
        return f"Texts({list(self)})"
