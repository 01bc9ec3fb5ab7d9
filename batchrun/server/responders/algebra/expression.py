"""The parser of expressions such as `2(x + 1)^2 - 3/4`, which returns exact polynomials.

The grammar, with the loosest binding first (nothing is evaluated as code):

    sum      = product (("+" | "-") product)*
    product  = signed (("*" | "/") signed | implicit)*
    implicit = a power that follows directly and starts with a letter or "("
    signed   = ("+" | "-")* power
    power    = atom ("^" signed)?
    atom     = number | letter | "(" sum ")"

`a/b c` is refused, because it can mean `(a/b)c` and `a/(bc)`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from batchrun.server.responders.algebra.numbers import number_text
from batchrun.server.responders.algebra.polynomial import MAX_BITS, Polynomial, TooLarge

__all__ = ["MAX_LENGTH", "Expression", "NotUnderstood", "parse"]

MAX_LENGTH = 300
"""Maximum length of an expression, in characters."""

MAX_DEPTH = 30
"""Maximum depth of nested brackets, powers and signs."""

_TOKEN = re.compile(r"\s*(?:(?P<number>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)|(?P<sign>[-+*/^()A-Za-z]))")


class NotUnderstood(ValueError):
    """The text is not an expression of this grammar; the message states why in a few words."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A parsed expression.

    Attributes:
        value: its value, as a polynomial in the unknown.
        unknown: the letter of the unknown; None if there is none.
        operations: calculations between plain numbers, in their order, such as `3 * 4 = 12`.
        decimals: a number was written with a decimal point.
        operators: number of written operations.
    """

    value: Polynomial
    unknown: str | None
    operations: tuple[str, ...]
    decimals: bool
    operators: int


def parse(text: str) -> Expression:
    """Parse an expression.

    Raises:
        NotUnderstood: it does not follow the grammar, is ambiguous, has two unknowns, or divides by zero.
        TooLarge: it is too long, nested too deeply, or a result exceeds its limit.
    """
    if len(text) > MAX_LENGTH:
        raise TooLarge("the expression is too long")
    parser = _Parser(_tokens(text))
    value = parser.sum(0)
    if parser.peek() is not None:
        raise NotUnderstood(f"'{parser.peek()}' is not expected there")
    return Expression(value, parser.unknown, tuple(parser.operations), parser.decimals, operators=parser.operators)


def _tokens(text: str) -> list[str]:
    tokens: list[str] = []
    position = 0
    text = text.rstrip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise NotUnderstood(f"'{text[position:].strip()[:1]}' is not expected there")
        tokens.append(match["number"] or match["sign"])
        position = match.end()
    return tokens


def _is_number(token: str | None) -> bool:
    return token is not None and (token[0].isdigit() or token[0] == ".")


class _Parser:
    """A recursive-descent parser over tokens.

    Mutable state: everything; one parser reads one expression.
    """

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.position = 0
        self.unknown: str | None = None
        self.operations: list[str] = []
        self.decimals = False
        self.operators = 0

    def peek(self) -> str | None:
        return self.tokens[self.position] if self.position < len(self.tokens) else None

    def take(self) -> str:
        token = self.peek()
        if token is None:
            raise NotUnderstood("something is missing at the end")
        self.position += 1
        return token

    def sum(self, depth: int) -> Polynomial:
        if depth > MAX_DEPTH:
            raise TooLarge("the expression is nested too deeply")
        value = self.product(depth)
        while self.peek() in ("+", "-"):
            sign = self.take()
            other = self.product(depth)
            value = self.note(value, sign, other, value + other if sign == "+" else value - other)
        return value

    def product(self, depth: int) -> Polynomial:
        value = self.signed(depth)
        after_slash = False
        while (token := self.peek()) is not None:
            if token in ("*", "/"):
                self.take()
                after_slash = token == "/"
                other = self.signed(depth)
                result = value * other if token == "*" else self.quotient(value, other)
                value = self.note(value, token, other, result)
            elif token == "(" or token.isalpha():
                if after_slash:
                    raise NotUnderstood("it is not clear how far the division reaches, brackets would tell")
                other = self.power(depth)
                value = self.note(value, "*", other, value * other)
            else:
                break
        return value

    def quotient(self, value: Polynomial, divisor: Polynomial) -> Polynomial:
        if not divisor:
            raise NotUnderstood("division by zero has no result")
        if divisor.degree:
            raise NotUnderstood("the unknown is in a denominator")
        return value.scaled(1 / divisor.constant)

    def signed(self, depth: int) -> Polynomial:
        negative = False
        while self.peek() in ("+", "-"):
            negative ^= self.take() == "-"
        value = self.power(depth)
        return -value if negative else value

    def power(self, depth: int) -> Polynomial:
        if depth > MAX_DEPTH:
            raise TooLarge("the expression is nested too deeply")
        base = self.atom(depth)
        if self.peek() != "^":
            return base
        self.take()
        exponent = self.signed(depth + 1)
        return self.note(base, "^", exponent, self.raised(base, exponent))

    def raised(self, base: Polynomial, exponent: Polynomial) -> Polynomial:
        if exponent.degree:
            raise NotUnderstood("the unknown is in an exponent")
        number = exponent.constant
        if number.denominator != 1:
            raise NotUnderstood("an exponent is not a whole number")
        if not base and number <= 0:
            raise NotUnderstood("zero to that power has no result")
        if abs(number) > MAX_BITS:
            raise TooLarge("an exponent is too large")
        if number < 0:
            base = self.quotient(Polynomial.of(1), base)
        return base ** abs(int(number))

    def atom(self, depth: int) -> Polynomial:
        token = self.take()
        if token == "(":
            value = self.sum(depth + 1)
            if self.peek() != ")":
                raise NotUnderstood("a bracket is not closed")
            self.take()
        elif _is_number(token):
            self.decimals |= "." in token
            value = Polynomial.of(Fraction(token.replace(",", "")))
        elif token.isalpha():
            if token in "eiEI":
                raise NotUnderstood(f"'{token}' may be a number or an unknown")
            if self.unknown not in (None, token):
                raise NotUnderstood("there is more than one unknown")
            self.unknown = token
            value = Polynomial.of(0, 1)
        else:
            raise NotUnderstood(f"'{token}' is not expected there")
        if _is_number(self.peek()):
            raise NotUnderstood(f"an operator is missing before '{self.peek()}'")
        return value

    def note(self, left: Polynomial, sign: str, right: Polynomial, result: Polynomial) -> Polynomial:
        """Record the calculation for an explanation if both sides are plain numbers, and return `result`."""
        self.operators += 1
        if not (left.degree or right.degree or result.degree):
            a, b, c = (number_text(p.constant, bracket=True) for p in (left, right, result))
            written = f"{a} {sign} {b} = {c.strip('()')}"
            if sign != "/" or written.replace(" ", "") != f"{a}/{b}={a}/{b}":
                self.operations.append(written)
        return result
