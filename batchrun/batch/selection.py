"""Selection: which rows of the input a run asks, by --where, --sample and --limit. The others are skipped."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from heapq import nsmallest
from itertools import islice

from batchrun.errors import InputError
from batchrun.job.options import Job
from batchrun.prompts.combinations import Combination, combinations_of
from batchrun.prompts.row_filter import RowFilter
from batchrun.prompts.template_engine import template_value
from batchrun.records import JsonDict, Manifest, Row
from batchrun.tables import PartOfSource, Source
from batchrun.wording import rows_text, shortened

__all__ = [
    "Selection",
    "SelectionOptions",
    "asked_rows",
    "recorded_selection",
    "select_rows",
    "selected_cells",
]


@dataclass(frozen=True, slots=True)
class SelectionOptions:
    """The options that select rows, in the order in which they apply. They are not settings of the batch: a later run
    may have others, and continues.

    Attributes:
        where: expression that is true for the rows to run; None for all rows.
        sample: size of the random sample of them; None for all.
        seed: seed of the sample.
        limit: number of the first of these to run; None for all.
    """

    where: str | None = None
    sample: int | None = None
    seed: int | None = None
    limit: int | None = None

    @classmethod
    def of(cls, job: Job) -> SelectionOptions | None:
        """Return the options of a job; None if it selects no rows.

        Raises:
            InputError: there is a seed without a sample.
        """
        if job.seed is not None and job.sample is None:
            raise InputError("--seed: needs --sample N; a seed for the model is given with --param seed=N")
        options = cls(job.where, job.sample, job.seed, job.limit)
        return None if options == cls() else options


@dataclass(frozen=True, slots=True)
class Selection:
    """The rows of the input that a run asks.

    Attributes:
        source: the whole input, with one row for each combination.
        included: a byte for each row of the input: 1 if the run asks it.
        combinations: rows of the batch for each row of the input.
        note: what was selected, in one line for people.
        is_short: fewer rows than the options name, or none.
    """

    options: SelectionOptions
    source: Source
    included: bytes
    combinations: int
    note: str
    is_short: bool

    @property
    def rows(self) -> int:
        """Selected rows of the batch."""
        return self.included.count(1) * self.combinations

    def __contains__(self, row: Row) -> bool:
        """Return whether a row of the batch is selected."""
        position = row.row_index // self.combinations
        return position < len(self.included) and self.included[position] == 1

    def positions(self) -> list[int]:
        """Return the `row_index` of each selected row of the batch, in order."""
        several = range(self.combinations)
        return [
            index * self.combinations + each
            for index, is_included in enumerate(self.included)
            if is_included
            for each in several
        ]


@dataclass(frozen=True, slots=True)
class SelectedRows(PartOfSource):
    """A `Source` with the selected rows of a table; in all else it is the table.

    Attributes:
        source: the table, or a sample of it.
    """

    source: Source
    selection: Selection

    def rows(self) -> Iterator[Row]:
        """Yield the selected rows, in the table's order and with their positions in it."""
        return (row for row in self.source.rows() if row in self.selection)


def asked_rows(source: Source, selection: Selection | None) -> Source:
    """Return the rows of a table that a run asks; a selection of None has all."""
    return source if selection is None else SelectedRows(source, selection)


def select_rows(
    options: SelectionOptions | None, source: Source, combinations: Sequence[Combination], key: str | None
) -> Selection | None:
    """Return the rows that the options select; None if they select all without a look.

    Args:
        source: the input, with one row for each combination. All combinations of a row are selected together.
        key: column that identifies rows; None for their position.

    Raises:
        InputError: a row cannot be read, or --where is wrong or fails on a row.
    """
    if options is None:
        return None
    own = [column for column in source.columns if column not in combinations[0].cells]
    row_filter = RowFilter(options.where, own) if options.where is not None else None
    included = bytearray()
    ranks = _ranks(source, len(combinations), row_filter, options.seed, key, included)
    if options.sample is None:
        matching = sampled = sum(1 for _ in ranks)
    else:
        chosen = nsmallest(options.sample, ranks)
        matching, sampled = included.count(1), len(chosen)
        included = bytearray(len(included))
        for _, index in chosen:
            included[index] = 1
    if options.limit is not None:
        ones = (index for index, is_included in enumerate(included) if is_included)
        end = next(islice(ones, options.limit, None), len(included))
        included[end:] = bytes(len(included) - end)
    rows, left = len(included), included.count(1)
    return Selection(
        options=options,
        source=source,
        included=bytes(included),
        combinations=len(combinations),
        note=_note(options, rows, matching, sampled, left),
        is_short=not matching or matching < (options.sample or 0) or sampled < (options.limit or 0),
    )


def _ranks(
    source: Source,
    combinations: int,
    row_filter: RowFilter | None,
    seed: int | None,
    key: str | None,
    matches: bytearray,
) -> Iterator[tuple[bytes, int]]:
    """Yield the place in the random order and the position of each row of the input that matches.

    Args:
        matches: filled with a byte for each row of the input: 1 if it matches.
    """
    for row in source.rows():
        if row.row_index % combinations:
            continue
        is_match = row_filter is None or row_filter.matches(row)
        matches.append(is_match)
        if is_match:
            position = row.row_index // combinations
            identity = str(position) if key is None else str(template_value(row.values[key]))
            yield _rank(seed, identity), position


def _rank(seed: int | None, identity: str) -> bytes:
    """Return a row's place in the random order of a seed.

    It depends on the row alone. So it is the same on every machine, a larger sample contains the smaller ones, and rows
    that are added or removed leave the order of the others as it is.
    """
    return hashlib.blake2b(f"{seed or 0}:{identity}".encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _note(options: SelectionOptions, rows: int, matching: int, sampled: int, left: int) -> str:
    """Return what each option did, such as `--where: 40 of 100 rows match · --limit 10: 10 of them; the other 90 are
    skipped`."""
    if options.where is not None and not matching:
        return f"--where: no row of {rows:,} matches {shortened(options.where)}, so all are skipped and nothing is sent"
    parts = [] if options.where is None else [f"--where: {matching:,} of {rows_text(rows)} match"]
    for name, number, before in (("sample", options.sample, matching), ("limit", options.limit, sampled)):
        if number is not None and number > before:
            parts.append(f"--{name} {number}: there are only {before:,}, so all of them")
        elif number is not None:
            parts.append(f"--{name} {number}: {number:,} of {'them' if parts else rows_text(rows)}")
    if rows == left:
        return " · ".join(parts)
    skipped = "one is" if rows - left == 1 else f"{rows - left:,} are"
    return " · ".join(parts) + f"; the other {skipped} skipped"


def recorded_selection(manifest: Manifest, source: Source) -> Selection | None:
    """Return which rows of its input the last run of a batch selected, as its journal recorded; None for all.

    Args:
        source: the input, with one row for each combination.

    Raises:
        InputError: the input cannot be read, or has other columns now.
    """
    recorded = manifest.get("selection")
    if recorded is None:
        return None
    options = SelectionOptions(**{name: recorded[name] for name in asdict(SelectionOptions())})
    return select_rows(options, source, combinations_of(manifest["settings"]), manifest.get("key"))


def selected_cells(selection: Selection | None, row: Row, cells: JsonDict) -> JsonDict:
    """Return the cells of a row's outcome as they are in the output; a selection of None has all rows.

    A row that is left out is `skipped`, unless it has an answer. What an earlier run cost, and its error, stay.
    """
    has_answer = cells["status"] in ("completed", "incomplete")
    return cells if selection is None or has_answer or row in selection else {**cells, "status": "skipped"}
