"""Conversations that end with their answer, as in OpenAI's fine-tuning files, ShareGPT and Hugging Face data sets."""

from __future__ import annotations

from collections.abc import Iterator

from batchrun.errors import InputError
from batchrun.prompts.conversations import CONVERSATION_COLUMNS, ConversationError, without_answer
from batchrun.scoring.formats.documents import Document
from batchrun.scoring.formats.fields import Fields
from batchrun.scoring.formats.importers.importer import Cells, Importer

__all__ = ["FineTuning"]


class FineTuning(Importer):
    """One row a conversation: the assistant's message at its end becomes the column `target`, the others stay."""

    def rows(self, fields: Fields, document: Document) -> Iterator[Cells]:
        column = next((name for name in CONVERSATION_COLUMNS if name in fields), None)
        if column is None:
            raise InputError(f"{document.where}: expected a row with a column `messages` or `conversations`")
        if "target" in fields:
            raise InputError(f"{document.where}: the row has a column 'target' already; rename it")
        try:
            messages, answer = without_answer(fields.get(column))
        except ConversationError as exc:
            raise InputError(f"{document.where}: column {column!r}: {exc}") from None
        if answer is None:
            self.notes.remark("the conversation does not end with an answer of the assistant, so the target is empty")
        whole = fields.get(column)
        for message in whole[len(messages) :] if isinstance(whole, list) else []:
            for key in message.keys() - {"role", "content", "from", "value"}:
                self.notes.add_value(f"{column}[].{key}", message[key])
        yield {**fields.take_all(), column: messages, "target": answer}
