"""What a grader's text says: its verdict read, and the verdicts of several put together."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from batchrun.bounded_regex import TooSlow, matches
from batchrun.scoring.score_options import Vote

__all__ = ["CHOICES", "PARTIAL", "Reader", "Reading", "decided"]

CHOICES: Final[Mapping[str, float]] = {"C": 1.0, "I": 0.0}
PARTIAL: Final[Mapping[str, float]] = {"C": 1.0, "P": 0.5, "I": 0.0}

_GRADE_LINE: Final = re.compile(r"[\W_]*GRADE[\s*_`]*:(?P<grade>.+)", re.IGNORECASE | re.DOTALL)
_MARKUP: Final = " \t*_`\"'“”‘’()[]{}<>$.!"
_REMARK: Final = re.compile(r"(?<=\w)[\s*_`]*\([^()]*\)[\s.*_`]*$")
"""A word in brackets behind the grade, as in `GRADE: C (correct)`."""
_NUMBER: Final = re.compile(r"(?P<number>[-+−]?\d+(?:\.\d+)?)(?:\s*/\s*(?P<of>\d+(?:\.\d+)?))?")


@dataclass(frozen=True, slots=True)
class Reading:
    """What was found in a grader's text.

    Attributes:
        value: from 0 to 1; None if the text holds no verdict that can be read.
        read: the part that was looked at; None if there is none.
    """

    value: float | None
    read: str | None


@dataclass(frozen=True, slots=True)
class Reader:
    """How a grader's verdict is read: the last line `GRADE: X`, or where a pattern last matches.

    Of the text only the last line counts, so that a grade which the grader quotes from the answer decides
    nothing.

    Attributes:
        choices: grade → its value, from 0 to 1; capitals do not count. Not looked at where there is a scale.
        scale: lowest and highest grade, where grades are numbers; they become values from 0 to 1.
        pattern: given, its last match in the whole text is read, and the grade is its first group. One that takes too
            long on a text reads nothing from it.
    """

    choices: Mapping[str, float] = field(default_factory=lambda: CHOICES)
    scale: tuple[float, float] | None = None
    pattern: re.Pattern[str] | None = None

    def read(self, text: str) -> Reading:
        """The verdict in a whole text of a grader's."""
        if self.pattern is not None:
            try:
                found = [match for match in matches(self.pattern.pattern, text) if match[1] is not None]
            except TooSlow:
                return Reading(None, None)
            return Reading(self._value(found[-1][1]), found[-1][0]) if found else Reading(None, None)
        line = next((line.strip() for line in reversed(text.splitlines()) if re.search(r"\w", line)), None)
        match = None if line is None else _GRADE_LINE.fullmatch(line)
        return Reading(None if match is None else self._value(match["grade"]), line)

    def _value(self, grade: str) -> float | None:
        grade = _REMARK.sub("", grade.strip()).strip(_MARKUP)
        if self.scale is None:
            return {name.casefold(): value for name, value in self.choices.items()}.get(grade.casefold())
        low, high = self.scale
        number = _NUMBER.fullmatch(grade)
        if number is None or (number["of"] is not None and float(number["of"]) != high):
            return None
        value = float(number["number"].replace("−", "-"))
        return (value - low) / (high - low) if low <= value <= high else None

    def grade_line(self) -> str:
        """How a grader is told to end, for rubrics."""
        names = (
            f"a number from {self.scale[0]:g} to {self.scale[1]:g}" if self.scale else f"one of {_any(self.choices)}"
        )
        return (
            "Give your reasons first, in a few sentences. Then end with one more line, the last of your reply, of this "
            f"form and with nothing behind it:\nGRADE: X\nwhere X is {names}."
        )


def _any(choices: Mapping[str, float]) -> str:
    return ", ".join(choices)


def decided(values: Sequence[float], vote: Vote) -> float | None:
    """What verdicts come to; None where there are none, or where no value has more votes than every other."""
    if not values:
        return None
    if vote == "mean":
        return sum(values) / len(values)
    (first, votes), *others = Counter(values).most_common(2)
    return None if others and others[0][1] == votes else first
