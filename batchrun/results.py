"""Stage 7's join: what the journal knows, beside the input's rows, in input order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from batchrun.errors import InputError
from batchrun.journal import Journal
from batchrun.prompts import Prompter, PromptError
from batchrun.records import Prompt, Row
from batchrun.tables import ReadOptions, Source, WriteOptions, open_source

__all__ = ["UNASKED", "prompts_of", "result_cells", "source_of"]

UNASKED = ""
"""Stands for the fingerprint of a row that has no prompt."""


def prompts_of(source: Source, prompter: Prompter) -> Iterator[tuple[str, Row, Prompt | PromptError]]:
    """(row_key, row, prompt or why there is none) for every input row, in order."""
    for row in source.rows():
        row_key = str(row.row_index)
        try:
            yield row_key, row, prompter.render(row, row_key)
        except PromptError as exc:
            yield row_key, row, exc


def result_cells(source: Source, prompter: Prompter, journal: Journal) -> Iterator[dict[str, Any]]:
    """One mapping per input row, in order, with the keys of `OUTPUT_COLUMNS`.

    Each answer is joined to the row whose prompt it answers, so that an input that was edited meanwhile shows
    rows as pending rather than with the answer to another question.
    """
    for row_key, _, prompt in prompts_of(source, prompter):
        yield journal.cells(row_key, UNASKED if isinstance(prompt, PromptError) else prompt.fingerprint)


def source_of(manifest: Mapping[str, Any], spool: Any) -> tuple[Source, WriteOptions]:
    """The input of a batch and how its output is written, from its journal alone.

    Raises:
        InputError: the input is gone, or was a DataFrame.
    """
    name = manifest["input"]
    if name is None:
        raise InputError("the input of this batch was a DataFrame, which is gone; run the batch again to see its rows")
    source = open_source(spool if name == "-" else name, ReadOptions(**manifest["read_options"]))
    return source, WriteOptions(**manifest["write_options"])
