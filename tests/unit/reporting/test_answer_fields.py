"""Answers that are JSON objects have columns of their own on the page."""

from __future__ import annotations

import json
from typing import Any

import pytest

from batchrun.reporting.answer_fields import FoundFields, TableFields
from batchrun.reporting.rows import Column, ReportRow, cell_of, pending_cells
from batchrun.reporting.table_columns import ColumnNames, columns_of

LISTED = ("topic", "response", "status", "total")


def found(*answers: str | None, status: str = "completed", own: tuple[str, ...] = ()) -> tuple[TableFields, list[Any]]:
    fields = FoundFields(LISTED, "", own)
    read = [fields.read({"response": answer, "status": status}) for answer in answers]
    return fields.columns(), read


def test_fields_have_columns_in_the_order_of_the_answers() -> None:
    """A field that the table has after the answer is its column; one that the input has too gets a name of its own."""
    columns, read = found(
        '{"label": "a", "topic": 1, "total": 2}', '```json\n{"label": "b", "more": [1]}\n```', "prose"
    )
    assert columns == TableFields(["total"], {"label": "label", "response.topic": "topic", "more": "more"})
    assert read == [{"label": "a", "topic": 1, "total": 2}, {"label": "b", "more": [1]}, {}]


@pytest.mark.parametrize(
    ("answers", "status"),
    [(("prose", '{"a": 1}', "more"), "completed"), (("[1]", "7", None), "completed"), (('{"a": 1}',), "incomplete")],
)
def test_other_answers_have_no_fields(answers: tuple[str, ...], status: str) -> None:
    """A rare object, another value and an answer that was cut short make no columns."""
    assert found(*answers, status=status)[0] == TableFields()


def test_a_schema_names_all_columns() -> None:
    """If the batch has a schema, its columns are the fields and no answer is read."""
    assert found('{"total": 1, "x": 2}', own=("total",)) == (TableFields(("total",)), [{}])


def test_rare_fields_are_counted() -> None:
    """The 30 most frequent fields have columns, and a sentence counts the others."""
    often = {f"f{number}": number for number in range(30)}
    columns, _ = found(json.dumps({"rare": 0, **often}), json.dumps(often))
    assert list(columns.derived) == list(often)
    assert columns.notes() == ["The answers have 1 further fields, which are less frequent and have no column."]


def test_a_cell_of_a_field() -> None:
    """The table's cell comes first; a field that the table lacks comes from the answer."""
    fields = TableFields(["total"], {"response.topic": "topic"})
    columns = columns_of(LISTED, "", ColumnNames("response", fields=fields))
    row = ReportRow("0", {"topic": "a", "total": "7"}, pending_cells(), fields={"topic": {"deep": 1}, "total": 8})
    by_name = {column.name: column for column in columns.listed}
    assert by_name["response.topic"] == Column("response.topic", "field", "topic")
    assert [by_name[name].role for name in ("topic", "total", "response.topic")] == ["own", "field", "field"]
    assert [cell_of(row, by_name[name]) for name in ("topic", "total", "response.topic")] == ["a", "7", '{"deep":1}']
