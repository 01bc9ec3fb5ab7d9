"""Reading the verdict in a grader's reply, and combining several verdicts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from batchrun.bounded_regex import TooSlow, matches
from batchrun.scoring.grading.ready_rubrics import CHOICES
from batchrun.scoring.score_options import Vote

__all__ = ["Reader", "Reading", "combined"]

_GRADE_LINE: Final = re.compile(r"[\W_]*GRADE[\s*_`]*:(?P<grade>.+)", re.IGNORECASE | re.DOTALL)
_MARKUP: Final = " \t*_`\"'“”‘’()[]{}<>$.!"
_REMARK: Final = re.compile(r"(?<=\w)[\s*_`]*\([^()]*\)[\s.*_`]*$")
"""A remark in brackets after the grade, as in `GRADE: C (correct)`."""
_NUMBER: Final = re.compile(r"(?P<number>[-+−]?\d+(?:\.\d+)?)(?:\s*/\s*(?P<of>\d+(?:\.\d+)?))?")


@dataclass(frozen=True, slots=True)
class Reading:
    """The verdict in a grader's reply.

    Attributes:
        value: from 0 to 1; None if the reply has no readable verdict.
        read: the part of the reply that was read; None if there is none.
        reason: the reply without its last line, from which the verdict was read; with a pattern the whole reply.
    """

    value: float | None
    read: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Reader:
    """How a grader's verdict is read: from the last line `GRADE: X`, or from the last match of a pattern.

    Only the last line counts, so that a grade that the grader quotes from the answer has no effect.

    Attributes:
        choices: grade → value from 0 to 1; upper and lower case are equal. Unused if there is a scale.
        scale: lowest and highest grade, if grades are numbers; they become values from 0 to 1.
        pattern: if given, its last match in the whole reply is read, and its first group is the grade. If it takes too
            long on a reply, there is no verdict.
    """

    choices: Mapping[str, float] = field(default_factory=lambda: CHOICES)
    scale: tuple[float, float] | None = None
    pattern: re.Pattern[str] | None = None

    def read(self, text: str) -> Reading:
        """Return the verdict in a grader's whole reply."""
        if self.pattern is not None:
            try:
                graded = [match for match in matches(self.pattern.pattern, text) if match[1] is not None]
            except TooSlow:
                graded = []
            if not graded:
                return Reading(None, None, text.strip())
            return Reading(self.value(graded[-1][1]), graded[-1][0], text.strip())
        lines = text.splitlines()
        last = next((place for place in reversed(range(len(lines))) if re.search(r"\w", lines[place])), None)
        if last is None:
            return Reading(None, None, "")
        line = lines[last].strip()
        match = _GRADE_LINE.fullmatch(line)
        if match is None:
            return Reading(None, line, text.strip())
        return Reading(self.value(match["grade"]), line, "\n".join(lines[:last]).strip())

    def value(self, grade: str) -> float | None:
        """Return the value of a grade from 0 to 1; None if it is not one of the grades."""
        grade = _REMARK.sub("", grade.strip()).strip(_MARKUP)
        if self.scale is None:
            return {name.casefold(): value for name, value in self.choices.items()}.get(grade.casefold())
        low, high = self.scale
        number = _NUMBER.fullmatch(grade)
        if number is None or (number["of"] is not None and float(number["of"]) != high):
            return None
        value = float(number["number"].replace("−", "-"))
        return (value - low) / (high - low) if low <= value <= high else None

    def expected(self) -> str:
        """Return what a reply needs, for a message about one that cannot be read."""
        if self.pattern is not None:
            return f"the pattern finds none of the grades, {self._grades()}"
        return f"its last line is not GRADE: and {self._grades()}"

    def _grades(self) -> str:
        if self.scale:
            return f"a number from {self.scale[0]:g} to {self.scale[1]:g}"
        return f"one of {', '.join(self.choices)}"

    def grade_line(self) -> str:
        """Return the rubric's instruction on how to end the reply."""
        return (
            "Give your reasons first, in a few sentences. Then end with one more line, the last of your reply, of this "
            f"form and with nothing behind it:\nGRADE: X\nwhere X is {self._grades()}."
        )


def combined(values: Sequence[float], vote: Vote) -> float | None:
    """Return the value of several verdicts; None without verdicts, or if the vote is a tie."""
    if not values:
        return None
    if vote == "mean":
        return sum(values) / len(values)
    (first, votes), *others = Counter(values).most_common(2)
    return None if others and others[0][1] == votes else first
