"""The interface of scorers: Sample in, Score out."""

from __future__ import annotations

import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from batchrun.records import JsonDict, Value
from batchrun.tables.values import json_text

__all__ = ["NamedScorer", "Sample", "Score", "Scorer", "as_text", "is_blank", "is_missing"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One row, as scorers receive it.

    Attributes:
        answer: the answer as text, without a thought at its beginning.
        target: the expected answer, a cell of the target column; None if no such column is named.
        row: all cells of the row, by column.
        row_index: position of the row in its table, from 0; None outside a table.
    """

    answer: str
    target: Value
    row: Mapping[str, Value]
    row_index: int | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """The score of one row by one scorer.

    Attributes:
        value: from 0 (wrong) to 1 (correct). None if the row cannot be judged through no fault of the answer, for
            example because the target has no number although one is needed. Such rows are reported and never averaged.
        explanation: the reason in one line; for a None value the same text for rows with the same problem, so that
            they can be counted.
        read: the part of the answer that the value was read from; None if there is none.
        compared: the expected and the found label, for scorers that compare labels; None for the label if the answer
            has none. None if the scorer compares no labels, or if several are expected.
    """

    value: float | None
    explanation: str
    read: str | None = None
    compared: tuple[str, str | None] | None = None


_LABELS: Final = {
    **dict.fromkeys(("right", "correct", "true", "yes", "y", "pass", "passed", "good", "c"), 1.0),
    **dict.fromkeys(("wrong", "incorrect", "false", "no", "n", "fail", "failed", "bad", "i"), 0.0),
}
"""What people write for a right and for a wrong answer → score."""


class Scorer(ABC):
    """A rule that judges answers. It is used as a context manager, since some scorers own processes."""

    needs_target: ClassVar[bool] = True
    """Whether the rule requires a target."""
    gives_reasons: ClassVar[bool] = False
    """Whether a scored table gets a column with the explanation of each score."""

    expected_labels: ClassVar[str] = "right or wrong (also true, correct, yes, pass …), or a number from 0 to 1"
    """The hand labels that can be compared with its scores, for messages."""

    def value_of_label(self, label: str) -> float | None:
        """Return the score that a hand label means; None if it is not understood."""
        word = label.strip().casefold()
        if word in _LABELS:
            return _LABELS[word]
        try:
            value = float(word)
        except ValueError:
            return None
        return value if 0 <= value <= 1 else None

    @abstractmethod
    def score(self, sample: Sample) -> Score:
        """Judge one row."""

    def score_all(self, samples: Sequence[Sample]) -> list[Score]:
        """Judge some rows; the scores are in the order of the rows."""
        return [self.score(sample) for sample in samples]

    def __enter__(self) -> Scorer:
        return self

    def __exit__(self, *_: object) -> None:  # noqa: B027 - most scorers own nothing
        """Release what the scorer owns."""


def is_missing(value: Value) -> bool:
    """Return whether a cell is empty: None, NaN, or text of white space alone."""
    if value is None or (isinstance(value, float) and value != value):
        return True
    return isinstance(value, str) and not value.strip()


def is_blank(text: str) -> bool:
    """Return whether a text shows nothing: it has white space, control and invisible characters alone.

    >>> is_blank(" \u200b\n"), is_blank(" .")
    (True, False)
    """
    return all(unicodedata.category(each)[0] in "ZC" for each in text)


def as_text(value: Value) -> str:
    """Return a cell as text: None as "", lists and objects as JSON, whole floats without their `.0`."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool | dict | list):
        return json_text(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return str(value)


@dataclass(frozen=True, slots=True)
class NamedScorer:
    """A scorer, and the name of its columns and figures.

    Attributes:
        target: the column with the expected answer, or a path within it; None for that of all scorers.
    """

    name: str
    scorer: Scorer
    target: str | None = None

    @property
    def columns(self) -> dict[str, type]:
        """The columns that a scored table gets, in order, with their types."""
        columns: dict[str, type] = {f"score_{self.name}": float, f"score_{self.name}_read": str}
        if self.scorer.gives_reasons:
            columns[f"score_{self.name}_reason"] = str
        return columns

    def cells(self, score: Score | None) -> JsonDict:
        """Return the cells of a row in these columns; all are None for a row without an answer."""
        values = (None,) * 3 if score is None else (score.value, score.read, score.explanation)
        return dict(zip(self.columns, values, strict=False))
