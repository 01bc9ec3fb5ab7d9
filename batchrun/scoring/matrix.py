"""Matrix: the differences of each pair of three or more tables by one scorer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from batchrun.scoring.pairing import Pairing
from batchrun.scoring.score_facts import MatrixFacts

__all__ = ["Matrix", "matrices_of"]


@dataclass(frozen=True, slots=True)
class Matrix:
    """The differences of each pair of several tables by one scorer.

    Attributes:
        scorer: name of the scorer.
        tables: names of the tables, of the rows and of the columns.
        differences: row → column → mean difference, row minus column, over the rows with a score in both; None on
            the diagonal and without pairs.
        corrected_p: row → column → p-value after Holm's correction; None on the diagonal and without a test.
    """

    scorer: str
    tables: Sequence[str]
    differences: Sequence[Sequence[float | None]]
    corrected_p: Sequence[Sequence[float | None]]

    def facts(self) -> MatrixFacts:
        """Return the matrix as JSON."""
        return {
            "scorer": self.scorer,
            "tables": list(self.tables),
            "differences": [list(row) for row in self.differences],
            "corrected_p": [list(row) for row in self.corrected_p],
        }


def matrices_of(tables: Sequence[str], pairings: Sequence[Pairing]) -> list[Matrix]:
    """Return a matrix for each scorer; none for two tables, or if some of the tables are not compared.

    Args:
        tables: names of the tables.
        pairings: all pairings of a comparison.
    """
    by_scorer: dict[str, dict[tuple[str, str], Pairing]] = {}
    for each in pairings:
        by_scorer.setdefault(each.scorer, {})[each.first, each.second] = each
    count = len(tables)
    return [
        _matrix(scorer, tables, pairs)
        for scorer, pairs in by_scorer.items()
        if count > 2 and len(pairs) == count * (count - 1) // 2
    ]


def _matrix(scorer: str, tables: Sequence[str], pairs: dict[tuple[str, str], Pairing]) -> Matrix:
    def difference(row: str, column: str) -> float | None:
        if (column, row) in pairs:
            return pairs[column, row].difference.estimate.mean
        mean = pairs[row, column].difference.estimate.mean if (row, column) in pairs else None
        return None if mean is None else -mean

    def corrected(row: str, column: str) -> float | None:
        pairing = pairs.get((column, row)) or pairs.get((row, column))
        return None if pairing is None else pairing.corrected_p

    return Matrix(
        scorer,
        tables,
        [[difference(row, column) for column in tables] for row in tables],
        [[corrected(row, column) for column in tables] for row in tables],
    )
