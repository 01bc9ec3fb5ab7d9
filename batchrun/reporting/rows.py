"""ReportRow: a row of a page, its columns, and its JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from batchrun.journal.live import RecordedAttempt, RecordedRun
from batchrun.prompts.conversations import question_text, spoken
from batchrun.prompts.templates import PromptError
from batchrun.records import OUTPUT_COLUMNS, Cells, JsonDict, JsonObject, Prompt, Value
from batchrun.scoring.row_tally import row_status
from batchrun.scoring.scorers.base import as_text, is_missing
from batchrun.services.citations import citation_text

__all__ = [
    "LARGEST_NUMBER",
    "WITHOUT_ANSWER",
    "Column",
    "ReportRow",
    "RowColumns",
    "asked",
    "cell_of",
    "cells_of",
    "pending_cells",
    "row_json",
]

Role: TypeAlias = Literal["own", "output", "field", "score", "read"]
"""Origin of a column: the table, batchrun, a field of answers, a scorer's value, or the text that the scorer read."""

WITHOUT_ANSWER: Final = ("failed", "expired", "cancelled")
"""Statuses of rows that ended without an answer."""

LARGEST_NUMBER: Final = 1e200
"""Larger numbers have no figures: their sums and differences might not be finite."""

_EXACT_IN_JAVASCRIPT = 2**53


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the page.

    Attributes:
        name: name in the table; for a field that has no column there, a name that no column of the table has.
        role: origin of the column.
        key: key of its cells: the column's name, the output column's name without its prefix, the field's name, or the
            scorer's name.
        carried: what its cells hold that the page shows in its own way: `citations` or `reasoning`; None for others.
    """

    name: str
    role: Role
    key: str
    carried: str | None = None


@dataclass(frozen=True, slots=True)
class RowColumns:
    """The columns of a page.

    Attributes:
        listed: all columns, in order.
        key: column with row ids; None if rows are numbered.
        target: column with the expected answer; None if no such column is named.
    """

    listed: Sequence[Column]
    key: str | None = None
    target: str | None = None

    def facts(self) -> JsonDict:
        """Return the columns as JSON."""
        return {
            "listed": [
                {"name": each.name, "role": each.role, "key": each.key}
                | ({"carried": each.carried} if each.carried is not None else {})
                for each in self.listed
            ],
            "key": self.key,
            "target": self.target,
        }


@dataclass(frozen=True, slots=True)
class ReportRow:
    """One row.

    Attributes:
        key: the key column's cell, or the row's position as text. Epochs of a row have the same key.
        batch_key: the row's key in the batch, which no other row has; None without a journal.
        values: the table's own cells.
        cells: cells by the keys of `OUTPUT_COLUMNS`; numbers are numbers, None means unknown.
        prompt: first user message of the prompt, or the last one of a conversation; None if unknown.
        runs: its runs if there was more than one.
        attempts: its attempts; empty without a journal.
        scores: scorer → value; None if the row has no score.
        reads: scorer → the text that it read.
        compared: scorer → the label that it expected and the one that it found; for scorers that compare labels.
        cluster: number of the row's cluster; None if all rows are independent.
        before: in a comparison, `response` and `scores` of the same row in the other table; None if not shown.
        messages: role and text of each message of a conversation, and `instructions` with the row's own; empty if the
            prompt is a single user message.
        fields: field → value, of an answer that is a JSON object; empty for any other.
    """

    key: str
    values: Mapping[str, Value]
    cells: Cells
    prompt: str | None = None
    runs: Sequence[RecordedRun] = ()
    attempts: Sequence[RecordedAttempt] = ()
    scores: Mapping[str, float | None] = field(default_factory=dict)
    reads: Mapping[str, str | None] = field(default_factory=dict)
    before: Cells | None = None
    compared: Mapping[str, tuple[str, str | None]] = field(default_factory=dict)
    cluster: int | None = None
    messages: Sequence[tuple[str, str]] = ()
    fields: JsonObject = field(default_factory=dict)
    batch_key: str | None = None


def asked(prompt: Prompt | PromptError) -> tuple[str | None, Sequence[tuple[str, str]]]:
    """Return the `prompt` and the `messages` of a row from its rendered prompt."""
    if isinstance(prompt, PromptError):
        return None, ()
    messages, own = prompt.first.messages, prompt.own
    text = question_text(messages) if messages else prompt.first.text
    if own is not None and own.instructions is not None:
        return text, (("instructions", own.instructions), *(spoken(messages) or (("user", text),)))
    return text, spoken(messages)


def pending_cells() -> JsonDict:
    """Return the cells of a row that has not been run."""
    return {**dict.fromkeys(OUTPUT_COLUMNS), "status": "pending"}


def cells_of(values: Mapping[str, Value], prefix: str, answer: str) -> JsonDict:
    """Return the cells of `OUTPUT_COLUMNS` in a row of any table, from any tool.

    A cell that should be a number and is not counts as unknown. The status is that by which the row counts.

    Args:
        values: cells of the row.
        prefix: prefix of the output columns.
        answer: column with the answer.
    """
    cells: JsonDict = {}
    for name, kind in OUTPUT_COLUMNS.items():
        value = values.get(answer if name == "response" else prefix + name)
        if is_missing(value):
            cells[name] = None
        elif kind in (int, float):
            cells[name] = _number(value, kind)
        else:
            cells[name] = as_text(value)
    found = cells["status"]
    cells["status"] = row_status(found, cells["response"])
    if cells["status"] == "failed" and cells["error_type"] is None and (found or "").strip().lower() != "failed":
        cells["error_type"] = found or "no_answer"
    return cells


def _number(value: Value, kind: type) -> float | int | None:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    if not abs(number) <= LARGEST_NUMBER:  # nor is NaN
        return None
    return int(number) if kind is int else number


def row_json(row: ReportRow, columns: RowColumns) -> JsonDict:
    """Return a row as JSON: `k` its key, `c` its cells in the columns' order, and, each only if it exists:

    `r` its key in the batch if that is another; `p` its prompt, or the position of the column with the same text; `m`
    the messages of its conversation; `d` its dialogue; `t` its attempts; `b` its answer and scores in the other table
    of a comparison; `g` its cluster; `x` the expected and the found label of each scorer that compares labels.
    """
    cells = [cell_of(row, column) for column in columns.listed]
    data: JsonDict = {"k": row.key, "c": cells}
    if row.batch_key not in (None, row.key):
        data["r"] = row.batch_key
    if row.prompt is not None:
        data["p"] = cells.index(row.prompt) if row.prompt in cells else row.prompt
    if row.messages:
        data["m"] = [list(each) for each in row.messages]
    if row.runs:
        data["d"] = [_run_json(each) for each in row.runs]
    if row.attempts:
        data["t"] = [
            [each.number, each.started_at, each.thread_id, each.run_id, each.fault_type, each.fault]
            for each in row.attempts
        ]
    if row.cluster is not None:
        data["g"] = row.cluster
    if row.compared:
        data["x"] = dict(row.compared)
    if row.before is not None:
        data["b"] = dict(row.before)
    return data


def _run_json(run: RecordedRun) -> list[Any]:
    """Return a run: its turn, its user message, its response; then, if any of them exists, function calls, outputs of
    functions, citations, files."""
    citations, files = (list(run.extras.get(name) or ()) for name in ("citations", "files"))
    calls = [f"{name}({arguments})" for name, arguments in run.calls]
    more = [calls, list(run.tool_outputs), [_citation_text(each) for each in citations], [str(each) for each in files]]
    return [run.turn, run.asked, run.response, *(more if any(more) else ())]


def _citation_text(citation: Any) -> str:
    return citation_text(citation) if isinstance(citation, Mapping) else as_text(citation)


def cell_of(row: ReportRow, column: Column) -> str | int | float | bool | None:
    match column.role:
        case "own":
            return _jsoncell_of(row.values.get(column.key))
        case "output":
            return _jsoncell_of(row.cells[column.key])
        case "field":
            table = row.values
            return _jsoncell_of(table[column.name] if column.name in table else row.fields.get(column.key))
        case "score":
            return row.scores.get(column.key)
        case "read":
            return row.reads.get(column.key)


def _jsoncell_of(value: Value) -> str | int | float | bool | None:
    """Return a cell as JSON that JavaScript reads without loss: large integers, lists and objects become text."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int):
        return value if abs(value) < _EXACT_IN_JAVASCRIPT else str(value)
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else str(value)
    return as_text(value)
