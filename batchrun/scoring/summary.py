"""The figures of a scored table: overall, by group and over epochs; with the rows that are left out, and why."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from batchrun.errors import InputError
from batchrun.scoring.compact import Numbers
from batchrun.scoring.pieces import Pieces, pieces_of
from batchrun.scoring.row_codes import has_repeats
from batchrun.scoring.score_facts import EstimateFacts, FiguresFacts, ScoreFacts
from batchrun.scoring.score_options import FailedAs
from batchrun.scoring.score_tally import PairKey, ScoreTally
from batchrun.scoring.scored_rows import (
    IS_ANSWERED,
    IS_CUT_SHORT,
    IS_EXPECTED,
    IS_FAILED,
    IS_JUDGEABLE,
    IS_JUDGED,
    IS_SCORED,
    IS_SKIPPED,
    IS_UNFINISHED,
    CountedRows,
    FactCounts,
    Flagged,
    Members,
    members_of,
)
from batchrun.scoring.statistics import Estimate, estimate, pass_at_k, pass_hat_k
from batchrun.scoring.variance import VarianceSplit, variance_split

__all__ = [
    "Epochs",
    "Figures",
    "Missing",
    "ScoreSummary",
    "clusters_of",
    "duplicate_epoch",
    "members_of",
    "scored_values",
    "summarize",
]

Missing: TypeAlias = Literal["failed", "unfinished", "unjudged", "cut_short"]
"""Why a row that should have a score does not count as scored."""


@dataclass(frozen=True, slots=True)
class Epochs:
    """Figures over repeated rows whose scores are 0 or 1.

    Attributes:
        keys: number of different rows; the same row with two models counts twice.
        rows: number of different rows of the input.
        axes: columns of the settings with which each of these rows was run; () if there is one setting.
        fewest, most: scored epochs of a row.
        pass_at_k: k → mean of pass@k over the rows with at least k epochs.
        pass_hat_k: k → mean of pass^k over the same rows.
    """

    keys: int
    rows: int
    axes: tuple[str, ...]
    fewest: int
    most: int
    pass_at_k: Mapping[int, Estimate]
    pass_hat_k: Mapping[int, Estimate]


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one scorer over some rows.

    Attributes:
        estimate: the mean with its interval.
        rows: number of rows, without skipped ones.
        failed: failed rows; in the mean as 0 or not at all, by `ScoreSummary.failed_as`.
        failed_without_target: those of them without the target that the scorer needs; never in the mean.
        unfinished: rows without an answer yet; never in the mean.
        unjudged: answered rows that the scorer could not judge; never in the mean.
        skipped: rows that were not selected to run; never in the mean.
        cut_short: rows with a score whose answer was cut short; they are in the mean.
        expected: rows that should have a score, see `ScoreTally.is_expected`.
        missing: those of them that have no score, or one of an answer that was cut short, by their kind; without
            kinds that do not occur. A failed row that counts as 0 has a score.
        epochs: None if no row is repeated, if a score is neither 0 nor 1, or if several rows have the same key and
            epoch, so that they differ in more than the repetition.
        variance: variance between and within rows; None if no row is repeated, if all scores are equal, or if rows
            were run with several settings.
    """

    estimate: Estimate
    rows: int
    failed: int
    failed_without_target: int
    unfinished: int
    unjudged: int
    skipped: int
    cut_short: int
    expected: int
    missing: Mapping[Missing, int]
    epochs: Epochs | None = None
    variance: VarianceSplit | None = None

    @property
    def n(self) -> int:
        """Number of rows in the mean."""
        return self.estimate.n

    @property
    def mean(self) -> float | None:
        """The mean score, from 0 to 1; None without scored rows."""
        return self.estimate.mean

    @property
    def interval(self) -> tuple[float, float] | None:
        """The ends of the 95 % interval of the mean; None if there is no interval."""
        low, high = self.estimate.low, self.estimate.high
        return None if low is None or high is None else (low, high)


@dataclass(frozen=True, slots=True)
class ScoreSummary:
    """All figures of one scorer.

    Attributes:
        name: the scorer's name.
        failed_as: how failed rows counted.
        overall: figures of the whole table.
        groups: column → value → figures of the rows with that value, in order of first occurrence.
        reasons: reason why answered rows could not be judged → number of rows.
        duplicate: the first key and epoch that several rows share, as `a, epoch 1`; None if all are different.
    """

    name: str
    failed_as: FailedAs
    overall: Figures
    groups: Mapping[str, Mapping[str, Figures]]
    reasons: Mapping[str, int]
    duplicate: str | None = None

    def facts(self) -> ScoreFacts:
        """Return the summary as JSON."""
        return {
            "scorer": self.name,
            "failed_as": self.failed_as,
            **figures_facts(self.overall),
            "unjudged_reasons": dict(self.reasons),
            "groups": {
                column: {label: figures_facts(figures) for label, figures in groups.items()}
                for column, groups in self.groups.items()
            },
        }


def estimate_facts(mean: Estimate) -> EstimateFacts:
    """Return an estimate as JSON."""
    return {
        "n": mean.n,
        "mean": mean.mean,
        "low": mean.low,
        "high": mean.high,
        "standard_error": mean.standard_error,
        "interval": mean.method,
        "clusters": mean.clusters,
        "note": mean.note,
    }


def figures_facts(figures: Figures) -> FiguresFacts:
    """Return figures as JSON."""
    facts: FiguresFacts = {
        **estimate_facts(figures.estimate),  # type: ignore[typeddict-item] # the optional key comes later
        "rows": figures.rows,
        "failed": figures.failed,
        "failed_without_target": figures.failed_without_target,
        "unfinished": figures.unfinished,
        "unjudged": figures.unjudged,
        "skipped": figures.skipped,
        "cut_short": figures.cut_short,
        "expected": figures.expected,
        "missing": {str(kind): count for kind, count in figures.missing.items()},
    }
    if figures.epochs is not None:
        facts["epochs"] = {
            "keys": figures.epochs.keys,
            "rows": figures.epochs.rows,
            "fewest": figures.epochs.fewest,
            "most": figures.epochs.most,
            "pass_at_k": {str(k): estimate_facts(each) for k, each in figures.epochs.pass_at_k.items()},
            "pass_hat_k": {str(k): estimate_facts(each) for k, each in figures.epochs.pass_hat_k.items()},
        }
    if figures.variance is not None:
        facts["variance"] = {
            "between": figures.variance.between,
            "within": figures.variance.within,
            "share_between": figures.variance.share_between,
            "another_epoch": figures.variance.another_epoch,
            "more_rows": figures.variance.more_rows,
        }
    return facts


def scored_values(tally: ScoreTally, name: str, failed_as: FailedAs) -> Numbers:
    """Return one value per row as it enters the means: 0 for a failed row that counts as wrong, None if left out.

    A failed row without the target that the scorer needs is left out, as an answered one is.
    """
    values = tally.values[name]
    if failed_as == "skip":
        return values
    counted = values.copy()
    for rows in pieces_of(len(counted)):
        is_wrong = tally.kinds.are("failed", rows) & tally.judgeable(name, rows)
        for place in np.flatnonzero(is_wrong).tolist():
            counted[rows.start + place] = 0.0
    return counted


def summarize(tally: ScoreTally, failed_as: FailedAs = "skip") -> list[ScoreSummary]:
    """Return the figures of every scorer of a table.

    Rows with the same key are epochs of one row. Unless another column gives the clusters, each key is then a cluster
    for the interval.

    Raises:
        InputError: the epochs of one row are in two clusters.
    """
    clusters = clusters_of(tally)
    duplicate = duplicate_epoch(tally)
    is_repeated = clusters is tally.keys or (bool(tally.clusters) and has_repeats(tally.keys))
    return [
        _summary(
            CountedRows.of(tally, name, scored_values(tally, name, failed_as), clusters, is_repeated=is_repeated),
            name,
            duplicate,
            failed_as,
        )
        for name in tally.values
    ]


def duplicate_epoch(tally: ScoreTally) -> str | None:
    """Return the first key and epoch that an earlier row has too; None if all differ or there are no epochs.

    Such rows differ in something other than the epoch and a batch's own axes.
    """
    earlier: set[PairKey] = set()
    for pair_key in tally.pair_keys() if tally.epochs else ():
        if pair_key in earlier:
            return f"{pair_key.key}, epoch {pair_key.epoch}"
        earlier.add(pair_key)
    return None


def clusters_of(tally: ScoreTally) -> Sequence[str] | None:
    """Return the cluster of each row; None if all rows are independent.

    Raises:
        InputError: the epochs of one row are in two clusters.
    """
    if not tally.clusters:
        return tally.keys if has_repeats(tally.keys) else None
    cluster_of: dict[str, str] = {}
    for key, cluster in zip(tally.keys, tally.clusters, strict=False):
        if cluster_of.setdefault(key, cluster) != cluster:
            raise InputError(
                f"--cluster: the rows with the key {key!r} are in two clusters; all epochs of a row must be in one"
            )
    return tally.clusters


def _summary(rows: CountedRows, name: str, duplicate: str | None, failed_as: FailedAs) -> ScoreSummary:
    tally = rows.tally
    groups = {column: dict(_groups(rows, labels)) for column, labels in tally.labels.items()}
    reasons = Counter(reason for reason in tally.reasons[name] if reason is not None)
    return ScoreSummary(name, failed_as, _figures(rows, None), groups, dict(reasons.most_common()), duplicate)


def _groups(rows: CountedRows, labels: Sequence[str]) -> Iterator[tuple[str, Figures]]:
    """Yield the figures of the rows with each label, without labels of skipped rows alone."""
    for label, members in members_of(labels):
        figures = _figures(rows, members)
        if figures.rows:
            yield label, figures


def _figures(rows: CountedRows, members: Members | None) -> Figures:
    """Return the figures of some rows; of all if `members` is None."""
    tally, counts = rows.tally, rows.counts(members)
    listed: list[int] = []
    scored: list[int] = []
    if rows.is_repeated or rows.clusters is not None:
        listed, scored = rows.positions(members), rows.positions(members, are_scored=True)
    clusters = None if rows.clusters is None else _repeated([rows.clusters[index] for index in scored])
    values = rows.values(members, counts)
    return Figures(
        estimate=estimate(values, clusters),
        rows=counts.number(~IS_SKIPPED),
        failed=counts.number(IS_FAILED),
        failed_without_target=counts.number(IS_FAILED & ~IS_JUDGEABLE),
        unfinished=counts.number(IS_UNFINISHED),
        unjudged=counts.number(IS_ANSWERED & ~IS_JUDGED),
        skipped=counts.number(IS_SKIPPED),
        cut_short=counts.number(IS_CUT_SHORT & IS_SCORED),
        expected=counts.number(IS_EXPECTED),
        missing=_missing(counts),
        epochs=_epochs(tally, rows.entered, listed) if rows.is_repeated else None,
        variance=_variance(tally, values, scored) if rows.is_repeated else None,
    )


def _missing(counts: FactCounts) -> dict[Missing, int]:
    """Return the number of rows of each kind that occurs, in order of first occurrence."""
    unscored = IS_EXPECTED & ~IS_SCORED
    kinds: dict[Missing, Flagged] = {
        "failed": unscored & IS_FAILED,
        "unfinished": unscored & IS_UNFINISHED,
        "unjudged": unscored & IS_ANSWERED,
        "cut_short": IS_EXPECTED & IS_SCORED & IS_CUT_SHORT,
    }
    found = [(counts.first(are), kind, number) for kind, are in kinds.items() if (number := counts.number(are))]
    return {kind: number for _, kind, number in sorted(found)}


def _variance(tally: ScoreTally, values: Pieces, scored: Sequence[int]) -> VarianceSplit | None:
    if len({tally.keys[index] for index in scored}) == len(scored):
        return None
    pair_keys = tally.pair_keys(scored)
    if len({key.variant for key in pair_keys}) > 1 or (tally.epochs and len(set(pair_keys)) < len(pair_keys)):
        return None
    return variance_split(values.array, [key.key for key in pair_keys])


def _repeated(clusters: list[str]) -> list[str] | None:
    """Return the clusters; None if each row has a cluster to itself."""
    return clusters if len(set(clusters)) < len(clusters) else None


def _epochs(tally: ScoreTally, values: Sequence[float | None], indexes: Sequence[int]) -> Epochs | None:
    keys = tally.pair_keys(indexes, with_epochs=False)
    if len(set(keys)) == len(keys) or (tally.epochs and len(set(tally.pair_keys(indexes))) < len(keys)):
        return None
    right: dict[PairKey, int] = defaultdict(int)
    epochs: dict[PairKey, int] = defaultdict(int)
    for key, index in zip(keys, indexes, strict=True):
        value = values[index]
        if value is None:
            continue
        if value not in (0.0, 1.0):
            return None
        right[key] += int(value)
        epochs[key] += 1
    if not epochs:
        return None
    counts = np.asarray(list(epochs.values()), dtype=np.int64)
    right_counts = np.asarray([right[key] for key in epochs], dtype=np.int64)
    most = int(counts.max())
    draws = sorted({1 << power for power in range(most.bit_length())} | {most})
    # The rows of one key in several settings are not independent: the key is their cluster.
    cluster_of = dict(zip(tally.keys, tally.clusters or tally.keys, strict=True))
    clusters = [cluster_of[key] for key, _, _ in epochs]
    at_k, hat_k = {}, {}
    for k in draws:
        enough = counts >= k
        some = _repeated([cluster for cluster, is_enough in zip(clusters, enough, strict=True) if is_enough])
        at_k[k] = estimate(pass_at_k(right_counts[enough], counts[enough], k), some)
        hat_k[k] = estimate(pass_hat_k(right_counts[enough], counts[enough], k), some)
    variants = len({key.variant for key in epochs})
    rows = len({key.key for key in epochs})
    return Epochs(len(counts), rows, tally.axes if variants > 1 else (), int(counts.min()), most, at_k, hat_k)
