"""Scores of a batch that runs: each answer is scored once, when it comes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from batchrun.scoring.summary import summarize
from batchrun.scoring.table import scored_table

__all__ = ["LiveScores"]


@dataclass(frozen=True, slots=True)
class _Held:
    """Rows in memory, as a table."""

    name: str
    columns: tuple[str, ...]
    held: Sequence[Row]

    def rows(self) -> Iterator[Row]:
        return iter(self.held)

    def fingerprint(self) -> str:
        return ""


class LiveScores:
    """The scores of a table whose rows end one after the other.

    Mutable state: the tally over all rows as of the last `take`, and what the scorers own.
    """

    def __init__(self, question: ScoringSpec, name: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """
        Args:
            question: how to score; with a scorer.
            name: the table's.
            columns: of the table, those of batchrun included.
            rows: all of them, at their positions, as they are before any has ended.

        Raises:
            InputError: see `batchrun.scoring.evaluate.Question.open`, or a scorer that asks models.
        """
        self._failed_as = question.failed_as
        self._table = scored_table(_Held(name, tuple(columns), rows), make_scorers(question.scorers), question.columns)
        self.scorers = [named.name for named in self._table.scorers]
        for named in self._table.scorers:
            if isinstance(named.scorer, ModelGradedScorer):
                raise InputError(
                    f"--scorer {named.name}: asks models, which a page that is looked at does not; "
                    "batchrun score does when the batch has ended"
                )
        self._tally = ScoreTally()
        with ExitStack() as stack:
            for named in self._table.scorers:
                stack.enter_context(named.scorer)
            self._noted(rows, self._tally)
            self._owned = stack.pop_all()

    def close(self) -> None:
        """Give back what the scorers own."""
        self._owned.close()

    def take(self, rows: Sequence[Row]) -> list[Sequence[Score | None]]:
        """Score rows that have changed, known by their positions; and what each scorer says of each."""
        part = ScoreTally()
        found = self._noted(rows, part)
        tally = self._tally
        for place, row in enumerate(rows):
            position = row.row_index
            tally.kinds[position] = part.kinds[place]
            for name, values in part.values.items():
                tally.values[name][position] = values[place]
                tally.reasons[name].pop(position, None)
                if place in part.reasons[name]:
                    tally.reasons[name][position] = part.reasons[name][place]
            # A batch's own columns, such as the model that answered, are known when the row has ended.
            for column, labels in part.labels.items():
                tally.labels[column][position] = labels[place]
        return found

    def facts(self) -> list[ScoreFacts]:
        """The figures of every scorer over all rows."""
        return [each.facts() for each in summarize(self._tally, self._failed_as)]

    def _noted(self, rows: Sequence[Row], tally: ScoreTally) -> list[Sequence[Score | None]]:
        table = replace(self._table, source=_Held(self._table.source.name, self._table.source.columns, rows))
        return [scores for _, scores in table.scored_by_open(tally)]
