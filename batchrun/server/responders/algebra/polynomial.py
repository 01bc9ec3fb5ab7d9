"""Exact polynomials in one unknown, bounded in degree and in the size of their coefficients."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

__all__ = ["MAX_BITS", "MAX_DEGREE", "Polynomial", "TooLarge"]

MAX_DEGREE = 16
"""Highest power of any intermediate result."""

MAX_BITS = 2048
"""Maximum size of numerators and denominators, in bits (about 600 digits)."""


class TooLarge(ValueError):
    """A result would exceed `MAX_DEGREE` or `MAX_BITS`. It is raised before the calculation."""


def _bits(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())


@dataclass(frozen=True, slots=True)
class Polynomial:
    """A polynomial with rational coefficients.

    Attributes:
        coefficients: constant term first, no trailing zeros; the zero polynomial is empty.
    """

    coefficients: tuple[Fraction, ...]

    @classmethod
    def of(cls, *coefficients: Fraction | int) -> Polynomial:
        """Return the polynomial with these coefficients, constant term first.

        Raises:
            TooLarge: the degree or a coefficient exceeds its limit.
        """
        kept = [Fraction(c) for c in coefficients]
        while kept and kept[-1] == 0:
            kept.pop()
        if len(kept) > MAX_DEGREE + 1:
            raise TooLarge("the power of the unknown is too high")
        if any(_bits(c) > MAX_BITS for c in kept):
            raise TooLarge("the numbers get too large")
        return cls(tuple(kept))

    @property
    def degree(self) -> int:
        """The highest power with a coefficient; 0 for constants, including zero."""
        return max(len(self.coefficients) - 1, 0)

    @property
    def constant(self) -> Fraction:
        """The coefficient of the power 0."""
        return self.coefficients[0] if self.coefficients else Fraction(0)

    @property
    def leading(self) -> Fraction:
        """The coefficient of the highest power."""
        return self.coefficients[-1] if self.coefficients else Fraction(0)

    def __bool__(self) -> bool:
        return bool(self.coefficients)

    def __neg__(self) -> Polynomial:
        return Polynomial(tuple(-c for c in self.coefficients))

    def __add__(self, other: Polynomial) -> Polynomial:
        size = max(len(self.coefficients), len(other.coefficients))
        return Polynomial.of(*(self.coefficient(n) + other.coefficient(n) for n in range(size)))

    def __sub__(self, other: Polynomial) -> Polynomial:
        return self + -other

    def __mul__(self, other: Polynomial) -> Polynomial:
        if not self or not other:
            return Polynomial(())
        if self.degree + other.degree > MAX_DEGREE:
            raise TooLarge("the power of the unknown is too high")
        product = [Fraction(0)] * (self.degree + other.degree + 1)
        for n, a in enumerate(self.coefficients):
            for m, b in enumerate(other.coefficients):
                product[n + m] += a * b
        return Polynomial.of(*product)

    def __pow__(self, exponent: int) -> Polynomial:
        if self.degree * exponent > MAX_DEGREE:
            raise TooLarge("the power of the unknown is too high")
        if exponent > MAX_BITS or max(map(_bits, self.coefficients), default=0) * exponent > 2 * MAX_BITS:
            raise TooLarge("the numbers get too large")
        if not self.degree:
            return Polynomial.of(self.constant**exponent)
        result = Polynomial.of(1)
        for _ in range(exponent):
            result = result * self
        return result

    def coefficient(self, power: int) -> Fraction:
        """Return the coefficient of this power; 0 if there is none."""
        return self.coefficients[power] if power < len(self.coefficients) else Fraction(0)

    def scaled(self, factor: Fraction) -> Polynomial:
        """Return the polynomial with every coefficient multiplied by a number."""
        return Polynomial.of(*(c * factor for c in self.coefficients))

    def derivative(self) -> Polynomial:
        """Return the first derivative."""
        return Polynomial.of(*(n * c for n, c in enumerate(self.coefficients) if n))

    def at(self, value: Fraction) -> Fraction:
        """Return the exact value at a point."""
        total = Fraction(0)
        for c in reversed(self.coefficients):
            total = total * value + c
        return total

    def divided_by(self, divisor: Polynomial) -> tuple[Polynomial, Polynomial]:
        """Return quotient and remainder of polynomial long division."""
        rest = list(self.coefficients)
        quotient = [Fraction(0)] * max(len(rest) - divisor.degree, 0)
        for n in range(len(quotient) - 1, -1, -1):
            factor = rest[n + divisor.degree] / divisor.leading
            quotient[n] = factor
            for m, c in enumerate(divisor.coefficients):
                rest[n + m] -= factor * c
        return Polynomial.of(*quotient), Polynomial.of(*rest[: divisor.degree])

    def monic(self) -> Polynomial:
        """Return the polynomial with the same roots and the leading coefficient 1."""
        return self.scaled(1 / self.leading)
