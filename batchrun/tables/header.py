"""Whether the first line of a CSV may be a row or a title, and what to say then; the column with the most text."""

from __future__ import annotations

import re
from collections import Counter
from itertools import islice
from typing import Final

from batchrun.tables.column_names import _NUMBER, NO_HEADER, looks_like_row
from batchrun.tables.dialect import NO_DELIMITER, delimiter_of, parsed, sample_of
from batchrun.tables.excel import ExcelSource
from batchrun.tables.jsonl import JsonlSource
from batchrun.tables.parts import PartsSource
from batchrun.tables.source import Source
from batchrun.tables.text import TextSource
from batchrun.wording import shortened

__all__ = ["header_hint", "header_refusal", "longest_text_column"]


_PROMPT: Final = re.compile(r"#|.*\?\s*$|\s*(\S+\s+){4}\S", re.S)
"""A comment or heading, a question, or five words."""
_USUAL_NAMES: Final = ("prompt", "question")

_SAMPLE_ROWS: Final = 100


def header_hint(source: Source) -> str:
    """Return what to do if the header of a CSV looks like a row; empty text if it does not."""
    if not getattr(source, "has_header", False) or not looks_like_row(source.columns):
        return ""
    return (
        f"the first line looks like a row, not like the names of columns; if it is a row, add {NO_HEADER}, which names "
        "the columns column_1, column_2, …"
    )


def header_refusal(source: Source) -> str:
    """Return why the name of the only column of a CSV or a sheet may be a row or a title, or why the only object of a
    JSON file may hold the rows, with what to do; else empty text."""
    if isinstance(source, PartsSource):
        source = source.parts[0]
    if isinstance(source, JsonlSource):
        return _rows_inside(source)
    if len(source.columns) > 1 or not isinstance(source, TextSource | ExcelSource) or not source.has_header:
        return ""
    name = source.columns[0]
    header_line = source.skip + 1 if isinstance(source, TextSource) else source.header_row
    if _PROMPT.match(name) or looks_like_row(source.columns):
        return (
            f"the first line, {shortened(name)}, would be the name of the column; if it is a prompt, add {NO_HEADER}; "
            f"if it is a title, add --skip-rows {header_line}; if it is the name, name it with --prompt"
        )
    if not isinstance(source, TextSource):
        return ""
    lines, cut = sample_of(source.file, source.skip + 1)
    rows = lines[: max(1, len(lines) - cut)]
    if name not in _USUAL_NAMES and (delimiter := delimiter_of(rows, cut=cut)) != NO_DELIMITER:
        widths = {len(cells) for cells in parsed(rows, delimiter)}
        if len(widths) == 1:
            return (
                f"the first line, {shortened(name)}, has one cell, and the following lines have {widths.pop()}; if it "
                f"is a title, add --skip-rows {source.skip + 1}; if it is the name of the column, name it with --prompt"
            )
    return ""


def _rows_inside(source: JsonlSource) -> str:
    """Return what to do if the only object of a file is a wrapper, such as `{"data": [{…}, {…}]}`; else empty text."""
    rows = list(islice(source.rows(), 2))
    if len(rows) != 1 or any(name in source.columns for name in _USUAL_NAMES):
        return ""
    for name, value in rows[0].values.items():
        is_rows = isinstance(value, list) and value and all(isinstance(each, dict) for each in value)
        # A conversation is a list of objects too.
        if is_rows and not any(key in value[0] for key in ("role", "from")):
            return (
                f"is one row, whose {name!r} is a list of {len(value):,} objects; if these are the rows, write them as "
                f"the file's own array, or name a column with --prompt"
            )
    return ""


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
