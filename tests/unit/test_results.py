"""The join of input and journal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from batchrun.journal import Journal
from batchrun.prompts import PromptError
from batchrun.records import OUTPUT_COLUMNS, Prompt
from batchrun.results import UNASKED, AddedColumns, Totals, prompts_of, result_cells
from batchrun.tables import ReadOptions, Source, open_source
from tests.support.rows import NOON, attempt, completed, failed, prompter, write_csv


@pytest.fixture
def source(tmp_path: Path) -> Source:
    rows = [{"question": text} for text in ("a", "b", "", "d", "e")]
    return open_source(write_csv(tmp_path / "in.csv", rows), ReadOptions())


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "j") as journal:
        yield journal


PROMPTER = prompter(["{{ question }}"], ["question"])


def prompts(source: Source) -> list[Prompt | PromptError]:
    return [prompt for _, _, prompt in prompts_of(source, PROMPTER)]


def test_every_row_is_there(source: Source) -> None:
    """Each row gives a prompt, or why it has none, in order."""
    assert [isinstance(prompt, Prompt) for prompt in prompts(source)] == [True, True, False, True, True]


def test_every_row_has_cells(source: Source, journal: Journal) -> None:
    """Answered, failed, unasked, in flight and pending rows all have their cells, in input order."""
    made = prompts(source)
    assert isinstance(made[0], Prompt)
    assert isinstance(made[1], Prompt)
    assert isinstance(made[3], Prompt)
    journal.finish(completed(0, "A"), made[0].fingerprint)
    journal.finish(failed(1), made[1].fingerprint)
    journal.finish(failed(2, error_type="empty_prompt"), UNASKED)
    journal.begin(made[3], attempt(), NOON)
    cells = list(result_cells(source, PROMPTER, journal, AddedColumns({})))
    assert [cell["status"] for cell in cells] == ["completed", "failed", "failed", "in_flight", "pending"]
    assert all(set(OUTPUT_COLUMNS) <= set(cell) for cell in cells)
    assert cells[0]["response"] == "A"


def test_an_answer_never_stands_beside_another_question(source: Source, journal: Journal) -> None:
    """An outcome whose prompt is no longer the row's is left out."""
    journal.finish(completed(0, "to something else"), "other")
    journal.finish(failed(1), UNASKED)
    cells = list(result_cells(source, PROMPTER, journal, AddedColumns({})))
    assert [cell["status"] for cell in cells] == ["pending"] * 5
    assert all(cell["response"] is None for cell in cells)


def test_totals(source: Source, journal: Journal) -> None:
    """The totals are those of the rows of the table, and of no others."""
    made = prompts(source)
    assert isinstance(made[0], Prompt)
    journal.finish(completed(0, cost_usd=0.5), made[0].fingerprint)
    journal.finish(completed(99, cost_usd=7.0), "row that is gone")
    totals = Totals()
    for cells in result_cells(source, PROMPTER, journal, AddedColumns({})):
        totals.add(cells)
    assert (totals.by_status["completed"], totals.by_status["pending"], totals.cost_usd) == (1, 4, 0.5)
    assert (totals.prompt_tokens, totals.completion_tokens) == (3, 1)
