"""Tails of Student's t and of the binomial distribution with p = 1/2, written out: no scipy is needed.

Unit tests compare each function with scipy and with exact fractions.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

__all__ = ["sign_tail", "student_quantile", "student_tail"]

_EXACT_UP_TO: Final = 1_000
_SERIES_FROM: Final = 100
_CLOSE: Final = 2e-15
_TINY: Final = 1e-300


def sign_tail(fewer: int, n: int) -> float:
    """Return the probability of at most `fewer` heads in n throws of a fair coin.

    Up to 1,000 throws the binomial coefficients are added as whole numbers. Above, the terms C(n, i) / 2ⁿ are computed
    from the largest, Γ(m + 1/2) / (√π Γ(m + 1)) for n = 2m (https://dlmf.nist.gov/5.5#E5), by the ratio of neighbours,
    i / (n - i + 1): nothing overflows or cancels, whatever n is.

    Args:
        fewer: number of heads, at most n / 2.
        n: number of throws.
    """
    if n <= _EXACT_UP_TO:
        return sum(math.comb(n, i) for i in range(fewer + 1)) / (1 << n)
    middle = n // 2
    central = 1 / (math.sqrt(math.pi) * _gamma_ratio(middle + 0.5))
    if n % 2:
        central *= n / (n + 1)
    i = np.arange(middle, 0, -1, dtype=np.float64)
    terms = np.cumprod(np.concatenate([[central], i / (n - i + 1)]))
    return float(terms[middle - fewer :].sum())


def student_tail(t: float, freedom: float) -> float:
    """Return the probability that Student's t is above `t`.

    It is I_x(f/2, 1/2) / 2 at x = f / (f + t²), a regularized incomplete beta function
    (Abramowitz and Stegun 1964, 26.7.1 and 26.5.27).

    Args:
        t: at least 0.
        freedom: degrees of freedom f, at least 1; a fraction too.
    """
    a = freedom / 2
    square = t * t / freedom
    if t == 0:
        return 0.5
    x, complement = 1 / (1 + square), square / (1 + square)
    # x^a · (1-x)^(1/2) / B(a, 1/2), without the loss of digits that gammas of large numbers bring.
    factor = math.exp(-a * math.log1p(square)) * math.sqrt(complement / math.pi) * _gamma_ratio(a)
    if x < (a + 1) / (a + 2.5):
        return factor * _beta_fraction(a, 0.5, x) / a / 2
    return (1 - factor * _beta_fraction(0.5, a, complement) / 0.5) / 2


def student_quantile(tail: float, freedom: float) -> float:
    """Return the value that Student's t exceeds with probability `tail`, below 1/2: Newton's steps from a lower bound.

    The tail is convex above 0, so that the steps increase towards the value and never pass it.
    """
    a = freedom / 2
    density_at_0 = _gamma_ratio(a) / math.sqrt(math.pi * freedom)
    t = 0.0
    while True:
        density = density_at_0 * math.exp(-(a + 0.5) * math.log1p(t * t / freedom))
        step = (student_tail(t, freedom) - tail) / density
        if step <= 1e-15 * t:
            return t + step
        t += step


def _gamma_ratio(a: float) -> float:
    """Return Γ(a + 1/2) / Γ(a); for large a by the series of https://dlmf.nist.gov/5.11#E13."""
    if a < _SERIES_FROM:
        return math.gamma(a + 0.5) / math.gamma(a)
    z = 1 / a
    return math.sqrt(a) * (1 - z / 8 + z**2 / 128 + 5 * z**3 / 1024 - 21 * z**4 / 32768 - 399 * z**5 / 262144)


def _beta_fraction(a: float, b: float, x: float) -> float:
    """Return the continued fraction of I_x(a, b) (https://dlmf.nist.gov/8.17#E22), by Lentz's method.

    It converges quickly if x < (a + 1) / (a + b + 2).
    """
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1))
    value, m = d, 1
    while True:
        for numerator in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / (1 + numerator * d or _TINY)
            c = 1 + numerator / c or _TINY
            value *= c * d
        if abs(c * d - 1) <= _CLOSE:
            return value
        m += 1
