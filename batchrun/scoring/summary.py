"""What the scores of a table come to: overall, by group, over epochs; with what was left out, and why."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from batchrun.errors import InputError
from batchrun.scoring.score_options import FailedAs
from batchrun.scoring.score_tally import Mark, ScoreTally
from batchrun.scoring.statistics import Estimate, Floats, all_right_of, any_right_of, estimate

__all__ = ["Epochs", "Figures", "ScoreSummary", "doubled_epoch", "scored_values", "summarize"]


@dataclass(frozen=True, slots=True)
class Epochs:
    """What repeated rows tell, for scores of 0 and 1.

    Attributes:
        keys: different rows.
        fewest, most: epochs of a row that were scored.
        any_right: k → mean of pass@k over the rows with k epochs and more.
        all_right: k → mean of pass^k over the same rows.
    """

    keys: int
    fewest: int
    most: int
    any_right: Mapping[int, Estimate]
    all_right: Mapping[int, Estimate]


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one scorer over some rows.

    Attributes:
        estimate: of the mean.
        rows: all rows.
        failed: rows that failed; in the mean as 0 or not at all, as `ScoreSummary.failed_as` says.
        unfinished: rows without an answer yet; never in the mean.
        unjudged: answered rows that the scorer could not judge; never in the mean.
        epochs: None where no row is repeated, values lie between 0 and 1, or rows with the same key and epoch
            tell that they are not only repetitions.
    """

    estimate: Estimate
    rows: int
    failed: int
    unfinished: int
    unjudged: int
    epochs: Epochs | None = None


@dataclass(frozen=True, slots=True)
class ScoreSummary:
    """All figures of one scorer.

    Attributes:
        name: the scorer's.
        failed_as: what failed rows counted as.
        overall: over the whole table.
        groups: column → value → figures of the rows with that value, in order of first sight.
        reasons: why answered rows could not be judged → rows.
        doubled: of rows with the same key and epoch, of which there should be but one, the first, as `a, epoch 1`;
            None where there are none.
    """

    name: str
    failed_as: FailedAs
    overall: Figures
    groups: Mapping[str, Mapping[str, Figures]]
    reasons: Mapping[str, int]
    doubled: str | None = None

    def facts(self) -> dict[str, Any]:
        """The summary for machines."""
        return {
            "scorer": self.name,
            "failed_as": self.failed_as,
            **_figures_facts(self.overall),
            "unjudged_reasons": dict(self.reasons),
            "groups": {
                column: {label: _figures_facts(figures) for label, figures in groups.items()}
                for column, groups in self.groups.items()
            },
        }


def estimate_facts(found: Estimate) -> dict[str, Any]:
    """An estimate for machines."""
    return {
        "n": found.n,
        "mean": found.mean,
        "low": found.low,
        "high": found.high,
        "standard_error": found.standard_error,
        "interval": found.method,
        "clusters": found.clusters,
    }


def _figures_facts(figures: Figures) -> dict[str, Any]:
    found = {
        **estimate_facts(figures.estimate),
        "rows": figures.rows,
        "failed": figures.failed,
        "unfinished": figures.unfinished,
        "unjudged": figures.unjudged,
    }
    if figures.epochs is not None:
        found["epochs"] = {
            "keys": figures.epochs.keys,
            "fewest": figures.epochs.fewest,
            "most": figures.epochs.most,
            "pass_at_k": {str(k): estimate_facts(each) for k, each in figures.epochs.any_right.items()},
            "pass_hat_k": {str(k): estimate_facts(each) for k, each in figures.epochs.all_right.items()},
        }
    return found


def scored_values(tally: ScoreTally, name: str, failed_as: FailedAs) -> list[float | None]:
    """One value a row as it enters the means: a failed row is 0 where it counts as wrong, else None."""
    return [
        0.0 if kind == "failed" and failed_as == "wrong" else value
        for kind, value in zip(tally.kinds, tally.values[name], strict=True)
    ]


def summarize(tally: ScoreTally, failed_as: FailedAs = "skip") -> list[ScoreSummary]:
    """The figures of every scorer of a table.

    Where keys are repeated, rows of one key are epochs: the interval is then that of clusters by key, unless another
    column clusters.

    Raises:
        InputError: the epochs of one row are in two clusters.
    """
    clusters = _clusters(tally)
    doubled = doubled_epoch(tally)
    return [_summary(tally, name, clusters, doubled, failed_as) for name in tally.values]


def doubled_epoch(tally: ScoreTally) -> str | None:
    """The first row whose key and epoch an earlier one has; None where there is none, or no column of epochs.

    Such rows differ in more than the epoch, and in something else than a batch's own axes.
    """
    seen: set[Mark] = set()
    for mark in tally.marks() if tally.epochs else ():
        if mark in seen:
            key, _, epoch = mark
            return f"{key}, epoch {epoch}"
        seen.add(mark)
    return None


def _clusters(tally: ScoreTally) -> list[str] | None:
    if not tally.clusters:
        return tally.keys if len(set(tally.keys)) < len(tally.keys) else None
    homes: dict[str, str] = {}
    for key, cluster in zip(tally.keys, tally.clusters, strict=False):
        if homes.setdefault(key, cluster) != cluster:
            raise InputError(f"--cluster: the rows with the key {key!r} are in two clusters; epochs belong together")
    return tally.clusters


def _summary(
    tally: ScoreTally, name: str, clusters: Sequence[str] | None, doubled: str | None, failed_as: FailedAs
) -> ScoreSummary:
    values = scored_values(tally, name, failed_as)
    groups: dict[str, dict[str, Figures]] = {}
    for column, labels in tally.labels.items():
        members: dict[str, list[int]] = defaultdict(list)
        for index, label in enumerate(labels):
            members[label].append(index)
        groups[column] = {label: _figures(tally, name, values, clusters, indexes) for label, indexes in members.items()}
    return ScoreSummary(
        name=name,
        failed_as=failed_as,
        overall=_figures(tally, name, values, clusters, range(len(values))),
        groups=groups,
        reasons=dict(Counter(tally.reasons[name].values()).most_common()),
        doubled=doubled,
    )


def _figures(
    tally: ScoreTally,
    name: str,
    values: Sequence[float | None],
    clusters: Sequence[str] | None,
    indexes: Sequence[int] | range,
) -> Figures:
    scored = [index for index in indexes if values[index] is not None]
    array = _array([values[index] for index in scored])
    kinds = [tally.kinds[index] for index in indexes]
    given = tally.values[name]
    homes = None if clusters is None else _together([clusters[index] for index in scored])
    return Figures(
        estimate=estimate(array, homes),
        rows=len(indexes),
        failed=kinds.count("failed"),
        unfinished=kinds.count("unfinished"),
        unjudged=sum(tally.kinds[index] == "answered" and given[index] is None for index in indexes),
        epochs=_epochs(tally, values, indexes),
    )


def _together(clusters: list[str]) -> list[str] | None:
    """The clusters; None where no two rows belong together."""
    return clusters if len(set(clusters)) < len(clusters) else None


def _array(values: Sequence[float | None]) -> Floats:
    return np.asarray(values, dtype=np.float64)


def _epochs(tally: ScoreTally, values: Sequence[float | None], indexes: Sequence[int] | range) -> Epochs | None:
    if not tally.keys:
        return None
    keys = tally.marks(indexes, epochs=False)
    if len(set(keys)) == len(keys) or (tally.epochs and len(set(tally.marks(indexes))) < len(keys)):
        return None
    right: dict[Mark, int] = defaultdict(int)
    epochs: dict[Mark, int] = defaultdict(int)
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
    hits = np.asarray([right[key] for key in epochs], dtype=np.int64)
    most = int(counts.max())
    draws = sorted({1 << power for power in range(most.bit_length())} | {most})
    # Rows of one key in several settings belong together, as those of one cluster do.
    clusters = dict(zip(tally.keys, tally.clusters or tally.keys, strict=True))
    homes = [clusters[key] for key, _, _ in epochs]
    any_right, all_right = {}, {}
    for k in draws:
        enough = counts >= k
        together = _together([home for home, is_enough in zip(homes, enough, strict=True) if is_enough])
        any_right[k] = estimate(any_right_of(hits[enough], counts[enough], k), together)
        all_right[k] = estimate(all_right_of(hits[enough], counts[enough], k), together)
    return Epochs(len(counts), int(counts.min()), most, any_right, all_right)
