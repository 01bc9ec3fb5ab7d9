"""The fields of answers that are JSON objects: their values as bars, their numbers as distributions, also by group."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np

from batchrun.on_disk.numbers import StoredNumbers
from batchrun.reporting.distributions import distribution
from batchrun.reporting.order_statistics import different, quantiles
from batchrun.reporting.page_facts import FieldFacts, FieldGroupFacts
from batchrun.reporting.rows import LARGEST_NUMBER, WITHOUT_ANSWER, Column, ReportRow, RowColumns, cell_of
from batchrun.scoring.scorers.base import as_text
from batchrun.scoring.statistics import Floats

__all__ = ["FieldFigures", "field_facts", "group_columns"]

Cell: TypeAlias = str | int | float | bool | None

_BARS: Final = 12
"""Most values that get a bar of their own."""

_TEXTS_FROM: Final = 50
"""A field with more different values than this holds texts; also one with more than `_BARS`, for half of its rows."""

_GROUPS: Final = 40
_QUANTILES: Final = (0.1, 0.5, 0.9)
_NUMBER: Final = re.compile(r"[ \t]*[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?[ \t]*", re.ASCII)
_WITHOUT_FIELDS: Final = (*WITHOUT_ANSWER, "pending", "in_flight", "skipped")


def group_columns(columns: RowColumns, by: Sequence[str]) -> list[Column]:
    """Return the columns whose values group the figures of a field: those of `--by`, and a batch's axes.

    Args:
        by: columns of `--by`.
    """
    return [each for each in columns.listed if each.name in by or each.name.startswith("axis_")]


class FieldFigures:
    """The figures of the fields of answers, from rows that are added one by one.

    Mutable state: the counts and numbers of each field.
    """

    def __init__(self, columns: RowColumns, groups: Sequence[Column]) -> None:
        """
        Args:
            groups: see `group_columns`.
        """
        self._fields = [_Field(each, groups) for each in columns.listed if each.role == "field"]

    def add(self, row: ReportRow) -> None:
        """Count a row."""
        if self._fields and row.cells["status"] not in _WITHOUT_FIELDS:
            for each in self._fields:
                each.add(row)

    def facts(self) -> list[FieldFacts]:
        """Return the figures of each field of the answers."""
        return [each.facts() for each in self._fields]


def field_facts(rows: Iterable[ReportRow], columns: RowColumns, groups: Sequence[Column]) -> list[FieldFacts]:
    """Return the figures of the fields of rows, as `FieldFigures.facts`."""
    counted = FieldFigures(columns, groups)
    for row in rows:
        counted.add(row)
    return counted.facts()


class _Field:
    """The values of one field in rows with an answer.

    Mutable state: the counts. `_numbers` is None after a value that is not a number, `_texts` after more different
    texts than are counted one by one; how many there are is known from their hashes.
    """

    def __init__(self, column: Column, groups: Sequence[Column]) -> None:
        self._column, self._groups = column, groups
        self._rows = self._cells = 0
        self._hashes = StoredNumbers(1, "q")
        self._texts: Counter[str] | None = Counter()
        self._numbers: StoredNumbers | None = StoredNumbers(1 + len(groups))
        self._labels: list[dict[str, int]] = [{} for _ in groups]

    def add(self, row: ReportRow) -> None:
        self._rows += 1
        cell = cell_of(row, self._column)
        if cell is None or cell == "":
            return
        self._cells += 1
        text = as_text(cell)
        self._hashes.append(hash(text))
        if self._texts is not None:
            self._texts[text] += 1
            if len(self._texts) > _TEXTS_FROM:
                self._texts = None
        if self._numbers is None:
            return
        number = _number(cell)
        if number is None:
            self._numbers = None
            return
        labels = (as_text(cell_of(row, column)) for column in self._groups)
        codes = [known.setdefault(label, len(known)) for known, label in zip(self._labels, labels, strict=True)]
        self._numbers.append(number, *codes)

    def facts(self) -> FieldFacts:
        facts: FieldFacts = {
            "column": self._column.name,
            "kind": "none",
            "n": self._cells,
            "missing": self._rows - self._cells,
            "different": 0,
            "values": [],
            "distribution": None,
            "groups": [],
        }
        if not self._cells:
            return facts
        if self._numbers is not None:
            known = self._numbers.column(0)
            facts["kind"] = "numbers"
            facts["different"] = different(known)
            facts["distribution"] = distribution(
                known, whole=all(bool((part == np.floor(part)).all()) for part in known)
            )
            for place, (column, labels) in enumerate(zip(self._groups, self._labels, strict=True), 1):
                facts["groups"] += _group_facts(column, list(labels), self._numbers, place)
            return facts
        facts["different"] = count = different(self._hashes.column(0))
        if self._texts is None or (count > _BARS and 2 * count > self._cells):
            facts["kind"] = "texts"
        else:
            facts["kind"] = "values"
            facts["values"] = self._texts.most_common(_BARS)
        return facts


def _number(cell: Cell) -> float | None:
    """Return a cell as a number, if it is one up to `LARGEST_NUMBER`. A table of text holds numbers as text."""
    if isinstance(cell, bool) or cell is None:
        return None
    if isinstance(cell, str) and _NUMBER.fullmatch(cell) is None:
        return None
    try:
        number = float(cell)
    except OverflowError:
        return None
    return number if abs(number) <= LARGEST_NUMBER else None


@dataclass(frozen=True, slots=True)
class _Group:
    """The numbers of the rows with one label, in parts."""

    numbers: StoredNumbers
    place: int
    code: int

    def __iter__(self) -> Iterator[Floats]:
        return (part[part[:, self.place] == self.code, 0] for part in self.numbers.parts())


def _group_facts(column: Column, labels: Sequence[str], numbers: StoredNumbers, place: int) -> list[FieldGroupFacts]:
    """Return the figures of the largest groups of a column, if there are several.

    Args:
        labels: by their codes.
        place: of the codes in the numbers' rows.
    """
    if len(labels) < 2:
        return []
    counts = np.zeros(len(labels), np.int64)
    for part in numbers.parts():
        counts += np.bincount(part[:, place].astype(np.int64), minlength=len(labels))
    facts: list[FieldGroupFacts] = []
    for code in np.argsort(-counts, kind="stable")[:_GROUPS].tolist():
        group, n = _Group(numbers, place, code), int(counts[code])
        p10, p50, p90 = quantiles(group, _QUANTILES)
        mean = math.fsum(float(part.sum()) for part in group) / n
        of_group: FieldGroupFacts = {
            "column": column.name, "label": labels[code], "n": n,
            "mean": mean, "p10": p10, "p50": p50, "p90": p90,
        }  # fmt: skip
        facts.append(of_group)
    return facts
