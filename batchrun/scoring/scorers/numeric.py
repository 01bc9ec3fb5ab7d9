"""The scorer for numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal, TypeAlias

from batchrun.scoring.scorers.base import Sample, Score, Scorer
from batchrun.scoring.scorers.numbers import Exact, ReadNumber, last_number, numbers_in, plain_digits
from batchrun.scoring.scorers.targets import number_texts_of
from batchrun.thoughts import without_reasoning

__all__ = ["NumericScorer", "Pick"]


Pick: TypeAlias = Literal["final", "last", "any"]
"""Which number of an answer counts: the stated one, the last one, or any."""

_RESULT_CHARS: Final = 400
_WORDS: Final = (
    *("respuesta", "antwort", "réponse", "resposta", "risposta", "antwoord", "ответ", "svar", "odpowiedź", "cevap"),
    *("الجواب", "الإجابة", "उत्तर", "jawaban", "đáp án", "答案", "答え", "정답"),
)
"""`answer` in other languages."""
_ANCHORS: Final = (
    *("\\boxed{", "####", "answer", "Answer", "ANSWER"),
    *dict.fromkeys(form for word in _WORDS for form in (word, word.capitalize())),
)
_STATED: Final = re.compile(
    rf"(?:####+|(?:answer|{'|'.join(_WORDS)})(?:[*_`]{{0,3}}\s*(?:[:：=—]"
    r"|\b(?:is|would be|should be|ist|lautet|es|est|é|è|är|er|to|adalah|là)\b|(?:هو|هي)\s|は|是|为|은|는)))"
    r"(?P<gap>(?:[^\S\n]|[:*_`(~≈=\\]|\$(?![-−]?[0-9])|\b(?:is|about|approximately|thus|therefore)\b|[A-Za-z]\s*="
    r"|\n\s{0,4}(?=[*$]{0,4}[-−]?[0-9])){0,20})"
    r"(?P<rest>[^\n]*)",
    re.IGNORECASE,
)
_BEYOND: Final = re.compile(r"[.;!?](?=\s|\Z|[*_]{1,3}(?:\s|\Z))")


@dataclass(frozen=True, slots=True)
class NumericScorer(Scorer):
    """1 if the number that the answer states is the target's.

    That number is the one in the last `\\boxed{…}`; else the one directly after the last `the answer is`, `answer:` or
    `####`, where `= 8` ends a calculation (`the answer is 5 + 3 = 8`); else the last number, since worked answers end
    in their result, as GSM8K's do (Cobbe et al. 2021, https://arxiv.org/abs/2110.14168). The text before `</think>` is
    not read. `batchrun.scoring.scorers.numbers` defines how numbers are read. Units and currencies are ignored. The
    comparison is exact, unless a tolerance is given. If only one of the two is a percentage, 50 % equals both 50 and
    0.5. An answer without a number is wrong; with a target without a number, the row cannot be judged.

    Attributes:
        abs: absolute tolerance.
        rel: relative tolerance, a share of the target; the larger tolerance counts.
        decimal: decimal mark of answer and target if the digits are ambiguous (`1,234`, `1.234`).
        pick: the number that counts. `last` ignores words such as `the answer is`; `any` is lenient: an answer is right
            if any of its numbers is, even one that it only repeats from the question.
    """

    abs: Fraction = Fraction(0)
    rel: Fraction = Fraction(0)
    decimal: Literal[".", ","] = "."
    pick: Pick = "final"

    def score(self, sample: Sample) -> Score:
        targets = [last_number(text, self.decimal) for text in number_texts_of(sample.target)]
        wanted = [target for target in targets if target is not None]
        if not wanted:
            return Score(None, "the target has no number")
        expected = wanted[0].text if len(wanted) == 1 else " or ".join(target.text for target in wanted)
        found = None
        for found in self._numbers(plain_digits(without_reasoning(sample.answer))):
            if any(self._is_near(found.value, value) for target in wanted for value in _readings(found, target)):
                return Score(1.0, f"{found.text}; expected {expected}", found.text)
        if found is None:
            return Score(0.0, f"no number; expected {expected}")
        if self.pick == "any":
            return Score(0.0, f"no number is {expected}", found.text)
        return Score(0.0, f"{found.text}; expected {expected}", found.text)

    def _numbers(self, answer: str) -> Iterable[ReadNumber]:
        """Return the numbers that may count."""
        if self.pick == "any":
            return numbers_in(answer, self.decimal)
        found = self._stated(answer) if self.pick == "final" else None
        found = found or last_number(answer, self.decimal)
        return () if found is None else (found,)

    def _stated(self, answer: str) -> ReadNumber | None:
        """Return the number in the last box, or after the last words that state one; None if there is none."""
        places = [answer.rfind(anchor) for anchor in _ANCHORS]
        if places[0] >= 0 and (found := self._result(answer[places[0] + len(_ANCHORS[0]) :].split("\n", 1)[0])):
            return found
        place = max(places[1:])
        stated = _STATED.match(answer, place) if place >= 0 else None
        if stated is None:
            return None
        end = _BEYOND.search(stated["rest"])
        return self._result(stated["rest"][: end.start()] if end else stated["rest"], directly=True)

    def _result(self, text: str, *, directly: bool = False) -> ReadNumber | None:
        """Return the first number of a text, or the one after its last `=`.

        Args:
            directly: whether the text must begin with a number.
        """
        first = next(numbers_in(text[:_RESULT_CHARS], self.decimal), None)
        if first is None or (directly and not text.lstrip(" $*_(~≈\\").startswith(first.text.lstrip(" $*"))):
            return None
        _, equals, result = text[:_RESULT_CHARS].rpartition("=")
        return (next(numbers_in(result, self.decimal), None) if equals else None) or first

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
