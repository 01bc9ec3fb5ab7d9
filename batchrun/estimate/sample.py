"""A random sample of a table's rows, and what it says of the whole table. Pure."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Total", "sample_positions", "total_of"]


@dataclass(frozen=True, slots=True)
class Total:
    """A total over a table, estimated from a sample of its rows.

    Attributes:
        low, high: the 95 % interval, None where one row was sampled (it tells nothing of the spread).
    """

    estimate: float
    low: float | None
    high: float | None

    def facts(self) -> dict[str, Any]:
        """For machines."""
        return {"estimate": self.estimate, "low": self.low, "high": self.high}


def total_of(sampled: Sequence[float], rows: int) -> Total | None:
    """The total over `rows` rows of which `sampled` are a simple random sample without replacement.

    Estimate N·x̄, interval N·x̄ ± t(0.975; n-1)·N·√((1 - n/N)·s²/n), and never less than what the sample itself
    adds up to: Cochran, Sampling Techniques, 3rd ed. (1977), sections 2.5 to 2.8.
    None for an empty sample.
    """
    n = len(sampled)
    if n == 0:
        return None
    total = rows * statistics.fmean(sampled)
    if n >= rows:
        return Total(total, total, total)
    if n == 1:
        return Total(total, None, None)
    error = rows * ((1 - n / rows) * statistics.variance(sampled) / n) ** 0.5
    half = _student_t(n - 1) * error
    return Total(total, max(total - half, sum(sampled)), total + half)


def _student_t(freedom: int) -> float:
    """The 97.5 % quantile of Student's t.

    Exact for 1 and 2 degrees of freedom; else Abramowitz & Stegun 26.7.5, which is off by less than 0.3 %.
    """
    if freedom == 1:
        return 12.7062
    if freedom == 2:
        return 4.3027
    z = statistics.NormalDist().inv_cdf(0.975)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return math.fsum(term / float(freedom) ** power for power, term in enumerate(terms))


def sample_positions(rows: int, size: int, seed: str) -> frozenset[int]:
    """Positions of a simple random sample without replacement; the same seed gives the same, and a larger sample
    holds the smaller ones, so that what a first pilot paid for counts in a second.

    The first `size` steps of a Fisher-Yates shuffle, kept as the few places that it moved.
    """
    source = random.Random(seed)
    moved: dict[int, int] = {}
    chosen = []
    for place in range(min(size, rows)):
        other = source.randrange(place, rows)
        chosen.append(moved.get(other, other))
        moved[other] = moved.get(place, place)
    return frozenset(chosen)
