"""The answers of two tables, or of the parts of one, to the same rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from batchrun.errors import InputError
from batchrun.scoring.score_tally import PairKey, ScoreTally
from batchrun.scoring.scorers.base import Sample, is_blank
from batchrun.scoring.table import ScoredTable

__all__ = ["Contest", "contests"]


@dataclass(frozen=True, slots=True)
class Contest:
    """Two tables whose answers are judged.

    Attributes:
        first, second: names of the tables, or values of the column that splits one.
        pairs: rows with an answer in both, and both samples; the questions are those of the first.
        unanswered: rows of both tables without an answer, or with a blank one, in at least one of them.
        unshared: rows that are in one of the tables only.
    """

    first: str
    second: str
    pairs: Mapping[PairKey, tuple[Sample, Sample]]
    unanswered: int
    unshared: int


def contests(tables: Sequence[ScoredTable], baseline: str | None) -> Iterator[Contest]:
    """Yield each pair of tables, or of the parts of a single one; with a baseline, each other part against it.

    Raises:
        InputError: two tables share no row, several rows have the same key, or there are no parts.
    """
    contestants = [each for table in tables for each in _contestants(table)]
    if len(contestants) < 2:
        raise InputError(f"--split: {tables[0].source.name} has a single value in that column: nothing to compare")
    names = [name for name, _ in contestants]
    if baseline is not None and baseline not in names:
        raise InputError(f"--baseline {baseline}: the values are {', '.join(map(repr, names))}")
    for one, other in combinations(contestants, 2):
        if baseline in (None, one[0]):
            yield _contest(*one, *other)
        elif baseline == other[0]:
            yield _contest(*other, *one)


_Answers = Mapping[PairKey, Sample | None]
"""The rows of a contestant; None for a row without a visible answer."""


def _contestants(table: ScoredTable) -> list[tuple[str, _Answers]]:
    """Return the table's name and rows; if it is split, those of each part, in order of first occurrence."""
    tally = ScoreTally()
    rows = [row for row, _ in replace(table, scorers=()).scored(tally)]
    samples = [table.sample(row) if kind == "answered" else None for row, kind in zip(rows, tally.kinds, strict=True)]
    positions: dict[str, list[int]] = {}
    for position, kind in enumerate(tally.kinds):
        part = tally.splits[position] if tally.splits else table.source.name
        if kind != "skipped":
            positions.setdefault(part or "(empty)", []).append(position)
    found: list[tuple[str, _Answers]] = []
    for name, places in positions.items():
        keys = tally.pair_keys(places, with_epochs=_is_repeated(tally, places))
        answers: dict[PairKey, Sample | None] = {}
        for key, place in zip(keys, places, strict=True):
            if key in answers:
                raise InputError(
                    f"compare --judge: several rows of {name} have the key {key.key!r}; name the column that "
                    "distinguishes them with --epochs-column COLUMN"
                )
            sample = samples[place]
            answers[key] = None if sample is None or is_blank(sample.answer) else sample
        found.append((name, answers))
    return found


def _is_repeated(tally: ScoreTally, places: Sequence[int]) -> bool:
    """Return whether rows have epochs. If no row is repeated, an epoch column means something else."""
    keys = tally.pair_keys(places, with_epochs=False)
    return bool(tally.epochs) and len(set(keys)) < len(keys)


def _contest(first: str, first_rows: _Answers, second: str, second_rows: _Answers) -> Contest:
    shared = [key for key in first_rows if key in second_rows]
    if not shared:
        raise InputError(f"{first} and {second} share no key; is --key the right column?")
    pairs = {}
    for key in shared:
        one, other = first_rows[key], second_rows[key]
        if one is not None and other is not None:
            pairs[key] = (one, other)
    unshared = len(first_rows) + len(second_rows) - 2 * len(shared)
    return Contest(first, second, pairs, len(shared) - len(pairs), unshared)
