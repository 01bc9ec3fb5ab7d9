"""Finds the calculation that a sentence asks for. A sentence that may ask for anything else is refused.

A written expression is the question only if every other word is on a list of framing words ("please", "solve",
"what is", ...). Words with a meaning for the result ("each", "half", "meters") make the sentence a word problem,
which gets no number, because no answer is better than a wrong one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from batchrun.server.responders.algebra.expression import Expression, NotUnderstood, parse
from batchrun.server.responders.algebra.numbers import approximate_text, decimal_text, number_text, result_text
from batchrun.server.responders.algebra.polynomial import Polynomial, TooLarge
from batchrun.server.responders.algebra.solution import Solution, calculate, expand, solve_equation
from batchrun.server.responders.algebra.words import (
    EXPAND_WORDS,
    FOLLOW_UP,
    FOLLOW_UP_CUES,
    FRAMING,
    MAY_FOLLOW,
    ROOT_WORDS,
)

__all__ = ["MAX_TEXT", "asks_to_explain", "solve_question"]

MAX_TEXT = 2_000
"""Maximum length of a question, in characters."""


# Bounded repetitions and the look-behind keep the search linear in the length of the text.
_NUMBER = r"(?<![\d.,])(-?\d{1,15}(?:,\d{3}){0,5}(?:\.\d{1,15})?)(?![.,]?\d)"
_PERCENT = r"\s*(?:%|per\s?cent\b)"
_RAISE = r"(?:increased?|raised?)"
_LOWER = r"(?:decreased?|reduced?|lower(?:ed)?)"
_PERCENTAGES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("of", re.compile(rf"{_NUMBER}{_PERCENT}\s+of\s+{_NUMBER}", re.I)),
    ("up", re.compile(rf"\b{_RAISE}\s+{_NUMBER}\s+by\s+{_NUMBER}{_PERCENT}", re.I)),
    ("up", re.compile(rf"{_NUMBER}\s+{_RAISE}\s+by\s+{_NUMBER}{_PERCENT}", re.I)),
    ("down", re.compile(rf"\b{_LOWER}\s+{_NUMBER}\s+by\s+{_NUMBER}{_PERCENT}", re.I)),
    ("down", re.compile(rf"{_NUMBER}\s+{_LOWER}\s+by\s+{_NUMBER}{_PERCENT}", re.I)),
    ("share", re.compile(rf"\bwhat\s+per\s?cent(?:age)?\s+of\s+{_NUMBER}\s+is\s+{_NUMBER}", re.I)),
    ("share_of", re.compile(rf"\bwhat\s+per\s?cent(?:age)?\s+is\s+{_NUMBER}\s+of\s+{_NUMBER}", re.I)),
    ("share_of", re.compile(rf"{_NUMBER}\s+is\s+what\s+per\s?cent(?:age)?\s+of\s+{_NUMBER}", re.I)),
)

_REWRITES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\\[()\[\]]|`+|\$+"), ";"),
    (re.compile(r"\\(?:left|right|displaystyle|,|;|!|quad)(?![A-Za-z])"), " "),
    (re.compile(r"\\(?:times|cdot)(?![A-Za-z])|[×·⋅∙]"), "*"),
    (re.compile(r"\\div(?![A-Za-z])|[÷∕⁄]"), "/"),
    (re.compile(r"\\d?frac\{([^{}]*)\}\{([^{}]*)\}"), r"((\1)/(\2))"),
    (re.compile(r"[−–—‒]"), "-"),
    (re.compile(r"\*\*"), "^"),
    (re.compile(r"[\[{]"), "("),
    (re.compile(r"[\]}]"), ")"),
    (re.compile(r"’"), "'"),
    (re.compile(r"[“”„«»]"), '"'),
    (re.compile(r"[\u00a0\u2009\u202f\u2002\u2003]"), " "),
    (re.compile(r"…"), "."),
)
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_SUPERSCRIPT = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+")
_DATE_OR_PHONE = re.compile(r"\b(?:(?:\d{1,3}-)?\d{3}-\d{3}-\d{4}|\d{4}-\d{1,2}-\d{1,2}|\d{1,2}/\d{1,2}/\d{2,4})\b")
_EQUALS = re.compile(r"(?<=[\d)A-Za-z])\s+(?:equals|is\s+equal\s+to)\s+(?=-?[\d(]|[a-z]\b)", re.I)
_WORD_SIGNS = {"plus": "+", "minus": "-", "times": "*", "multiplied by": "*", "divided by": "/"}
_WORD_SIGN = re.compile(
    r"(?<=[\d)A-Za-z])\s+(plus|minus|times|multiplied\s+by|divided\s+by)\s+(?=-?[\d(]|[a-z]\b)", re.I
)
_TIMES_X = re.compile(r"(?<=\d)(\s?)[xX]\1(?=\d)")
_LONE_X = re.compile(r"(?<![A-Za-z])[xX](?![A-Za-z])")
_FOR_UNKNOWN = re.compile(r"\b(?:solve|find)\s+for\s+([a-zA-Z])\b(?!\s*[-+*/^=])", re.I)
_TOKEN = re.compile(
    r"(?P<space>\s+)|(?P<number>(?:\d[\d,]*\d|\d)(?:\.\d+)?|\.\d+)|(?P<word>[A-Za-z]+(?:'[A-Za-z]+)*)"
    r"|(?P<sign>[-+*/^()=])|(?P<stop>[.,;:?!\"'])"
)


def asks_to_explain(text: str) -> bool:
    """Return whether the text asks about an earlier answer without naming another subject."""
    if len(text) > MAX_TEXT or not re.fullmatch(r"[A-Za-z\s.,;:?!'’\"-]*", text):
        return False
    words = re.findall(r"[a-z]+(?:'[a-z]+)*", text.lower().replace("’", "'"))
    return FOLLOW_UP.issuperset(words) and not FOLLOW_UP_CUES.isdisjoint(words)


def solve_question(text: str) -> Solution | None:
    """Solve the problem that the text asks for.

    Returns:
        None if the text does not contain a complete problem.

    Raises:
        NotUnderstood: there is an expression, but it is ambiguous or beyond the tutor; the message states why.
        TooLarge: there is an expression, but it exceeds a limit.
    """
    if len(text) > MAX_TEXT or not any(c.isdigit() for c in text) or _DATE_OR_PHONE.search(text):
        return None
    percentage = _percentage(text.replace("$", " ").replace("`", " "))
    if percentage is not None:
        return percentage
    question = _only_expression(_rewritten(text))
    return None if question is None else _solve_written(question)


@dataclass(slots=True)
class _Run:
    """A mathematical part of the text, and the words directly before and after it; "" for no word or punctuation."""

    tokens: list[str]
    before: str
    after: str = ""


@dataclass(frozen=True, slots=True)
class _Question:
    """A text's only expression, the framing words around it, and the single letters outside it."""

    written: str
    run: _Run
    words: set[str]
    named: set[str]


def _rewritten(text: str) -> str:
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    text = _SUPERSCRIPT.sub(lambda m: f"^{m[0].translate(_SUPERSCRIPTS)} ", text)
    text = _EQUALS.sub(" = ", text)
    # "3 x 4" is a product if every x of the text has this form; with a real unknown x it is ambiguous.
    times = _TIMES_X.findall(text)
    return _TIMES_X.sub(" * ", text) if times and len(_LONE_X.findall(text)) == len(times) else text


def _only_expression(text: str) -> _Question | None:
    text, spoken = _WORD_SIGN.subn(lambda m: f" {_WORD_SIGNS[' '.join(m[1].lower().split())]} ", text)
    named = {m[1] for m in _FOR_UNKNOWN.finditer(text)}
    text = _FOR_UNKNOWN.sub(";", text)
    cut = _runs(text)
    if cut is None:
        return None
    runs, words = cut
    named.update(run.tokens[0] for run in runs if _is_letter(run))
    written = [run for run in runs if not _is_letter(run) and run.tokens != ["-"]]
    if len(written) != 1 or not words <= FRAMING:
        return None
    expression = _spaced(written[0].tokens)
    if spoken and _leaves_order_open(expression):
        raise NotUnderstood("spoken signs do not tell what comes first, brackets would")
    return _Question(expression, written[0], words, named)


def _is_letter(run: _Run) -> bool:
    return len(run.tokens) == 1 and run.tokens[0].isalpha()


def _leaves_order_open(written: str) -> bool:
    signs = [c for c in written if c in "+-*/^("]
    return len(signs) > 1 and any(s in "*/^(" for s in signs)


def _runs(text: str) -> tuple[list[_Run], set[str]] | None:
    """Split the text into its mathematical parts and the words between them; None if a sign is unknown."""
    runs: list[_Run] = []
    words: set[str] = set()
    open_run: _Run | None = None
    last_word = ""
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            return None
        position = match.end()
        kind, token = match.lastgroup, match[0]
        if kind == "space":
            continue
        if kind in ("number", "sign") or (kind == "word" and len(token) == 1):
            if open_run is None:
                open_run = _Run([], last_word)
                runs.append(open_run)
            open_run.tokens.append(token)
            continue
        if token == "!" and open_run:
            return None  # a factorial or an exclamation mark: ambiguous
        last_word = token.lower() if kind == "word" else ""
        if kind == "word":
            words.add(last_word)
            if open_run is not None:
                open_run.after = last_word
        open_run = None
    return runs, words


def _spaced(run: list[str]) -> str:
    """Return the tokens as people write them, with spaces around the signs between operands."""
    text = ""
    before = ""
    for token in run:
        binary = token == "=" or (token in "+-*/" and before not in ("", "(", "=", "+", "-", "*", "/", "^"))
        if binary and token != "/":
            text += f" {token} "
        elif before and (before[0].isdigit() or before.isalpha()) and token[0].isdigit():
            text += f" {token}"
        else:
            text += token
        before = token
    return text.strip()


def _solve_written(question: _Question) -> Solution | None:
    sides = [side.strip() for side in question.written.split("=")]
    if len(sides) == 2 and sides[1] == "":
        sides.pop()
    if len(sides) > 2 or not all(sides):
        raise NotUnderstood("that is not one equation with two sides")
    read = [parse(side) for side in sides]
    unknowns = {e.unknown for e in read} - {None}
    if any(name not in unknowns and name not in ("a", "A", "I") for name in question.named):
        raise NotUnderstood("the unknown that is asked for is not the one in the equation")
    if len(read) == 2:
        return solve_equation(sides[0], sides[1], *read)
    expression = read[0]
    if expression.unknown is None:
        return calculate(sides[0], expression) if _asks_for_value(question, expression) else None
    if question.words & ROOT_WORDS:
        zero = Expression(Polynomial.of(), None, (), decimals=False, operators=0)
        return solve_equation(sides[0], "0", expression, zero)
    if question.words & EXPAND_WORDS:
        return expand(sides[0], expression)
    return None


def _asks_for_value(question: _Question, expression: Expression) -> bool:
    """Return whether the numbers are the question, and not a count of something ("in 3-4 steps")."""
    run = question.run
    return (
        expression.operators > 0
        and run.before != "in"
        and (run.after == "" or run.after in MAY_FOLLOW)
        and not question.words & (ROOT_WORDS - {"zero"})
    )


def _percentage(text: str) -> Solution | None:
    for kind, pattern in _PERCENTAGES:
        match = pattern.search(text)
        if match is None:
            continue
        cut = _runs(f"{text[: match.start()]} ; {text[match.end() :]}")
        if cut is None:
            return None
        runs, words = cut
        if not words <= FRAMING or any(run.tokens not in (["a"], ["I"]) for run in runs):
            return None
        return _percentage_of(kind, match[1], match[2])
    return None


def _percentage_of(kind: str, first: str, second: str) -> Solution | None:
    decimals = "." in first + second
    a, b = (parse(text).value.constant for text in (first, second))
    percent = Fraction(1, 100)
    if kind == "of":
        problem, value = f"{first}% of {second}", a * percent * b
        working = f"{first}% of {second} is {first}/100 * {second}"
    elif kind in ("up", "down"):
        sign, verb = ("+", "increased") if kind == "up" else ("-", "decreased")
        change = a * b * percent
        problem, value = f"{first} {verb} by {second}%", a + change if kind == "up" else a - change
        working = f"{second}% of {first} is {number_text(change)}, and {first} {sign} {number_text(change)}"
    else:
        part, whole, part_text, whole_text = (b, a, second, first) if kind == "share" else (a, b, first, second)
        if whole == 0:
            raise NotUnderstood("there is no percentage of zero")
        value = part / whole * 100
        ending = decimal_text(value)
        percent_text = f"{ending}%" if ending is not None else f"{value}% ≈ {approximate_text(value)}%"
        # The result comes last, as in every answer of the tutor: readers of answers take the last number for it.
        share = f"{part_text} out of {whole_text} is {percent_text}"
        steps = (f"divide the part by the whole, {part_text}/{whole_text}", "multiply by 100")
        return Solution(f"what percent of {whole_text} is {part_text}", f"{share}.", percent_text, steps)
    result = result_text(value, decimals=decimals or value.denominator != 1)
    if len(result) > 200:
        raise TooLarge("the numbers get too large")
    return Solution(problem, f"{problem} is {result}.", result, (f"{working} = {result}",))
