"""Stage 8: answers judged against targets, with figures that say how far they can be trusted.

Works on any table with an answer and a target, whoever made it. `choosing` makes scorers of what the user
names, `grading` asks models for verdicts, `options` are those of `run`, `table` scores a table row by row,
`summary` says what it comes to, `comparing` sets tables side by side, `bars` makes conditions of it,
`converting` brings tables of other tools in and out. scipy and the libraries of single scorers belong to the
extra `eval`, and are imported where they are needed.
"""

from batchrun.scoring.scorers.base import Sample, Score, Scorer

__all__ = ["Sample", "Score", "Scorer"]
