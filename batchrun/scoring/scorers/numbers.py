"""Exact reading of numbers as people and models write them.

These are numbers:

- digits with a decimal point (`3.5`, `.5`) or a decimal comma (`3,5`);
- digits with thousands separators: commas (`1,234.5`), points (`1.234,5`, `1.234.567`), spaces (`1 234,5`) or
  apostrophes (`1'234.5`) or `_`; after a currency also groups of two (`₹1,00,000`). `1,234` is 1234 and `1.234` a
  little more than one; with `decimal=","` it is the other way round. A group has three digits, so `1,23` has a decimal
  comma, and `1,2,3` are three numbers;
- a sign (`-`, `−`, `–`, `+`) that touches the number or its currency and follows no letter, digit or bracket:
  `10-3` are 10 and 3; or the word minus or negative, unless it follows a number: `10 minus 3` are 10 and 3;
- a power (`2^10`, `10⁶`, `10**6`), a power of ten (`1.2e-5`, `1.2 × 10^5`, `1.2·10⁵`), or one of the words thousand,
  million, billion, trillion; `70k` and `$70K` are 70,000, `5bn` and `$5B` five billion, `£1.2m` 1,200,000;
- a fraction: `3/4`, `1 3/4`, `¾`, `1¾`, `\\frac{3}{4}`, `\\frac34`, `1\\frac34`; a date such as
  `3/4/2025` is three numbers;
- a percentage, which keeps its value and is marked as one: `50 %`.

Digits after a letter belong to a name (`H2O`, `gsm8k`), unless the letters are a currency (`USD100`); digits after `^`
to a unit (`3 m^2`). A citation (`42.[1]`, `42 [1]`, `【4†source】`) is not a number. Numbers beyond
10^±400 or with more than 1,000 characters are not read.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Final, Literal, TypeAlias

__all__ = ["Exact", "ReadNumber", "last_number", "numbers_in", "plain_digits"]

_SPACES: Final = " \u00a0\u2009\u202f"
_VULGAR: Final = "¼½¾⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"
_MAX_CHARS: Final = 1_000
_MAX_EXPONENT: Final = 400
_WINDOWS_CHARS: Final = (40, 1_000, sys.maxsize)
_MARGIN_CHARS: Final = 20
_MAGNITUDES: Final = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_SUFFIXES: Final = {"k": 10**3, "K": 10**3, "m": 10**6, "M": 10**6, "mn": 10**6, "B": 10**9, "bn": 10**9}
_PLAIN_SUFFIXES: Final = ("k", "mn", "bn")
"""Suffixes that count without a currency too: `300K` may be a temperature, and `5m` a length."""
_OTHER_DIGIT: Final = re.compile(r"(?![0-9])\d")
_OTHER_MARKS: Final = str.maketrans("．，％－＋／＄٫٬٪", ".,%-+/$.,%")
_PLAIN_SIGNS: Final = str.maketrans("−–⁻⁺⁰¹²³⁴⁵⁶⁷⁸⁹", "--" + "-+0123456789")
_SWAPPED: Final = str.maketrans(".,", ",.")

_BODY: Final = rf"""(?:
    (?P<commas>[1-9][0-9]{{0,2}}(?:,[0-9]{{3}})+(?:\.[0-9]+)?(?![0-9]))
  | (?P<points>[1-9][0-9]{{0,2}}(?:(?:\.[0-9]{{3}})+,[0-9]+|(?:\.[0-9]{{3}}){{2,}})(?![0-9]))
  | (?P<lakhs>(?(currency)[1-9][0-9]?(?:,[0-9]{{2}})+,[0-9]{{3}}(?:\.[0-9]+)?(?![0-9])|(?!)))
  | (?P<gaps>[1-9][0-9]{{0,2}}
        (?:(?:[{_SPACES}][0-9]{{3}})+|(?:['’][0-9]{{3}})+|(?:_[0-9]{{3}})+)(?![0-9])(?:[.,][0-9]+)?)
  | (?P<comma>(?<![0-9],)[0-9]+,[0-9]+(?!,?[0-9]))
  | (?P<point>[0-9]+(?:\.[0-9]+)?|(?<![0-9])\.[0-9]+)
)"""

_NUMBER: Final = re.compile(
    rf"""
    (?=[-−–+0-9.$€£¥₹₽₩₪฿₫₺₴\\ACEGHIJURk{_VULGAR}])  # rejects most characters cheaply
    (?<![A-Za-z0-9_^])(?<!\^[-−+{{])(?<!\^\{{-)(?<![0-9]\.)
    (?:(?<![\w)\]}}%])(?P<sign>[-−–+]))?
    (?:(?P<currency>(?:US|CA|HK|[AC])?\$|[€£¥₹₽₩₪฿₫₺₴]|\\\$|(?:USD|EUR|GBP|CHF|JPY|CNY|INR|AUD|CAD|Rs\.?|kr))[{_SPACES}]?(?P<inner>[-−–+])?)?
    (?:
        (?P<before>[0-9]+)?[{_SPACES}]?\\[dt]?frac\s*(?:\{{\s*(?P<top>-?[0-9]+)\s*\}}|(?P<digit>[0-9]))\s*(?:\{{\s*(?P<bottom>[0-9]+)\s*\}}|(?P<under>[0-9]))
      | (?P<whole>[0-9]+)?[{_SPACES}]?(?P<vulgar>[{_VULGAR}])
      | (?<![0-9]/)(?P<mixed>[0-9]+)[{_SPACES}](?P<part>[0-9]+)/(?P<of>[0-9]+)(?!/?[0-9])
      | {_BODY}
        (?:
            (?:[eE](?P<exponent>[-−+]?[0-9]+)(?![A-Za-z0-9]))
          | (?:[{_SPACES}]?(?:[×xX*·]|\\times|\\cdot)[{_SPACES}]?10
               (?:(?:\^|\*\*)\{{?(?P<power>[-−+]?[0-9]+)\}}?|(?P<raised>[⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+)))
          | (?:[{_SPACES}](?P<magnitude>thousand|million|billion|trillion)\b)
          | (?:(?:\^|\*\*)\{{?(?P<raise>[-−+]?[0-9]+)\}}?|(?<=(?<![0-9.,])10)(?P<high>[⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+))
          | (?P<suffix>bn|mn|[kKMmB])(?![A-Za-z0-9])
          | (?:[{_SPACES}]?/[{_SPACES}]?(?P<over>[0-9]+(?:\.[0-9]+)?)(?!/?[0-9]))
        )?
    )
    (?P<percent>[{_SPACES}]?(?:\\?%|percent\b|per[ ]cent\b|pct\b))?
    """,
    re.VERBOSE,
)
_CITATION: Final = re.compile(
    r"【[^】\n]{0,60}】|(?:(?<=[\w.,;:!?%)\]\"'*])|(?<=[0-9%.])[ ])\[[0-9]{1,3}(?:[ ]?[,–-][ ]?[0-9]{1,3}){0,9}\]"
)
_MINUS: Final = re.compile(r"(?<![0-9)%}$])(?<![0-9)%}$] )\b(?:minus|negative) ?\Z", re.IGNORECASE)
_LAST_DIGIT: Final = re.compile(rf".*[0-9{_VULGAR}]", re.DOTALL)


Exact: TypeAlias = int | Fraction


@dataclass(frozen=True, slots=True)
class ReadNumber:
    """A number in a text.

    Attributes:
        value: the exact value, whole numbers as int, which is faster; a percentage without its sign: `50 %` is 50.
        percent: whether it is a percentage.
        text: the number as written.
    """

    value: Exact
    percent: bool
    text: str


def numbers_in(text: str, decimal: Literal[".", ","] = ".") -> Iterator[ReadNumber]:
    """Yield all numbers of a text, in order; the module's docstring has the rule."""
    text = _prepared(text)
    for match in _matches(text, decimal):
        number = _number(match, text)
        if number is not None:
            yield number


def last_number(text: str, decimal: Literal[".", ","] = ".") -> ReadNumber | None:
    """Return the last number of a text; None if there is none.

    Only the end of a long text is read, as far as the last number can extend.
    """
    if text.isascii() and text.isdigit() and len(text) <= _MAX_CHARS:
        return ReadNumber(int(text), False, text)
    text = _prepared(text)
    digit = _LAST_DIGIT.match(text)
    if digit is None:
        return None
    text = text[: digit.end() + _MARGIN_CHARS]
    for window in _WINDOWS_CHARS:
        start = max(0, digit.end() - window)
        start = max(text.rfind(" ", 0, start), text.rfind("\n", 0, start)) + 1
        ending = text[start:]
        matches = list(_matches(ending, decimal))
        # A number at the beginning of the window may have started before it.
        if start and (not matches or matches[-1].start() < _MARGIN_CHARS):
            continue
        for match in reversed(matches):
            number = _number(match, ending)
            if number is not None:
                return number
        if not start:
            break
    return None


def plain_digits(text: str) -> str:
    """Return a text with the digits of other scripts, and full-width or Arabic marks, as ASCII has them.

    >>> plain_digits("１８．５％ or ١٨")
    '18.5% or 18'
    """
    if text.isascii():
        return text
    return _OTHER_DIGIT.sub(lambda match: str(unicodedata.decimal(match[0])), text.translate(_OTHER_MARKS))


def _prepared(text: str) -> str:
    """Replace digits of other scripts and LaTeX's thousands separators by plain ones, and citations by spaces."""
    text = plain_digits(text)
    if "[" in text or "【" in text:
        cleared = _CITATION.sub(lambda match: " " * len(match[0]), text)
        text = cleared if _LAST_DIGIT.match(cleared) else text
    if "{,}" in text or "\\," in text or "\\!" in text:
        return text.replace("{,}", ",").replace("\\,", "\u2009").replace("\\!", "")
    return text


def _matches(text: str, decimal: Literal[".", ","]) -> Iterator[re.Match[str]]:
    searched = text.translate(_SWAPPED) if decimal == "," else text
    position = 0
    while match := _NUMBER.search(searched, position):
        position = match.end()
        start, over = match.start(), match["over"]
        if over is not None and (
            not over.strip("0.") or (start > 1 and searched[start - 1] == "/" and searched[start - 2].isdigit())
        ):
            # A division by zero, or the last two parts of a date: only the part before the slash is read.
            position = searched.rindex("/", start, match.start("over"))
            match = _NUMBER.match(searched, start, len(searched[start:position].rstrip(_SPACES)) + start)
        if match is not None:
            yield match


def _number(match: re.Match[str], text: str) -> ReadNumber | None:
    """Return the number of a match; None if it cannot be represented."""
    value = _value(match)
    if value is None:
        return None
    before = text[max(0, match.start() - 12) : match.start()]
    if before[-2:].lower() in ("s ", "e ") and match["sign"] is None and _MINUS.search(before):
        value = -value
    return ReadNumber(value, match["percent"] is not None, text[match.start() : match.end()].strip())


def _value(match: re.Match[str]) -> Exact | None:
    if match.end() - match.start() > _MAX_CHARS:
        return None
    try:
        value = _magnitude(match)
    except (InvalidOperation, ZeroDivisionError, OverflowError):
        return None
    if value is None:
        return None
    negative = (match["sign"] in ("-", "−", "–")) != (match["inner"] in ("-", "−", "–"))
    return -value if negative else value


def _magnitude(match: re.Match[str]) -> Exact | None:
    top, bottom = match["top"] or match["digit"], match["bottom"] or match["under"]
    if top is not None:
        return int(match["before"] or 0) + Fraction(int(top), int(bottom))
    if match["vulgar"] is not None:
        # numeric() gives floats, for thirds too; no vulgar fraction has a denominator above 16.
        part = Fraction(unicodedata.numeric(match["vulgar"])).limit_denominator(16)
        return int(match["whole"] or 0) + part
    if match["mixed"] is not None:
        return int(match["mixed"]) + Fraction(int(match["part"]), int(match["of"]))
    digits = _digits(match)
    value: Exact = int(digits) if digits.isdigit() else Fraction(Decimal(digits))
    if match["over"] is not None:
        return value / Fraction(Decimal(match["over"]))
    if (power := match["raise"] or match["high"]) is not None:
        return _power(value, int(power.translate(_PLAIN_SIGNS)))
    suffix = match["suffix"]
    if suffix is not None:
        return value * _SUFFIXES[suffix] if suffix in _PLAIN_SUFFIXES or match["currency"] else value
    exponent = _exponent(match)
    if abs(exponent) > _MAX_EXPONENT:
        return None
    return value * Fraction(10) ** exponent if exponent else value


def _power(base: Exact, exponent: int) -> Exact | None:
    """Return a power; None if it is beyond the limits."""
    size = max(abs(Fraction(base).numerator), Fraction(base).denominator)
    if abs(exponent) * len(str(size)) > 2 * _MAX_EXPONENT:
        return None
    return Fraction(base) ** exponent if exponent < 0 else base**exponent


def _digits(match: re.Match[str]) -> str:
    """Return the number's body without thousands separators and with a decimal point."""
    if (text := match["point"]) is not None:
        return text
    if (text := match["commas"] or match["lakhs"]) is not None:
        return text.replace(",", "")
    if (text := match["points"]) is not None:
        return text.replace(".", "").replace(",", ".")
    if (text := match["comma"]) is not None:
        return text.replace(",", ".")
    return re.sub(rf"[{_SPACES}'’_]", "", match["gaps"]).replace(",", ".")


def _exponent(match: re.Match[str]) -> int:
    written = match["exponent"] or match["power"] or match["raised"]
    if written is not None:
        return int(written.translate(_PLAIN_SIGNS))
    return _MAGNITUDES.get(match["magnitude"] or "", 0)
