"""The first turn of a row that is a conversation, with the instructions that it gives on the Assistants API."""

from __future__ import annotations

from dataclasses import replace

from batchrun.prompts.conversations import (
    ConversationError,
    messages_in,
    question_text,
    text_of_messages,
    without_instructions,
)
from batchrun.prompts.prompt_error import PromptError, check_unicode
from batchrun.records import Attachment, JsonObject, RowSettings, Settings, Turn, Value

__all__ = ["conversation_turn"]


def conversation_turn(
    cell: Value,
    settings: Settings,
    own: RowSettings | None,
    attached: tuple[Attachment, ...],
    examples: tuple[JsonObject, ...],
) -> tuple[Turn, RowSettings | None]:
    """Return the turn of a conversation, and the row's own settings.

    The Assistants API has no system messages in threads: they become instructions of the row, after those of the batch.
    With the user's assistant, the instructions of the batch go with each run by themselves.

    Args:
        settings: those of the row's combination.
        own: the row's own settings so far.

    Raises:
        PromptError: the cell is not a conversation, or one of its messages cannot be sent.
    """
    api = settings.get("api")
    try:
        messages = messages_in(cell, api)
    except ConversationError as exc:
        raise PromptError(exc.error_type, str(exc), option="messages") from None
    check_unicode(messages, "the conversation")
    if attached and not question_text(messages):
        raise PromptError("bad_attachment", "the conversation has no message of the user to attach the file to")
    if api == "assistants":
        instructions, messages = without_instructions(messages)
        if instructions:
            before = own.instructions if own is not None else None
            if before is None and "assistant" not in settings:
                before = settings.get("instructions")
            whole = "\n\n".join(filter(None, (before, instructions)))
            own = replace(own, instructions=whole) if own is not None else RowSettings(instructions=whole)
    return Turn(text_of_messages(messages), 1, attached, messages, examples), own
