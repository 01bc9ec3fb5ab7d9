"""What a mathematical answer and a target say, before they are parsed: plain functions of texts, without SymPy."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final

__all__ = ["final_part", "has_mathematics", "is_prose", "is_text", "normal_text"]

_BOXED: Final = re.compile(r"\\(?:boxed|fbox)\s*\{")
_ANCHOR: Final = re.compile(
    r"(?:\banswer\b[*_]{0,3}\s*(?:is\b|:|=)|#{4,}|答案[是为：:]|정답[은:：])[:\s]*", re.IGNORECASE
)
_ENVIRONMENT: Final = re.compile(
    r"\$\$(?P<a>[^$]+)\$\$|(?<!\\)\$(?P<b>(?:\\\$|[^$\n])+)(?<!\\)\$|\\\[(?P<c>(?:(?!\\\]).)+)\\\]|\\\((?P<d>(?:(?!\\\)).)+)\\\)",
    re.DOTALL,
)
_BETWEEN: Final = re.compile(r"\s*(?:,|;|and|or|,\s*and|,\s*or)\s*")
_WORD: Final = re.compile(
    r"(?<![\\A-Za-z])(?:[A-Za-z]{3,}|an|as|at|be|by|do|he|if|in|is|it|me|my|no|of|on|so|to|up|us|we)(?![A-Za-z])",
    re.IGNORECASE,
)
_MATH_WORDS: Final = frozenset((
    "and", "for", "sin", "cos", "tan", "cot", "sec", "csc", "log", "exp", "sqrt", "frac", "pi", "inf", "mod", "lim",
    "max", "min", "gcd", "lcm", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "infinity", "matrix",
    "pmatrix", "bmatrix", "vmatrix", "array", "cases",
))  # fmt: skip
_TEXT: Final = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox|operatorname)\s*\{(?P<inside>[^{}]*)\}")
_NO_MEANING: Final = re.compile(
    r"\\(?:left|right|displaystyle|limits|quad|qquad|big|Big|bigg|Bigg)(?![A-Za-z])|\\[,;:! ]|~|\$|\\[()\[\]]|\s"
)
_MATHEMATICS: Final = re.compile(r"[0-9=+*/^<>|√π∞∪∩−]|(?<![A-Za-z])-|\\[A-Za-z]|(?<![A-Za-z])[A-Za-z](?![A-Za-z])")
_SAME: Final = (
    (re.compile(r"\\[dt]frac(?![A-Za-z])"), r"\\frac"),
    (re.compile(r"\\(?:geq|ge)(?![A-Za-z])|≥"), ">="),
    (re.compile(r"\\(?:leq|le)(?![A-Za-z])|≤"), "<="),
    (re.compile(r"\^\s*\{?\s*\\circ\s*\}?|°|\\degree"), "^{°}"),
    (re.compile(r"\\%"), "%"),
    (re.compile("[−–]"), "-"),
    (re.compile(r"\\(?:times|cdot)(?![A-Za-z])|[×·]"), "*"),
    (re.compile(r"π"), r"\\pi"),
    (re.compile(r"\{,\}"), ","),
)


def final_part(answer: str) -> str | None:
    r"""Return the part of an answer that states its result; None if only its last expression can be.

    That is the last `\boxed{…}`; else the line after the last `answer is`, `answer:` or `####`; else the last text
    between dollars; else the whole answer if it is one line without prose.

    >>> final_part(r"So $x = \boxed{\frac{1}{2}}$.")
    '\\frac{1}{2}'
    >>> final_part("The answer is x - 3. We subtracted.")
    'x - 3'
    """
    if (boxed := _last_boxed(answer)) is not None:
        return boxed
    anchors = list(_ANCHOR.finditer(answer))
    if anchors:
        line = next(iter(answer[anchors[-1].end() :].splitlines()), "")
        if line.strip(" *_`."):
            return _first_sentence(line)
    environments = list(_ENVIRONMENT.finditer(answer))
    if environments:
        return str(next(filter(None, environments[-1].groups())))
    line = answer.strip()
    return None if "\n" in line or is_prose(line) else line


def is_prose(text: str) -> bool:
    r"""Return whether a text has two or more words that are not mathematics.

    >>> is_prose("They have 18 eggs in all"), is_prose(r"2 \text{ and } 3"), is_prose("Evelyn")
    (True, False, False)
    """
    words = _WORD.findall(_TEXT.sub("", text))
    return sum(word.lower() not in _MATH_WORDS for word in words) > 1


def has_mathematics(text: str) -> bool:
    r"""Return whether a text has a digit, a sign or a command of LaTeX, or is a single letter."""
    return bool(_MATHEMATICS.search(_TEXT.sub("", text)))


def is_text(text: str) -> bool:
    r"""Return whether a target is a text such as `even` or `\text{Evelyn}`, which is not parsed.

    >>> is_text(r"\text{Evelyn}"), is_text("even"), is_text("x + 1"), is_text("p - q"), is_text(r"5 \text{ cm}")
    (True, True, False, False, False)
    """
    return not has_mathematics(text) and re.search(r"[^\W\d_]{2}", text) is not None


def normal_text(text: str) -> str:
    r"""Return a text without what has no meaning in mathematics: space, dollars, `\left`, a full stop, `\text`.

    >>> normal_text(r"$\left( 3, \dfrac{\pi}{2} \right)$.")
    '(3,\\frac{\\pi}{2})'
    """
    text = _TEXT.sub(lambda match: match["inside"], text.strip().strip("*_`"))
    for pattern, same in _SAME:
        text = pattern.sub(same, text)
    return str(_NO_MEANING.sub("", text)).rstrip(".,;")


def _first_sentence(line: str) -> str:
    """Return a line up to the full stop that ends its first sentence, without Markdown around it."""
    line = re.split(r"(?<=[^.\s])[.;](?:\s|$)", line.strip(), maxsplit=1)[0]
    environments = list(_ENVIRONMENT.finditer(line))
    if len(environments) > 1 and all(
        _BETWEEN.fullmatch(line, one.end(), other.start()) for one, other in pairwise(environments)
    ):
        return line[environments[0].start() : environments[-1].end()]  # $x = 2$ or $x = 3$
    if environments:
        return str(next(filter(None, environments[0].groups())))
    return line.strip().strip("*_`").strip()


def _last_boxed(answer: str) -> str | None:
    """Return what is in the last box; None without a box that is closed."""
    for match in reversed(list(_BOXED.finditer(answer))):
        depth, place = 1, match.end()
        for brace in re.compile(r"\\.|[{}]", re.DOTALL).finditer(answer, match.end()):
            depth += {"{": 1, "}": -1}.get(brace[0], 0)
            place = brace.start()
            if depth == 0:
                return answer[match.end() : place].strip()
    return None
