"""The roots of a polynomial: exact if they are rational or quadratic, otherwise certified approximations."""

from __future__ import annotations

from cmath import isfinite, rect
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import copysign, isqrt, lcm, sqrt, tau

from batchrun.server.responders.algebra.polynomial import MAX_BITS, Polynomial, TooLarge

__all__ = ["Roots", "find_roots", "square_root"]

_ROUNDING = Fraction(1, 10**8)


@dataclass(frozen=True, slots=True)
class Roots:
    """All distinct roots.

    Attributes:
        rational: exact real roots, ascending.
        rest: the factor that has all other roots; constant 1 if there are none.
        real: real roots of `rest`, ascending, correct to 8 significant digits.
        complex_above: its complex roots with positive imaginary part; each has a conjugate.
    """

    rational: tuple[Fraction, ...]
    rest: Polynomial
    real: tuple[float, ...]
    complex_above: tuple[complex, ...]


def square_root(value: Fraction) -> Fraction | None:
    """Return the exact square root of a non-negative number; None if it is irrational."""
    top, bottom = isqrt(value.numerator), isqrt(value.denominator)
    root = Fraction(top, bottom)
    return root if root * root == value else None


def find_roots(polynomial: Polynomial) -> Roots:
    """Return all distinct roots of a polynomial of degree 1 or more.

    Rational roots are guessed from floating-point ones and kept only if they are exact. Sturm's theorem gives the
    number of the other real roots, and a change of sign confirms each one.

    Raises:
        TooLarge: the coefficients are too far apart for floating-point arithmetic.
    """
    rest = _square_free(polynomial)
    rational: list[Fraction] = []
    if rest.degree > 2:
        rational = _rational_guesses(rest)
        rest = _without(rest, rational)
    if rest.degree in (1, 2):
        last = _rational_of_quadratic(rest) if rest.degree == 2 else [-rest.constant / rest.leading]
        rational += last
        rest = _without(rest, last)
    real, above = _numeric(rest) if rest.degree else ((), ())
    return Roots(tuple(sorted(rational)), rest, real, above)


def _without(polynomial: Polynomial, roots: list[Fraction]) -> Polynomial:
    for root in roots:
        polynomial, _ = polynomial.divided_by(Polynomial.of(-root, 1))
    return polynomial


def _square_free(polynomial: Polynomial) -> Polynomial:
    """Return the polynomial with every repeated factor reduced to one."""
    a, b = polynomial, polynomial.derivative()
    while b:
        _, remainder = a.divided_by(b)
        a, b = b, remainder.monic() if remainder else remainder
    quotient, _ = polynomial.divided_by(a)
    return quotient.monic()


def _rational_of_quadratic(polynomial: Polynomial) -> list[Fraction]:
    c, b, a = polynomial.coefficients
    discriminant = b * b - 4 * a * c
    root = square_root(discriminant) if discriminant >= 0 else None
    return [] if root is None else [(-b - root) / (2 * a), (-b + root) / (2 * a)]


def _rational_guesses(polynomial: Polynomial) -> list[Fraction]:
    scale = lcm(*(c.denominator for c in polynomial.coefficients))
    if scale.bit_length() > MAX_BITS:
        raise TooLarge("the numbers get too large")
    # Rational root theorem: the denominator divides the leading coefficient of the integer polynomial.
    largest_denominator = abs(polynomial.leading * scale).numerator
    found: set[Fraction] = set()
    for z in _floating(polynomial):
        if abs(z.imag) <= 1e-3 * max(1.0, abs(z)):
            guess = Fraction(z.real).limit_denominator(largest_denominator)
            near = (guess, Fraction(z.real).limit_denominator(1000), Fraction(round(z.real)))
            found.update(g for g in near if polynomial.at(g) == 0)
    return sorted(found)


def _floating(polynomial: Polynomial) -> list[complex]:
    """Return all roots as floating-point numbers.

    Raises:
        TooLarge: the coefficients are too far apart for floating-point arithmetic.
    """
    try:
        if polynomial.degree == 2:
            return _of_quadratic(polynomial)
        return _by_aberth([float(c) for c in polynomial.monic().coefficients])
    except (OverflowError, ZeroDivisionError) as exc:
        raise TooLarge("the numbers are too far apart") from exc


def _of_quadratic(polynomial: Polynomial) -> list[complex]:
    c, b, a = polynomial.coefficients
    middle, square, product = float(-b / (2 * a)), float((b * b - 4 * a * c) / (4 * a * a)), float(c / a)
    half = sqrt(abs(square))
    if square < 0:
        return [complex(middle, half), complex(middle, -half)]
    # The smaller root follows from the product: a difference of two similar numbers would lose its digits.
    larger = middle + copysign(half, middle)
    return [complex(larger), complex(product / larger)]


_STEPS = 300
_CONVERGED = 1e-14


def _by_aberth(coefficients: list[float]) -> list[complex]:
    """Return all roots of a polynomial without repeated roots, by Aberth's method (Math. Comp. 27, 1973).

    Args:
        coefficients: ascending; the last one is 1.
    """
    degree = len(coefficients) - 1
    slope = [k * c for k, c in enumerate(coefficients)][1:]
    # All roots are within Fujiwara's bound. The start is not symmetric to the real axis, so that real roots separate.
    radius = 2 * max(abs(c) ** (1 / (degree - k)) for k, c in enumerate(coefficients[:-1]))
    roots = [rect(0.7 * radius, tau * k / degree + 0.4) for k in range(degree)]
    for _ in range(_STEPS):
        largest = 0.0
        for i, z in enumerate(roots):
            value = _value(coefficients, z)
            if value == 0:
                continue
            newton = value / _value(slope, z)
            step = newton / (1 - newton * sum(1 / (z - other) for j, other in enumerate(roots) if j != i))
            roots[i] = z - step
            largest = max(largest, abs(step) / max(abs(roots[i]), _CONVERGED * radius))
        if largest < _CONVERGED:
            break
    if not all(isfinite(z) for z in roots):
        raise OverflowError
    return roots


def _value(coefficients: list[float], z: complex) -> complex:
    value = 0j
    for coefficient in reversed(coefficients):
        value = value * z + coefficient
    return value


def _numeric(polynomial: Polynomial) -> tuple[tuple[float, ...], tuple[complex, ...]]:
    count = _count_real(polynomial)
    # The real roots are those nearest to the real axis; the sign test below rejects a wrong choice.
    by_height = sorted(_floating(polynomial), key=lambda z: abs(z.imag))
    real = tuple(sorted(z.real for z in by_height[:count]))
    for root in real:
        margin = max(abs(Fraction(root)), _ROUNDING) * _ROUNDING
        if polynomial.at(Fraction(root) - margin) * polynomial.at(Fraction(root) + margin) >= 0:
            raise TooLarge("the roots are too close together")
    above = tuple(sorted((z for z in by_height[count:] if z.imag > 0), key=lambda z: (z.real, z.imag)))
    if 2 * len(above) + count != polynomial.degree:
        raise TooLarge("the roots are too close together")
    return real, above


def _count_real(polynomial: Polynomial) -> int:
    """Return the number of distinct real roots of a square-free polynomial, by Sturm's theorem."""
    chain = [polynomial, polynomial.derivative()]
    while chain[-1].degree:
        _, remainder = chain[-2].divided_by(chain[-1])
        chain.append(-remainder.scaled(1 / abs(remainder.leading)))
    right = [p.leading > 0 for p in chain]
    left = [(p.leading > 0) ^ bool(p.degree % 2) for p in chain]
    return _changes(left) - _changes(right)


def _changes(signs: list[bool]) -> int:
    return sum(a != b for a, b in pairwise(signs))
