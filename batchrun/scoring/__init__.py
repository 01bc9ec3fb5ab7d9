"""Scoring: answers compared with expected answers, and figures with confidence intervals.

It works on any table with an answer and an expected answer, from any tool. `score_options` declares the options,
`scorers.registry` makes scorers from their names, `grading` asks models for verdicts, `table` scores a table row by
row, `summary` computes the figures, `comparison` compares tables, `bars` checks conditions, and `formats` converts
tables from and to the files of other tools. Libraries of single scorers belong to the extra `eval`, and are imported
where they are needed.
"""

from batchrun.scoring.scorers.base import Sample, Score, Scorer

__all__ = ["Sample", "Score", "Scorer"]
