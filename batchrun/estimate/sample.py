"""A random sample of a table's rows, and totals over the table estimated from it. Pure."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

from batchrun.probability import student_quantile

__all__ = ["Total", "TotalFacts", "sample_positions", "total_of"]


class TotalFacts(TypedDict):
    """`Total`, as `--json` shows it."""

    estimate: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Total:
    """A total over a table, estimated from a sample of its rows.

    Attributes:
        low, high: the 95 % interval; None if a single row was sampled, which has no spread.
    """

    estimate: float
    low: float | None
    high: float | None

    def facts(self) -> TotalFacts:
        """Return the total for machines."""
        return {"estimate": self.estimate, "low": self.low, "high": self.high}


def total_of(sampled: Sequence[float], rows: int) -> Total | None:
    """Return the total over `rows` rows, of which `sampled` are a simple random sample without replacement; None for an
    empty sample.

    The estimate is N·x̄, the interval N·x̄ ± t(0.975; n-1)·N·√((1 - n/N)·s²/n); its lower end is at least the sum of
    the sample. Source: Cochran, Sampling Techniques, 3rd ed. (1977), sections 2.5 to 2.8.
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
    half = student_quantile(0.025, n - 1) * error
    return Total(total, max(total - half, sum(sampled)), total + half)


def sample_positions(rows: int, size: int, seed: str) -> frozenset[int]:
    """Return the positions of a simple random sample without replacement.

    The same seed gives the same sample, and a larger sample contains the smaller ones: a second, larger pilot reuses
    the answers that the first one paid for. These are the first `size` steps of a Fisher-Yates shuffle, which stores
    only the positions that it has moved.
    """
    source = random.Random(seed)
    moved: dict[int, int] = {}
    chosen = []
    for step in range(min(size, rows)):
        other = source.randrange(step, rows)
        chosen.append(moved.get(other, other))
        moved[other] = moved.get(step, step)
    return frozenset(chosen)
