"""The agreement of scores with hand labels, against published figures."""

from __future__ import annotations

import numpy as np
import pytest

from batchrun.scoring.labels.agreement import agreement
from batchrun.scoring.statistics import Floats


def rows(*counts: tuple[float, float, int]) -> tuple[Floats, Floats]:
    """Return scores and labels from (score, label, number of rows)."""
    scores = np.concatenate([np.full(count, score) for score, _, count in counts])
    labels = np.concatenate([np.full(count, label) for _, label, count in counts])
    return scores, labels


def test_kappa_of_a_published_table() -> None:
    """A table with κ = 0.4 (Kilem Gwet's and Wikipedia's example) has it, with the raw agreement and the confusion table."""
    found = agreement(*rows((1, 1, 20), (1, 0, 5), (0, 1, 10), (0, 0, 15)))
    assert found.equal.mean == pytest.approx(0.7)
    assert found.kappa == pytest.approx(0.4)
    assert found.confusion == {(1, 1): 20, (0, 1): 5, (1, 0): 10, (0, 0): 15}
    assert not found.is_weighted


def test_the_error_of_kappa_is_that_of_fleiss_cohen_and_everitt() -> None:
    """In a large table the interval is κ ± 1.96 of the published standard error."""
    shares = np.array([[0.40, 0.10], [0.20, 0.30]])  # score × label
    n = 40_000
    counts = [(i, j, round(shares[i, j] * n)) for i in (0, 1) for j in (0, 1)]
    found = agreement(*rows(*counts))
    p_o, p_score, p_label = np.trace(shares), shares.sum(axis=1), shares.sum(axis=0)
    p_e = float(p_score @ p_label)
    diagonal = sum(shares[i, i] * ((1 - p_e) - (p_score[i] + p_label[i]) * (1 - p_o)) ** 2 for i in (0, 1))
    others = (1 - p_o) ** 2 * sum(
        shares[i, j] * (p_label[i] + p_score[j]) ** 2 for i in (0, 1) for j in (0, 1) if i != j
    )
    error = ((diagonal + others - (p_o * p_e - 2 * p_e + p_o) ** 2) / n) ** 0.5 / (1 - p_e) ** 2
    assert found.low is not None
    assert found.high is not None
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * error, rel=0.001)


def test_weighted_kappa_counts_by_distance() -> None:
    """With more than two values, a near miss costs less than a far one; sklearn's quadratic κ is the reference."""
    scale = np.linspace(0, 1, 5)
    scores, labels = scale[[0, 1, 2, 3, 4, 4, 2, 1]], scale[[0, 1, 2, 3, 4, 3, 1, 3]]
    found = agreement(scores, labels)
    # sklearn.metrics.cohen_kappa_score(…, weights="quadratic")
    assert found.kappa == pytest.approx(1 - 6 / (np.mean((scores[:, None] - labels) ** 2) * 16 * 8))
    assert found.is_weighted
    assert found.equal.mean == pytest.approx(5 / 8)


def test_perfect_agreement_has_an_interval() -> None:
    """Agreement in all rows gives κ = 1 with a lower end that rises with the rows."""
    few, many = (agreement(*rows((1, 1, n), (0, 0, n))) for n in (5, 50))
    assert few.kappa == many.kappa == few.high == many.high == 1
    assert few.low is not None
    assert many.low is not None
    assert 0 < few.low < many.low < 1


def test_no_kappa_is_below_minus_one() -> None:
    """The interval of a κ by few rows ends at -1, the least κ that there is."""
    found = agreement(*rows((1, 1, 20), (1, 0, 4)))
    assert found.kappa == pytest.approx(0)
    assert found.low == -1


def test_one_value_everywhere_has_no_kappa() -> None:
    """κ is undefined if everything is right; the raw agreement is not."""
    found = agreement(*rows((1, 1, 9)))
    assert (found.kappa, found.low, found.equal.mean) == (None, None, 1)


def test_epochs_are_no_more_rows() -> None:
    """Repeating every row in its cluster leaves the interval as it is."""
    scores, labels = rows((1, 1, 20), (1, 0, 5), (0, 1, 10), (0, 0, 15))
    once = agreement(scores, labels)
    clusters = [str(n) for n in range(50)] * 3
    thrice = agreement(np.tile(scores, 3), np.tile(labels, 3), clusters)
    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high))


def test_many_values_have_no_table() -> None:
    """Scores with more than ten values have a weighted κ, and no confusion table."""
    values = np.linspace(0, 1, 12)
    found = agreement(values, values)
    assert (found.kappa, found.confusion) == (1, {})
