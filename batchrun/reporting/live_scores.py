"""LiveScores: scores of a running batch, in which each answer is scored once, when it arrives."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from batchrun.errors import InputError
from batchrun.records import Row
from batchrun.scoring.evaluate import ScoringSpec
from batchrun.scoring.score_facts import ScoreFacts
from batchrun.scoring.score_tally import ScoreTally
from batchrun.scoring.scorers.base import Score
from batchrun.scoring.scorers.model_graded import ModelGradedScorer
from batchrun.scoring.scorers.registry import make_scorers
from batchrun.scoring.summary import clusters_of, summarize
from batchrun.scoring.table import scored_table

__all__ = ["LiveScores"]


@dataclass(frozen=True, slots=True)
class _RowsInMemory:
    """Rows in memory as a table."""

    name: str
    columns: tuple[str, ...]
    loaded: Iterable[Row]

    def rows(self) -> Iterator[Row]:
        return iter(self.loaded)

    def fingerprint(self) -> str:
        return ""


class LiveScores:
    """The scores of a table whose rows end one by one.

    Mutable state: the tally over all rows as of the last `update`, and the resources of the scorers.
    """

    def __init__(self, spec: ScoringSpec, name: str, columns: Sequence[str], rows: Iterable[Row]) -> None:
        """
        Args:
            spec: how to score, with at least one scorer.
            name: name of the table.
            columns: columns of the table, with those of batchrun.
            rows: all rows, in order, as they are before any has ended; read more than once.

        Raises:
            InputError: see `batchrun.scoring.evaluate.ScoringSpec.open`; or a scorer asks models.
        """
        self._failed_as = spec.failed_as
        self._table = scored_table(_RowsInMemory(name, tuple(columns), rows), make_scorers(spec.scorers), spec.columns)
        self.scorers = [named.name for named in self._table.scorers]
        self.by = self._table.columns.by
        self.target = self._table.columns.target
        for named in self._table.scorers:
            if isinstance(named.scorer, ModelGradedScorer):
                raise InputError(
                    f"--scorer {named.name}: asks models, which a live page cannot do; use "
                    "batchrun score after the batch has ended"
                )
        self._tally = ScoreTally()
        with ExitStack() as stack:
            for named in self._table.scorers:
                stack.enter_context(named.scorer)
            for _ in self._tallied(rows, self._tally):
                pass
            self._open_scorers = stack.pop_all()

    def close(self) -> None:
        """Close the scorers."""
        self._open_scorers.close()

    def update(self, rows: Sequence[Row]) -> list[Sequence[Score | None]]:
        """Score rows that have changed, identified by their positions; return one score per scorer for each."""
        part = ScoreTally()
        scores = list(self._tallied(rows, part))
        tally = self._tally
        for place, row in enumerate(rows):
            position = row.row_index
            tally.kinds[position] = part.kinds[place]
            tally.cut_short[position] = part.cut_short[place]
            for name, values in part.values.items():
                tally.values[name][position] = values[place]
                tally.reasons[name][position] = part.reasons[name][place]
            # A batch's own columns, such as the model that answered, are known only when the row has ended.
            for column, labels in part.labels.items():
                tally.labels[column][position] = labels[place]
        return scores

    def clusters(self) -> Sequence[str] | None:
        """Return the cluster of each row; None if all rows are independent."""
        return clusters_of(self._tally)

    def without_target(self) -> dict[str, list[int]]:
        """Return the positions of failed rows that a scorer could not judge, see `ScoreTally.failed_without_target`."""
        return self._tally.failed_without_target()

    def facts(self) -> list[ScoreFacts]:
        """Return the figures of every scorer over all rows."""
        return [each.facts() for each in summarize(self._tally, self._failed_as)]

    def _tallied(self, rows: Iterable[Row], tally: ScoreTally) -> Iterator[Sequence[Score | None]]:
        table = replace(self._table, source=_RowsInMemory(self._table.source.name, self._table.source.columns, rows))
        return (scores for _, scores in table.scored_by_open(tally))
