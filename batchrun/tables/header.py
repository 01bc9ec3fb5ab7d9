"""The first line of a CSV: the names of the columns, or a row of a table without names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from typing import Final

from batchrun.tables.source import Source
from batchrun.wording import shortened

__all__ = ["NO_HEADER", "header_hint", "header_notice", "longest_text_column", "looks_like_row", "unnamed"]

NO_HEADER: Final = "--no-header"
"""The option for a table whose first line is a row."""

_NUMBER: Final = re.compile(r"[-+]?[\d.,]*\d%?")
_SENTENCE: Final = re.compile(r"\S+\s.*[.?!…]|(\S+\s+){7}.*", re.S)
"""A question or a sentence with its mark, or eight words."""

_SAMPLE_ROWS: Final = 100


def unnamed(width: int) -> list[str]:
    """Return the names of the columns of a table without names: `column_1`, `column_2`, …"""
    return [f"column_{number}" for number in range(1, width + 1)]


def looks_like_row(names: Sequence[str]) -> bool:
    """Return whether the cells of a header look like those of a row: a number, a sentence, or a cell twice.

    >>> looks_like_row(["id", "Full question"]), looks_like_row(["1", "What is 2+3?"])
    (False, True)
    """
    return len(set(names)) < len(names) or any(
        _NUMBER.fullmatch(name.strip()) or _SENTENCE.fullmatch(name.strip()) for name in names
    )


def header_hint(source: Source) -> str:
    """Return what to do if the header of a CSV looks like a row; empty text if it does not."""
    if not getattr(source, "has_header", False) or not looks_like_row(source.columns):
        return ""
    return (
        f"the first line looks like a row, not like the names of columns; if it is a row, add {NO_HEADER}, which names "
        "the columns column_1, column_2, …"
    )


def header_notice(source: Source) -> str:
    """Return a line for people if the name of the only column looks like a row; else empty text."""
    if len(source.columns) > 1 or not header_hint(source):
        return ""
    return (
        f"{source.name}: the first line, {shortened(source.columns[0])}, is used as the name of the column; if it is a "
        f"row, add {NO_HEADER}"
    )


def longest_text_column(source: Source) -> str:
    """Return the column with the most text in the first 100 rows, which most likely holds the questions.

    Numbers and missing cells count nothing. Among equal columns, the first is returned.
    """
    lengths: Counter[str] = Counter()
    for row in islice(source.rows(), _SAMPLE_ROWS):
        lengths.update(
            {
                name: len(value)
                for name, value in row.values.items()
                if isinstance(value, str) and not _NUMBER.fullmatch(value.strip())
            }
        )
    return max(source.columns, key=lambda name: lengths[name])
