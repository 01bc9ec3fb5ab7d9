"""Requests of OpenAI's Batch API. Source: https://platform.openai.com/docs/guides/batch."""

from __future__ import annotations

from collections.abc import Iterator

from batchrun.errors import InputError
from batchrun.records import JsonDict
from batchrun.scoring.formats.documents import Document
from batchrun.scoring.formats.fields import Fields
from batchrun.scoring.formats.importers.importer import Cells, Importer
from batchrun.shell_hint import option

__all__ = ["BatchRequests"]


class BatchRequests(Importer):
    """One row a request, of chat completions or responses. `messages` is its conversation, which `run` asks as it is.

    The `instructions` of a response become the first message, so that a run of the table sends them too.
    """

    def rows(self, fields: Fields, document: Document) -> Iterator[Cells]:
        if "custom_id" not in fields or not isinstance(fields.get("body"), dict):
            raise InputError(f'{document.where}: expected a request of the Batch API, with "custom_id" and "body"')
        fields.take_if("method", "POST")
        fields.take_if("url", "/v1/chat/completions", "/v1/responses")
        body = fields.object("body")
        messages = _messages(body)
        instructions = body.text("instructions")
        if instructions:
            messages.insert(0, {"role": "system", "content": instructions})
        model = body.text("model")
        if model:
            self.notes.add(f"body.model: use run {option('--model', model)}")
        yield {"custom_id": fields.take("custom_id"), "messages": messages}


def _messages(body: Fields) -> list[JsonDict]:
    """Take the messages of a request; what is neither text nor a list of objects stays."""
    key = "messages" if "messages" in body else "input"
    value = body.get(key)
    if isinstance(value, str):
        return [{"role": "user", "content": body.take(key)}]
    if isinstance(value, list) and all(isinstance(each, dict) for each in value):
        return list(body.take(key))
    return []
