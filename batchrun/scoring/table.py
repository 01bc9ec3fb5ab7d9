"""A table with answers and targets, scored row by row; what statistics need of it is kept, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import islice, repeat, tee
from pathlib import Path
from typing import Any, Final

from batchrun.errors import InputError
from batchrun.prompts.combinations import AXIS_PREFIX, EPOCH
from batchrun.records import OUTPUT_COLUMNS, Row, Value
from batchrun.scoring.score_tally import RowKind, ScoreTally
from batchrun.scoring.scorers.base import NamedScorer, Sample, Score, as_text, is_missing
from batchrun.tables import ReadOptions, Source, WriteOptions, open_source, write_table
from batchrun.tables.atomic import check_writable
from batchrun.tables.table_options import format_of
from batchrun.tables.text import TextSource

__all__ = ["ScoreColumns", "ScoredTable", "open_scored", "scored_table", "write_scored"]


_FAILED: Final = frozenset({"failed", "expired", "cancelled"})
_UNFINISHED: Final = frozenset({"in_flight", "pending"})
_CHUNK_ROWS: Final = 256
_NO_TARGET: Final = Score(None, "no target")


@dataclass(frozen=True, slots=True)
class ScoreColumns:
    """Which columns of a table mean what.

    Attributes:
        answer: what was answered; None finds `response`, also with a prefix that all output columns share.
        target: what was wanted; None where the scorers need none.
        key: a row's id. Rows that share it are epochs of one row, or the same row of another table.
        epoch: which repetition of its row a row is; None finds `epoch`, and a table without it has none.
        cluster: rows that share a value here belong together.
        split: rows that differ here are compared with each other; of a batch's axes the option's name will do, so
            that `model` is `axis_model` where there is one, and else the model that answered.
        by: the columns to break figures down by.
    """

    answer: str | None = None
    target: str | None = None
    key: str | None = None
    epoch: str | None = None
    cluster: str | None = None
    split: str | None = None
    by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ScoredTable:
    """A table that can be scored: its source, its columns found and checked, its scorers.

    Attributes:
        source: the table.
        columns: which column is what; `answer` is never None, `epoch` only where there is none.
        prefix: what stands before the names of the output columns, `status` and so on.
        scorers: what to score by.
    """

    source: Source
    columns: ScoreColumns
    prefix: str
    scorers: Sequence[NamedScorer]

    @property
    def axis_columns(self) -> tuple[str, ...]:
        """The columns in which a batch tells its combinations of settings apart."""
        return tuple(name for name in self.source.columns if name.startswith(AXIS_PREFIX))

    @property
    def axes(self) -> tuple[str, ...]:
        """Those of them by which the table is not split."""
        return tuple(name for name in self.axis_columns if name != self.columns.split)

    @property
    def own_columns(self) -> tuple[str, ...]:
        """The columns that say what was asked: those that were there before batchrun came.

        In an output of batchrun they stand before its columns; in other tables they are told by their names.
        """
        columns = self.source.columns
        added = [self.prefix + name for name in OUTPUT_COLUMNS]
        if set(added) <= set(columns):
            columns = columns[: min(map(columns.index, added))]
        others = {*added, *self.axes, self.columns.answer, self.columns.epoch, self.columns.split}
        return tuple(name for name in columns if name not in others and not name.startswith("score_"))

    def scored(self, tally: ScoreTally, *, compared: bool = False) -> Iterator[tuple[Row, Sequence[Score | None]]]:
        """Score the table: each row, in order, and what each scorer says of it; None where there is no answer.

        Args:
            tally: filled with what statistics need, row by row.
            compared: keep `facts` and `contents` as well.
        """
        with ExitStack() as stack:
            for named in self.scorers:
                stack.enter_context(named.scorer)
            yield from self.scored_by_open(tally, compared=compared)

    def scored_by_open(
        self, tally: ScoreTally, *, compared: bool = False
    ) -> Iterator[tuple[Row, Sequence[Score | None]]]:
        """The same, by scorers that the caller has entered and goes on using."""
        for named in self.scorers:
            tally.values[named.name] = []
            tally.reasons[named.name] = {}
        tally.labels.update({column: [] for column in self.columns.by})
        note = _Notes(self, tally, compared=compared)
        rows = self.source.rows()
        while chunk := list(islice(rows, _CHUNK_ROWS)):
            kinds = [note.row(row) for row in chunk]
            found = [self._scores(named, chunk, kinds, tally) for named in self.scorers]
            each: Iterator[Sequence[Score | None]] = zip(*found, strict=True) if found else repeat(())
            yield from zip(chunk, each, strict=False)

    def cells(self, scores: Sequence[Score | None]) -> dict[str, Any]:
        """The cells `score_NAME` and `score_NAME_read` of a row."""
        found: dict[str, Any] = {}
        for named, score in zip(self.scorers, scores, strict=True):
            found[f"score_{named.name}"] = None if score is None else score.value
            found[f"score_{named.name}_read"] = None if score is None else score.read
        return found

    def tally(self, *, compared: bool = False) -> ScoreTally:
        """Score the table for its figures alone."""
        tally = ScoreTally()
        for _ in self.scored(tally, compared=compared):
            pass
        return tally

    def _scores(
        self, named: NamedScorer, chunk: Sequence[Row], kinds: Sequence[RowKind], tally: ScoreTally
    ) -> list[Score | None]:
        """The scores of some rows by one scorer; None for rows without an answer."""
        found: list[Score | None] = [None] * len(chunk)
        samples: list[tuple[int, Sample]] = []
        for position, (row, kind) in enumerate(zip(chunk, kinds, strict=True)):
            if kind != "answered":
                continue
            target = None if self.columns.target is None else row.values[self.columns.target]
            if named.scorer.needs_target and (is_missing(target) or target == []):
                found[position] = _NO_TARGET
                continue
            samples.append((position, Sample(as_text(row.values[self.columns.answer or ""]), target, row.values)))
        scores = named.scorer.score_all([sample for _, sample in samples])
        for (position, _), score in zip(samples, scores, strict=True):
            found[position] = score
        values, reasons = tally.values[named.name], tally.reasons[named.name]
        for each in found:
            if each is not None and each.value is None:
                reasons[len(values)] = each.explanation
            values.append(None if each is None else each.value)
        return found


class _Notes:
    """What statistics need of rows, scores apart, noted row by row.

    Mutable state: the tally, and the rows seen so far where epochs are known by what the rows ask.
    """

    def __init__(self, table: ScoredTable, tally: ScoreTally, *, compared: bool) -> None:
        self._table = table
        self._tally = tally
        self._compared = compared
        self._status = f"{table.prefix}status"
        self._facts = tuple(table.prefix + name for name in ("cost_usd", "duration_s", "total_tokens"))
        self._own = table.own_columns
        self._axes = table.axes
        self._seen: dict[tuple[int, ...], str] = {}

    def row(self, row: Row) -> RowKind:
        """Note a row; says what there is to be scored."""
        values, columns, tally = row.values, self._table.columns, self._tally
        status = values.get(self._status)
        kind: RowKind = "answered"
        if status in _FAILED or (is_missing(status) and is_missing(values[columns.answer or ""])):
            kind = "failed"
        elif status in _UNFINISHED:
            kind = "unfinished"
        elif status == "incomplete":
            tally.cut_short.append(len(tally.kinds))
        tally.kinds.append(kind)
        if columns.key is not None:
            tally.keys.append(self._key(row, columns.key))
        elif columns.epoch is not None or columns.split is not None or self._axes:
            tally.keys.append(self._seen.setdefault(self._contents(row), f"row {row.row_index}"))
        if self._axes and tally.keys:
            tally.variants.append(tuple(as_text(values[name]) for name in self._axes))
        for column, cells in (
            (columns.epoch, tally.epochs),
            (columns.cluster, tally.clusters),
            (columns.split, tally.splits),
            *tally.labels.items(),
        ):
            if column is not None:
                cells.append(as_text(values[column]))
        if self._compared:
            cost, duration, tokens = (_float(values.get(name)) for name in self._facts)
            tally.facts.append((cost, duration, tokens))
            tally.contents.append(self._contents(row))
        return kind

    def _key(self, row: Row, column: str) -> str:
        key = row.values[column]
        if is_missing(key):
            where = f"line {row.line}" if row.line is not None else f"row {row.row_index}"
            raise InputError(f"{self._table.source.name}, {where}: no value in the key column {column!r}")
        return as_text(key)

    def _contents(self, row: Row) -> tuple[int, ...]:
        return tuple(hash(as_text(row.values[name])) for name in self._own)


def open_scored(
    name: str, scorers: Sequence[NamedScorer], columns: ScoreColumns, read: ReadOptions | None = None
) -> ScoredTable:
    """Open a table and find its columns.

    Raises:
        InputError: no table, a column that it does not have, or a scorer that needs a target where none is named.
    """
    return scored_table(open_source(name, read or ReadOptions()), scorers, columns)


def scored_table(source: Source, scorers: Sequence[NamedScorer], columns: ScoreColumns) -> ScoredTable:
    """Find the columns of a table.

    Raises:
        InputError: a column that it does not have, or a scorer that needs a target where none is named.
    """
    answer, prefix = _answer(source, columns.answer)
    split = columns.split
    if split is not None and f"{AXIS_PREFIX}{split}" in source.columns:
        split = f"{AXIS_PREFIX}{split}"
    for option, column in (
        ("target", columns.target),
        ("key", columns.key),
        ("epochs-column", columns.epoch),
        ("cluster", columns.cluster),
        *(("by", column) for column in columns.by),
    ):
        if column is not None and column not in source.columns:
            raise InputError(f"--{option} {column}: {source.name} has no such column ({_listed(source.columns)})")
    if split is not None and split not in source.columns:
        raise InputError(f"--split {split}: {source.name} has no such column ({_listed(source.columns)})")
    needy = [each.name for each in scorers if each.scorer.needs_target]
    if needy and columns.target is None:
        raise InputError(f"--scorer {needy[0]}: compares with a target: say --target COLUMN")
    epoch = columns.epoch or (EPOCH if EPOCH in source.columns else None)
    found = replace(columns, answer=answer, epoch=epoch, split=split)
    return ScoredTable(source, found, prefix, scorers)


def write_scored(table: ScoredTable, output: Path, *, compared: bool = False) -> ScoreTally:
    """Score the table and write it with two more columns for each scorer: `score_NAME`, `score_NAME_read`.

    Args:
        table: what to score.
        output: where it goes; the ending names the format.
        compared: keep what comparisons need.

    Raises:
        InputError: an unknown ending, the output is the table itself, or a column would be there twice.
        OutputError: the system refused.
    """
    format_of(output, str(output))
    added: dict[str, type] = {}
    for named in table.scorers:
        added.update({f"score_{named.name}": float, f"score_{named.name}_read": str})
    twice = [column for column in table.source.columns if column in added]
    if twice:
        kind = twice[0].removeprefix("score_")
        raise InputError(
            f"{table.source.name}: has a column {twice[0]!r} already; name the scorer otherwise, as in "
            f"--scorer second_{kind}=…, or score the table that it was made from"
        )
    check_writable(output)
    path: Path | None = getattr(table.source, "path", None)
    if path is not None and output.exists() and output.samefile(path):
        raise InputError(f"{output}: the output is the table itself; name another file")
    tally = ScoreTally()
    source = table.source
    scored = table.scored(tally, compared=compared)
    if isinstance(source, TextSource):
        # The writer takes a row, then its cells: the table need not be read a second time.
        given, scored = tee(scored)
        source = _ReadOnce(source.file, source.delimiter, source.columns, (row for row, _ in given))
    cells = (table.cells(scores) for _, scores in scored)
    write_table(output, source, cells, _ScoreColumns(extra_columns=added))
    return tally


@dataclass(frozen=True, slots=True)
class _ReadOnce(TextSource):
    """A table of text whose rows are read elsewhere, for a writer that asks for them once.

    Attributes:
        read: the rows.
    """

    read: Iterator[Row]

    def rows(self) -> Iterator[Row]:
        """The rows, the first time."""
        return self.read


class _ScoreColumns(WriteOptions):
    """Only the columns of scores behind the table's own, which may include those of a batch."""

    __slots__ = ()

    @property
    def keys(self) -> Mapping[str, type]:
        """Key in the cells → type, in output order."""
        return self.extra_columns


def _answer(source: Source, named: str | None) -> tuple[str, str]:
    """The column of answers, and what stands before the names of the output columns."""
    if named is not None:
        if named not in source.columns:
            raise InputError(f"--answer {named}: {source.name} has no such column ({_listed(source.columns)})")
        return named, named.removesuffix("response") if named.endswith("response") else ""
    found = [
        column
        for column in source.columns
        if column.endswith("response") and f"{column.removesuffix('response')}status" in source.columns
    ]
    if "response" in source.columns:
        return "response", ""
    if len(found) == 1:
        return found[0], found[0].removesuffix("response")
    raise InputError(f"{source.name}: has no column 'response'; say --answer COLUMN ({_listed(source.columns)})")


def _listed(columns: Sequence[str]) -> str:
    return f"columns: {', '.join(map(repr, columns))}"


def _float(cell: Value) -> float | None:
    if is_missing(cell):
        return None
    try:
        return float(cell)
    except (TypeError, ValueError):
        return None
