"""Tables over the same rows, set side by side: paired by key, so that hard rows are hard for both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from batchrun.errors import InputError
from batchrun.scoring.statistics import Difference, difference, holm, pairs_needed
from batchrun.scoring.summary import FailedAs, Summary, estimate_facts, scored_values, summarize
from batchrun.scoring.table import ScoredTable, Tally

__all__ = ["Comparison", "Contender", "Costs", "Pairing", "compare", "contender", "pair"]

DETECTABLE = (0.01, 0.02, 0.05)


@dataclass(frozen=True, slots=True)
class Costs:
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
    """A table that has been scored, to be compared.

    Attributes:
        name: the file, as given.
        columns: the columns that batchrun did not add, in the order of the tally's `contents`.
        tally: what was kept of it; its keys are filled.
        summaries: scorer by scorer.
        costs: what it took.
    """

    name: str
    columns: tuple[str, ...]
    tally: Tally
    summaries: Sequence[Summary]
    costs: Costs


@dataclass(frozen=True, slots=True)
class Pairing:
    """Two tables by one scorer.

    Attributes:
        first, second: names of the tables.
        scorer: name of the scorer.
        pairs: rows with a score in both.
        means: of the pairs' scores, first and second.
        difference: second minus first.
        corrected_p: the p-value after Holm's correction over all pairs of tables; the p-value itself if
            there are but two tables.
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
    """Several tables compared.

    Attributes:
        contenders: the tables.
        pairings: each pair of tables by each scorer.
        warnings: what makes the comparison less than fair, a line each.
    """

    contenders: Sequence[Contender]
    pairings: Sequence[Pairing]
    warnings: Sequence[str]

    def facts(self) -> dict[str, Any]:
        """The comparison for machines."""
        return {
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


def contender(table: ScoredTable, failed_as: FailedAs, tally: Tally | None = None) -> Contender:
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
        InputError: two tables share no key.
    """
    pairings: list[Pairing] = []
    warnings: list[str] = []
    for first, second in combinations(contenders, 2):
        warnings += _differences(first, second)
    for scorer in contenders[0].tally.values:
        found = [pair(*two, scorer, failed_as, detectable) for two in combinations(contenders, 2)]
        tested = [index for index, each in enumerate(found) if each.difference.p_value is not None]
        corrected = dict(zip(tested, holm([found[index].difference.p_value or 0.0 for index in tested]), strict=True))
        pairings += [replace(each, corrected_p=corrected.get(index)) for index, each in enumerate(found)]
    return Comparison(contenders, pairings, warnings)


def pair(
    first: Contender, second: Contender, scorer: str, failed_as: FailedAs, detectable: Sequence[float] = DETECTABLE
) -> Pairing:
    """Two tables by one scorer, over the rows that have a score in both; arguments as for `compare`.

    Raises:
        InputError: the tables share no key.
    """
    if not set(first.tally.keys) & set(second.tally.keys):
        raise InputError(f"{first.name} and {second.name} have no key in common; is --key the right column?")
    one, other = (_by_key(each.tally, scorer, failed_as) for each in (first, second))
    keys = [key for key in one if key in other]
    a = np.asarray([one[key] for key in keys], dtype=np.float64)
    b = np.asarray([other[key] for key in keys], dtype=np.float64)
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


def _by_key(tally: Tally, scorer: str, failed_as: FailedAs) -> dict[str, float]:
    """Key → mean score of its rows that have one."""
    sums: dict[str, tuple[float, int]] = {}
    for key, value in zip(tally.keys, scored_values(tally, scorer, failed_as), strict=True):
        if value is not None:
            total, count = sums.get(key, (0.0, 0))
            sums[key] = total + value, count + 1
    return {key: total / count for key, (total, count) in sums.items()}


def _differences(first: Contender, second: Contender) -> list[str]:
    """What the tables do not share: rows, and what stands in the columns of those that they share."""
    one, other = (dict(zip(each.tally.keys, each.tally.contents, strict=True)) for each in (first, second))
    lines = []
    for here, there, keys in ((first, second, one.keys() - other.keys()), (second, first, other.keys() - one.keys())):
        if keys:
            lines.append(f"{len(keys):,} rows of {here.name} are not in {there.name}, such as {min(keys)}")
    shared = [key for key in one if key in other]
    for place, column in enumerate(first.columns):
        if column not in second.columns:
            continue
        elsewhere = second.columns.index(column)
        differing = [key for key in shared if one[key][place] != other[key][elsewhere]]
        if differing:
            lines.append(
                f"{column!r} differs between {first.name} and {second.name} in {len(differing):,} rows, such as "
                f"{differing[0]}: there they did not answer the same"
            )
    return lines


def _costs(tally: Tally) -> Costs:
    costs = [cost for cost, _, _ in tally.facts if cost is not None]
    durations = [duration for _, duration, _ in tally.facts if duration is not None]
    tokens = [count for _, _, count in tally.facts if count is not None]
    median_s, p95_s = np.quantile(durations, [0.5, 0.95]).tolist() if durations else (None, None)
    return Costs(
        rows=len(tally.kinds),
        cost_usd=sum(costs) if costs else None,
        priced=len(costs),
        median_s=median_s,
        p95_s=p95_s,
        tokens=sum(tokens) if tokens else None,
    )
