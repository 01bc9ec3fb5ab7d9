"""The mean of a table corrected for the errors of its scorer."""

from __future__ import annotations

import numpy as np
import pytest

from batchrun.scoring.labels.corrected import corrected_mean
from tests.benchmarks.judge_coverage import coverage


def test_the_estimate_is_tenenbeins() -> None:
    """The share of right rows by score, weighted by all rows with that score, is the corrected mean."""
    scores = np.repeat([1.0, 0.0], [700, 300])
    labelled = np.zeros(1_000, dtype=bool)
    labelled[:40] = labelled[700:720] = True
    labels = np.repeat([1.0, 0.0, 1.0, 0.0], [30, 10, 4, 16])
    found = corrected_mean(scores, labelled, labels)
    assert found is not None
    assert found.mean == pytest.approx(0.7 * 30 / 40 + 0.3 * 4 / 20)
    assert found.method == "chain rule"
    assert found.low < found.mean < found.high


def test_all_rows_labelled_is_the_mean_by_hand() -> None:
    """If every row has a label, the scorer decides nothing."""
    labels = np.repeat([1.0, 0.0], [30, 20])
    scores = np.tile([1.0, 0.0], 25)
    for clusters in (None, list(map(str, range(50)))):
        found = corrected_mean(scores, np.ones(50, dtype=bool), labels, clusters)
        assert found is not None
        assert found.mean == pytest.approx(0.6)
        assert (found.low, found.high) == pytest.approx((0.46, 0.72), abs=0.03)


def test_a_scorer_that_was_never_wrong_may_still_be() -> None:
    """Twenty labels without an error leave room for errors in the other rows."""
    labelled = np.zeros(2_000, dtype=bool)
    labelled[:20] = True
    found = corrected_mean(np.ones(2_000), labelled, np.ones(20))
    assert found is not None
    assert (found.mean, found.high) == (1, 1)
    assert found.low == pytest.approx(0.88, abs=0.03)


def test_few_labels_correct_nothing() -> None:
    """Nine labels are too few."""
    labelled = np.arange(100) < 9
    assert corrected_mean(np.ones(100), labelled, np.ones(9)) is None


def test_scores_between_0_and_1() -> None:
    """Labels on a scale are corrected by prediction-powered inference; a useless scorer is ignored."""
    random = np.random.default_rng(3)
    truth = random.random(400)
    labelled = np.arange(400) < 100
    useful = corrected_mean(np.clip(truth - 0.2, 0, 1), labelled, truth[labelled])
    useless = corrected_mean(random.random(400), labelled, truth[labelled])
    assert useful is not None
    assert useless is not None
    assert useful.method == "prediction-powered"
    assert useful.mean == pytest.approx(truth.mean(), abs=0.02)
    assert useful.high - useful.low < 0.7 * (useless.high - useless.low)


def test_the_interval_contains_the_truth() -> None:
    """In a simulation with a fixed seed about 95 % of the intervals contain the true share; the scorer's own do not."""
    found = coverage(0.9, 0.95, 0.7, labelled=50, rows=1_000, repetitions=100)
    assert 0.92 <= found.corrected <= 0.99
    assert found.alone < 0.75
