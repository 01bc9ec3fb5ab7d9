"""Two tables by one scorer, compared row by row: difficult rows are difficult for both.

Rows are paired if they have the same key; in a batch with several settings also the same values on its other axes,
and with repeated rows the same epoch. The pairs of one key enter the figures with their mean.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean as mean

import numpy as np

from batchrun.errors import InputError
from batchrun.scoring.contender import Contender
from batchrun.scoring.score_facts import PairingFacts
from batchrun.scoring.score_options import FailedAs
from batchrun.scoring.score_tally import PairKey
from batchrun.scoring.statistics import Difference, difference, pairs_needed
from batchrun.scoring.summary import estimate_facts, scored_values
from batchrun.wording import rows_text

__all__ = ["DETECTABLE", "Pairing", "mismatches", "pair"]

DETECTABLE = (0.01, 0.02, 0.05)


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
        corrected_p: p-value after Holm's correction over all pairings of the scorer; the p-value itself for a single
            pairing.
        better, worse: keys of the rows whose score rose, or fell, from the first table to the second.
        rows_needed: difference → rows that would show it; empty if the rows' differences do not vary.
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
    better: Sequence[str]
    worse: Sequence[str]
    rows_needed: Mapping[float, int]

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
            "better": list(self.better),
            "worse": list(self.worse),
            "rows_needed": {f"{size:g}": rows for size, rows in self.rows_needed.items()},
        }


def pair(
    first: Contender, second: Contender, scorer: str, failed_as: FailedAs, detectable: Sequence[float] = DETECTABLE
) -> Pairing:
    """Compare two tables by one scorer, over the rows that have a score in both.

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
    first_means = _means_by_key(first_keys, scored_values(first.tally, scorer, failed_as))
    second_means = _means_by_key(second_keys, scored_values(second.tally, scorer, failed_as))
    shared: dict[str, list[PairKey]] = defaultdict(list)
    for pair_key in first_means:
        if pair_key in second_means:
            shared[pair_key.key].append(pair_key)
    expected = {each for place, each in enumerate(second_keys) if second.tally.is_expected(scorer, place)}
    keys = list(shared)
    a = np.asarray([mean(first_means[each] for each in shared[key]) for key in keys], dtype=np.float64)
    b = np.asarray([mean(second_means[each] for each in shared[key]) for key in keys], dtype=np.float64)
    tally = first.tally
    cluster_of = dict(zip(tally.keys, tally.clusters, strict=True)) if tally.clusters else None
    paired_difference = difference(a, b, None if cluster_of is None else [cluster_of[key] for key in keys])
    deviation = paired_difference.deviation
    return Pairing(
        first=first.name,
        second=second.name,
        scorer=scorer,
        pairs=len(keys),
        expected=len(expected),
        unpaired=sum(each not in first_means or each not in second_means for each in expected),
        means=(float(a.mean()), float(b.mean())) if keys else None,
        difference=paired_difference,
        corrected_p=paired_difference.p_value,
        better=[key for key, change in zip(keys, b - a, strict=True) if change > 0],
        worse=[key for key, change in zip(keys, b - a, strict=True) if change < 0],
        rows_needed={size: pairs_needed(deviation, size) for size in detectable} if deviation else {},
    )


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
