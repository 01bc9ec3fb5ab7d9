"""The scorers for numbers and for multiple choice."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from batchrun.scoring.scorers.base import Sample, Score, Scorer, as_text
from batchrun.scoring.scorers.numbers import Exact, ReadNumber, last_number

__all__ = ["ChoiceScorer", "NumericScorer"]


@dataclass(frozen=True, slots=True)
class NumericScorer(Scorer):
    """1 if the last number of the answer is the last number of the target.

    The last number counts, since worked answers end in their result, as GSM8K's do (Cobbe et al. 2021,
    https://arxiv.org/abs/2110.14168). `batchrun.scoring.scorers.numbers` defines how numbers are read. Units and
    currencies are ignored. The comparison is exact, unless a tolerance is given. If only one of the two is a
    percentage, 50 % equals both 50 and 0.5. An answer without a number is wrong; with a target without a number, the
    row cannot be judged.

    Attributes:
        abs: absolute tolerance.
        rel: relative tolerance, a share of the target; the larger tolerance counts.
        decimal: decimal mark of answer and target if the digits are ambiguous (`1,234`, `1.234`).
    """

    abs: Fraction = Fraction(0)
    rel: Fraction = Fraction(0)
    decimal: Literal[".", ","] = "."

    def score(self, sample: Sample) -> Score:
        target = last_number(as_text(sample.target), self.decimal)
        if target is None:
            return Score(None, "the target has no number")
        answer = last_number(sample.answer, self.decimal)
        if answer is None:
            return Score(0.0, f"no number; expected {target.text}")
        right = any(self._is_near(answer.value, expected) for expected in _readings(answer, target))
        return Score(float(right), f"{answer.text}; expected {target.text}", answer.text)

    def _is_near(self, number: Exact, expected: Exact) -> bool:
        if number == expected or not (self.abs or self.rel):
            return number == expected
        distance, size = abs(Fraction(number) - expected), abs(Fraction(expected))
        return distance <= max(self.abs, self.rel * size)


def _readings(answer: ReadNumber, target: ReadNumber) -> tuple[Exact, ...]:
    """Return the target's values, one for each way to compare it with the answer."""
    if answer.percent == target.percent:
        return (target.value,)
    return (target.value, target.value * 100 if answer.percent else Fraction(target.value, 100))


_STATED = re.compile(
    r"(?:\\boxed\{\s*(?:\\text\{)?|\banswer(?:\s+is)?\s*[:=]?\s*|\b(?:option|choice)\s+)[*_\"'`(\[]{0,4}"
    r"(?P<letter>[A-Za-z])(?![A-Za-z0-9'’])(?!\s+[a-z])",
    re.IGNORECASE,
)
_WHOLE = re.compile(r"\s*[*_(\[]{0,4}(?P<letter>[A-Za-z])[*_)\].:]{0,4}\s*\Z")
_FIRST = re.compile(r"\s*[*_(\[]{0,4}(?P<letter>[A-Z])[)\].:]")
_BRACKETED = re.compile(r"\((?P<letter>[A-Z])\)")
# A and I are also words.
_ALONE = re.compile(r"(?<![\w'’])(?:(?P<letter>[B-HJ-Z])(?![\w'’])|(?P<word>[AI])(?=[*_]{0,2}(?:[.,;:)!?]|\s*\Z)))")


@dataclass(frozen=True, slots=True)
class ChoiceScorer(Scorer):
    """1 if the answer chooses the target's letter.

    The letter is searched in this order, and the last one of a kind counts: a letter alone; `\\boxed{B}`, `answer: B`,
    `the answer is (B)`, `option B`; a letter at the start, as in `B) because`; a letter in brackets; a capital letter
    that is a word by itself, except `A` and `I` inside a sentence. The target must be a letter, bare or as `(B)`, `B.`
    or `B) text`; otherwise the row cannot be judged.

    Attributes:
        letters: the capital letters that may be chosen; other letters are ignored.
    """

    letters: str = "ABCDEFGHIJ"

    def score(self, sample: Sample) -> Score:
        target = self._target(as_text(sample.target))
        if target is None:
            return Score(None, f"the target is not a letter of {self.letters}")
        choice = self._choice(sample.answer)
        if choice is None:
            return Score(0.0, f"no choice; expected {target}")
        letter, read = choice
        return Score(float(letter == target), f"{letter}; expected {target}", read)

    def _target(self, text: str) -> str | None:
        match = _WHOLE.match(text) or _FIRST.match(text)
        letter = match["letter"].upper() if match else ""
        return letter if letter and letter in self.letters else None

    def _choice(self, answer: str) -> tuple[str, str] | None:
        for pattern in (_WHOLE, _STATED, _FIRST, _BRACKETED, _ALONE):
            matches = [pattern.match(answer)] if pattern in (_WHOLE, _FIRST) else reversed([*pattern.finditer(answer)])
            for match in matches:
                if match is None:
                    continue
                letter = next(each for each in match.groups() if each).upper()
                if letter in self.letters:
                    return letter, match[0].strip()
        return None
