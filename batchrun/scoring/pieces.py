"""Figures of long columns of numbers, made a piece at a time, so that no array of all numbers is in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["PIECE", "Pieces", "pieces_of"]

_Array: TypeAlias = npt.NDArray[Any]

PIECE: Final = 1 << 15
"""Numbers in a piece; at least 128, see `Pieces.sums`."""


def pieces_of(count: int) -> Iterator[slice]:
    """Yield the slices that divide so many rows into pieces, in order."""
    for begin in range(0, count, PIECE):
        yield slice(begin, min(begin + PIECE, count))


class Pieces:
    """Numbers that are made when they are read, as often as that is; or several rows of numbers that belong together.

    Example:
        >>> squares = Pieces.of(np.arange(4.0)).map(lambda some: some**2)
        >>> squares.sums(lambda some: some), len(squares)
        ([14.0], 4)
    """

    def __init__(self, count: int, read: Callable[[], Iterator[_Array]]) -> None:
        """
        Args:
            count: how many numbers there are in a row of them.
            read: returns them in pieces of any length; of several rows, each piece has all.
        """
        self._count = count
        self._read = read

    @classmethod
    def of(cls, values: _Array) -> Pieces:
        """Return the pieces of an array."""
        return cls(values.shape[-1], lambda: (values[..., piece] for piece in pieces_of(values.shape[-1])))

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[_Array]:
        return self._read()

    @property
    def array(self) -> _Array:
        """All numbers."""
        return np.concatenate([*self, *(() if self._count else (np.zeros(0),))], axis=-1)

    def map(self, function: Callable[[_Array], _Array]) -> Pieces:
        """Return what a function makes of each piece."""
        return Pieces(self._count, lambda: map(function, self._read()))

    def all(self, holds: Callable[[_Array], _Array]) -> bool:
        """Return whether something holds for all numbers."""
        return all(bool(holds(piece).all()) for piece in self)

    def sums(self, *functions: Callable[[_Array], _Array]) -> list[float]:
        """Return the sums of what functions make of the numbers, to the last digit those of `numpy.sum` over all.

        numpy adds pairwise: it halves an array, at a multiple of 8, until at most 128 numbers are left. Here it is
        halved in the same way until a piece is left, and numpy adds that.
        """
        if not self._count:
            return [0.0] * len(functions)
        return list(map(float, _sums(_Reader(self._read()), self._count, functions)))


def _sums(reader: _Reader, count: int, functions: Sequence[Callable[[_Array], _Array]]) -> npt.NDArray[np.float64]:
    """Return the sums of what functions make of the next numbers.

    It is not a closure: a closure that calls itself would keep the pieces until the next garbage collection.
    """
    if count <= PIECE:
        some = reader.take(count)
        return np.array([float(function(some).sum()) for function in functions])
    half = count // 2
    half -= half % 8
    first = _sums(reader, half, functions)  # before the second: the numbers come in order
    return first + _sums(reader, count - half, functions)


class _Reader:
    """Takes as many numbers as are wanted from pieces of other lengths.

    Mutable state: the pieces that are left, and the rest of the last one.
    """

    def __init__(self, pieces: Iterator[_Array]) -> None:
        self._pieces = pieces
        self._rest: _Array | None = None

    def take(self, count: int) -> _Array:
        """Return the next numbers.

        Args:
            count: at least 1.
        """
        taken: list[_Array] = []
        while count:
            piece = next(self._pieces) if self._rest is None else self._rest
            self._rest = piece[..., count:] if piece.shape[-1] > count else None
            taken.append(piece[..., :count])
            count -= taken[-1].shape[-1]
        return taken[0] if len(taken) == 1 else np.concatenate(taken, axis=-1)
