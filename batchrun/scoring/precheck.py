"""The check, before a batch is paid for, that its output can be scored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from batchrun.records import Row
from batchrun.scoring.evaluate import ScoringSpec, check_baseline
from batchrun.scoring.grading.grading import check_graders
from batchrun.scoring.scorers.registry import make_scorers
from batchrun.scoring.table import open_scored, scored_table

__all__ = ["check_spec"]


@dataclass(frozen=True, slots=True)
class _FutureTable:
    """A table that does not exist yet: columns without rows."""

    name: str
    columns: tuple[str, ...]

    def rows(self) -> Iterator[Row]:
        return iter(())

    def fingerprint(self) -> str:
        return ""


def check_spec(name: str, columns: Sequence[str], spec: ScoringSpec, baseline: str | None = None) -> None:
    """Check that a batch's output can be scored.

    Args:
        name: of the future output.
        columns: of the future output.
        baseline: the table that it will be paired with.

    Raises:
        InputError: a package is missing, or a scorer, a column, a grader or the baseline is wrong.
    """
    scorers = make_scorers(spec.scorers)
    tables = [scored_table(_FutureTable(name, tuple(columns)), scorers, spec.columns)]
    if baseline is not None:
        check_baseline(baseline, spec.columns)
        tables.append(open_scored(baseline, scorers, spec.for_baseline.columns, spec.read))
    if spec.grading is not None:
        for table in tables:
            check_graders(table, spec.grading)
