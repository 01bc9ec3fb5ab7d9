"""A table with answers and targets, scored row by row; what statistics need of it is kept, and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from batchrun.errors import InputError
from batchrun.records import OUTPUT_COLUMNS, Row, Value
from batchrun.scoring.choosing import NamedScorer
from batchrun.scoring.score import Sample, Score, as_text, is_missing
from batchrun.tables import ReadOptions, Source, WriteOptions, open_source, write_table
from batchrun.tables.atomic import check_writable
from batchrun.tables.options import format_of

__all__ = ["Columns", "RowKind", "ScoredTable", "Tally", "open_scored", "write_scored"]

RowKind: TypeAlias = Literal["answered", "failed", "unfinished"]
"""What is there to be scored: an answer; none, since the row failed; none yet."""

_FAILED: Final = frozenset({"failed", "expired", "cancelled"})
_UNFINISHED: Final = frozenset({"in_flight", "pending"})
_CHUNK_ROWS: Final = 256
_NO_TARGET: Final = Score(None, "no target")


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns of a table mean what.

    Attributes:
        answer: what was answered; None finds `response`, also with a prefix that all output columns share.
        target: what was wanted; None where the scorers need none.
        key: a row's id. Rows that share it are epochs of one row, or the same row of another table.
        cluster: rows that share a value here belong together.
        by: the columns to break figures down by.
    """

    answer: str | None = None
    target: str | None = None
    key: str | None = None
    cluster: str | None = None
    by: tuple[str, ...] = ()


@dataclass(slots=True)
class Tally:
    """What is kept of a scored table, one entry a row in each list.

    Attributes:
        kinds: what was there to be scored.
        values: scorer → values; None where there is none.
        reasons: scorer → why answered rows have no value → rows.
        keys, clusters: cells as text; empty lists where no column was named.
        labels: column of `--by` → cells as text.
        incomplete: rows whose answer was cut short; they are scored as they are.
        facts: of each row, what comparisons need: cost in US dollars, duration in seconds and tokens,
            None where not known.
        contents: hashes of the cells of the columns that batchrun did not add, in their order, of each row; only
            for comparisons.
    """

    kinds: list[RowKind] = field(default_factory=list)
    values: dict[str, list[float | None]] = field(default_factory=dict)
    reasons: dict[str, Counter[str]] = field(default_factory=dict)
    keys: list[str] = field(default_factory=list)
    clusters: list[str] = field(default_factory=list)
    labels: dict[str, list[str]] = field(default_factory=dict)
    incomplete: int = 0
    facts: list[tuple[float | None, float | None, float | None]] = field(default_factory=list)
    contents: list[tuple[int, ...]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ScoredTable:
    """A table that can be scored: its source, its columns found and checked, its scorers.

    Attributes:
        source: the table.
        columns: which column is what; `answer` is never None.
        prefix: what stands before the names of the output columns, `status` and so on.
        scorers: what to score by.
    """

    source: Source
    columns: Columns
    prefix: str
    scorers: Sequence[NamedScorer]

    @property
    def own_columns(self) -> tuple[str, ...]:
        """The columns that were there before batchrun came, as far as names tell."""
        added = {self.prefix + name for name in OUTPUT_COLUMNS} | {self.columns.answer}
        return tuple(name for name in self.source.columns if name not in added and not name.startswith("score_"))

    def cells(self, tally: Tally, *, compared: bool = False) -> Iterator[dict[str, Any]]:
        """Score the table: for each row, in order, the cells `score_NAME` and `score_NAME_read`.

        Args:
            tally: filled with what statistics need, row by row.
            compared: keep `contents` as well.
        """
        for named in self.scorers:
            tally.values[named.name] = []
            tally.reasons[named.name] = Counter()
        tally.labels.update({column: [] for column in self.columns.by})
        with ExitStack() as stack:
            for named in self.scorers:
                stack.enter_context(named.scorer)
            rows = self.source.rows()
            while chunk := list(islice(rows, _CHUNK_ROWS)):
                kinds = [self._note(row, tally, compared=compared) for row in chunk]
                found = [self._scores(named, chunk, kinds, tally) for named in self.scorers]
                for scores in zip(*found, strict=True):
                    yield {
                        key: cell
                        for named, score in zip(self.scorers, scores, strict=True)
                        for key, cell in _cells(named.name, score)
                    }

    def tally(self, *, compared: bool = False) -> Tally:
        """Score the table for its figures alone."""
        tally = Tally()
        for _ in self.cells(tally, compared=compared):
            pass
        return tally

    def _note(self, row: Row, tally: Tally, *, compared: bool) -> RowKind:
        """Keep what statistics need of a row, scores apart."""
        values, columns = row.values, self.columns
        status = values.get(self.prefix + "status")
        kind: RowKind = "answered"
        if status in _FAILED or (is_missing(status) and is_missing(values[columns.answer or ""])):
            kind = "failed"
        elif status in _UNFINISHED:
            kind = "unfinished"
        tally.kinds.append(kind)
        tally.incomplete += status == "incomplete"
        if columns.key is not None:
            key = values[columns.key]
            if is_missing(key):
                where = f"line {row.line}" if row.line is not None else f"row {row.row_index}"
                raise InputError(f"{self.source.name}, {where}: no value in the key column {columns.key!r}")
            tally.keys.append(as_text(key))
        if columns.cluster is not None:
            tally.clusters.append(as_text(values[columns.cluster]))
        for column, labels in tally.labels.items():
            labels.append(as_text(values[column]))
        if compared:
            cost, duration, tokens = (
                _float(values.get(self.prefix + name)) for name in ("cost_usd", "duration_s", "total_tokens")
            )
            tally.facts.append((cost, duration, tokens))
            tally.contents.append(tuple(hash(as_text(values[name])) for name in self.own_columns))
        return kind

    def _scores(
        self, named: NamedScorer, chunk: Sequence[Row], kinds: Sequence[RowKind], tally: Tally
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
        for each in found:
            tally.values[named.name].append(None if each is None else each.value)
            if each is not None and each.value is None:
                tally.reasons[named.name][each.explanation] += 1
        return found


def open_scored(
    name: str, scorers: Sequence[NamedScorer], columns: Columns, read: ReadOptions | None = None
) -> ScoredTable:
    """Open a table and find its columns.

    Raises:
        InputError: no table, a column that it does not have, or a scorer that needs a target where none is named.
    """
    source = open_source(name, read or ReadOptions())
    answer, prefix = _answer(source, columns.answer)
    for option, column in (
        ("target", columns.target),
        ("key", columns.key),
        ("cluster", columns.cluster),
        *(("by", column) for column in columns.by),
    ):
        if column is not None and column not in source.columns:
            raise InputError(f"--{option} {column}: {name} has no such column ({_listed(source.columns)})")
    needy = [each.name for each in scorers if each.scorer.needs_target]
    if needy and columns.target is None:
        raise InputError(f"--scorer {needy[0]}: compares with a target: say --target COLUMN")
    found = Columns(answer, columns.target, columns.key, columns.cluster, columns.by)
    return ScoredTable(source, found, prefix, scorers)


def write_scored(table: ScoredTable, output: Path, *, compared: bool = False) -> Tally:
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
    tally = Tally()
    write_table(output, table.source, table.cells(tally, compared=compared), _ScoreColumns(extra_columns=added))
    return tally


class _ScoreColumns(WriteOptions):
    """Only the columns of scores behind the table's own, which may include those of a batch."""

    __slots__ = ()

    @property
    def keys(self) -> Mapping[str, type]:
        """Key in the cells → type, in output order."""
        return self.extra_columns


def _cells(name: str, score: Score | None) -> tuple[tuple[str, Any], tuple[str, Any]]:
    return (
        (f"score_{name}", None if score is None else score.value),
        (f"score_{name}_read", None if score is None else score.read),
    )


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
