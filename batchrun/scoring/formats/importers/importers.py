"""All importers by their format, and the loop that reads files with one of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from batchrun.scoring.formats.documents import documents_of
from batchrun.scoring.formats.fields import Fields
from batchrun.scoring.formats.importers.batch_requests import BatchRequests
from batchrun.scoring.formats.importers.batch_results import BatchResults
from batchrun.scoring.formats.importers.fine_tuning import FineTuning
from batchrun.scoring.formats.importers.importer import Cells, Importer
from batchrun.scoring.formats.importers.inspect_ai import InspectAI
from batchrun.scoring.formats.importers.lm_eval import LmEval
from batchrun.scoring.formats.importers.openai_evals import OpenAIEvals
from batchrun.scoring.formats.importers.promptfoo import Promptfoo
from batchrun.scoring.formats.notes import Notes
from batchrun.tables import ReadOptions

__all__ = ["IMPORTERS", "imported"]

IMPORTERS: Final[Mapping[str, type[Importer]]] = {
    "openai-evals": OpenAIEvals,
    "batch-requests": BatchRequests,
    "batch-results": BatchResults,
    "messages": FineTuning,
    "inspect": InspectAI,
    "promptfoo": Promptfoo,
    "lm-eval": LmEval,
}
"""Format → what reads it."""


def imported(format_name: str, names: Sequence[str], options: ReadOptions, notes: Notes) -> Iterator[Cells]:
    """Yield the rows of files, and note everything in them that has no place in a row.

    Raises:
        InputError: a file cannot be read, or does not have the format.
    """
    importer = IMPORTERS[format_name](notes)
    for name in names:
        for document in documents_of(name, options, repeats_columns=importer.repeats_columns):
            fields = Fields.of(document.content)
            yield from importer.rows(fields, document)
            for path, value in fields.left():
                notes.add_value(path.removeprefix("data[].").removeprefix("samples[]."), value)
    yield from importer.last_rows()
