"""Read back the data in the page of a report."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from batchrun.reporting.columns_json import MISSING, SEPARATOR

__all__ = ["data_of", "unpacked"]

_DATA = re.compile(r'<script type="application/json" id="data">(.*?)</script>', re.S)
_PORTION = re.compile(r'<script type="text/plain" class="portion">(.*?)</script>')


def data_of(page: Path) -> dict[str, Any]:
    """Return the JSON data of a page, with all rows in one list."""
    text = page.read_text(encoding="utf-8")
    first = json.loads(_DATA.findall(text)[0])
    others = (json.loads(gzip.decompress(base64.b64decode(each))) for each in _PORTION.findall(text))
    return {**first, "rows": [row for portion in (first["rows"], *others) for row in unpacked(portion)]}


def unpacked(portion: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the rows of a portion as `batchrun.reporting.rows.row_json` made them."""
    count = len(portion["i"])
    names, cells = _column(portion["k"], count), [_column(column, count) for column in portion["c"]]
    lists = {name: _column(portion[name], count) for name in ("r", "p", "t") if name in portion}
    for place, position in enumerate(portion["i"]):
        row = {"i": position, "k": names[place], "c": [column[place] for column in cells]}
        row |= {name: found[place] for name, found in lists.items() if found[place] is not None}
        row |= {name: portion[name][str(place)] for name in ("d", "m", "b") if str(place) in portion.get(name, {})}
        yield row


def _column(column: Any, count: int) -> list[Any]:
    if isinstance(column, str):
        return [None if cell == MISSING else cell for cell in column.split(SEPARATOR)]
    return [column] * count if isinstance(column, int) else list(column)
