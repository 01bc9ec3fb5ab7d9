"""Quantiles, ranks and the number of different values, in a few passes over more numbers than memory should hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from batchrun.scoring.statistics import Floats

__all__ = ["Parts", "different", "quantiles", "ranked"]

Parts: TypeAlias = Iterable[Floats]
"""Numbers in parts, without NaN, over which several passes can be made."""

_Keys: TypeAlias = npt.NDArray[np.uint64]

_AT_ONCE: Final = 131_072
"""Numbers that are sorted in memory."""

_DIGIT_BITS: Final = 16
_SIGN: Final = np.uint64(1 << 63)
_MIXED: Final = np.uint64(0x9E3779B97F4A7C15)
"""An odd multiplier (Knuth's, from the golden ratio): equal numbers stay equal, similar ones get far apart."""


def quantiles(parts: Parts, shares: Sequence[float]) -> list[float]:
    """Return quantiles by linear interpolation, the same as `numpy.quantile` of all numbers, at least one.

    Args:
        shares: from 0 to 1.
    """
    count = sum(len(part) for part in parts)
    places = [share * (count - 1) for share in shares]
    below = [int(place) for place in places]
    above = [min(place + 1, count - 1) for place in below]
    found = ranked(parts, [*below, *above])
    return [
        _between(found[low], found[high], place - low) for place, low, high in zip(places, below, above, strict=True)
    ]


def _between(low: float, high: float, share: float) -> float:
    # As numpy does, from the nearer end, so that the results are equal to the last digit.
    step = high - low
    return high - step * (1 - share) if share >= 0.5 else low + step * share


def ranked(parts: Parts, ranks: Iterable[int]) -> dict[int, float]:
    """Return rank → the number with this rank, from 0 for the smallest.

    The numbers are counted by the leading digits of their bits, which are in the order of the numbers, until few share
    the digits of a wanted one (a radix selection).
    """
    return _selected(parts, sorted({*ranks}), 0, 0, np.uint64(0))


def _selected(parts: Parts, ranks: Sequence[int], before: int, digits: int, prefix: np.uint64) -> dict[int, float]:
    """Return the ranked numbers among those whose first digits are these.

    Args:
        before: how many numbers are smaller than all of them.
        digits: number of known digits.
        prefix: the known digits.
    """
    shift = np.uint64(64 - _DIGIT_BITS * (digits + 1))
    counts = np.zeros(1 << _DIGIT_BITS, np.int64)
    for part in parts:
        keys = _with_prefix(_keys(part), digits, prefix)
        counts += np.bincount(((keys >> shift) & np.uint64(0xFFFF)).astype(np.int64), minlength=len(counts))
    ends = before + np.cumsum(counts)
    found: dict[int, float] = {}
    for digit in np.unique(np.searchsorted(ends, ranks, side="right")).tolist():
        first = int(ends[digit] - counts[digit])
        of_digit = [rank for rank in ranks if first <= rank < ends[digit]]
        longer = (prefix << np.uint64(_DIGIT_BITS)) | np.uint64(digit)
        if digits == 3:  # all bits are known
            found |= dict.fromkeys(of_digit, float(_numbers(np.array([longer], np.uint64))[0]))
        elif counts[digit] <= _AT_ONCE:
            keys = np.sort(np.concatenate([_with_prefix(_keys(part), digits + 1, longer) for part in parts]))
            found |= {rank: float(_numbers(keys[rank - first : rank - first + 1])[0]) for rank in of_digit}
        else:
            found |= _selected(parts, of_digit, first, digits + 1, longer)
    return found


def _keys(numbers: Floats) -> _Keys:
    """Return integers that are in the order of the numbers."""
    bits: _Keys = np.ascontiguousarray(numbers + 0.0, np.float64).view(np.uint64)  # + 0.0 makes -0.0 a 0.0
    return np.where(bits & _SIGN, ~bits, bits | _SIGN)


def _numbers(keys: _Keys) -> Floats:
    bits: _Keys = np.where(keys & _SIGN, keys ^ _SIGN, ~keys)
    return bits.view(np.float64)


def _with_prefix(keys: _Keys, digits: int, prefix: np.uint64) -> _Keys:
    return keys if digits == 0 else keys[keys >> np.uint64(64 - _DIGIT_BITS * digits) == prefix]


def different(parts: Iterable[npt.NDArray[Any]]) -> int:
    """Return how many different numbers of 64 bits there are. Each pass counts the numbers of one range."""
    count = sum(len(part) for part in parts)
    ranges = 1 + 2 * count // _AT_ONCE
    width = np.uint64((1 << 64) // ranges + 1) if ranges > 1 else np.uint64(1)
    found = 0
    for number in range(ranges):
        within = [np.zeros(0, np.uint64)]
        for part in parts:
            # Adding 0 makes -0.0 a 0.0.
            mixed = np.ascontiguousarray(part + part.dtype.type(0)).view(np.uint64) * _MIXED
            within.append(np.unique(mixed if ranges == 1 else mixed[mixed // width == np.uint64(number)]))
        found += len(np.unique(np.concatenate(within)))
    return found
