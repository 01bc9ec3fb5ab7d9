"""How often the 95 % interval of a corrected mean contains the true share: `python -m tests.benchmarks.judge_coverage`.

A scorer says "right" of a right answer with one probability (sensitivity), and "wrong" of a wrong one with another
(specificity). A part of the rows has hand labels. The table is in docs/reference/statistics.md.
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np

from batchrun.scoring.labels.agreement import agreement
from batchrun.scoring.labels.corrected import corrected_mean
from batchrun.scoring.statistics import estimate


class Coverage(NamedTuple):
    """Shares of the intervals that contain the truth.

    Attributes:
        alone: of the scorer's own mean.
        corrected: of the corrected mean.
        kappa: of κ over the labelled rows.
        width: mean width of the corrected interval.
    """

    alone: float
    corrected: float
    kappa: float
    width: float


def coverage(
    right: float, sensitivity: float, specificity: float, *, labelled: int, rows: int, repetitions: int
) -> Coverage:
    """Simulate tables with a fixed seed, and return how many of their intervals contain the truth.

    Args:
        right: the true share of right answers.
        labelled: rows with a label.
        rows: all rows.
    """
    random = np.random.default_rng(0)
    mask = np.arange(rows) < labelled
    both, scored = right * sensitivity, right * sensitivity + (1 - right) * (1 - specificity)
    chance = right * scored + (1 - right) * (1 - scored)
    kappa = (both + (1 - right) * specificity - chance) / (1 - chance)
    hits = np.zeros((repetitions, 3))
    widths = []
    for place in range(repetitions):
        truth = random.random(rows) < right
        said = np.where(truth, random.random(rows) < sensitivity, random.random(rows) < 1 - specificity)
        scores, labels = said.astype(np.float64), truth[mask].astype(np.float64)
        alone, found = estimate(scores), corrected_mean(scores, mask, labels, draws=2_000)
        agreed = agreement(scores[mask], labels)
        assert found is not None
        assert alone.low is not None
        assert alone.high is not None
        hits[place, 0] = alone.low <= right <= alone.high
        hits[place, 1] = found.low <= right <= found.high
        hits[place, 2] = agreed.low is None or agreed.high is None or agreed.low <= kappa <= agreed.high
        widths.append(found.high - found.low)
    alone_share, corrected_share, kappa_share = hits.mean(axis=0).tolist()
    return Coverage(alone_share, corrected_share, kappa_share, float(np.mean(widths)))


def main() -> None:
    """Print the table."""
    print("| labels | rows | right | sensitivity, specificity | scorer alone | corrected | width | κ |")
    print("|---|---|---|---|---|---|---|---|")
    judges = ((0.5, 0.9, 0.8), (0.9, 0.95, 0.7), (0.98, 0.98, 0.6), (0.7, 0.99, 0.97))
    for (labelled, rows), (right, sensitivity, specificity) in product(((20, 200), (50, 500), (200, 2000)), judges):
        found = coverage(right, sensitivity, specificity, labelled=labelled, rows=rows, repetitions=1_000)
        shares = f"{found.alone:.1%} | {found.corrected:.1%} | {found.width:.3f} | {found.kappa:.1%}"
        print(f"| {labelled} | {rows:,} | {right:g} | {sensitivity:g}, {specificity:g} | {shares} |", flush=True)


if __name__ == "__main__":
    main()
