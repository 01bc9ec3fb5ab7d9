"""The mean of a table corrected for the errors of its scorer, where some rows have hand labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from batchrun.scoring.intervals import influence_interval
from batchrun.scoring.statistics import Floats

__all__ = ["MIN_LABELS", "Corrected", "corrected_mean"]

MIN_LABELS: Final = 10
"""Labelled rows below which nothing is corrected: the errors of a scorer cannot be estimated from fewer."""

_MAX_CATEGORIES: Final = 10
_ENDS: Final = (0.025, 0.975)

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Corrected:
    """An estimate of the mean label of all scored rows.

    Attributes:
        mean: from 0 to 1.
        low, high: ends of its 95 % interval, which includes the uncertainty about the scorer's errors.
        method: `chain rule` for labels of 0 and 1 in independent rows, else `prediction-powered`.
    """

    mean: float
    low: float
    high: float
    method: str


def corrected_mean(
    scores: Floats,
    labelled: Mask,
    labels: Floats,
    clusters: Sequence[str] | None = None,
    *,
    draws: int = 20_000,
) -> Corrected | None:
    """Return the mean label that all rows would have, from the scores of all and the labels of a random part of them.

    - Labels of 0 and 1, at most 10 different scores, independent rows: the share of right rows among those with the
      same score, weighted by the number of rows with this score. It is the maximum-likelihood estimate of Tenenbein
      1970 (Journal of the American Statistical Association 65). Its interval is that of the chain rule of Hofer et al.
      2024, "Bayesian Prediction-Powered Inference" (https://arxiv.org/abs/2405.06034), with Jeffreys' priors: it has a
      width even if the scorer made no error in the labelled rows.
    - Otherwise the mean label, plus λ times the difference of the mean score of all rows and of the labelled ones:
      prediction-powered inference (Angelopoulos et al. 2023, https://arxiv.org/abs/2301.09633), with the λ of least
      variance (PPI++, https://arxiv.org/abs/2311.01453).

    Args:
        scores: of all rows, from 0 to 1.
        labelled: which of the rows have a label.
        labels: of these rows, from 0 to 1.
        clusters: the cluster of each row; None if rows are independent.
        draws: from the posterior of the chain rule; they are seeded.

    Returns:
        None if fewer than `MIN_LABELS` rows have a label.
    """
    if len(labels) < MIN_LABELS:
        return None
    values, category = np.unique(scores.round(6), return_inverse=True)
    if clusters is None and len(values) <= _MAX_CATEGORIES and bool(((labels == 0) | (labels == 1)).all()):
        return _chain_rule(category, labelled, labels, draws)
    return _prediction_powered(scores, labelled, labels, clusters)


def _chain_rule(category: npt.NDArray[np.intp], labelled: Mask, labels: Floats, draws: int) -> Corrected:
    rows = np.bincount(category)
    of_labelled = category[labelled]
    asked = np.bincount(of_labelled, minlength=len(rows))
    right = np.bincount(of_labelled, weights=labels, minlength=len(rows))
    random = np.random.default_rng(0)
    shares = random.dirichlet(rows + 0.5, draws)
    drawn = (shares * random.beta(right + 0.5, asked - right + 0.5, (draws, len(rows)))).sum(axis=1)
    low, high = np.quantile(drawn, _ENDS)
    if not asked.all():  # nothing is known of the rows with some score
        return Corrected(float(drawn.mean()), float(low), float(high), "chain rule")
    mean = float((rows / rows.sum() * (right / asked)).sum())
    return Corrected(mean, min(mean, float(low)), max(mean, float(high)), "chain rule")


def _prediction_powered(scores: Floats, labelled: Mask, labels: Floats, clusters: Sequence[str] | None) -> Corrected:
    own = scores[labelled]
    variance = float(own.var())
    covariance = float(((own - own.mean()) * (labels - labels.mean())).mean())
    weight = min(1.0, max(0.0, covariance / variance)) if variance > 0 else 0.0
    mean = min(1.0, max(0.0, float(labels.mean() + weight * (scores.mean() - own.mean()))))
    influence = weight * (scores - scores.mean())
    residual = labels - weight * own
    influence[labelled] += (residual - residual.mean()) * len(scores) / len(labels)
    units = len(labels)
    if clusters is not None:
        units = len({cluster for cluster, has_label in zip(clusters, labelled, strict=True) if has_label})
    return Corrected(mean, *influence_interval(mean, influence, clusters, units), "prediction-powered")
