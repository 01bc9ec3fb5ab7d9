"""The solution of calculations and equations, with the steps for an explanation."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import gcd

from batchrun.server.responders.algebra.expression import Expression, NotUnderstood
from batchrun.server.responders.algebra.numbers import (
    approximate_text,
    equation_side,
    exact_text,
    number_text,
    result_text,
)
from batchrun.server.responders.algebra.polynomial import Polynomial
from batchrun.server.responders.algebra.roots import Roots, find_roots, square_root

__all__ = ["Solution", "calculate", "expand", "solve_equation"]


@dataclass(frozen=True, slots=True)
class Solution:
    """A solved problem.

    Attributes:
        problem: the normalised problem, such as `3x + 11 = 14`.
        answer: one sentence with the result.
        result: the result alone, in the last words of the answer, such as `x = 1`.
        steps: the steps to the result, each a clause of a sentence.
        check: the result substituted into the problem; None if that shows nothing.
    """

    problem: str
    answer: str
    result: str
    steps: tuple[str, ...]
    check: str | None = None


def calculate(problem: str, expression: Expression) -> Solution:
    """Return the value of an expression without an unknown."""
    if expression.unknown is not None:
        raise NotUnderstood(f"the value of {expression.unknown} is not given")
    result = result_text(expression.value.constant, decimals=expression.decimals)
    steps = expression.operations or (f"{problem} = {result}",)
    return Solution(problem, f"{problem} = {result}.", result, steps)


def expand(problem: str, expression: Expression) -> Solution:
    """Return an expression in one unknown, multiplied out."""
    if expression.unknown is None:
        return calculate(problem, expression)
    result = equation_side(expression.value, expression.unknown, decimals=expression.decimals)
    steps = (f"multiply out {problem} and collect equal powers: {result}",)
    return Solution(problem, f"{problem} = {result}.", result, steps)


def solve_equation(left_text: str, right_text: str, left: Expression, right: Expression) -> Solution:
    """Return all solutions of `left = right`.

    Raises:
        NotUnderstood: the equation has two unknowns.
        TooLarge: the equation cannot be solved within the limits.
    """
    problem = f"{left_text} = {right_text}"
    decimals = left.decimals or right.decimals
    unknowns = {e.unknown for e in (left, right)} - {None}
    if len(unknowns) > 1:
        raise NotUnderstood("there is more than one unknown")
    if not unknowns:
        return _statement(problem, left, right)
    unknown = str(unknowns.pop())
    difference = left.value - right.value
    steps = _tidied(left_text, right_text, left, right, unknown)
    if not difference.degree:
        reduced = f"{number_text(difference.constant)} = 0"
        if difference:
            result = "no solution"
            answer = f"{problem} has no solution, because it comes down to {reduced}."
        else:
            result = f"true for every {unknown}"
            answer = f"{problem} is true for every {unknown}, because both sides are the same."
        return Solution(problem, answer, result, (*steps, f"take one side from the other, which leaves {reduced}"))
    if difference.degree == 1:
        return _linear(problem, left.value, right.value, unknown, decimals, steps)
    return _polynomial(problem, left.value, right.value, unknown, decimals, steps)


def _statement(problem: str, left: Expression, right: Expression) -> Solution:
    a, b = left.value.constant, right.value.constant
    decimals = left.decimals or right.decimals
    verdict = "true" if a == b else "false"
    shown = (exact_text(a, decimals=decimals), exact_text(b, decimals=decimals))
    values = f"the left side is {shown[0]}, the right side {shown[1]}"
    return Solution(problem, f"{problem} is {verdict}: {values}.", verdict, (values,))


def _tidied(left_text: str, right_text: str, left: Expression, right: Expression, unknown: str) -> tuple[str, ...]:
    """Return the step that multiplies out and collects terms; () if the equation already has this form."""
    decimals = left.decimals or right.decimals
    tidy = " = ".join(equation_side(e.value, unknown, decimals=decimals) for e in (left, right))
    written = f"{left_text} = {right_text}"
    if _bare(tidy) == _bare(written):
        return ()
    return (f"rewrite it as {tidy}",)


def _bare(text: str) -> str:
    return text.replace(" ", "").replace("*", "")


def _linear(
    problem: str, left: Polynomial, right: Polynomial, unknown: str, decimals: bool, steps: tuple[str, ...]
) -> Solution:
    """Return the solution of a linear equation: unknown to one side, numbers to the other, then divide."""
    whole = left
    if left.degree > 1:
        same = Polynomial((Fraction(0),) * 2 + left.coefficients[2:])
        left, right = left - same, right - same
        steps = (*steps, "take the equal higher powers from both sides")
    if not left.coefficient(1):
        left, right = right, left
    done = list(steps)

    def move(amount: Polynomial) -> None:
        nonlocal left, right
        left, right = left - amount, right - amount
        negative = amount.leading < 0
        size = equation_side(-amount if negative else amount, unknown, decimals=decimals)
        sides = " = ".join(equation_side(p, unknown, decimals=decimals) for p in (left, right))
        done.append(f"{f'add {size} to' if negative else f'subtract {size} from'} both sides to get {sides}")

    if right.coefficient(1):
        move(Polynomial.of(0, right.coefficient(1)))
    if left.constant:
        move(Polynomial.of(left.constant))
    factor, root = left.coefficient(1), right.constant / left.coefficient(1)
    number = exact_text(root, decimals=decimals)
    result = f"{unknown} = {result_text(root, decimals=decimals)}"
    if factor != 1:
        done.append(f"divide by {exact_text(factor, decimals=decimals)}")
    # The last step already ends with the result if there is nothing to divide by.
    clauses = [*done[:-1], *(step.removesuffix(f" to get {unknown} = {number}") for step in done[-1:])]
    if clauses and not clauses[-1].startswith("rewrite"):
        path = ", then ".join(clauses)
        answer = f"{path[0].upper()}{path[1:]} to find {result}."
    else:
        answer = f"{problem} comes down to {result}."
    shown = tuple(done) or (f"{unknown} is alone on its side already",)
    return Solution(problem, answer, result, shown, _check(whole, unknown, root, decimals))


def _check(side: Polynomial, unknown: str, root: Fraction, decimals: bool) -> str:
    value = exact_text(side.at(root), decimals=decimals)
    return f"with {unknown} = {exact_text(root, decimals=decimals)} both sides come to {value}"


def _polynomial(
    problem: str, left: Polynomial, right: Polynomial, unknown: str, decimals: bool, steps: tuple[str, ...]
) -> Solution:
    difference = left - right
    roots = find_roots(difference)
    standard = f"{equation_side(difference, unknown, decimals=decimals)} = 0"
    done = list(steps)
    if _bare(standard) != _bare(problem) and not any(step.endswith(f" {standard}") for step in steps):
        done.append(f"bring everything to one side: {standard}")
    done.append(_method(difference, roots, unknown, decimals))
    real = [f"{unknown} = {result_text(r, decimals=decimals)}" for r in roots.rational]
    real += [f"{unknown} {text}" for text in _irrational(roots)]
    above = [f"{unknown} {text}" for text in _complex(roots)]
    result = " or ".join([*real, *above])
    if not real:
        answer = f"{problem} has no real solution; its complex solutions are {result}."
    elif above:
        answer = (
            f"{problem} has the real solution{'s' * (len(real) > 1)} {' or '.join(real)}, "
            f"and the complex solutions {' or '.join(above)}."
        )
    else:
        answer = f"{problem} has the solution{'s' * (len(real) > 1)} {result}."
    check = _check(left, unknown, roots.rational[0], decimals) if roots.rational else None
    return Solution(problem, answer, result, tuple(done), check)


def _method(difference: Polynomial, roots: Roots, unknown: str, decimals: bool) -> str:
    if difference.degree == 2:
        c, b, a = difference.coefficients
        value = exact_text(b * b - 4 * a * c, decimals=decimals)
        return (
            f"use the quadratic formula with a = {exact_text(a, decimals=decimals)}, "
            f"b = {exact_text(b, decimals=decimals)}, c = {exact_text(c, decimals=decimals)}, "
            f"where b^2 - 4ac = {value}"
        )
    if roots.rest.degree == 0:
        factors = "".join(f"({equation_side(Polynomial.of(-r, 1), unknown)})" for r in roots.rational)
        return f"find the numbers that make it zero, which gives the distinct factors {factors}"
    return "find the numbers that make it zero, exactly where they are fractions and numerically elsewhere"


def _irrational(roots: Roots) -> list[str]:
    if roots.rest.degree == 2 and roots.real:
        return [
            f"{_surd(roots.rest, sign)}≈ {approximate_text(value)}"
            for sign, value in zip("-+", roots.real, strict=True)
        ]
    return [f"≈ {approximate_text(value)}" for value in roots.real]


def _surd(monic: Polynomial, sign: str) -> str:
    """Return a root of x² + bx + c as `= (p ± k√n)/q ` in whole numbers; "" if they are too long to read."""
    half = -monic.coefficient(1) / 2
    under = half * half - monic.coefficient(0)
    # √(n/m) = √(n m)/m makes the number under the root a whole number.
    inside, outside = _without_squares(under.numerator * under.denominator)
    bottom = half.denominator * under.denominator
    whole, outside = int(half * bottom), outside * half.denominator
    common = gcd(whole, outside, bottom)
    whole, outside, bottom = whole // common, outside // common, bottom // common
    if max(abs(whole), inside, outside, bottom) >= 10**9:
        return ""
    root = f"√{inside}" if outside == 1 else f"{outside}√{inside}"
    if not whole:
        top = f"-{root}" if sign == "-" else root
    else:
        top = f"{whole} {sign} {root}"
        top = f"({top})" if bottom != 1 else top
    return f"= {top} " if bottom == 1 else f"= {top}/{bottom} "


def _without_squares(number: int) -> tuple[int, int]:
    """Return n as (inside, outside) with n = inside · outside². Only small factors are taken out: bounded work."""
    outside = 1
    for factor in range(2, 1000):
        while number % (factor * factor) == 0:
            number //= factor * factor
            outside *= factor
    return number, outside


def _complex(roots: Roots) -> list[str]:
    texts: list[str] = []
    for z in roots.complex_above:
        sign, real, imaginary = "≈", approximate_text(z.real), approximate_text(z.imag)
        if roots.rest.degree == 2:
            half = -roots.rest.coefficient(1) / 2
            height = square_root(roots.rest.constant - half * half)
            if height is not None:
                sign, real, imaginary = "=", str(half), str(height)
            elif half == 0:
                real = "0"
        unit = "i" if imaginary == "1" else f"({imaginary})i" if "/" in imaginary else f"{imaginary}i"
        if real == "0":
            texts += [f"{sign} {unit}", f"{sign} -{unit}"]
        else:
            texts += [f"{sign} {real} + {unit}", f"{sign} {real} - {unit}"]
    return texts
