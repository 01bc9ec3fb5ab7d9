"""Which column of a table has conversations, and what of them is not sent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from batchrun.prompts.conversations import CONVERSATION_COLUMNS, ends_with_answer, is_conversation
from batchrun.prompts.placeholders import DEFAULT_COLUMNS
from batchrun.records import Value
from batchrun.shell_hint import command
from batchrun.tables import Source
from batchrun.wording import rows_text, shown_path

__all__ = ["answers_notice", "default_conversation"]


def default_conversation(source: Source) -> str | None:
    """Return the column that is asked as conversations if neither a prompt nor a column is given; None for a prompt.

    It is the column of the prompt (`prompt`, `question`, or the only column) if its cells are conversations, otherwise
    `messages` or `conversations`. The first cell with a value decides. A table without one has conversations if a
    column is named so.
    """
    undecided = _candidates(source.columns)
    for row in source.rows():
        for column in [each for each in undecided if not _is_empty(row.values[each])]:
            if is_conversation(row.values[column], column):
                return column
            undecided.remove(column)
        if not undecided:
            return None
    return next((column for column in undecided if column in CONVERSATION_COLUMNS), None)


def _candidates(columns: Sequence[str]) -> list[str]:
    prompts = [column for column in DEFAULT_COLUMNS if column in columns]
    if prompts:
        return prompts[:1]
    named = [column for column in CONVERSATION_COLUMNS if column in columns]
    return named or (list(columns) if len(columns) == 1 else [])


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
