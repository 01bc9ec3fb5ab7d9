"""The figures of a scored table: overall, by group and over epochs; with the rows that are left out, and why."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from batchrun.errors import InputError
from batchrun.scoring.compact import Numbers
from batchrun.scoring.intervals import Floats
from batchrun.scoring.row_codes import has_repeats
from batchrun.scoring.score_facts import EstimateFacts, FiguresFacts, ScoreFacts
from batchrun.scoring.score_options import FailedAs
from batchrun.scoring.score_tally import PairKey, RowKind, ScoreTally
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

Flagged: TypeAlias = npt.NDArray[np.bool_]
Positions: TypeAlias = npt.NDArray[np.int64]
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
    counted = Numbers(values)
    for position in np.flatnonzero(tally.kinds.are("failed") & tally.judgeable(name)).tolist():
        counted[position] = 0.0
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
            _ScoredRows.of(tally, name, scored_values(tally, name, failed_as), clusters, is_repeated=is_repeated),
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


def _summary(rows: _ScoredRows, name: str, duplicate: str | None, failed_as: FailedAs) -> ScoreSummary:
    tally = rows.tally
    return ScoreSummary(
        name=name,
        failed_as=failed_as,
        overall=_figures(rows, None),
        groups={
            column: {
                label: _figures(rows, members)
                for label, members in members_of(labels)
                if not rows.kinds["skipped"][members].all()
            }
            for column, labels in tally.labels.items()
        },
        reasons=dict(Counter(tally.reasons[name].values()).most_common()),
        duplicate=duplicate,
    )


def members_of(labels: Sequence[str]) -> Iterator[tuple[str, Positions]]:
    """Yield each label and the positions of the rows that have it, in order of first occurrence."""
    codes: dict[str, int] = {}
    of_rows = np.fromiter((codes.setdefault(label, len(codes)) for label in labels), np.int32, len(labels))
    order = np.argsort(of_rows, kind="stable")
    ends = np.cumsum(np.bincount(of_rows, minlength=len(codes)))
    yield from zip(codes, np.split(order, ends[:-1]), strict=True) if codes else ()


@dataclass(frozen=True, slots=True)
class _ScoredRows:
    """The rows of a table for one scorer.

    Attributes:
        entered: the values as they enter the means; `values` has NaN for those that are left out.
        own: the scorer's values, with NaN.
        kinds: kind → which rows are of it.
        judgeable, expected: see `ScoreTally`.
        cut_short: which answers were cut short.
        clusters: of the rows; None if all are independent.
        is_repeated: whether two rows have the same key.
    """

    tally: ScoreTally
    entered: Numbers
    values: Floats
    own: Floats
    kinds: Mapping[RowKind, Flagged]
    judgeable: Flagged
    expected: Flagged
    cut_short: Flagged
    clusters: Sequence[str] | None
    is_repeated: bool

    @classmethod
    def of(
        cls, tally: ScoreTally, name: str, entered: Numbers, clusters: Sequence[str] | None, *, is_repeated: bool
    ) -> _ScoredRows:
        cut_short = np.zeros(len(entered), dtype=np.bool_)
        cut_short[list(tally.cut_short)] = True
        own = tally.values[name]
        values = entered.array
        return cls(
            tally=tally,
            entered=entered,
            values=values,
            own=values if own is entered else own.array,
            kinds={kind: tally.kinds.are(kind) for kind in get_args(RowKind)},
            judgeable=tally.judgeable(name),
            expected=tally.expected(name),
            cut_short=cut_short,
            clusters=clusters,
            is_repeated=is_repeated,
        )


def _figures(rows: _ScoredRows, members: Positions | None) -> Figures:
    """Return the figures of some rows; of all if `members` is None."""
    positions = slice(None) if members is None else members  # a slice of an array shares its memory
    tally, values = rows.tally, rows.values[positions]
    is_scored = ~np.isnan(values)
    kinds = {kind: flags[positions] for kind, flags in rows.kinds.items()}
    expected, cut_short = rows.expected[positions], rows.cut_short[positions]
    unscored = expected & ~is_scored
    listed: list[int] = []
    scored: list[int] = []
    if rows.is_repeated or rows.clusters is not None:
        listed = list(range(len(values))) if members is None else members.tolist()
        scored = [index for index, has_score in zip(listed, is_scored.tolist(), strict=True) if has_score]
    clusters = None if rows.clusters is None else _repeated([rows.clusters[index] for index in scored])
    return Figures(
        estimate=estimate(values[is_scored], clusters),
        rows=len(values) - _count(kinds["skipped"]),
        failed=_count(kinds["failed"]),
        failed_without_target=_count(kinds["failed"] & ~rows.judgeable[positions]),
        unfinished=_count(kinds["unfinished"]),
        unjudged=_count(kinds["answered"] & np.isnan(rows.own[positions])),
        skipped=_count(kinds["skipped"]),
        cut_short=_count(cut_short & is_scored),
        expected=_count(expected),
        missing=_missing(
            {
                "failed": unscored & kinds["failed"],
                "unfinished": unscored & kinds["unfinished"],
                "unjudged": unscored & kinds["answered"],
                "cut_short": expected & is_scored & cut_short,
            }
        ),
        epochs=_epochs(tally, rows.entered, listed) if rows.is_repeated else None,
        variance=_variance(tally, values[is_scored], scored) if rows.is_repeated else None,
    )


def _count(flags: Flagged) -> int:
    return int(np.count_nonzero(flags))


def _missing(kinds: Mapping[Missing, Flagged]) -> dict[Missing, int]:
    """Return the number of rows of each kind that occurs, in order of first occurrence."""
    found = [(int(flags.argmax()), kind, _count(flags)) for kind, flags in kinds.items() if flags.any()]
    return {kind: count for _, kind, count in sorted(found)}


def _variance(tally: ScoreTally, values: Floats, scored: Sequence[int]) -> VarianceSplit | None:
    if len({tally.keys[index] for index in scored}) == len(scored):
        return None
    pair_keys = tally.pair_keys(scored)
    if len({key.variant for key in pair_keys}) > 1 or (tally.epochs and len(set(pair_keys)) < len(pair_keys)):
        return None
    return variance_split(values, [key.key for key in pair_keys])


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
