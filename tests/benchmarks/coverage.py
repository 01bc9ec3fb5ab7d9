"""Coverage of the 95 % intervals: the share of random tables whose interval contains the true mean.

Right and wrong rows are drawn in clusters or epochs, whose chances are a beta distribution with the mean p and the
intraclass correlation that the table names; other scores are drawn from the distribution that it names.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from batchrun.scoring.intervals import Floats
from batchrun.scoring.statistics import difference, estimate

CHANCES = (0.02, 0.1, 0.5, 0.9, 0.98)
CORRELATIONS = (0.0, 0.1, 0.3, 0.6)
DESIGNS: dict[str, Sequence[int]] = {
    "5 × 20": [20] * 5,
    "10 × 10": [10] * 10,
    "20 × 5": [5] * 20,
    "50 × 20": [20] * 50,
    "100 × 5": [5] * 100,
    "100 × 10": [10] * 100,
    "10 of 1 to 34": [1, 1, 2, 3, 5, 8, 13, 21, 34, 12],
    "50 of 1 to 60": [1] * 20 + [5] * 15 + [20] * 10 + [60] * 5,
}
EPOCHS: dict[str, Sequence[int]] = {
    "30 rows, 3 epochs": [3] * 30,
    "100 rows, 5 epochs": [5] * 100,
    "200 rows, 2 to 5 epochs": [2, 3, 4, 5] * 50,
}
ROWS = (5, 10, 20, 50, 200)

Draw = Callable[[np.random.Generator, int], Floats]


def _ones(share: float) -> Draw:
    return lambda rng, n: np.where(rng.random(n) < share, 1.0, rng.random(n))


def _grades(chances: Sequence[float]) -> Draw:
    return lambda rng, n: rng.choice(np.linspace(0, 1, len(chances)), size=n, p=chances)


SCORES: dict[str, tuple[float, Draw]] = {
    "beta(5, 2), mean 0.71": (5 / 7, lambda rng, n: rng.beta(5, 2, n)),
    "beta(1, 9), mean 0.1": (0.1, lambda rng, n: rng.beta(1, 9, n)),
    "beta(20, 1), mean 0.95": (20 / 21, lambda rng, n: rng.beta(20, 1, n)),
    "beta(0.2, 3), mean 0.06": (0.2 / 3.2, lambda rng, n: rng.beta(0.2, 3, n)),
    "90 % are 1, others even": (0.95, _ones(0.9)),
    "98 % are 1, others even": (0.99, _ones(0.98)),
    "five grades, 70 % the best": (0.8825, _grades([0.02, 0.03, 0.05, 0.2, 0.7])),
    "five grades, even": (0.5, _grades([0.2] * 5)),
}


def covered(intervals: Iterator[tuple[float | None, float | None]], truth: float) -> float:
    """Return the share of intervals that contain the true value."""
    found = [
        low is not None and high is not None and low <= truth + 1e-12 and truth - 1e-12 <= high
        for low, high in intervals
    ]
    return sum(found) / len(found)


def clustered(rng: np.random.Generator, sizes: Sequence[int], chance: float, correlation: float, tables: int) -> float:
    """Return the coverage of the mean of right and wrong rows in clusters of these sizes."""
    clusters = np.repeat(np.arange(len(sizes)), sizes).astype(str).tolist()

    def intervals() -> Iterator[tuple[float | None, float | None]]:
        for _ in range(tables):
            chances = np.full(len(sizes), chance)
            if correlation:
                spread = (1 - correlation) / correlation
                chances = rng.beta(chance * spread, (1 - chance) * spread, len(sizes))
            values = (rng.random(len(clusters)) < np.repeat(chances, sizes)).astype(np.float64)
            found = estimate(values, clusters)
            yield found.low, found.high

    return covered(intervals(), chance)


def scores(rng: np.random.Generator, mean: float, draw: Draw, n: int, tables: int) -> float:
    """Return the coverage of the mean of n scores."""
    found = (estimate(draw(rng, n)) for _ in range(tables))
    return covered(((each.low, each.high) for each in found), mean)


def changes(rng: np.random.Generator, draw: Draw, n: int, tables: int) -> float:
    """Return the coverage of the difference of n pairs; a third of them have independent scores, the others equal ones."""

    def intervals() -> Iterator[tuple[float | None, float | None]]:
        for _ in range(tables):
            a = draw(rng, n)
            b = np.where(rng.random(n) < 1 / 3, draw(rng, n), a)
            found = difference(a, b).estimate
            yield found.low, found.high

    return covered(intervals(), 0.0)


def table(head: Sequence[str], rows: Iterator[Sequence[str]]) -> None:
    """Print a table in Markdown, row by row."""
    print(f"| {' | '.join(head)} |\n|{' --- |' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)
    print()


def main() -> None:
    """Print the tables, in percent."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=int, default=2_000, help="random tables for each figure")
    tables = parser.parse_args().tables
    rng = np.random.default_rng(1)
    for title, designs in (("clusters × rows", DESIGNS), ("epochs", EPOCHS)):
        table(
            (title, "correlation", *(f"p = {chance:g}" for chance in CHANCES)),
            (
                (
                    name,
                    f"{correlation:g}",
                    *(f"{100 * clustered(rng, sizes, chance, correlation, tables):.1f}" for chance in CHANCES),
                )
                for name, sizes in designs.items()
                for correlation in CORRELATIONS
            ),
        )
    head = [f"{n} rows" for n in ROWS]
    table(
        ("scores", *head),
        (
            (name, *(f"{100 * scores(rng, mean, draw, n, tables):.1f}" for n in ROWS))
            for name, (mean, draw) in SCORES.items()
        ),
    )
    table(
        ("differences", *head),
        ((name, *(f"{100 * changes(rng, draw, n, tables):.1f}" for n in ROWS)) for name, (_, draw) in SCORES.items()),
    )


if __name__ == "__main__":
    main()
