"""Rows packed column by column, so that a page reads them quickly.

With 50,000 rows, a browser spends its time on the number of strings, not on their length. A text column is therefore
sent as one string, which the page splits when it first needs a cell of the column.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeAlias

from batchrun.records import JsonObject

__all__ = ["Packed", "packed", "portions"]

Packed: TypeAlias = dict[str, Any]
"""Rows as JSON, column by column.

`i`: positions; `k`: keys; `c`: cells, one list per column; `r`, `p`, `t`: keys in the batch, prompts and attempts, if
any row has them; `d`,
`m`, `b`: index in this portion → dialogue, messages, or the row in the other table of a comparison, for rows that have
one. See `batchrun.reporting.rows.row_json` for each. `g`: clusters; `x`: scorer → expected labels, found labels.
A list of texts may be one text, with `SEPARATOR` between the entries and
`MISSING` for None; a list in which all entries are the same number may be that number.
"""

SEPARATOR: Final = "\x7f"
MISSING: Final = "\x80"
"""Characters that answers rarely contain, that take one byte in a browser's memory, and that JSON does not escape."""

_FIRST_ROWS: Final = 500
_ROWS: Final = 5_000


def portions(rows: Sequence[JsonObject]) -> Iterator[Packed]:
    """Yield the rows in portions, at least one; the first is small, so that it is shown while the others are read."""
    yield packed(rows[:_FIRST_ROWS])
    for begin in range(_FIRST_ROWS, len(rows), _ROWS):
        yield packed(rows[begin : begin + _ROWS])


def packed(rows: Sequence[JsonObject]) -> Packed:
    """Pack rows in the form of `row_json`, with their positions as `i`."""
    data: Packed = {
        "i": [row["i"] for row in rows],
        "k": _column([row["k"] for row in rows]),
        "c": [_column(cells) for cells in zip(*(row["c"] for row in rows), strict=True)],
    }
    for name in ("r", "p", "t"):
        if any(name in row for row in rows):
            data[name] = _column([row.get(name) for row in rows])
    if any("g" in row for row in rows):
        data["g"] = _column([row.get("g") for row in rows])
    scorers = dict.fromkeys(name for row in rows for name in row.get("x", ()))
    if scorers:
        labels = {name: [row.get("x", {}).get(name, (None, None)) for row in rows] for name in scorers}
        data["x"] = {name: [_column(column) for column in zip(*pairs, strict=True)] for name, pairs in labels.items()}
    for name in ("d", "m", "b"):
        some = {str(place): row[name] for place, row in enumerate(rows) if name in row}
        if some:
            data[name] = some
    return data


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
