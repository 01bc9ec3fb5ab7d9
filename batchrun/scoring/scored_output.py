"""Writing a table with its scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from itertools import tee
from pathlib import Path

from batchrun.errors import InputError
from batchrun.records import JsonDict, Row
from batchrun.scoring.earlier_scores import EarlierScores
from batchrun.scoring.score_tally import ScoreTally
from batchrun.scoring.table import ScoredTable
from batchrun.tables import Source, WriteOptions, path_beside, write_table
from batchrun.tables.atomic import check_writable
from batchrun.tables.sink import check_not_input
from batchrun.tables.table_options import check_output_format, without_ending
from batchrun.tables.text import TextSource

__all__ = ["check_scored_output", "default_scored", "score_columns", "write_after", "write_scored"]


def default_scored(name: str) -> Path:
    """Return the default path of a scored table: `answers.csv` → `answers.scored.csv`, next to it."""
    path = path_beside(name)
    stem = without_ending(path.name)
    scored = path.with_name(f"{stem}.scored{path.name.removeprefix(stem)}")
    try:
        check_output_format(scored, str(scored))
    except InputError:  # a format that is only read
        return path.with_name(f"{stem}.scored.csv")
    return scored


def write_scored(
    table: ScoredTable, output: Path, *, for_comparison: bool = False, earlier: EarlierScores | None = None
) -> ScoreTally:
    """Score the table and write it with the columns of its scores: `score_NAME`, `score_NAME_read`, and
    `score_NAME_reason` for scorers that give reasons.

    Args:
        table: the table to score.
        output: the file to write; its ending gives the format.
        for_comparison: whether the tally gets what comparisons need.
        earlier: scores of other scorers that the output has already, and keeps before the new ones.

    Raises:
        InputError: the ending is unknown, the output is the table itself, or a column would be there twice.
        OutputError: the file cannot be written.
    """
    options = score_columns(table)
    check_scored_output(table, output)
    tally = ScoreTally()
    source = table.source
    scored = table.scored(tally, for_comparison=for_comparison)
    if isinstance(source, TextSource):
        # The writer takes a row, then its cells, in step: one pass over the table is enough.
        for_rows, scored = tee(scored)
        own = {each.name: getattr(source, each.name) for each in fields(source)}
        source = _RowsReadOnce(**{**own, "read": (row for row, _ in for_rows)})
    cells = (table.cells(scores) for _, scores in scored)
    write_after(earlier or EarlierScores(), output, source, cells, options)
    return tally


def write_after(
    earlier: EarlierScores, output: Path, source: Source, cells: Iterator[JsonDict], options: WriteOptions
) -> None:
    """Write a table with the scores that the output has already, then with new ones.

    Args:
        cells: the new scores of each row.
        options: the columns of the new scores.

    Raises:
        OutputError: the file cannot be written.
    """
    if earlier.columns:
        options = _ScoresOnly(extra_columns={**earlier.columns, **options.extra_columns})
        cells = ({**kept, **new} for kept, new in zip(earlier.cells(), cells, strict=True))
    write_table(output, source, cells, options)


def check_scored_output(table: ScoredTable, output: Path) -> None:
    """Check that a scored table can be written.

    Raises:
        InputError: the ending is unknown, or the output is the table itself.
        OutputError: the file cannot be written.
    """
    check_output_format(output, str(output))
    check_writable(output)
    check_not_input(output, table.source, "the output is the input table itself; name another file with --output PATH")


def score_columns(table: ScoredTable) -> WriteOptions:
    """Return the columns that are added to a scored table.

    Raises:
        InputError: the table has one of them already.
    """
    added: dict[str, type] = {}
    for named in table.scorers:
        added.update(named.columns)
    column = next((column for column in table.source.columns if column in added), None)
    if column is not None:
        kind = column.removeprefix("score_")
        raise InputError(
            f"{table.source.name}: the column {column!r} already exists; give the scorer another name, as in "
            f"--scorer second_{kind}=…, or score the table without scores"
        )
    return _ScoresOnly(extra_columns=added)


@dataclass(frozen=True, slots=True)
class _RowsReadOnce(TextSource):
    """A text table whose rows are read elsewhere, for a writer that reads them once.

    Attributes:
        read: the rows.
    """

    read: Iterator[Row] = field(default_factory=lambda: iter(()))

    def rows(self) -> Iterator[Row]:
        """Return the rows; valid once."""
        return self.read


class _ScoresOnly(WriteOptions):
    """Write options that add the columns of scores alone, after the table's own, which may include a batch's."""

    __slots__ = ()

    @property
    def keys(self) -> Mapping[str, type]:
        """Key in the cells → type, in output order."""
        return self.extra_columns
