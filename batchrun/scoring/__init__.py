"""Scoring: answers compared with expected answers, and figures with confidence intervals.

It works on any table with an answer and an expected answer, from any tool. `score_options` declares the options,
`scorers.registry` makes scorers from their names, `grading` asks models for verdicts, `table` scores a table row by
row, `summary` computes the figures, `comparison` compares tables, `bars` checks conditions, and `formats` converts
tables from and to the files of other tools. Libraries of single scorers belong to the extra `eval`, and are imported
where they are needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batchrun.scoring.scorers.base import Sample, Score, Scorer

__all__ = ["Sample", "Score", "Scorer"]


def __getattr__(name: str) -> Any:
    """Import a public name on its first use: commands need only the options of scoring, whose module is small."""
    if name in __all__:
        from batchrun.scoring.scorers import base

        return getattr(base, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
