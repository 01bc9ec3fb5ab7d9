"""The join of input and journal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from batchrun.batch.added_columns import AddedColumns, recorded_columns
from batchrun.batch.paths import paths_for
from batchrun.batch.recorded_input import recorded_source
from batchrun.batch.results import UNASKED, prompts_of, result_cells
from batchrun.batch.totals import Totals
from batchrun.journal import Journal
from batchrun.prompts.templates import PromptError, prompter_for
from batchrun.records import OUTPUT_COLUMNS, Prompt
from batchrun.tables import ReadOptions, Source, WriteOptions, open_source
from tests.support.ends import ended
from tests.support.rows import NOON, attempt, completed, failed, prompt, prompter, write_csv


@pytest.fixture
def source(tmp_path: Path) -> Source:
    rows = [{"question": text} for text in ("a", "b", "", "d", "e")]
    return open_source(write_csv(tmp_path / "in.csv", rows), ReadOptions())


PROMPTER = prompter(["{{ question }}"], ["question"])


def prompts(source: Source) -> list[Prompt | PromptError]:
    return [prompt for _, _, prompt in prompts_of(source, PROMPTER)]


def test_every_row_is_there(source: Source) -> None:
    """Each row yields a prompt, or the error that prevents one, in order."""
    assert [isinstance(prompt, Prompt) for prompt in prompts(source)] == [True, True, False, True, True]


def test_every_row_has_cells(source: Source, journal: Journal) -> None:
    """Answered, failed, pending and in-flight rows, and those without a prompt, all have their cells, in input order."""
    made = prompts(source)
    assert isinstance(made[0], Prompt)
    assert isinstance(made[1], Prompt)
    assert isinstance(made[3], Prompt)
    journal.finish(completed(0, "A"), made[0].fingerprint)
    journal.finish(failed(1), made[1].fingerprint)
    journal.finish(failed(2, error_type="empty_prompt"), UNASKED)
    journal.begin_attempt(made[3], attempt(), NOON)
    cells = list(result_cells(source, PROMPTER, journal, AddedColumns({})))
    assert [cell["status"] for cell in cells] == ["completed", "failed", "failed", "in_flight", "pending"]
    assert all(set(OUTPUT_COLUMNS) <= set(cell) for cell in cells)
    assert cells[0]["response"] == "A"


def test_an_answer_is_never_joined_to_another_question(source: Source, journal: Journal) -> None:
    """An outcome whose prompt is no longer the row's is left out."""
    journal.finish(completed(0, "to something else"), "other")
    journal.finish(failed(1), UNASKED)
    cells = list(result_cells(source, PROMPTER, journal, AddedColumns({})))
    assert [cell["status"] for cell in cells] == ["pending"] * 5
    assert all(cell["response"] is None for cell in cells)


def test_totals(source: Source, journal: Journal) -> None:
    """The totals count the rows of the table, and no other rows of the journal."""
    made = prompts(source)
    assert isinstance(made[0], Prompt)
    journal.finish(completed(0, cost_usd=0.5), made[0].fingerprint)
    journal.finish(completed(99, cost_usd=7.0), "row that is gone")
    totals = Totals()
    for cells in result_cells(source, PROMPTER, journal, AddedColumns({})):
        totals.add(cells)
    assert (totals.by_status["completed"], totals.by_status["pending"], totals.cost_usd) == (1, 4, 0.5)
    assert (totals.prompt_tokens, totals.completion_tokens) == (3, 1)


# -- columns of rows that are more than one question ----------------------------------------------------------------

TURNS = {"turns": [{"prompt": "{{ question }}"}, {"prompt": "more"}]}


def added(journal: Journal, settings: dict[str, Any], row: int = 0, fingerprint: str = "f") -> dict[str, Any]:
    """Return a row's cells in the columns that the settings add."""
    columns = AddedColumns(settings)
    cells = columns.cells(journal, str(row), fingerprint, journal.cells(str(row), fingerprint))
    assert list(cells) == list(columns.types)
    return cells


def test_columns_that_settings_add() -> None:
    """There is an answer per turn, and counts, citations and files if the settings can produce them; a single turn adds
    nothing."""
    assert AddedColumns({"prompt": "x", "turns": [{"prompt": "x"}]}).types == {}
    functions = [{"name": "f"}]
    settings = {**TURNS, "functions": functions, "file_search": "hash", "code_interpreter": True}
    assert AddedColumns(settings).types == {
        "response_1": str,
        "response_2": str,
        "tool_calls": int,
        "tool_errors": int,
        "citations": list,
        "files": list,
    }


def test_columns_of_what_answers_carried(journal: Journal) -> None:
    """A column is there if it is asked for or if an answer had something for it."""
    usual = WriteOptions()
    plain = AddedColumns({"param": {}}, keep=["raw"])
    assert list(plain.types) == ["raw"]
    assert list(AddedColumns({"param": {"service_tier": "flex"}}).types) == ["service_tier"]
    journal.finish(completed(0, "A"), "f")
    assert list(plain.with_found(journal, usual)[0].types) == ["raw"]
    journal.finish(completed(1, "B", extras={"reasoning": "Hm.", "citations": [{"url": "u"}]}), "f")
    journal.finish(completed(2, "D", extras={"reasoning": "So.", "raw": {"id": 1}}), "f")
    found, options = plain.with_found(journal, usual)
    assert options.extra_columns == found.types == {"citations": list, "reasoning": str, "raw": dict}
    cells = [found.cells(journal, key, "f", journal.cells(key, "f")) for key in "012"]
    assert cells == [
        {"citations": None, "reasoning": None, "raw": None},
        {"citations": [{"url": "u"}], "reasoning": "Hm.", "raw": None},
        {"citations": None, "reasoning": "So.", "raw": {"id": 1}},
    ]
    manifest = {"settings": {}, "write_options": {}, "carried": sorted(journal.carried())}
    assert list(recorded_columns(manifest, ()).types) == ["citations", "reasoning", "raw"]


def test_columns_of_what_answers_carried_give_way(journal: Journal) -> None:
    """A column of the table or the schema keeps its name, with the prefix of the output or without."""
    journal.finish(completed(0, "A", extras={"reasoning": "Hm.", "citations": [{"url": "u"}]}), "f")
    schema = {"type": "object", "properties": {"reasoning": {"type": "string"}}}
    columns = AddedColumns({"schema": schema}, taken=["reasoning", "citations"]).with_found(journal, WriteOptions())[0]
    assert list(columns.types) == ["reasoning", "response_citations", "response_reasoning"]
    prefixed = AddedColumns({}, taken=["a_reasoning", "reasoning", "a_response_reasoning", "citations"], prefix="a_")
    assert list(prefixed.with_found(journal, WriteOptions())[0].types) == ["citations", "response_response_reasoning"]


def test_answers_of_all_turns(journal: Journal) -> None:
    """The answers are in their columns; a turn that was left out has an empty cell."""
    journal.run_ended("0", "f", ended(1, 1, "A"))
    journal.finish(completed(0, "A"), "f")
    assert added(journal, TURNS) == {"response_1": "A", "response_2": None}
    journal.run_ended("0", "f", ended(2, 2, "B"))
    assert added(journal, TURNS) == {"response_1": "A", "response_2": "B"}


def test_answers_of_a_row_in_flight(journal: Journal) -> None:
    """The answers of finished turns are shown while the row is in flight."""
    asked = prompt(0, fingerprint="f")
    journal.begin_attempt(asked, attempt(), NOON)
    journal.run_ended("0", "f", ended(1, 1, "A"))
    journal.begin_attempt(asked, attempt(2, 2), NOON, 2)
    assert added(journal, TURNS) == {"response_1": "A", "response_2": None}


def test_turns_of_another_question_are_left_out(journal: Journal) -> None:
    """A row whose prompt changed shows no answer to the earlier prompt, even while it runs again."""
    journal.run_ended("0", "f", ended(1, 1, "A"))
    journal.finish(completed(0, "A", extras={"tool_calls": 3, "tool_errors": 1}), "f")
    settings = {**TURNS, "functions": [{"name": "f"}]}
    nothing = dict.fromkeys(AddedColumns(settings).types)
    assert added(journal, settings, fingerprint="edited") == nothing
    journal.begin_attempt(prompt(0, fingerprint="edited"), attempt(2, 2), NOON)
    assert added(journal, settings, fingerprint="edited") == nothing
    assert added(journal, settings)["tool_calls"] == 3


def test_an_answer_that_is_requested_again(journal: Journal) -> None:
    """While a new answer is in progress, the old one is not shown next to turns of the new one."""
    journal.run_ended("0", "f", ended(1, 1, "old"))
    journal.finish(completed(0, "old"), "f")
    journal.begin_attempt(prompt(0, fingerprint="f"), attempt(2, 2), NOON, 1, redo_from_turn=1)
    journal.run_ended("0", "f", ended(1, 1, "new", attempt=2))
    assert journal.cells("0", "f")["response"] == "old"
    assert added(journal, TURNS) == {"response_1": None, "response_2": None}


def test_turns_of_failed_rows(journal: Journal) -> None:
    """The answers before the failed turn are in the output."""
    journal.run_ended("0", "f", ended(1, 1, "A"))
    journal.finish(failed(0, attempts=2), "f")
    assert added(journal, TURNS) == {"response_1": "A", "response_2": None}


def test_rows_in_all_combinations(tmp_path: Path, journal: Journal) -> None:
    """From the manifest alone, a batch with several settings is restored: rows, order, columns and answers."""
    settings = {"prompt": "{{ question }}", "model": None, "matrix": {"model": ["m", "n"]}, "epochs": 2, **TURNS}
    path = write_csv(tmp_path / "in.csv", [{"question": "a"}, {"question": "b"}])
    manifest = {"input": str(path), "settings": settings, "read_options": {}, "write_options": {}}
    source, options = recorded_source(manifest, paths_for(tmp_path / "out.csv"))
    assert source.columns == ("question", "axis_model", "epoch")
    made = prompter_for(settings, source.columns, None)
    for row_key, _, each in prompts_of(source, made):
        assert isinstance(each, Prompt)
        journal.run_ended(row_key, each.fingerprint, ended(1, 1, f"first {row_key}"))
        journal.finish(replace(completed(0, f"last {row_key}"), row_key=row_key), each.fingerprint)
    cells = list(result_cells(source, made, journal, AddedColumns(settings)))
    keys = [f"{row}|model={model}{epoch}" for row in (0, 1) for model in "mn" for epoch in ("", "|epoch=2")]
    assert [cell["response"] for cell in cells] == [f"last {key}" for key in keys]
    assert [cell["response_1"] for cell in cells] == [f"first {key}" for key in keys]
    assert list(options.keys)[-2:] == ["response_1", "response_2"]
