"""Tables over the same rows, or parts of one table, set side by side, in pairs: hard rows are hard for both.

What is paired are rows with the same key, of a batch with several settings also with the same values on its
other axes, and where rows are repeated with the same epoch. A key's pairs enter the figures with their mean.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import fmean as mean
from typing import Any

import numpy as np

from batchrun.errors import InputError
from batchrun.scoring.score_options import FailedAs
from batchrun.scoring.score_tally import Mark, ScoreTally
from batchrun.scoring.scorers.base import is_missing
from batchrun.scoring.statistics import Difference, difference, holm, pairs_needed
from batchrun.scoring.summary import ScoreSummary, doubled_epoch, estimate_facts, scored_values, summarize
from batchrun.scoring.table import ScoredTable
from batchrun.wording import rows_text

__all__ = ["Comparison", "Contender", "CostComparison", "Pairing", "compare", "compare_parts", "contender", "pair"]

DETECTABLE = (0.01, 0.02, 0.05)
_MOST_PARTS = 50


@dataclass(frozen=True, slots=True)
class CostComparison:
    """What a table took, over all its rows.

    Attributes:
        rows: all.
        cost_usd: sum; None where no row's cost is known.
        priced: rows whose cost is known.
        median_s, p95_s: of the rows' durations in seconds; None where none is known.
        tokens: sum over the rows that tell; None where none does.
    """

    rows: int
    cost_usd: float | None
    priced: int
    median_s: float | None
    p95_s: float | None
    tokens: float | None


@dataclass(frozen=True, slots=True)
class Contender:
    """A table that has been scored, or a part of one, to be compared.

    Attributes:
        name: the file, as given; of a part, its value in the column that splits the table.
        columns: the columns that batchrun did not add, in the order of the tally's `contents`.
        tally: what was kept of it; its keys are filled.
        summaries: scorer by scorer.
        costs: what it took.
    """

    name: str
    columns: tuple[str, ...]
    tally: ScoreTally
    summaries: Sequence[ScoreSummary]
    costs: CostComparison


@dataclass(frozen=True, slots=True)
class Pairing:
    """Two tables, or parts of one, by one scorer.

    Attributes:
        first, second: names of the tables.
        scorer: name of the scorer.
        pairs: rows with a score in both; the epochs of a row are one.
        means: of the pairs' scores, first and second.
        difference: second minus first.
        corrected_p: the p-value after Holm's correction over all pairings of the scorer; the p-value itself if
            there is but one.
        better, worse: keys of the rows whose score rose, and fell, from the first table to the second.
        needed: difference → rows that would show it; empty if the rows' differences have no spread.
    """

    first: str
    second: str
    scorer: str
    pairs: int
    means: tuple[float, float] | None
    difference: Difference
    corrected_p: float | None
    better: Sequence[str]
    worse: Sequence[str]
    needed: Mapping[float, int]

    def facts(self) -> dict[str, Any]:
        """The pairing for machines."""
        return {
            "first": self.first,
            "second": self.second,
            "scorer": self.scorer,
            "pairs": self.pairs,
            "means": self.means,
            "difference": estimate_facts(self.difference.estimate),
            "test": self.difference.test,
            "p_value": self.difference.p_value,
            "corrected_p": self.corrected_p,
            "better": list(self.better),
            "worse": list(self.worse),
            "rows_needed": {f"{wanted:g}": rows for wanted, rows in self.needed.items()},
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """Several tables, or the parts of one, compared.

    Attributes:
        contenders: the tables.
        pairings: each pair of tables by each scorer; of the parts of one, each with the first of `contenders`.
        warnings: what makes the comparison less than fair, a line each.
        split: the column in which the parts of one table differ.
    """

    contenders: Sequence[Contender]
    pairings: Sequence[Pairing]
    warnings: Sequence[str]
    split: str | None = None

    def facts(self) -> dict[str, Any]:
        """The comparison for machines."""
        return {
            "split": self.split,
            "tables": [
                {
                    "table": each.name,
                    "scores": [summary.facts() for summary in each.summaries],
                    "rows": each.costs.rows,
                    "cost_usd": each.costs.cost_usd,
                    "rows_with_cost": each.costs.priced,
                    "median_duration_s": each.costs.median_s,
                    "p95_duration_s": each.costs.p95_s,
                    "total_tokens": each.costs.tokens,
                }
                for each in self.contenders
            ],
            "pairings": [each.facts() for each in self.pairings],
            "warnings": list(self.warnings),
        }


def contender(table: ScoredTable, failed_as: FailedAs, tally: ScoreTally | None = None) -> Contender:
    """Score a table for a comparison.

    Args:
        table: with a key column.
        failed_as: what failed rows count as.
        tally: what was kept (with its contents) when the table was scored before; None scores it.

    Raises:
        InputError: a row without a key, or what a scorer refuses.
    """
    tally = table.tally(compared=True) if tally is None else tally
    return Contender(table.source.name, table.own_columns, tally, summarize(tally, failed_as), _costs(tally))


def compare(
    contenders: Sequence[Contender], failed_as: FailedAs, detectable: Sequence[float] = DETECTABLE
) -> Comparison:
    """Every pair of tables by every scorer, the p-values of each scorer corrected for there being several.

    Args:
        contenders: two or more, scored by the same scorers.
        failed_as: what failed rows count as.
        detectable: differences for which to tell the rows needed.

    Raises:
        InputError: two tables share no row.
    """
    return _compared(contenders, list(combinations(contenders, 2)), failed_as, detectable)


def compare_parts(
    table: ScoredTable, failed_as: FailedAs, detectable: Sequence[float] = DETECTABLE, baseline: str | None = None
) -> Comparison:
    """The rows of a table that differ in the column `split`: each value against the first, or against `baseline`.

    Columns that have one value within each part, such as a prompt's text beside its name, belong to what is compared.

    Args:
        table: with `columns.split`; its rows are paired by their key, or where none is named by all that they ask.
        failed_as: what failed rows count as.
        detectable: differences for which to tell the rows needed.
        baseline: a value of the column.

    Raises:
        InputError: the column has one value, or very many, or not that of the baseline; or two parts share no row.
    """
    column = table.columns.split or ""
    tally = table.tally(compared=True)
    # The values of an axis are known for each row, and nothing is one of them.
    kept = range(len(tally.splits)) if column in table.axis_columns else _filled(tally.splits)
    positions: dict[str, list[int]] = defaultdict(list)
    for position in kept:
        positions[tally.splits[position]].append(position)
    if not 2 <= len(positions) <= _MOST_PARTS:
        raise InputError(
            f"--split {column}: 2 to {_MOST_PARTS} different values are expected, {table.source.name} has "
            f"{len(positions):,}"
        )
    if baseline is not None and baseline not in positions:
        raise InputError(f"--baseline {baseline}: the values of {column!r} are {', '.join(map(repr, positions))}")
    values = list(positions)
    values.sort(key=lambda value: value != baseline)
    parts = [(value or "(empty)", tally.part(positions[value])) for value in values]
    columns = _varying(table.own_columns, [part for _, part in parts])
    contenders = [Contender(name, columns, part, summarize(part, failed_as), _costs(part)) for name, part in parts]
    first, *others = contenders
    found = _compared(contenders, [(first, other) for other in others], failed_as, detectable)
    missing = len(tally.splits) - len(kept)
    unplaced = [f"{rows_text(missing)} not compared, without a value in {column!r}"] if missing else []
    return replace(found, warnings=[*unplaced, *found.warnings], split=column)


def _filled(cells: Sequence[str]) -> list[int]:
    return [position for position, cell in enumerate(cells) if not is_missing(cell)]


def _varying(columns: Sequence[str], parts: Sequence[ScoreTally]) -> tuple[str, ...]:
    """The columns with several values within a part; the parts' `contents` are cut to them."""
    places = [
        place for place in range(len(columns)) if any(len({row[place] for row in part.contents}) > 1 for part in parts)
    ]
    for part in parts:
        part.contents = [tuple(row[place] for place in places) for row in part.contents]
    return tuple(columns[place] for place in places)


def _compared(
    contenders: Sequence[Contender],
    pairs: Sequence[tuple[Contender, Contender]],
    failed_as: FailedAs,
    detectable: Sequence[float],
) -> Comparison:
    warnings = [
        f"several rows of {each.name} are {doubled}: they enter with their mean"
        for each in contenders
        if (doubled := doubled_epoch(each.tally)) is not None
    ]
    for first, second in pairs:
        warnings += _differences(first, second)
    pairings: list[Pairing] = []
    for scorer in contenders[0].tally.values:
        found = [pair(*two, scorer, failed_as, detectable) for two in pairs]
        tested = [index for index, each in enumerate(found) if each.difference.p_value is not None]
        corrected = dict(zip(tested, holm([found[index].difference.p_value or 0.0 for index in tested]), strict=True))
        pairings += [replace(each, corrected_p=corrected.get(index)) for index, each in enumerate(found)]
    return Comparison(contenders, pairings, warnings)


def pair(
    first: Contender, second: Contender, scorer: str, failed_as: FailedAs, detectable: Sequence[float] = DETECTABLE
) -> Pairing:
    """Two tables by one scorer, over the rows that have a score in both; arguments as for `compare`.

    Raises:
        InputError: the tables share no row.
    """
    marks, others = _marks(first, second)
    if not set(marks) & set(others):
        raise InputError(_nothing_shared(first, second))
    one = _by_mark(marks, scored_values(first.tally, scorer, failed_as))
    other = _by_mark(others, scored_values(second.tally, scorer, failed_as))
    shared: dict[str, list[Mark]] = defaultdict(list)
    for mark in one:
        if mark in other:
            shared[mark[0]].append(mark)
    keys = list(shared)
    a = np.asarray([mean(one[mark] for mark in shared[key]) for key in keys], dtype=np.float64)
    b = np.asarray([mean(other[mark] for mark in shared[key]) for key in keys], dtype=np.float64)
    homes = dict(zip(first.tally.keys, first.tally.clusters, strict=True)) if first.tally.clusters else None
    found = difference(a, b, None if homes is None else [homes[key] for key in keys])
    spread = found.deviation
    return Pairing(
        first=first.name,
        second=second.name,
        scorer=scorer,
        pairs=len(keys),
        means=(float(a.mean()), float(b.mean())) if keys else None,
        difference=found,
        corrected_p=found.p_value,
        better=[key for key, change in zip(keys, b - a, strict=True) if change > 0],
        worse=[key for key, change in zip(keys, b - a, strict=True) if change < 0],
        needed={wanted: pairs_needed(spread, wanted) for wanted in detectable} if spread else {},
    )


def _marks(first: Contender, second: Contender) -> tuple[list[Mark], list[Mark]]:
    """What rows are paired by. Where no row is repeated, a column of epochs means something else."""
    tallies = (first.tally, second.tally)
    repeated = any(len(set(tally.marks(epochs=False))) < len(tally.keys) for tally in tallies)
    both = all(tally.epochs for tally in tallies)
    one, other = (tally.marks(epochs=repeated and both) for tally in tallies)
    return one, other


def _nothing_shared(first: Contender, second: Contender) -> str:
    if set(first.tally.keys) & set(second.tally.keys):
        return f"{first.name} and {second.name} have keys in common, but neither epochs nor settings of them"
    return f"{first.name} and {second.name} have no key in common; is --key the right column?"


def _by_mark(marks: Sequence[Mark], values: Sequence[float | None]) -> dict[Mark, float]:
    """Mark → mean score of its rows that have one."""
    found: dict[Mark, list[float]] = defaultdict(list)
    for mark, value in zip(marks, values, strict=True):
        if value is not None:
            found[mark].append(value)
    return {mark: mean(values) for mark, values in found.items()}


def _differences(first: Contender, second: Contender) -> list[str]:
    """What the tables do not share: rows, and what stands in the columns of those that they share."""
    marks, others = _marks(first, second)
    one = dict(zip(marks, first.tally.contents, strict=True))
    other = dict(zip(others, second.tally.contents, strict=True))
    lines = []
    for here, there, lonely in ((first, second, one.keys() - other.keys()), (second, first, other.keys() - one.keys())):
        if lonely:
            lines.append(f"{rows_text(len(lonely))} of {here.name} not in {there.name}, such as {_named(min(lonely))}")
    shared = [mark for mark in one if mark in other]
    for place, column in enumerate(first.columns):
        if column not in second.columns:
            continue
        elsewhere = second.columns.index(column)
        differing = [mark for mark in shared if one[mark][place] != other[mark][elsewhere]]
        if differing:
            lines.append(
                f"{column!r} differs between {first.name} and {second.name} in {rows_text(len(differing))}, such as "
                f"{_named(differing[0])}: there they did not answer the same"
            )
    return lines


def _named(mark: Mark) -> str:
    key, variant, epoch = mark
    aside = [*variant, *([f"epoch {epoch}"] if epoch else [])]
    return f"{key} ({', '.join(aside)})" if aside else key


def _costs(tally: ScoreTally) -> CostComparison:
    costs = [cost for cost, _, _ in tally.facts if cost is not None]
    durations = [duration for _, duration, _ in tally.facts if duration is not None]
    tokens = [count for _, _, count in tally.facts if count is not None]
    median_s, p95_s = np.quantile(durations, [0.5, 0.95]).tolist() if durations else (None, None)
    return CostComparison(
        rows=len(tally.kinds),
        cost_usd=sum(costs) if costs else None,
        priced=len(costs),
        median_s=median_s,
        p95_s=p95_s,
        tokens=sum(tokens) if tokens else None,
    )
