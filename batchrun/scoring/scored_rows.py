"""The rows of a scored table for the figures of one scorer: a byte of facts for each, counted by group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from batchrun.scoring.compact import Coded, CodedNumbers, Numbers
from batchrun.scoring.intervals import Floats
from batchrun.scoring.pieces import Pieces, pieces_of
from batchrun.scoring.row_codes import first_places
from batchrun.scoring.score_tally import RowKind, ScoreTally

__all__ = [
    "IS_ANSWERED",
    "IS_CUT_SHORT",
    "IS_EXPECTED",
    "IS_FAILED",
    "IS_JUDGEABLE",
    "IS_JUDGED",
    "IS_SCORED",
    "IS_SKIPPED",
    "IS_UNFINISHED",
    "CountedRows",
    "FactCounts",
    "Flagged",
    "Members",
    "members_of",
]

Flagged: TypeAlias = npt.NDArray[np.bool_]
Members: TypeAlias = "Flagged | npt.NDArray[np.int64]"
"""Some rows of a table: whether each is one of them, or their positions in ascending order."""

_KINDS: Final = get_args(RowKind)
_FACTS: Final = np.arange(128)
"""Every byte of facts about a row: its kind, and five flags."""
_FIRST_FLAG: Final = 4


def _is(kind: RowKind) -> Flagged:
    kinds = _FACTS % _FIRST_FLAG
    are: Flagged = kinds == _KINDS.index(kind)
    return are


def _has(flag: int) -> Flagged:
    are: Flagged = _FACTS & _FIRST_FLAG << flag > 0
    return are


IS_ANSWERED: Final = _is("answered")
IS_FAILED: Final = _is("failed")
IS_UNFINISHED: Final = _is("unfinished")
IS_SKIPPED: Final = _is("skipped")
IS_JUDGEABLE: Final = _has(0)
"""Which bytes say that the scorer can judge the row."""
IS_EXPECTED: Final = _has(1)
"""Which say that the row should have a score."""
IS_CUT_SHORT: Final = _has(2)
"""Which say that its answer was cut short."""
IS_SCORED: Final = _has(3)
"""Which say that it enters the mean."""
IS_JUDGED: Final = _has(4)
"""Which say that the scorer gave it a score."""

_FEW_LABELS: Final = 256


@dataclass(frozen=True, slots=True)
class FactCounts:
    """How often each byte of facts occurs among some rows.

    Attributes:
        numbers: byte → number of rows.
        firsts: byte → position of the first of them; the number of all rows if there is none.
    """

    numbers: npt.NDArray[np.int64]
    firsts: npt.NDArray[np.int64]

    def number(self, are: Flagged) -> int:
        """Return the number of rows with one of some bytes."""
        return int(self.numbers[are].sum())

    def first(self, are: Flagged) -> int:
        """Return the position of the first row with one of some bytes."""
        return int(self.firsts[are].min())


@dataclass(frozen=True, slots=True)
class CountedRows:
    """The rows of a table for one scorer.

    Attributes:
        entered: the values as they enter the means, None for those that are left out.
        facts: a byte for each row.
        clusters: of the rows; None if all are independent.
        is_repeated: whether two rows have the same key.
    """

    tally: ScoreTally
    entered: Numbers
    facts: npt.NDArray[np.uint8]
    clusters: Sequence[str] | None
    is_repeated: bool

    @classmethod
    def of(
        cls, tally: ScoreTally, name: str, entered: Numbers, clusters: Sequence[str] | None, *, is_repeated: bool
    ) -> CountedRows:
        """Return the rows of a table.

        Args:
            name: of the scorer.
        """
        facts = np.empty(len(entered), dtype=np.uint8)
        for rows in pieces_of(len(entered)):
            of_rows = facts[rows]
            of_rows[:] = sum(code * tally.kinds.are(kind, rows) for code, kind in enumerate(_KINDS))
            flags = (
                tally.judgeable(name, rows),
                tally.expected(name, rows),
                tally.cut_short.array[rows],
                entered.column.are_known(rows),
                tally.values[name].column.are_known(rows),
            )
            for place, are in enumerate(flags):
                of_rows[are] |= _FIRST_FLAG << place
        return cls(tally, entered, facts, clusters, is_repeated)

    def counts(self, members: Members | None) -> FactCounts:
        """Return how often each byte of facts occurs; `members` is None for all rows."""
        count = len(self.facts)
        numbers, firsts = np.zeros(len(_FACTS), dtype=np.int64), np.full(len(_FACTS), count)
        for rows, chosen in _chosen(members, count):
            facts = self.facts[rows][chosen]
            here = np.bincount(facts, minlength=len(_FACTS))
            is_new = (here > 0) & (numbers == 0)
            if is_new.any():
                places = np.arange(rows.start, rows.stop)[chosen]
                first = np.full(len(_FACTS), count)
                first[facts[::-1]] = places[::-1]  # of several, the last assignment holds
                firsts[is_new] = first[is_new]
            numbers += here
        return FactCounts(numbers, firsts)

    def values(self, members: Members | None, counts: FactCounts) -> Pieces:
        """Return the values that enter the mean of some rows.

        Args:
            counts: of these rows.
        """

        def read() -> Iterator[Floats]:
            column: CodedNumbers = self.entered.column
            for rows, chosen in _chosen(members, len(self.facts)):
                values = column[rows][chosen]
                yield values[~np.isnan(values)]

        return Pieces(counts.number(IS_SCORED), read)

    def positions(self, members: Members | None, *, are_scored: bool = False) -> list[int]:
        """Return the positions of some rows, or of those that enter the mean."""
        found: list[int] = []
        for rows, chosen in _chosen(members, len(self.facts)):
            places = np.arange(rows.start, rows.stop)[chosen]
            found += (places[IS_SCORED[self.facts[places]]] if are_scored else places).tolist()
        return found


def _chosen(members: Members | None, count: int) -> Iterator[tuple[slice, Any]]:
    """Yield each piece of the rows of a table, and the index of the chosen ones within it."""
    for rows in pieces_of(count):
        if members is None:
            yield rows, slice(None)
        elif members.dtype == np.bool_:
            yield rows, members[rows]
        else:
            first, last = np.searchsorted(members, (rows.start, rows.stop))
            yield rows, members[first:last] - rows.start


def members_of(labels: Sequence[str]) -> Iterator[tuple[str, Members]]:
    """Yield each label and the rows that have it, in order of first occurrence."""
    different, codes = labels.codes if isinstance(labels, Coded) else Coded(labels).codes
    in_order = codes[first_places(codes, len(different))].tolist()
    if len(different) <= _FEW_LABELS:
        yield from ((different[code], codes == code) for code in in_order)
        return
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes, minlength=len(different)))
    yield from ((different[code], order[ends[code - 1] if code else 0 : ends[code]]) for code in in_order)
