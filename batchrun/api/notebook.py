"""Small pieces of HTML, as notebooks show them: tables with a caption and headings, and lists of lines."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from batchrun.scoring.figure_tables import TextTable

__all__ = ["lines_html", "table_html"]

_LEFT = ' style="text-align: left"'
"""Notebooks align cells to the right, which is for numbers."""


def table_html(table: TextTable) -> str:
    """Return a table with its caption and headings; everything in it is escaped."""
    head = "".join(f'<th scope="col"{_LEFT}>{escape(name)}</th>' for name in table.head)
    rows = "".join(
        f'<tr><th scope="row"{_LEFT}>{escape(first)}</th>'
        + "".join(f"<td{_LEFT}>{escape(cell)}</td>" for cell in rest)
        + "</tr>"
        for first, *rest in table.rows
    )
    caption = f'<caption style="text-align: left; font-weight: bold">{escape(table.title)}</caption>'
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def lines_html(lines: Iterable[str]) -> str:
    """Return lines of text as a list; an empty text without lines."""
    items = "".join(f"<li>{escape(line.strip())}</li>" for line in lines)
    return f"<ul>{items}</ul>" if items else ""
