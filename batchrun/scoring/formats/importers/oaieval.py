"""Samples of the open-source evals repository: `input` and `ideal`. Source: https://github.com/openai/evals, docs."""

from __future__ import annotations

from typing import Final

from batchrun.scoring.formats.fields import Fields
from batchrun.scoring.formats.importers.answers import own_column
from batchrun.scoring.formats.importers.asked import conversation_cells
from batchrun.scoring.formats.importers.importer import Cells
from batchrun.scoring.formats.notes import Notes

__all__ = ["is_oaieval_sample", "oaieval_row"]

_COLUMNS: Final = frozenset({"question", "instructions", "messages", "target"})


def is_oaieval_sample(fields: Fields) -> bool:
    """Return whether these are the fields of a sample: a prompt, or one of several, and the ideal answer."""
    return isinstance(fields.get("input"), str | list) or (isinstance(fields.get("ideal"), str | list))


def oaieval_row(fields: Fields, notes: Notes) -> Cells:
    """Return the row of a sample: the prompt, the ideal answer as `target`, and every other field."""
    asked = fields.get("input")
    cells = conversation_cells(fields, "input")
    if "instructions" in cells:
        cells = {"question": cells["question"], "messages": asked}
    if "ideal" in fields:
        cells["target"] = fields.take("ideal")
    for name, value in fields.take_all().items():
        column = own_column(name, "sample_", _COLUMNS)
        if column != name:
            notes.remark(f"the sample's field {name!r} is the column {column!r}")
        cells[column] = value
    return cells
