"""The scorer for numbers."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from batchrun.scoring.scorers.base import Sample, Score, Scorer, as_text
from batchrun.scoring.scorers.numbers import Exact, ReadNumber, last_number

__all__ = ["NumericScorer"]


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
