"""How many rows a comparison needs, and the smallest difference that its rows show: with a power of 80 % at a level of
5 %, two-sided.

All functions are pure; unit tests compare them with sums over the binomial distributions of scipy and with simulated
tables.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Final

import numpy as np

from batchrun.scoring.intervals import Floats
from batchrun.scoring.pieces import Pieces
from batchrun.scoring.statistics import Difference, estimate

__all__ = ["Needs", "RowsNeeded", "flip_power", "needs", "rows_for_flips", "rows_for_mean", "size_for_flips"]

LEVEL: Final = 0.05
POWER: Final = 0.8
_Z: Final = NormalDist().inv_cdf(1 - LEVEL / 2)
_Z_POWER: Final = NormalDist().inv_cdf(POWER)
_EXACT_UP_TO_FLIPS: Final = 500
_STEPS: Final = 10_000
"""A difference that can be shown is given in steps of 0.0001."""
_FOLLOWING: Final = 12
"""Numbers of rows that must also have the power: it is a saw tooth where nearly every row flips."""


@dataclass(frozen=True, slots=True)
class RowsNeeded:
    """The number of rows that shows a difference.

    Attributes:
        rows: for the variation of the pairs at hand.
        low, high: for the ends of the 95 % interval of that variation; None if it has no interval.
    """

    rows: int
    low: int | None
    high: int | None


@dataclass(frozen=True, slots=True)
class Needs:
    """What the pairs of a comparison show, and what others would need.

    Attributes:
        rows: difference → number of rows; empty if the variation of the differences is unknown.
        detectable: the smallest difference that the pairs at hand show; None if they show none, or the variation is
            unknown.
    """

    rows: Mapping[float, RowsNeeded] = field(default_factory=dict)
    detectable: float | None = None


def needs(pairs: Pieces, difference: Difference, clusters: Sequence[str] | None, sizes: Sequence[float]) -> Needs:
    """Return the rows that differences of some sizes need, and the smallest difference that the pairs show.

    - McNemar's exact test: from the share of rows that flip, with Wilson's interval. See `flip_power`.
    - Other tests: from the standard deviation of the pairs' differences, with the interval of Bonett 2006. See
      `rows_for_mean`. With clusters, from that of the clusters' sums; the rows are then in clusters as large as these.

    Args:
        pairs: two rows of numbers, the scores in the first table and those in the second.
        difference: of the pairs, with its test.
        clusters: the cluster of each pair.
        sizes: differences, above 0.
    """
    change = pairs.map(lambda both: both[1] - both[0])
    n = len(change)
    if difference.test == "mcnemar":
        flipping = estimate(change.map(lambda some: (some != 0).astype(np.float64)))
        shares = [share or 0.0 for share in (flipping.mean, flipping.low, flipping.high)]
        rows = {size: RowsNeeded(*(rows_for_flips(share, size) for share in shares)) for size in sizes}
        return Needs(rows, size_for_flips(n, shares[0]))
    error = difference.estimate.standard_error
    if difference.test == "none" or not error:
        return Needs()
    units = change.array
    units -= units.mean()
    if clusters is not None:
        units = _sums(units, clusters)
    deviation = error * n**0.5
    per_unit = n / len(units)
    factors = _spread(units)

    def rows_needed(size: float) -> RowsNeeded:
        low, high = (None, None) if factors is None else (rows_for_mean(f * deviation, size, per_unit) for f in factors)
        return RowsNeeded(rows_for_mean(deviation, size, per_unit), low, high)

    return Needs({size: rows_needed(size) for size in sizes}, _size_for_mean(error, len(units)))


def _sums(values: Floats, clusters: Sequence[str]) -> Floats:
    _, group = np.unique(np.asarray(clusters, dtype=object).astype(str), return_inverse=True)
    sums: Floats = np.bincount(group, weights=values).astype(np.float64)
    return sums


# -- scores of 0 and 1 --------------------------------------------------------------------------------------


def flip_power(rows: int, flipping: float, size: float) -> float:
    """Return the power of McNemar's exact test: the probability that it shows a difference at the level of 5 %.

    The number of rows that flip is binomial, and so is the number of those that flip upwards; the probability that the
    test rejects is summed over both (Duffy 1984, https://doi.org/10.2307/2530744).

    Args:
        rows: number of rows.
        flipping: probability that a row flips, at least `size`.
        size: probability that it flips upwards minus that it flips downwards.
    """
    first, weights = _binomial(rows, flipping)
    return float(weights @ _rejections((flipping + size) / (2 * flipping), first + len(weights) - 1)[first:])


def rows_for_flips(flipping: float, size: float) -> int:
    """Return the smallest number of rows from which McNemar's exact test has the power to show a difference.

    Up to about 500 flips the power is exact. Above, it is Φ((nδ - z√(nψ) - 1) / √(n(ψ - δ²))) for n rows, the share ψ
    that flips and the difference δ: the normal approximation with the continuity correction of Edwards 1948. Unit
    tests bound its error.

    Args:
        flipping: share of the rows that flip; a smaller one than `size` is raised to it.
        size: the difference, above 0.
    """
    flipping = max(flipping, size)
    spread = _Z * math.sqrt(flipping) + _Z_POWER * math.sqrt(max(0.0, flipping - size**2))
    approximate = ((spread + math.sqrt(spread**2 + 4 * size)) / (2 * size)) ** 2
    if approximate * flipping > _EXACT_UP_TO_FLIPS:
        return math.ceil(approximate)
    most = int(1.2 * approximate) + 40
    last, weights = _binomial(most + _FOLLOWING + 1, flipping)
    rejections = _rejections((flipping + size) / (2 * flipping), last + len(weights))

    def has_power(rows: int) -> bool:
        first, weights = _binomial(rows, flipping)
        return float(weights @ rejections[first : first + len(weights)]) >= POWER

    rows = _first(has_power, 0, most)
    while (lacking := next((n for n in range(rows + _FOLLOWING, rows, -1) if not has_power(n)), None)) is not None:
        rows = lacking + 1
    return rows


def size_for_flips(rows: int, flipping: float) -> float | None:
    """Return the smallest difference that McNemar's exact test shows with `rows` rows; None if it shows none.

    Args:
        flipping: share of the rows that flip; a difference that is larger raises it.
    """

    def has_power(step: int) -> bool:
        size = step / _STEPS
        share = max(flipping, size)
        if rows * share <= _EXACT_UP_TO_FLIPS:
            return flip_power(rows, share, size) >= POWER
        spread = _Z * math.sqrt(rows * share) + _Z_POWER * math.sqrt(rows * (share - size**2))
        return rows * size - 1 >= spread

    return _first(has_power, 0, _STEPS) / _STEPS if has_power(_STEPS) else None


def _first(holds: Callable[[int], bool], low: int, high: int) -> int:
    """Return the first number above `low` for which a condition holds, by bisection; it holds for `high`."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _binomial(n: int, p: float) -> tuple[int, Floats]:
    """Return the probabilities of a binomial distribution around its mean, and the number that the first belongs to."""
    if p >= 1:
        return n, np.ones(1)
    reach = 8 * (n * p * (1 - p)) ** 0.5 + 8
    first, last = max(0, int(n * p - reach)), min(n, int(n * p + reach))
    mode = min(last, int((n + 1) * p))
    log_mode = math.lgamma(n + 1) - math.lgamma(mode + 1) - math.lgamma(n - mode + 1)
    log_mode += mode * math.log(p) + (n - mode) * math.log1p(-p)
    above = np.arange(mode, last, dtype=np.float64)
    below = np.arange(mode, first, -1, dtype=np.float64)
    upwards = np.cumprod((n - above) / (above + 1) * p / (1 - p))
    downwards = np.cumprod(below / (n - below + 1) * (1 - p) / p)
    return first, math.exp(log_mode) * np.concatenate([downwards[::-1], [1.0], upwards])


def _rejections(upwards: float, most: int) -> Floats:
    """Return the probability that McNemar's exact test rejects, for 0 to `most` flips.

    It rejects if at most k of D flips go one way, where k is the largest number with 2 · P(X ≤ k) ≤ 5 % for a fair
    coin. P(X ≤ k) is carried from D to D + 1 by P(X ≤ k; D+1) = P(X ≤ k; D) - p · P(X = k; D).

    Args:
        upwards: probability that a flip goes upwards.
    """
    found = np.zeros(most + 1)
    up, down = min(upwards, 1 - 1e-12), max(1 - upwards, 1e-12)
    few = -1
    # P(X ≤ few) and P(X = few), of a fair coin, of flips upwards and of flips downwards.
    tail = up_tail = down_tail = point = up_point = down_point = 0.0
    for flips in range(1, most + 1):
        if few < 0:
            after, up_after, down_after = 0.5**flips, down**flips, up**flips
        else:
            tail, up_tail, down_tail = tail - 0.5 * point, up_tail - up * up_point, down_tail - down * down_point
            grown = flips / (flips - few)
            point, up_point, down_point = point * grown * 0.5, up_point * grown * down, down_point * grown * up
            grown = (flips - few) / (few + 1)
            after, up_after, down_after = point * grown, up_point * grown * up / down, down_point * grown * down / up
        if 2 * (tail + after) <= LEVEL:
            few += 1
            point, up_point, down_point = after, up_after, down_after
            tail, up_tail, down_tail = tail + after, up_tail + up_after, down_tail + down_after
        found[flips] = up_tail + down_tail
    return found


# -- other scores -------------------------------------------------------------------------------------------


def rows_for_mean(deviation: float, size: float, per_unit: float = 1.0) -> int:
    """Return the number of rows with which the paired t-test has the power to show a difference.

    n = ((z_0.975 + z_0.8) · ω / δ)² + z_0.975² / 2 (Guenther 1981, https://doi.org/10.2307/2683303), where ω is the
    standard deviation of the rows' differences. The second term is what the t-test needs more than the z-test; with
    clusters it counts them.

    Args:
        deviation: ω; with clusters that of independent rows with the same standard error.
        size: δ, the difference to show, above 0.
        per_unit: rows of a cluster; 1 without clusters.
    """
    return max(2, math.ceil(((_Z + _Z_POWER) * deviation / size) ** 2 + _Z**2 / 2 * per_unit))


def _size_for_mean(error: float, units: int) -> float | None:
    """Return the difference for which `rows_for_mean` gives the rows at hand; None above 1 and for very few rows."""
    spare = units - _Z**2 / 2
    size = (_Z + _Z_POWER) * error * (units / spare) ** 0.5 if spare > 0 else math.inf
    return size if size <= 1 else None


def _spread(values: Floats) -> tuple[float, float] | None:
    """Return the ends of the 95 % interval of a standard deviation, as shares of it; None for fewer than 5 values.

    Bonett 2006, Computational Statistics & Data Analysis 50, equation 5: it holds for distributions that are not
    normal.

    Args:
        values: not all equal.
    """
    n = len(values)
    if n < 5:
        return None
    cut = int(n / (2 * (n - 4) ** 0.5))
    trimmed = np.sort(values)[cut : n - cut].mean()
    mean = values.mean()
    squares, fourth = Pieces.of(values).sums(lambda some: (some - mean) ** 2, lambda some: (some - trimmed) ** 4)
    kurtosis = n * fourth / squares**2
    scale = n / (n - _Z)
    error = scale * (max(0.0, kurtosis - (n - 3) / n) / (n - 1)) ** 0.5
    return math.exp((math.log(scale) - _Z * error) / 2), math.exp((math.log(scale) + _Z * error) / 2)
