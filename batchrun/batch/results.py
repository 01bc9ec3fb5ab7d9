"""Joins the rows of the input with the outcomes in the journal, in input order."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from batchrun.batch.added_columns import AddedColumns
from batchrun.batch.selection import Selection, selected_cells
from batchrun.journal import Journal
from batchrun.journal.row_cells import ROWS_AT_ONCE
from batchrun.prompts.templates import Prompter, PromptError
from batchrun.records import OUTPUT_COLUMNS, JsonDict, Prompt, Row
from batchrun.tables import Source

__all__ = ["UNASKED", "pending_cells", "prompt_of", "prompts_of", "result_cells"]

UNASKED = ""
"""The fingerprint in the journal of a row without a prompt, since its prompt could not be made."""


def prompts_of(source: Source, prompter: Prompter) -> Iterator[tuple[str, Row, Prompt | PromptError]]:
    """Yield (row_key, row, prompt or the error that prevents one) for each input row, in order."""
    for row in source.rows():
        prompt = prompt_of(row, prompter)
        yield prompter.row_key(row) if isinstance(prompt, PromptError) else prompt.row_key, row, prompt


def prompt_of(row: Row, prompter: Prompter) -> Prompt | PromptError:
    """Return the prompt of a row, or the error that prevents one."""
    try:
        return prompter.render(row)
    except PromptError as exc:
        return exc


def result_cells(
    source: Source, prompter: Prompter, journal: Journal, added: AddedColumns, selection: Selection | None = None
) -> Iterator[JsonDict]:
    """Yield one mapping per row, in order, with the keys of `OUTPUT_COLUMNS` and of `added`.

    An outcome belongs to a row only if the row's prompt is still the one that was answered. A row that was edited
    meanwhile is pending, rather than next to the answer to another question.

    Args:
        selection: the rows that the last run asked; the others are skipped unless they have an answer. None for all.
    """
    has_more = bool(added.types)
    rows = source.rows()
    while chunk := list(islice(rows, ROWS_AT_ONCE)):
        asked = [(prompter.row_key(row), _fingerprint(row, prompter)) for row in chunk]
        for row, (row_key, fingerprint), cells in zip(chunk, asked, journal.row_cells.of_rows(asked), strict=True):
            if has_more:
                cells |= added.cells(journal, row_key, fingerprint, cells)
            yield selected_cells(selection, row, cells)


def _fingerprint(row: Row, prompter: Prompter) -> str:
    """Return the fingerprint under which the journal has the row's outcome."""
    fingerprint = prompter.plain_fingerprint(row)
    if fingerprint is not None:
        return fingerprint
    prompt = prompt_of(row, prompter)
    return UNASKED if isinstance(prompt, PromptError) else prompt.fingerprint


def pending_cells(source: Source, added: AddedColumns, selection: Selection | None) -> Iterator[JsonDict]:
    """Yield the cells of a table that the batch's prompt does not fit: every selected row is pending."""
    for row in source.rows():
        cells = {**dict.fromkeys(OUTPUT_COLUMNS), "status": "pending", **dict.fromkeys(added.types)}
        yield selected_cells(selection, row, cells)
