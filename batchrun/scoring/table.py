"""ScoredTable: a table with answers and expected answers, scored row by row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import islice, repeat
from typing import Final

from batchrun.errors import InputError
from batchrun.prompts.combinations import AXIS_PREFIX
from batchrun.records import OUTPUT_COLUMNS, JsonDict, Row, Value
from batchrun.scoring.compact import Coded, Flags, Numbers
from batchrun.scoring.row_tally import RowTally
from batchrun.scoring.score_columns import ScoreColumns, found_columns, found_target
from batchrun.scoring.score_tally import RowKind, ScoreTally
from batchrun.scoring.scorers.base import NamedScorer, Sample, Score, as_text, is_missing
from batchrun.scoring.scorers.targets import at_path, has_target, unusable
from batchrun.tables import ReadOptions, Source, open_source
from batchrun.thoughts import split_thought

__all__ = ["ScoredTable", "open_scored", "scored_table"]


_CHUNK_ROWS: Final = 256


@dataclass(frozen=True, slots=True)
class ScoredTable:
    """A table that can be scored: its source, its columns, found and checked, and its scorers.

    Attributes:
        source: the table.
        columns: its columns by their meaning; `answer` is never None, `epoch` only if the table has no such column.
        prefix: prefix of the output columns, `status` and so on.
        scorers: the scorers.
    """

    source: Source
    columns: ScoreColumns
    prefix: str
    scorers: Sequence[NamedScorer]

    @property
    def axis_columns(self) -> tuple[str, ...]:
        """The columns with a batch's combination of settings."""
        return tuple(name for name in self.source.columns if name.startswith(AXIS_PREFIX))

    @property
    def axes(self) -> tuple[str, ...]:
        """The axis columns, except the one that splits the table."""
        return tuple(name for name in self.axis_columns if name != self.columns.split)

    @property
    def own_columns(self) -> tuple[str, ...]:
        """The columns that batchrun did not add; they define what a row asks.

        In an output of batchrun they precede its columns; in other tables batchrun's columns are known by name.
        """
        columns = self.source.columns
        added = [self.prefix + name for name in OUTPUT_COLUMNS]
        if set(added) <= set(columns):
            columns = columns[: min(map(columns.index, added))]
        asked = self.columns
        others = {*added, *self.axes, asked.answer, asked.epoch, asked.split, *asked.ignore}
        return tuple(name for name in columns if name not in others and not name.startswith("score_"))

    def scored(
        self, tally: ScoreTally, *, for_comparison: bool = False
    ) -> Iterator[tuple[Row, Sequence[Score | None]]]:
        """Score the table: yield each row, in order, with one score per scorer; None if the row has no answer.

        Args:
            tally: filled row by row.
            for_comparison: whether the tally gets costs and content hashes too.
        """
        with ExitStack() as stack:
            for named in self.scorers:
                stack.enter_context(named.scorer)
            yield from self.scored_by_open(tally, for_comparison=for_comparison)

    def scored_by_open(
        self, tally: ScoreTally, *, for_comparison: bool = False
    ) -> Iterator[tuple[Row, Sequence[Score | None]]]:
        """Score the table with scorers that the caller has entered and keeps open."""
        for named in self.scorers:
            tally.values[named.name] = Numbers()
            tally.reasons[named.name] = Coded()
            if self.for_scorer(named).columns.target is not None:
                tally.targets[named.name] = Flags()
            if named.scorer.needs_target:
                tally.needs_target.add(named.name)
        tally.labels.update({column: Coded() for column in self.columns.by})
        row_tally = RowTally(
            tally,
            self.columns,
            self.prefix,
            own_columns=self.own_columns,
            axes=self.axes,
            for_comparison=for_comparison,
        )
        for chunk in _chunks(self.source.rows()):
            kinds = [row_tally.add(row, self.source.name) for row in chunk]
            by_scorer = [self._scores(named, chunk, kinds, tally) for named in self.scorers]
            by_row: Iterator[Sequence[Score | None]] = zip(*by_scorer, strict=True) if by_scorer else repeat(())
            yield from zip(chunk, by_row, strict=False)

    def for_scorer(self, named: NamedScorer) -> ScoredTable:
        """Return the table with the target of a scorer, which may have its own."""
        if named.target is None:
            return self
        target, path = found_target(self.source, named.target)
        return replace(self, columns=replace(self.columns, target=target, target_path=path))

    def cells(self, scores: Sequence[Score | None]) -> JsonDict:
        """Return the cells of a row in the columns of its scores."""
        cells: JsonDict = {}
        for named, score in zip(self.scorers, scores, strict=True):
            cells.update(named.cells(score))
        return cells

    def tally(self, *, for_comparison: bool = False, like: ScoreTally | None = None) -> ScoreTally:
        """Score the table for its figures alone.

        Args:
            for_comparison: see `scored`.
            like: the tally of a table that probably has the same rows; see `ScoreTally.like`.
        """
        tally = ScoreTally() if like is None else ScoreTally.like(like)
        for _ in self.scored(tally, for_comparison=for_comparison):
            pass
        return tally

    def sample(self, row: Row) -> Sample:
        """Return a row as scorers receive it, with the target of the table."""
        column = self.columns.target
        return self._sample(row, None if column is None else at_path(row.values[column], self.columns.target_path))

    def _sample(self, row: Row, target: Value) -> Sample:
        cell = row.values[self.columns.answer or ""]
        answer, _ = split_thought("" if is_missing(cell) else as_text(cell))
        return Sample(answer, target, row.values, row.row_index)

    def _scores(
        self, named: NamedScorer, chunk: Sequence[Row], kinds: Sequence[RowKind], tally: ScoreTally
    ) -> list[Score | None]:
        """Return the scores of some rows by one scorer; None for rows without an answer."""
        scores: list[Score | None] = [None] * len(chunk)
        samples: list[tuple[int, Sample]] = []
        columns = self.for_scorer(named).columns
        column, path, needs_target = columns.target, columns.target_path, named.scorer.needs_target
        for position, (row, kind) in enumerate(zip(chunk, kinds, strict=True)):
            target = None
            if column is not None:
                target = at_path(row.values[column], path)
                tally.targets[named.name].append(has_target(target))
            if kind != "answered":
                continue
            if needs_target and (problem := unusable(target)) is not None:
                scores[position] = problem
                continue
            samples.append((position, self._sample(row, target)))
        for (position, _), score in zip(
            samples, named.scorer.score_all([sample for _, sample in samples]), strict=True
        ):
            scores[position] = score
        tally.values[named.name].extend([None if each is None else each.value for each in scores])
        tally.reasons[named.name].extend(
            [None if each is None or each.value is not None else each.explanation for each in scores]
        )
        return scores


def _chunks(rows: Iterator[Row]) -> Iterator[list[Row]]:
    while chunk := list(islice(rows, _CHUNK_ROWS)):
        yield chunk


def open_scored(
    name: str, scorers: Sequence[NamedScorer], columns: ScoreColumns, read: ReadOptions | None = None
) -> ScoredTable:
    """Open a table and find its columns.

    Raises:
        InputError: the table cannot be read, or as `scored_table`.
    """
    return scored_table(open_source(name, read or ReadOptions()), scorers, columns)


def scored_table(source: Source, scorers: Sequence[NamedScorer], columns: ScoreColumns) -> ScoredTable:
    """Find the columns of a table.

    Raises:
        InputError: a column does not exist, or a scorer needs an expected answer and no such column is named.
    """
    columns, prefix = found_columns(source, columns)
    for each in scorers:
        if each.target is not None:
            found_target(source, each.target)
        elif each.scorer.needs_target and columns.target is None:
            raise InputError(f"--scorer {each.name}: needs a target: name its column with --target COLUMN")
    return ScoredTable(source, columns, prefix, scorers)
