"""Requests of OpenAI's Batch API. Source: https://platform.openai.com/docs/guides/batch."""

from __future__ import annotations

from collections.abc import Iterator

from batchrun.errors import InputError
from batchrun.scoring.formats.documents import Document
from batchrun.scoring.formats.fields import Fields
from batchrun.scoring.formats.importers.asked import conversation_cells
from batchrun.scoring.formats.importers.importer import Cells, Importer
from batchrun.shell_hint import option

__all__ = ["BatchRequests"]


class BatchRequests(Importer):
    """One row a request, of chat completions or responses."""

    def rows(self, fields: Fields, document: Document) -> Iterator[Cells]:
        if "custom_id" not in fields or not isinstance(fields.get("body"), dict):
            raise InputError(f'{document.where}: expected a request of the Batch API, with "custom_id" and "body"')
        fields.take_if("method", "POST")
        fields.take_if("url", "/v1/chat/completions", "/v1/responses")
        body = fields.object("body")
        key = "messages" if "messages" in body else "input"
        cells = {"custom_id": fields.take("custom_id"), "question": "", **conversation_cells(body, key)}
        instructions = body.text("instructions")
        if instructions:
            cells["instructions"] = "\n\n".join(filter(None, [instructions, cells.get("instructions")]))
        model = body.text("model")
        if model:
            self.notes.add(f"body.model: use run {option('--model', model)}")
        yield cells
