"""Two tables by one scorer, compared row by row: difficult rows are difficult for both.

Rows are paired if they have the same key; in a batch with several settings also the same values on its other axes,
and with repeated rows the same epoch. The pairs of one key enter the figures with their mean.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean as mean
from typing import Final

import numpy as np

from batchrun.errors import InputError
from batchrun.scoring.contender import Contender
from batchrun.scoring.intervals import Floats
from batchrun.scoring.power import Needs, RowsNeeded, needs
from batchrun.scoring.score_facts import PairingFacts
from batchrun.scoring.score_options import FailedAs
from batchrun.scoring.score_tally import PairKey
from batchrun.scoring.statistics import Difference, difference
from batchrun.scoring.summary import estimate_facts, scored_values
from batchrun.wording import rows_text

__all__ = ["DETECTABLE", "MAX_GROUPS", "Pairing", "mismatches", "pair"]

DETECTABLE = (0.01, 0.02, 0.05)

MAX_GROUPS: Final = 200
"""Values of a column up to which a pairing is broken down by it."""


@dataclass(frozen=True, slots=True)
class Pairing:
    """Two tables, or parts of one, by one scorer.

    Attributes:
        first, second: names of the tables.
        scorer: name of the scorer.
        pairs: rows with a score in both tables; the epochs of a row count once.
        expected: rows of the second table that should have a score, each epoch apart if both tables have epochs.
        unpaired: those of them that are not in the pairs: without a score in one of the tables, or missing in the
            first.
        means: means of the pairs' scores, first and second.
        difference: paired difference, second minus first.
        corrected_p: p-value after Holm's correction over all pairings of the comparison, by all scorers; for a group,
            over all groups of the comparison. The p-value itself if it is the only one.
        correlation: Pearson's correlation of the pairs' scores in the two tables (φ for scores of 0 and 1); None if it
            cannot be computed.
        better, worse: keys of the rows whose score rose, or fell, from the first table to the second.
        rows_needed: difference → rows that show it with a power of 80 %; empty for a group, and if the rows'
            differences do not vary.
        detectable: the smallest difference that these pairs show with a power of 80 %; None if they show none, and
            where `rows_needed` is empty.
        groups: column of `--by` → its value → the pairing of the rows with that value.
    """

    first: str
    second: str
    scorer: str
    pairs: int
    expected: int
    unpaired: int
    means: tuple[float, float] | None
    difference: Difference
    corrected_p: float | None
    correlation: float | None
    better: Sequence[str]
    worse: Sequence[str]
    rows_needed: Mapping[float, RowsNeeded]
    detectable: float | None
    groups: Mapping[str, Mapping[str, Pairing]] = field(default_factory=dict)

    def facts(self) -> PairingFacts:
        """Return the pairing as JSON."""
        return {
            "first": self.first,
            "second": self.second,
            "scorer": self.scorer,
            "pairs": self.pairs,
            "expected": self.expected,
            "unpaired": self.unpaired,
            "means": self.means,
            "difference": estimate_facts(self.difference.estimate),
            "test": self.difference.test,
            "p_value": self.difference.p_value,
            "corrected_p": self.corrected_p,
            "correlation": self.correlation,
            "better": list(self.better),
            "worse": list(self.worse),
            "rows_needed": {
                f"{size:g}": {"rows": each.rows, "low": each.low, "high": each.high}
                for size, each in self.rows_needed.items()
            },
            "detectable": self.detectable,
            "groups": {
                column: {label: each.facts() for label, each in labels.items()}
                for column, labels in self.groups.items()
            },
        }


def pair(
    first: Contender, second: Contender, scorer: str, failed_as: FailedAs, detectable: Sequence[float] = DETECTABLE
) -> Pairing:
    """Compare two tables by one scorer, over the rows that have a score in both; and within each group of `--by`.

    A row belongs to the group of the first table.

    Args:
        scorer: name of the scorer.
        failed_as: how failed rows count.
        detectable: differences for which the required number of rows is computed.

    Raises:
        InputError: the tables share no row.
    """
    first_keys, second_keys = _pair_keys(first, second)
    if not set(first_keys) & set(second_keys):
        raise InputError(_no_shared_row(first, second))
    rows = _PairedRows(
        first=_means_by_key(first_keys, scored_values(first.tally, scorer, failed_as)),
        second=_means_by_key(second_keys, scored_values(second.tally, scorer, failed_as)),
        expected={each for place, each in enumerate(second_keys) if second.tally.is_expected(scorer, place)},
        clusters=dict(zip(first.tally.keys, first.tally.clusters, strict=True)) if first.tally.clusters else None,
    )

    def compared(some: _PairedRows, sizes: Sequence[float] = ()) -> Pairing:
        return _pairing(first.name, second.name, scorer, some, sizes)

    groups: dict[str, dict[str, Pairing]] = {}
    for column, labels in first.tally.labels.items():
        members: dict[str, set[PairKey]] = defaultdict(set)
        for pair_key, label in zip(first_keys, labels, strict=True):
            members[label].add(pair_key)
        if len(members) <= MAX_GROUPS:
            groups[column] = {label: compared(rows.part(pair_keys)) for label, pair_keys in members.items()}
    return replace(compared(rows, detectable), groups=groups)


@dataclass(frozen=True, slots=True)
class _PairedRows:
    """The rows of two tables by their pair keys.

    Attributes:
        first, second: means of the rows with a score.
        expected: rows of the second table that should have a score.
        clusters: row id → cluster; None without clusters.
    """

    first: Mapping[PairKey, float]
    second: Mapping[PairKey, float]
    expected: set[PairKey]
    clusters: Mapping[str, str] | None

    def part(self, pair_keys: set[PairKey]) -> _PairedRows:
        """Return some of the rows."""

        def selected(means: Mapping[PairKey, float]) -> dict[PairKey, float]:
            return {each: mean for each, mean in means.items() if each in pair_keys}

        return _PairedRows(selected(self.first), selected(self.second), self.expected & pair_keys, self.clusters)


def _pairing(first: str, second: str, scorer: str, rows: _PairedRows, sizes: Sequence[float]) -> Pairing:
    shared: dict[str, list[PairKey]] = defaultdict(list)
    for pair_key in rows.first:
        if pair_key in rows.second:
            shared[pair_key.key].append(pair_key)
    keys = list(shared)
    a = np.asarray([mean(rows.first[each] for each in shared[key]) for key in keys], dtype=np.float64)
    b = np.asarray([mean(rows.second[each] for each in shared[key]) for key in keys], dtype=np.float64)
    clusters = None if rows.clusters is None else [rows.clusters[key] for key in keys]
    paired_difference = difference(a, b, clusters)
    needed = needs(a, b, paired_difference, clusters, sizes) if sizes else Needs()
    return Pairing(
        first=first,
        second=second,
        scorer=scorer,
        pairs=len(keys),
        expected=len(rows.expected),
        unpaired=sum(each not in rows.first or each not in rows.second for each in rows.expected),
        means=(float(a.mean()), float(b.mean())) if keys else None,
        difference=paired_difference,
        corrected_p=paired_difference.p_value,
        correlation=_correlation(a, b),
        better=[key for key, change in zip(keys, b - a, strict=True) if change > 0],
        worse=[key for key, change in zip(keys, b - a, strict=True) if change < 0],
        rows_needed=needed.rows,
        detectable=needed.detectable,
    )


def _correlation(a: Floats, b: Floats) -> float | None:
    """Return Pearson's correlation; None for fewer than two pairs, and if the scores of a table do not vary."""
    if len(a) < 2 or not np.ptp(a) or not np.ptp(b):
        return None
    return float(np.corrcoef(a, b)[0, 1])


def _pair_keys(first: Contender, second: Contender) -> tuple[list[PairKey], list[PairKey]]:
    """Return the pair keys of both tables. If no row is repeated, an epoch column means something else."""
    tallies = (first.tally, second.tally)
    repeated = any(len(set(tally.pair_keys(with_epochs=False))) < len(tally.keys) for tally in tallies)
    both = all(tally.epochs for tally in tallies)
    first_keys, second_keys = (tally.pair_keys(with_epochs=repeated and both) for tally in tallies)
    return first_keys, second_keys


def _no_shared_row(first: Contender, second: Contender) -> str:
    if set(first.tally.keys) & set(second.tally.keys):
        return f"{first.name} and {second.name} share keys, but no epoch or combination of settings of a key"
    return f"{first.name} and {second.name} share no key; is --key the right column?"


def _means_by_key(pair_keys: Sequence[PairKey], values: Sequence[float | None]) -> dict[PairKey, float]:
    """Return the mean score of the rows of each pair key; rows without a score are left out."""
    scores: dict[PairKey, list[float]] = defaultdict(list)
    for pair_key, value in zip(pair_keys, values, strict=True):
        if value is not None:
            scores[pair_key].append(value)
    return {pair_key: mean(values) for pair_key, values in scores.items()}


def mismatches(first: Contender, second: Contender) -> list[str]:
    """Return a line for each way in which the tables do not match: missing rows, and columns with different cells."""
    first_keys, second_keys = _pair_keys(first, second)
    first_rows = dict(zip(first_keys, first.tally.content_hashes, strict=True))
    second_rows = dict(zip(second_keys, second.tally.content_hashes, strict=True))
    lines = []
    for one, other, missing in (
        (first, second, first_rows.keys() - second_rows.keys()),
        (second, first, second_rows.keys() - first_rows.keys()),
    ):
        if missing:
            example = _row_name(min(missing))
            lines.append(f"{rows_text(len(missing))} of {one.name} not in {other.name}, such as {example}")
    shared = [pair_key for pair_key in first_rows if pair_key in second_rows]
    for place, column in enumerate(first.columns):
        if column not in second.columns:
            continue
        other_place = second.columns.index(column)
        differing = [each for each in shared if first_rows[each][place] != second_rows[each][other_place]]
        if differing:
            lines.append(
                f"{column!r} differs between {first.name} and {second.name} in {rows_text(len(differing))}, such as "
                f"{_row_name(differing[0])}: these rows did not answer the same question"
            )
    return lines


def _row_name(pair_key: PairKey) -> str:
    key, variant, epoch = pair_key
    details = [*variant, *([f"epoch {epoch}"] if epoch else [])]
    return f"{key} ({', '.join(details)})" if details else key
