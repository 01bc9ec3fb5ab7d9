"""Stage 7's join: what the journal knows, beside the input's rows, in input order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from batchrun.batch.added_columns import AddedColumns
from batchrun.journal import Journal
from batchrun.prompts.templates import Prompter, PromptError
from batchrun.records import OUTPUT_COLUMNS, Prompt, Row
from batchrun.tables import Source

__all__ = ["UNASKED", "pending_cells", "prompts_of", "result_cells"]

UNASKED = ""
"""Stands for the fingerprint of a row that has no prompt."""


def prompts_of(source: Source, prompter: Prompter) -> Iterator[tuple[str, Row, Prompt | PromptError]]:
    """(row_key, row, prompt or why there is none) for every input row, in order."""
    for row in source.rows():
        row_key = prompter.row_key(row)
        try:
            yield row_key, row, prompter.render(row)
        except PromptError as exc:
            yield row_key, row, exc


def result_cells(source: Source, prompter: Prompter, journal: Journal, added: AddedColumns) -> Iterator[dict[str, Any]]:
    """One mapping per row, in order, with the keys of `OUTPUT_COLUMNS` and of `added`.

    Each answer is joined to the row whose prompt it answers, so that an input that was edited meanwhile shows
    rows as pending rather than with the answer to another question.
    """
    more = bool(added.types)
    for row_key, _, prompt in prompts_of(source, prompter):
        fingerprint = UNASKED if isinstance(prompt, PromptError) else prompt.fingerprint
        cells = journal.cells(row_key, fingerprint)
        yield {**cells, **added.cells(journal, row_key, fingerprint, cells)} if more else cells


def pending_cells(source: Source, added: AddedColumns) -> Iterator[dict[str, Any]]:
    """The same for a table of which no row can be asked: another than the one that the batch began with."""
    for _ in source.rows():
        yield {**dict.fromkeys(OUTPUT_COLUMNS), "status": "pending", **dict.fromkeys(added.types)}
