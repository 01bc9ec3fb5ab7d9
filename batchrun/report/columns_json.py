"""Rows column by column, as a page reads them in the least time.

What takes a browser long about 50,000 rows is not their text but the number of strings: so a column of text travels
as one string, which the page takes apart when it first needs a cell of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

__all__ = ["Packed", "packed", "portions"]

Packed: TypeAlias = dict[str, Any]
"""Rows as JSON, column by column.

`i`: their positions; `k`: their names; `c`: their cells, a list for each column; `p`, `t`: their prompts and tries,
where any row has some; `d`, `b`: place in this portion → dialogue, and what the row was before, of those that have
one. See `batchrun.report.rows.row_json` for each. A list of texts may be one text, with `SEPARATOR` between them and
`MISSING` for None; a list of which all entries are the same number may be that number.
"""

SEPARATOR: Final = "\x7f"
MISSING: Final = "\x80"
"""Characters that no answer is likely to have, and that are one byte in a browser's memory and not escaped in JSON."""

_FIRST_ROWS: Final = 500
_ROWS: Final = 5_000


def portions(rows: Sequence[Mapping[str, Any]]) -> Iterator[Packed]:
    """The rows in portions: a small one first, which can be shown while the others are read. At least one."""
    yield packed(rows[:_FIRST_ROWS])
    for begin in range(_FIRST_ROWS, len(rows), _ROWS):
        yield packed(rows[begin : begin + _ROWS])


def packed(rows: Sequence[Mapping[str, Any]]) -> Packed:
    """Rows as `row_json` makes them, with their positions as `i`."""
    found: Packed = {
        "i": [row["i"] for row in rows],
        "k": _column([row["k"] for row in rows]),
        "c": [_column(cells) for cells in zip(*(row["c"] for row in rows), strict=True)],
    }
    for name in ("p", "t"):
        if any(name in row for row in rows):
            found[name] = _column([row.get(name) for row in rows])
    for name in ("d", "b"):
        some = {str(place): row[name] for place, row in enumerate(rows) if name in row}
        if some:
            found[name] = some
    return found


def _column(cells: Sequence[Any]) -> Any:
    if type(cells[0] if cells else None) is int and all(type(cell) is int and cell == cells[0] for cell in cells):
        return cells[0]
    if len(cells) < 2 or not all(cell is None or isinstance(cell, str) for cell in cells):
        return cells
    if all(cell is None for cell in cells):
        return cells
    text = SEPARATOR.join(MISSING if cell is None else cell for cell in cells)
    ambiguous = text.count(SEPARATOR) != len(cells) - 1 or MISSING in cells
    return cells if ambiguous else text
