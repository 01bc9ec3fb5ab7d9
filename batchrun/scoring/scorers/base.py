"""What a scorer is given, what it says, and what every scorer is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from batchrun.records import Value
from batchrun.tables.values import json_text

__all__ = ["NamedScorer", "Sample", "Score", "Scorer", "as_text", "is_missing", "targets_of"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One row, as scorers see it.

    Attributes:
        answer: what was answered.
        target: the cell of the target column; None where no such column was named.
        row: all cells of the row, by column.
    """

    answer: str
    target: Value
    row: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Score:
    """What a scorer says of one row.

    Attributes:
        value: from 0 (wrong) to 1 (right); None if the row cannot be judged, which is no fault of the answer:
            the target is no number where one is needed, say. Such rows are reported and never averaged.
        explanation: why, in a line; of a None value it is the same text for rows with the same trouble, so that
            they can be counted.
        read: the text that the value was read from: the part of the answer that the rule looked at; None if
            it found none.
    """

    value: float | None
    explanation: str
    read: str | None = None


class Scorer(ABC):
    """A rule that judges answers. Used as a context manager, since some own processes."""

    needs_target: ClassVar[bool] = True
    """Whether the rule means nothing without a target."""

    @abstractmethod
    def score(self, sample: Sample) -> Score:
        """Judge one row."""

    def score_all(self, samples: Sequence[Sample]) -> list[Score]:
        """Judge some rows; the scores are in their order."""
        return [self.score(sample) for sample in samples]

    def __enter__(self) -> Scorer:
        return self

    def __exit__(self, *_: object) -> None:  # noqa: B027 - most scorers own nothing
        """Give back what the scorer owns."""


def is_missing(value: Value) -> bool:
    """Whether a cell holds nothing: None, NaN, or text of white space alone."""
    if value is None or (isinstance(value, float) and value != value):
        return True
    return isinstance(value, str) and not value.strip()


def as_text(value: Value) -> str:
    """A cell as text: text as it is, None as none, lists and objects as JSON, whole floats without their `.0`."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool | dict | list):
        return json_text(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return str(value)


def targets_of(value: Value) -> list[str]:
    """The texts that an answer may match: a list (from JSON Lines or Parquet) is several, anything else is one."""
    if isinstance(value, list):
        return [as_text(each) for each in value if not is_missing(each)]
    return [as_text(value)]


@dataclass(frozen=True, slots=True)
class NamedScorer:
    """A scorer and the name that its columns and figures bear."""

    name: str
    scorer: Scorer
