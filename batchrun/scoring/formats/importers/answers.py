"""What an answer of another tool is here: the cells `response`, `status`, `error_type` and `error` follow its text."""

from __future__ import annotations

from typing import Final

from batchrun.records import EMPTY_ANSWER, OUTPUT_COLUMNS, REFUSAL, Value
from batchrun.scoring.formats.importers.importer import Cells
from batchrun.scoring.scorers.base import as_text, is_missing
from batchrun.services.finish_reason import BROKEN, end_of_completed, meaning_of
from batchrun.token_usage import Usage

__all__ = ["ANSWER_COLUMNS", "answer_cells", "failed_cells", "own_column"]

ANSWER_COLUMNS: Final = frozenset({*OUTPUT_COLUMNS, "messages", "tool_calls", "finish_reason"})
"""The columns that importers make from an answer."""
TOOL_CALLS: Final = "tool_calls"
"""The reason of an answer that consists of tool calls only."""


def answer_cells(text: str, *, finish: Value = None, refused: bool = False, has_calls: bool = False) -> Cells:
    """Return the cells of an answer that did not fail. An answer without text is never `completed`.

    Args:
        finish: why the model stopped, in the tool's words.
        has_calls: the model asked for tool calls.
    """
    status, reason = end_of_completed(text, Usage(), refused=refused)
    if reason == EMPTY_ANSWER and has_calls:
        reason = TOOL_CALLS
    known = meaning_of(finish) if isinstance(finish, str) else None
    if known is not None and reason != REFUSAL:
        status, reason = "incomplete", "server_error" if known == BROKEN else known
    return {"response": text or None, "status": status, "error_type": reason, "error": None}


def failed_cells(kind: Value, message: Value, *, text: str = "") -> Cells:
    """Return the cells of an answer that failed."""
    kind, message = as_text(kind), as_text(message)
    return {
        "response": text or None,
        "status": "failed",
        "error_type": kind or "error",
        "error": message or kind or "the source gives no reason",
    }


def own_column(name: str, prefix: str, reserved: frozenset[str], reserved_starts: tuple[str, ...] = ()) -> str:
    """Return the column of a field of the source, which is the same for every row.

    Args:
        prefix: what distinguishes a field from a column with another meaning.
        reserved: columns with another meaning.
        reserved_starts: beginnings of columns with another meaning.

    >>> [own_column(name, "item_", frozenset({"response"})) for name in ("question", "response", "item_response")]
    ['question', 'item_response', 'item_item_response']
    """
    taken = name in reserved or name.startswith((prefix, *reserved_starts)) or is_missing(name)
    return f"{prefix}{name}" if taken else name
