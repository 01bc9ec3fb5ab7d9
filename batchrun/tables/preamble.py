"""Lines above the header of a CSV: Excel's `sep=` line, comments, a title."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from batchrun.tables.column_names import looks_like_row
from batchrun.tables.dialect import delimiter_of, parsed, sample_of
from batchrun.tables.files import TextFile
from batchrun.wording import shortened

__all__ = ["Preamble", "preamble_of"]

_SEP: Final = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
_MAX_LINES: Final = 20
"""Lines above the header that are looked for."""


@dataclass(frozen=True, slots=True)
class Preamble:
    """What is above the header.

    Attributes:
        lines: physical lines that are not part of the table.
        delimiter: the one that a `sep=` line names, None without one.
        note: a line for people, empty if there is nothing to say.
    """

    lines: int = 0
    delimiter: str | None = None
    note: str = ""


def preamble_of(file: TextFile, delimiter: str | None) -> Preamble:
    """Return what is above the header of a table.

    Lines count as above the header only if they cannot be a header: comments that begin with `#`, text in front of a
    blank line, or a title whose other cells are empty; and only if a table of at least two columns follows.

    Args:
        delimiter: the one that the user gave, None if it is to be detected.
    """
    lines, _ = sample_of(file)
    if lines and (found := _SEP.fullmatch(lines[0])):
        return Preamble(1, found[1])
    above = _comments(lines) or _before_a_blank_line(lines)
    # A quote may begin a name of several lines.
    if above and (any('"' in line for line in lines[:above]) or not _is_table(lines[above:], lines[:above], delimiter)):
        above = 0
    if not above:
        above = _padded_titles(lines, delimiter)
    if not above:
        return Preamble()
    texts = filter(None, (line.strip().rstrip(",;\t|") for line in lines[:above]))
    shown = ", ".join(map(shortened, texts))
    return Preamble(above, None, f"the lines above the header are not part of the table: {shown}")


def _comments(lines: Sequence[str]) -> int:
    """Return the number of lines at the start that begin with `#` or are blank, 0 if none begins so."""
    above = 0
    while above < len(lines) and (not lines[above].strip() or lines[above].startswith("#")):
        above += 1
    return above if any(line.startswith("#") for line in lines[:above]) else 0


def _before_a_blank_line(lines: Sequence[str]) -> int:
    """Return the number of lines up to the first line after a blank one, if text is in front of it."""
    blank = next((number for number, line in enumerate(lines[:_MAX_LINES]) if not line.strip()), None)
    if not blank:
        return 0
    while blank < len(lines) and not lines[blank].strip():
        blank += 1
    return blank


def _is_table(lines: Sequence[str], above: Sequence[str], delimiter: str | None) -> bool:
    """Return whether the lines are a table of at least two columns, and those above it are narrower."""
    delimiter = delimiter or delimiter_of(lines, cut=False)
    records = parsed(lines, delimiter)
    if len(records) < 2 or len({len(cells) for cells in records}) > 1:
        return False
    return len(records[0]) > max((len(cells) for cells in parsed(above, delimiter)), default=1)


def _padded_titles(lines: Sequence[str], delimiter: str | None) -> int:
    """Return the number of lines at the start of which only the first cell is filled, before a header that is full."""
    records = parsed(lines, delimiter or delimiter_of(lines, cut=False))
    titles = 0
    while titles < len(records) and len(records[titles]) > 2 and not any(cell.strip() for cell in records[titles][1:]):
        titles += 1
    is_followed = titles < len(records) and all(cell.strip() for cell in records[titles])
    if not is_followed or looks_like_row(records[titles]) or not any(cells[0].strip() for cells in records[:titles]):
        return 0
    # A title has no line breaks, so that records are lines that are not blank.
    filled = [number for number, line in enumerate(lines, start=1) if line.strip()]
    return filled[titles - 1]
