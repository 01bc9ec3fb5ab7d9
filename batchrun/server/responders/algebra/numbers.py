"""The text of numbers and polynomials in answers."""

from __future__ import annotations

from decimal import Context, Decimal
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .polynomial import Polynomial

__all__ = ["approximate_text", "decimal_text", "equation_side", "exact_text", "number_text", "result_text"]

_SIGNIFICANT = Context(prec=6)


def number_text(value: Fraction, *, bracket: bool = False) -> str:
    """Return an exact number, `5`, `-5` or `5/2`; with `bracket`, fractions and negative numbers get brackets."""
    text = str(value)
    return f"({text})" if bracket and (value < 0 or value.denominator != 1) else text


def decimal_text(value: Fraction) -> str | None:
    """Return the number as a decimal if it has at most 12 places; otherwise None."""
    scaled = value * 10**12
    if scaled.denominator != 1:
        return None
    whole, places = divmod(abs(scaled.numerator), 10**12)
    digits = f"{places:012d}".rstrip("0")
    return ("-" if value < 0 else "") + (f"{whole}.{digits}" if digits else str(whole))


def approximate_text(value: Fraction | float) -> str:
    """Return the number with 6 significant digits, and with an exponent if it is very large or very small."""
    exact = Fraction(value)
    rounded = _SIGNIFICANT.divide(Decimal(exact.numerator), Decimal(exact.denominator))
    plain = rounded == 0 or -6 < rounded.adjusted() < 15
    if not plain:
        return f"{rounded:e}"
    text = f"{rounded:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def exact_text(value: Fraction, *, decimals: bool) -> str:
    """Return the shortest exact form: `5`, `2.5` if the question has decimals, otherwise `5/2`."""
    return (decimal_text(value) if decimals else None) or str(value)


def result_text(value: Fraction, *, decimals: bool) -> str:
    """Return a result in full: `5`, `2.5`, `5/2 = 2.5` or `1/3 ≈ 0.333333`."""
    exact = exact_text(value, decimals=decimals)
    if "/" not in exact:
        return exact
    ending = decimal_text(value)
    return f"{exact} = {ending}" if ending is not None else f"{exact} ≈ {approximate_text(value)}"


def equation_side(value: Polynomial, unknown: str, *, decimals: bool = False) -> str:
    """Return a polynomial as people write it, with the highest power first: `x^2 - 5x + 6`."""
    terms: list[str] = []
    for power in range(value.degree, -1, -1):
        c = value.coefficient(power)
        if c == 0:
            continue
        name = "" if power == 0 else unknown if power == 1 else f"{unknown}^{power}"
        size = exact_text(abs(c), decimals=decimals)
        if name and "/" in size:
            size = f"({size})"
        body = name if name and abs(c) == 1 else size + name
        sign = ("-" if c < 0 else "") if not terms else (" - " if c < 0 else " + ")
        terms.append(sign + body)
    return "".join(terms) or "0"
