"""Distributions of tokens, cost and duration over the rows, as histograms with quantiles."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from batchrun.on_disk.numbers import StoredNumbers
from batchrun.reporting.order_statistics import Parts, quantiles
from batchrun.reporting.page_facts import DistributionFacts, HistogramFacts
from batchrun.reporting.rows import ReportRow

__all__ = ["Distributions", "distribution", "nice_step", "or_nan"]

_MEASURES: Final = {
    "prompt_tokens": "tokens",
    "completion_tokens": "tokens",
    "cost_usd": "USD",
    "duration_s": "s",
}
"""Column → unit, for the columns whose distribution is shown."""

_QUANTILES: Final = (0.5, 0.9, 0.99)
_BARS: Final = 40
_TAIL: Final = 4.0
"""A largest value beyond this multiple of the 99th percentile does not stretch the histogram."""


class Distributions:
    """The values of each measure, in a temporary file.

    Mutable state: the values.
    """

    def __init__(self) -> None:
        self._values = StoredNumbers(len(_MEASURES))

    def add(self, row: ReportRow) -> None:
        """Keep a row's values."""
        self._values.append(*(or_nan(row.cells[column]) for column in _MEASURES))

    def facts(self) -> list[DistributionFacts]:
        """Return the distribution of each measure that any row has."""
        facts: list[DistributionFacts] = []
        for place, (column, unit) in enumerate(_MEASURES.items()):
            values = self._values.column(place)
            if any(len(part) for part in values):
                facts.append({"column": column, "unit": unit, **distribution(values, whole=unit == "tokens")})
        return facts


def or_nan(number: float | None) -> float:
    """Return a number, NaN for None."""
    return math.nan if number is None else number


def distribution(values: Parts, *, whole: bool = False) -> HistogramFacts:
    """Return bars of equal width, quantiles, mean and extremes.

    Args:
        values: at least one, in parts.
        whole: whether the values, and so the ends of the bars, are integers.
    """
    p50, p90, p99 = quantiles(values, _QUANTILES)
    filled = [(len(part), float(part.min()), float(part.max()), float(part.sum())) for part in values if len(part)]
    counted, lows, highs, sums = zip(*filled, strict=True)
    n, low, high = sum(counted), min(lows), max(highs)
    end = p99 * 1.25 if p99 > 0 and high > _TAIL * p99 else high
    step = nice_step((end - low) / _BARS) if end > low else 1.0 if whole else (abs(low) / 10 or 1.0)
    step = max(1.0, step) if whole else step
    first = math.floor(low / step)
    # The whole numbers 3 to 5 need a bar for 5 itself; fractions may end at the end of the last bar.
    bars = max(1, math.floor(end / step) - first + 1 if whole else math.ceil(end / step - 1e-9) - first)
    edges = np.arange(first, first + bars + 1) * step
    counts = np.zeros(bars, np.int64)
    for part in values:
        within = part[part <= edges[-1]] if high > end else part
        # Clipped, since rounding may put a value just outside the bar that it belongs to.
        places = np.clip(np.floor(within / step).astype(np.int64) - first, 0, bars - 1)
        counts += np.bincount(places, minlength=bars)
    return {
        "n": n,
        "mean": math.fsum(sums) / n,
        "min": low,
        "max": high,
        "p50": p50,
        "p90": p90,
        "p99": p99,
        "bars": [
            [float(edges[index]), float(edges[index + 1]), int(count)] for index, count in enumerate(counts.tolist())
        ],
        "beyond": n - int(counts.sum()),
    }


def nice_step(least: float) -> float:
    """Return the smallest of 1, 2, 2.5, 5 and 10 times a power of ten that is at least `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if factor * power >= least * (1 - 1e-9))
