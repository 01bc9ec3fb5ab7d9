"""The tails that are written out, compared with scipy and with exact fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import scipy

from batchrun.probability import sign_tail, student_quantile, student_tail

FREEDOM = (1, 2, 3, 4, 5, 10, 39, 99, 199, 200, 201, 1_000, 5_000)
VALUES = (0.0, 0.1, 0.5, 1.0, 1.5, 1.7, 1.75, 2.0, 3.0, 5.0, 8.0, 12.0, 30.0)


@pytest.mark.parametrize("freedom", FREEDOM)
def test_the_tail_of_student_is_scipys(freedom: int) -> None:
    """The tail of Student's t equals scipy's to 12 digits, at 0 and far out."""
    for t in VALUES:
        assert student_tail(t, freedom) == pytest.approx(scipy.special.stdtr(freedom, -t), rel=1e-12, abs=1e-300)


@pytest.mark.parametrize("freedom", [*FREEDOM, 100_000])
def test_the_quantile_of_student_is_scipys(freedom: int) -> None:
    """The quantile equals scipy's to 12 digits, and gives its tail back."""
    for tail in (0.4, 0.05, 0.025, 0.001):
        found = student_quantile(tail, freedom)
        assert found == pytest.approx(scipy.special.stdtrit(freedom, 1 - tail), rel=1e-12)
        assert student_tail(found, freedom) == pytest.approx(tail, rel=1e-12)


def test_one_degree_of_freedom_is_cauchys_distribution() -> None:
    """With one degree of freedom the tail is 1/2 - atan(t)/π, close to 0 too, and far out 1/(πt)."""
    assert student_tail(1e-6, 1) == pytest.approx(0.5 - math.atan(1e-6) / math.pi, rel=1e-15)
    assert student_tail(1.0, 1) == pytest.approx(0.25, rel=1e-15)
    assert student_tail(1e9, 1) == pytest.approx(1 / (math.pi * 1e9), rel=1e-14)


def test_many_degrees_of_freedom_are_the_normal_distribution() -> None:
    """With 10 million degrees of freedom the tail is that of the normal distribution."""
    assert student_tail(2.0, 10_000_000) == pytest.approx(math.erfc(2 / math.sqrt(2)) / 2, rel=1e-6)


@pytest.mark.parametrize("n", [1, 2, 3, 10, 37, 100, 1_001, 10_200, 30_000])
def test_the_sign_test_is_exact(n: int) -> None:
    """The tail equals the sum of the binomial coefficients over 2ⁿ to 13 digits, also at 1e-290."""
    wanted = {n // 2, n // 2 - 1, n // 2 - int(2 * n**0.5), n // 3, 0, 3} & set(range(n // 2 + 1))
    ways, ways_so_far = 1, 0
    for heads in range(n // 2 + 1):
        ways_so_far += ways
        ways = ways * (n - heads) // (heads + 1)
        if heads in wanted:
            exact = float(Fraction(ways_so_far, 1 << n))
            assert sign_tail(heads, n) == (pytest.approx(exact, rel=1e-13) if exact > 1e-300 else pytest.approx(exact))


@pytest.mark.parametrize(("fewer", "n"), [(0, 1), (3, 20), (480, 1_000), (499_000, 1_000_000)])
def test_the_sign_test_is_scipys(fewer: int, n: int) -> None:
    """The tail equals scipy's binomial distribution, as exactly as that is computed."""
    assert sign_tail(fewer, n) == pytest.approx(scipy.special.bdtr(fewer, n, 0.5), rel=1e-9)
