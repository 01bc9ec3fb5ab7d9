"""The fields of answers that are JSON objects: their values as bars, their numbers as distributions, also by group."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np

from batchrun.reporting.distributions import distribution
from batchrun.reporting.page_facts import FieldFacts, FieldGroupFacts
from batchrun.reporting.rows import WITHOUT_ANSWER, Column, ReportRow, RowColumns, cell_of
from batchrun.scoring.scorers.base import as_text

__all__ = ["field_facts", "group_columns"]

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


def field_facts(rows: Sequence[ReportRow], columns: RowColumns, groups: Sequence[Column]) -> list[FieldFacts]:
    """Return the figures of each field of the answers.

    Args:
        groups: see `group_columns`.
    """
    answered = [row for row in rows if row.cells["status"] not in _WITHOUT_FIELDS]
    return [_field(answered, each, groups) for each in columns.listed if each.role == "field"]


def _field(rows: Sequence[ReportRow], column: Column, groups: Sequence[Column]) -> FieldFacts:
    """Return the figures of one field.

    Args:
        rows: rows with an answer.
    """
    cells = [(row, cell) for row in rows if (cell := cell_of(row, column)) is not None and cell != ""]
    facts: FieldFacts = {
        "column": column.name,
        "kind": "none",
        "n": len(cells),
        "missing": len(rows) - len(cells),
        "different": 0,
        "values": [],
        "distribution": None,
        "groups": [],
    }
    if not cells:
        return facts
    numbers = [_number(cell) for _, cell in cells]
    known = [each for each in numbers if each is not None]
    if len(known) == len(cells):
        facts["kind"] = "numbers"
        facts["different"] = len(set(known))
        facts["distribution"] = distribution(known, whole=all(each.is_integer() for each in known))
        facts["groups"] = _groups([(row, number) for (row, _), number in zip(cells, known, strict=True)], groups)
        return facts
    counts = Counter(as_text(cell) for _, cell in cells)
    facts["different"] = len(counts)
    if len(counts) > _TEXTS_FROM or (len(counts) > _BARS and 2 * len(counts) > len(cells)):
        facts["kind"] = "texts"
    else:
        facts["kind"] = "values"
        facts["values"] = counts.most_common(_BARS)
    return facts


def _number(cell: Cell) -> float | None:
    """Return a cell as a number; None for anything else. A table of text holds numbers as text."""
    if isinstance(cell, bool) or cell is None:
        return None
    if isinstance(cell, str) and _NUMBER.fullmatch(cell) is None:
        return None
    return float(cell)


def _groups(numbers: Sequence[tuple[ReportRow, float]], columns: Sequence[Column]) -> list[FieldGroupFacts]:
    facts: list[FieldGroupFacts] = []
    for column in columns:
        members: dict[str, list[float]] = defaultdict(list)
        for row, number in numbers:
            members[as_text(cell_of(row, column))].append(number)
        largest = sorted(members.items(), key=lambda each: -len(each[1]))[:_GROUPS]
        for label, values in largest if len(members) > 1 else ():
            p10, p50, p90 = (float(each) for each in np.quantile(values, _QUANTILES))
            mean = float(np.mean(values))
            of_group: FieldGroupFacts = {
                "column": column.name, "label": label, "n": len(values),
                "mean": mean, "p10": p10, "p50": p50, "p90": p90,
            }  # fmt: skip
            facts.append(of_group)
    return facts
