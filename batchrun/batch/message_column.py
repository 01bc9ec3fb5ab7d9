"""Which column of a table has conversations, and what of them is not sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from batchrun.prompts.conversations import CONVERSATION_COLUMNS, ends_with_answer, is_conversation
from batchrun.prompts.placeholders import DEFAULT_COLUMNS
from batchrun.records import Value
from batchrun.shell_hint import command
from batchrun.tables import Source, cells_of
from batchrun.wording import rows_text, shown_path

__all__ = ["MessageColumn", "answers_notice", "default_conversation"]


@dataclass(frozen=True, slots=True)
class MessageColumn:
    """A column of conversations.

    Attributes:
        has_texts: some of its cells are texts, each of which is a message of the user.
    """

    name: str
    has_texts: bool = False


def default_conversation(source: Source) -> MessageColumn | None:
    """Return the column that is asked as conversations if neither a prompt nor a column is given; None for a prompt.

    It is the column of the prompt (`prompt`, `question`, or the only column) if any of its cells is a conversation,
    otherwise `messages` or `conversations`, of which the first cell with a value decides. A table without one has
    conversations if a column is named so.
    """
    prompt = _prompt_column(source.columns)
    if prompt is not None:
        return _column_of_prompts(source, prompt)
    undecided = [column for column in CONVERSATION_COLUMNS if column in source.columns]
    for row in source.rows() if undecided else ():
        for column in [each for each in undecided if not _is_empty(row.values[each])]:
            if is_conversation(row.values[column], column):
                return MessageColumn(column)
            undecided.remove(column)
        if not undecided:
            return None
    return MessageColumn(undecided[0]) if undecided else None


def _prompt_column(columns: Sequence[str]) -> str | None:
    """Return the column of the default prompt; None if there is none."""
    named = next((column for column in DEFAULT_COLUMNS if column in columns), None)
    return columns[0] if named is None and len(columns) == 1 else named


def _column_of_prompts(source: Source, column: str) -> MessageColumn | None:
    """Return `default_conversation` for the column of the prompt, whose cells may be texts or conversations.

    Every cell is looked at: a conversation after many texts must not be sent as a text.
    """
    is_named = column in CONVERSATION_COLUMNS
    has_texts = has_conversations = False
    for cell in cells_of(source, column):
        if _is_empty(cell):
            continue
        if not is_conversation(cell, column):
            has_texts = True
        elif is_named and not has_texts:
            return MessageColumn(column)
        else:
            has_conversations = True
        if has_texts and has_conversations:
            break
    is_asked = has_conversations or (is_named and not has_texts)
    return MessageColumn(column, has_texts=has_texts) if is_asked else None


def _is_empty(cell: Value) -> bool:
    """Return whether a cell says nothing about its column: None, NaN, blank text, or a list without entries."""
    return cell is None or cell != cell or cell == [] or (isinstance(cell, str) and cell.strip() in ("", "[]"))


def answers_notice(source: Source, column: str, input_name: str | None) -> tuple[str, ...]:
    """Return the line about conversations that end with an answer, which is not sent; nothing if there are none.

    Args:
        source: the input, without combinations.
        input_name: path of the input; None for a table in memory.
    """
    count = sum(ends_with_answer(row.values[column]) for row in source.rows())
    if not count:
        return ()
    made = ""
    if input_name is not None and input_name != "-":
        converted = command("convert", Path(shown_path(Path(input_name))), "OUTPUT", "--from", "messages")
        made = f"; `{converted}` makes it the column `target`"
    return (f"column {column!r}: the assistant's message at the end of {rows_text(count)} is not sent{made}",)
