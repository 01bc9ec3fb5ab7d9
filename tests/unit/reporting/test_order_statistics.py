"""Quantiles and counts of different values, against those of numpy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.reporting.order_statistics import different, quantiles, ranked
from batchrun.scoring.statistics import Floats

SHARES = (0.0, 0.1, 0.5, 0.9, 0.99, 1.0)
FLOATS = st.floats(-1e200, 1e200)


@given(st.lists(st.lists(FLOATS, max_size=9), min_size=1, max_size=5).filter(any))
def test_small_numbers_of_values(parts: Sequence[Sequence[float]]) -> None:
    """Quantiles, ranks and the number of different values are those of all parts together."""
    arrays = [np.array(part, np.float64) for part in parts]
    whole = np.concatenate(arrays)
    assert quantiles(arrays, SHARES) == pytest.approx(np.quantile(whole, SHARES).tolist(), rel=1e-12)
    assert ranked(arrays, range(len(whole))) == dict(enumerate(np.sort(whole).tolist()))
    assert different(arrays) == len(np.unique(whole))


RANDOM = np.random.default_rng(7)


@pytest.mark.parametrize(
    "values",
    [
        RANDOM.normal(size=400_000),
        RANDOM.integers(0, 50, 400_000).astype(np.float64),
        np.full(300_000, 2.5),
        1.0 + RANDOM.integers(0, 200_000, 400_000) * 2.0**-52,
        np.array([0.0, -0.0] * 150_000),
    ],
    ids=["different", "few", "one", "close", "zeros"],
)
def test_many_values(values: Floats) -> None:
    """The same holds for more values than are sorted in memory, also if they differ in their last bits only."""
    parts = np.array_split(values, 30)
    assert quantiles(parts, SHARES) == np.quantile(values, SHARES).tolist()
    assert different(parts) == len(np.unique(values))
