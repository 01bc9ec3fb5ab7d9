"""The names of a table's columns: those of a header, or ours."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from batchrun.errors import InputError

__all__ = ["NO_HEADER", "check_columns", "looks_like_row", "named", "unnamed"]


NO_HEADER: Final = "--no-header"
"""The option for a table whose first line is a row."""


MAX_NAME_CHARS: Final = 10_000
_NUMBER: Final = re.compile(r"[-+]?[\d.,]*\d%?")


_SENTENCE: Final = re.compile(r"\S+\s.*[.?!…]|(\S+\s+){7}.*", re.S)
"""A question or a sentence with its mark, or eight words."""


def unnamed(width: int) -> list[str]:
    """Return the names of the columns of a table without names: `column_1`, `column_2`, …"""
    return [f"column_{number}" for number in range(1, width + 1)]


def named(header: Sequence[str]) -> tuple[list[str], str]:
    """Return the names of the columns, and a note about those without one, which are called `column_N`.

    pandas' `to_csv` gives the index of a frame no name, and a comma at the end of each line makes one more column. A
    header that looks like a row keeps its empty cells, which are refused.

    >>> named(["", "question"])
    (['column_1', 'question'], 'column 1 has no name and is called column_1')
    """
    blank = [number for number, name in enumerate(header, start=1) if not name]
    filled = [name for name in header if name]
    if not blank or not filled or looks_like_row(filled):
        return list(header), ""
    called = " and ".join(f"column {number} has no name and is called column_{number}" for number in blank)
    return [name or f"column_{number}" for number, name in enumerate(header, start=1)], called


def looks_like_row(names: Sequence[str]) -> bool:
    """Return whether the cells of a header look like those of a row: a number, a sentence, or a cell twice.

    >>> looks_like_row(["id", "Full question"]), looks_like_row(["1", "What is 2+3?"])
    (False, True)
    """
    return len(set(names)) < len(names) or any(
        _NUMBER.fullmatch(name.strip()) or _SENTENCE.fullmatch(name.strip()) for name in names
    )


def check_columns(columns: list[str], where: str, remedy: str = "") -> None:
    """Raise InputError if a name is empty or occurs twice.

    Args:
        columns: the names in order.
        where: beginning of the message.
        remedy: end of the message.
    """
    seen: set[str] = set()
    for position, column in enumerate(columns, start=1):
        if not column:
            raise InputError(f"{where}: column {position} of {len(columns)} has no name; give it one{remedy}")
        if len(column) > MAX_NAME_CHARS:
            raise InputError(
                f"{where}: the name of column {position} has {len(column):,} characters, and at most "
                f"{MAX_NAME_CHARS:,} are allowed; this is not the header of a table{remedy}"
            )
        if column in seen:
            raise InputError(f"{where}: two columns are named {column!r}; rename one{remedy}")
        seen.add(column)
