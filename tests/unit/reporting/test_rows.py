"""Rows of a page: cells are understood, and JSON loses nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from batchrun.journal.live import RecordedAttempt, RecordedRun
from batchrun.prompts.conversations import messages_in, text_of_messages
from batchrun.prompts.templates import PromptError
from batchrun.records import Prompt, RowSettings, Turn
from batchrun.reporting.rows import ReportRow, asked, cells_of, pending_cells, row_json
from batchrun.reporting.table_columns import ColumnNames, columns_of


def test_numbers_of_text_tables_are_numbers() -> None:
    """In a CSV table, tokens become int, dollars and seconds float, and empty cells unknown."""
    cells = cells_of(
        {"response": "4", "status": "completed", "total_tokens": "7.0", "cost_usd": "0.25", "duration_s": ""},
        "",
        "response",
    )
    assert (cells["total_tokens"], cells["cost_usd"], cells["duration_s"]) == (7, 0.25, None)


@pytest.mark.parametrize("value", ["many", "nan", "inf", "1e999", "-1e308", 10**400, [1], "<b>"])
def test_a_cell_that_is_not_a_number_is_unknown(value: Any) -> None:
    """An edited cell raises no error."""
    assert cells_of({"a": "x", "cost_usd": value}, "", "a")["cost_usd"] is None


def test_without_a_status_column_the_answer_decides() -> None:
    """A row with an answer is completed, a row without one has failed; the word of another tool is then the error."""
    assert cells_of({"said": "4"}, "", "said")["status"] == "completed"
    nothing = cells_of({"said": " "}, "", "said")
    assert (nothing["status"], nothing["error_type"]) == ("failed", "no_answer")
    foreign = cells_of({"said": "", "status": "timeout"}, "", "said")
    assert (foreign["status"], foreign["error_type"]) == ("failed", "timeout")
    assert cells_of({"said": "4", "status": "Completed"}, "", "said")["status"] == "completed"


def test_a_prefix_is_taken_off() -> None:
    """Output columns with a prefix are recognized."""
    assert (
        cells_of({"a_response": "4", "a_status": "expired", "status": "mine"}, "a_", "a_response")["status"]
        == "expired"
    )


def test_columns_of_the_table_stay_its_own() -> None:
    """With a prefix, a column of the input that is named like an output column stays the input's."""
    columns = columns_of(
        ["status", "q", "a_response", "a_status"], "a_", ColumnNames("a_response", ["exact"]), "q", "status"
    )
    assert [(each.name, each.role) for each in columns.listed] == [
        ("status", "own"),
        ("q", "own"),
        ("a_response", "output"),
        ("a_status", "output"),
        ("score_exact", "score"),
        ("score_exact_read", "read"),
    ]


def test_a_row_as_json() -> None:
    """Cells are in the columns' order; a prompt that equals a cell is given by the column's position."""
    columns = columns_of(["q", "response", "status"], "", ColumnNames("response"))
    cells = {**pending_cells(), "response": "4", "status": "completed"}
    row = ReportRow(
        "7", {"q": "2+2?"}, cells, "2+2?", (), (RecordedAttempt("7", 1, "t", "fp", "th", "run", False, None, None),)
    )
    assert row_json(row, columns) == {
        "k": "7", "c": ["2+2?", "4", "completed"], "p": 0, "t": [[1, "t", "th", "run", None, None]],
    }  # fmt: skip
    spoken = ReportRow("7", {"q": "x"}, cells, "2+2?", (RecordedRun(1, "2+2?", "4"), RecordedRun(2, "Sure?", "Yes")))
    assert row_json(spoken, columns)["p"] == "2+2?"
    assert row_json(spoken, columns)["d"] == [[1, "2+2?", "4"], [2, "Sure?", "Yes"]]


def test_a_conversation_is_shown_by_its_messages() -> None:
    """The prompt of a row is its last user message, and all messages are next to it with their roles."""
    messages = messages_in([{"role": "system", "content": "Be short"}, {"role": "user", "content": "2+2?"}])
    turn = Turn(text_of_messages(messages), messages=messages)
    prompt, sent = asked(Prompt("0", 0, turn, ""))
    assert (prompt, sent) == ("2+2?", (("system", "Be short"), ("user", "2+2?")))
    row = ReportRow("0", {}, pending_cells(), prompt, messages=sent)
    found = row_json(row, columns_of([], "", ColumnNames("response")))
    assert (found["p"], found["m"]) == ("2+2?", [["system", "Be short"], ["user", "2+2?"]])
    assert asked(Prompt("0", 0, Turn("2+2?"), "")) == ("2+2?", ())
    own = RowSettings(instructions="In German")
    assert asked(Prompt("0", 0, Turn("2+2?"), "", own=own)) == (
        "2+2?",
        (("instructions", "In German"), ("user", "2+2?")),
    )
    assert asked(PromptError("empty_prompt", "it is empty")) == (None, ())


def test_details_of_a_run_are_text() -> None:
    """Function calls, their outputs, citations and files are one line each, never an object or a link."""
    extras = {
        "citations": [
            {"file_id": "file-1", "filename": "a.pdf", "quote": "so"},
            {"url": "javascript:alert(1)", "title": "T"},
            {"url": "https://x"},
            "odd",
        ],
        "files": ["files/0/plot.png"],
    }
    run = RecordedRun(1, "2+2?", "", (("add", '{"a": 2}'),), ("4",), extras)
    found = row_json(ReportRow("7", {}, pending_cells(), "2+2?", (run,)), columns_of([], "", ColumnNames("response")))
    assert found["d"] == [
        [
            1, "2+2?", "", ['add({"a": 2})'], ["4"],
            ["a.pdf: “so”", "T (javascript:alert(1))", "https://x", "odd"], ["files/0/plot.png"],
        ]
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (2**60, str(2**60)), (2**52, 2**52), (float("nan"), "nan"), (float("-inf"), "-inf"), ([1, {"a": None}], '[1,{"a":null}]'),
        (True, True), (None, None), ("", ""), (0.1, 0.1),
    ],
)  # fmt: skip
def test_cells_survive_javascript(value: Any, shown: Any) -> None:
    """Numbers that JavaScript would round, and values that JSON lacks, become text."""
    columns = columns_of(["x", "status"], "", ColumnNames("response"))
    found = row_json(ReportRow("0", {"x": value}, pending_cells()), columns)["c"][0]
    assert found == shown
    json.dumps(found, allow_nan=False)
