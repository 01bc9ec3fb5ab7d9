"""What a page shows of a row, and as which columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from batchrun.journal.live import RecordedAttempt, RecordedRun
from batchrun.records import OUTPUT_COLUMNS, Value
from batchrun.scoring.scorers.base import as_text, is_missing

__all__ = ["Column", "ReportRow", "RowColumns", "cells_of", "pending_cells", "row_json"]

Role: TypeAlias = Literal["own", "output", "score", "read"]
"""Whose a column is: the table's, batchrun's, a scorer's value, or the text that the scorer read."""

_EXACT_IN_JAVASCRIPT = 2**53


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the page.

    Attributes:
        name: as in the table.
        role: whose it is.
        key: what its cells are found by: the column's name, that of the output column without its prefix, or
            that of the scorer.
    """

    name: str
    role: Role
    key: str


@dataclass(frozen=True, slots=True)
class RowColumns:
    """The columns of a page, and which of them mean something.

    Attributes:
        listed: all, in order.
        key: name of the column that rows are called by; None where they are counted.
        target: name of the column of what was wanted.
    """

    listed: Sequence[Column]
    key: str | None = None
    target: str | None = None

    def facts(self) -> dict[str, Any]:
        """The columns for the page."""
        return {
            "listed": [{"name": each.name, "role": each.role, "key": each.key} for each in self.listed],
            "key": self.key,
            "target": self.target,
        }


@dataclass(frozen=True, slots=True)
class ReportRow:
    """One row.

    Attributes:
        key: what it is called: the key column's cell, or its position.
        values: the table's own cells.
        cells: with the keys of `OUTPUT_COLUMNS`; numbers are numbers, None is not known.
        asked: the prompt's first user message; None where it is not known.
        spoken: its runs, where it took more than one.
        tries: from the journal; empty where there is none.
        scores: scorer → value; None where there is none.
        reads: scorer → the text that it read.
        before: of a comparison, what the other table has for the row: `response`, and the scores by their
            names; None where it is not shown.
    """

    key: str
    values: Mapping[str, Value]
    cells: Mapping[str, Any]
    asked: str | None = None
    spoken: Sequence[RecordedRun] = ()
    tries: Sequence[RecordedAttempt] = ()
    scores: Mapping[str, float | None] = field(default_factory=dict)
    reads: Mapping[str, str | None] = field(default_factory=dict)
    before: Mapping[str, Any] | None = None


def pending_cells() -> dict[str, Any]:
    """The cells of a row that has not been asked."""
    return {**dict.fromkeys(OUTPUT_COLUMNS), "status": "pending"}


def cells_of(values: Mapping[str, Value], prefix: str, answer: str) -> dict[str, Any]:
    """The cells of `OUTPUT_COLUMNS` in a row of any table, whoever made it.

    Numbers that are none are taken as not known. Where the table has no status, a row with an answer is completed,
    and one without has failed.

    Args:
        values: the row.
        prefix: what stands before the names of the output columns.
        answer: the column of answers.
    """
    cells: dict[str, Any] = {}
    for name, kind in OUTPUT_COLUMNS.items():
        value = values.get(answer if name == "response" else prefix + name)
        if is_missing(value):
            cells[name] = None
        elif kind is str:
            cells[name] = as_text(value)
        else:
            cells[name] = _number(value, kind)
    if cells["status"] is None:
        cells["status"] = "failed" if cells["response"] is None else "completed"
        if cells["response"] is None and cells["error_type"] is None:
            cells["error_type"] = "no_answer"
    return cells


def _number(value: Value, kind: type) -> float | int | None:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    if number != number or number in (float("inf"), float("-inf")):
        return None
    return int(number) if kind is int else number


def row_json(row: ReportRow, columns: RowColumns) -> dict[str, Any]:
    """A row for the page: `k` its name, `c` its cells in the columns' order, and where there are any:

    `p` its prompt, or the position of the column that holds the same; `d` its dialogue; `t` its tries; `b` what it
    was before.
    """
    cells = [_cell(row, column) for column in columns.listed]
    found: dict[str, Any] = {"k": row.key, "c": cells}
    if row.asked is not None:
        found["p"] = cells.index(row.asked) if row.asked in cells else row.asked
    if row.spoken:
        found["d"] = [_said(each) for each in row.spoken]
    if row.tries:
        found["t"] = [
            [each.number, each.started_at, each.thread_id, each.run_id, each.fault_type, each.fault]
            for each in row.tries
        ]
    if row.before is not None:
        found["b"] = dict(row.before)
    return found


def _said(run: RecordedRun) -> list[Any]:
    """A run: its turn, what was asked, what was said; then, if there is any of them, the functions that it asked for,
    what functions returned to it, citations, files."""
    citations, files = (list(run.extras.get(name) or ()) for name in ("citations", "files"))
    calls = [f"{name}({arguments})" for name, arguments in run.calls]
    more = [calls, list(run.tool_outputs), [_cited(each) for each in citations], [str(each) for each in files]]
    return [run.turn, run.asked, run.response, *(more if any(more) else ())]


def _cited(citation: Any) -> str:
    """What a citation points at, and what it quotes, in a line."""
    if not isinstance(citation, Mapping):
        return as_text(citation)
    source = next((str(citation[name]) for name in ("filename", "title", "file_id", "url") if citation.get(name)), "?")
    where = f" ({citation['url']})" if citation.get("url") and source != citation["url"] else ""
    quote = f": “{citation['quote']}”" if citation.get("quote") else ""
    return f"{source}{where}{quote}"


def _cell(row: ReportRow, column: Column) -> str | int | float | bool | None:
    match column.role:
        case "own":
            return _shown(row.values.get(column.key))
        case "output":
            return _shown(row.cells[column.key])
        case "score":
            return row.scores.get(column.key)
        case "read":
            return row.reads.get(column.key)


def _shown(value: Value) -> str | int | float | bool | None:
    """A cell as JSON that JavaScript reads without loss: large integers, lists and objects become text."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int):
        return value if abs(value) < _EXACT_IN_JAVASCRIPT else str(value)
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else str(value)
    return as_text(value)
