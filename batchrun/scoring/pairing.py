"""Two tables by one scorer, compared row by row: difficult rows are difficult for both.

The pairs of one key enter the figures with their mean.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean as mean
from typing import Final

import numpy as np
import numpy.typing as npt

from batchrun.errors import InputError
from batchrun.scoring.compact import CodedNumbers
from batchrun.scoring.intervals import Floats
from batchrun.scoring.paired_tables import PairedTables, are_in
from batchrun.scoring.pieces import Pieces, pieces_of
from batchrun.scoring.power import Needs, RowsNeeded, needs
from batchrun.scoring.row_codes import Codes, first_places, taken
from batchrun.scoring.score_facts import PairingFacts
from batchrun.scoring.score_options import FailedAs
from batchrun.scoring.scored_rows import members_of
from batchrun.scoring.statistics import Difference, difference_of
from batchrun.scoring.summary import estimate_facts, scored_values

__all__ = ["DETECTABLE", "MAX_GROUPS", "Pairing", "pair"]

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


def pair(tables: PairedTables, scorer: str, failed_as: FailedAs, detectable: Sequence[float] = DETECTABLE) -> Pairing:
    """Compare two tables by one scorer, over the rows that have a score in both; and within each group of `--by`.

    A row belongs to the group of the first table.

    Args:
        scorer: name of the scorer.
        failed_as: how failed rows count.
        detectable: differences for which the required number of rows is computed.

    Raises:
        InputError: the tables share no row.
    """
    if not tables.share_a_row:
        raise InputError(_no_shared_row(tables))
    rows = _ScoredPairs.of(tables, scorer, failed_as)
    groups: dict[str, dict[str, Pairing]] = {}
    for column, labels in tables.first.tally.labels.items():
        if len(set(labels)) <= MAX_GROUPS:
            groups[column] = {
                label: rows.compared(tables.are_in_first(members), ()) for label, members in members_of(labels)
            }
    return replace(rows.compared(None, detectable), groups=groups)


@dataclass(frozen=True, slots=True)
class _ScoredPairs:
    """The rows of two tables by one scorer; each array has an entry for each pair key.

    Attributes:
        scorer: name of the scorer.
        order: the pair keys with a score in the first table, by their first occurrence.
        first, second: means of the rows with a score; NaN for others.
        expected: which are of a row of the second table that should have a score.
    """

    tables: PairedTables
    scorer: str
    order: Codes
    first: CodedNumbers
    second: CodedNumbers
    expected: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, tables: PairedTables, scorer: str, failed_as: FailedAs) -> _ScoredPairs:
        """Return the rows of two tables."""
        entered = [scored_values(each.tally, scorer, failed_as) for each in (tables.first, tables.second)]
        first, second = (numbers.column for numbers in entered)
        scored = tables.first_codes[first.are_known()]
        return cls(
            tables=tables,
            scorer=scorer,
            order=taken(scored, first_places(scored, tables.size)),
            first=_means(tables.first_codes, first, tables.size),
            second=_means(tables.second_codes, second, tables.size),
            expected=are_in(tables.second_codes[tables.second.tally.expected(scorer)], tables.size),
        )

    def compared(self, members: npt.NDArray[np.bool_] | None, sizes: Sequence[float]) -> Pairing:
        """Return the pairing of some rows.

        Args:
            members: the pair keys; None for all.
            sizes: differences for which the required number of rows is computed.
        """
        order, expected = self.order, self.expected
        if members is not None:
            order, expected = order[taken(members, order)], expected & members
        second_known = self.second.are_known()
        keys, pairs = self._by_key(order[taken(second_known, order)])
        tally = self.tables.first.tally
        rows = taken(self.tables.rows_of_keys, keys)
        clusters = [tally.clusters[row] for row in rows.tolist()] if tally.clusters else None
        paired_difference = difference_of(pairs, clusters)
        needed = needs(pairs, paired_difference, clusters, sizes) if sizes else Needs()
        sums = pairs.sums(lambda both: both[0], lambda both: both[1])
        return Pairing(
            first=self.tables.first.name,
            second=self.tables.second.name,
            scorer=self.scorer,
            pairs=len(keys),
            expected=int(np.count_nonzero(expected)),
            unpaired=int(np.count_nonzero(expected & ~(self.first.are_known() & second_known))),
            means=(sums[0] / len(keys), sums[1] / len(keys)) if len(keys) else None,
            difference=paired_difference,
            corrected_p=paired_difference.p_value,
            correlation=_correlation(pairs),
            better=[tally.keys[row] for row in _rows_where(lambda both: both[1] > both[0], pairs, rows)],
            worse=[tally.keys[row] for row in _rows_where(lambda both: both[1] < both[0], pairs, rows)],
            rows_needed=needed.rows,
            detectable=needed.detectable,
        )

    def _by_key(self, shared: Codes) -> tuple[Codes, Pieces]:
        """Return the keys of pairs, in their order, and the means of the pairs of each in both tables."""
        of_pairs, size = self.tables.keys_of_pairs, self.tables.key_count
        if of_pairs is None:
            return shared, _both(self.first, self.second, shared)
        of_shared = taken(of_pairs, shared)
        keys = taken(of_shared, first_places(of_shared, size))
        first, second = (_means(of_shared, CodedNumbers(each[shared]), size) for each in (self.first, self.second))
        return keys, _both(first, second, keys)


def _both(first: CodedNumbers, second: CodedNumbers, places: Codes) -> Pieces:
    """Return the numbers of two columns at these places."""
    return Pieces(
        len(places),
        lambda: (np.stack([first[places[piece]], second[places[piece]]]) for piece in pieces_of(len(places))),
    )


def _rows_where(holds: Callable[[Floats], npt.NDArray[np.bool_]], pairs: Pieces, rows: Codes) -> Iterator[int]:
    """Yield the rows of the pairs for which something holds."""
    begin = 0
    for both in pairs:
        yield from rows[begin : begin + both.shape[-1]][holds(both)].tolist()
        begin += both.shape[-1]


def _means(codes: Codes, values: CodedNumbers, size: int) -> CodedNumbers:
    """Return the mean of the values of each number, without NaN; NaN for a number without values.

    Args:
        codes: the number of each value.
        size: one more than the largest number.
    """
    scored = codes[values.are_known()]
    if int(np.count_nonzero(are_in(scored, size))) == len(scored):
        return values.scattered(codes, size)
    numbers = values[:]
    places = np.flatnonzero(values.are_known())
    means = np.full(size, np.nan)
    means[scored] = numbers[places]
    repeated = np.bincount(scored, minlength=size) > 1
    groups: dict[int, list[float]] = defaultdict(list)
    for place in places[repeated[scored]].tolist():
        groups[int(codes[place])].append(float(numbers[place]))
    for code, some in groups.items():
        means[code] = mean(some)  # of exact sums, in any order
    return CodedNumbers(means)


def _correlation(pairs: Pieces) -> float | None:
    """Return Pearson's correlation; None for fewer than two pairs, and if the scores of a table do not vary.

    It is `numpy.corrcoef`, without its copies: 16 bytes a pair.
    """
    count = len(pairs)
    if count < 2:
        return None
    both = np.empty((2, count))
    begin = 0
    for piece in pairs:
        both[:, begin : begin + piece.shape[-1]] = piece
        begin += piece.shape[-1]
    if not np.ptp(both[0]) or not np.ptp(both[1]):
        return None
    both -= both.mean(axis=1)[:, np.newaxis]
    covariance = np.dot(both, both.T) * np.true_divide(1, count - 1)
    deviations = np.sqrt(np.diag(covariance))
    covariance /= deviations[:, np.newaxis]
    covariance /= deviations[np.newaxis, :]
    return float(np.clip(covariance[0, 1], -1, 1))


def _no_shared_row(tables: PairedTables) -> str:
    first, second = tables.first, tables.second
    if not set(first.tally.keys).isdisjoint(second.tally.keys):
        return f"{first.name} and {second.name} share keys, but no epoch or combination of settings of a key"
    return f"{first.name} and {second.name} share no key; is --key the right column?"
