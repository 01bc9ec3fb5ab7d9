"""Rows of cells as aligned lines and as tables of Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["aligned", "md", "md_table"]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of the same length as lines, with their cells below each other."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))] if rows else []
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def md(text: str) -> str:
    """Return text from a table as one line of Markdown without markup or HTML."""
    for mark in "\\`*_[]<>|#&":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())


def md_table(rows: Iterable[Sequence[str]]) -> list[str]:
    """Return rows as a table of Markdown; the first one is its head."""
    head, *rest = [f"| {' | '.join(map(md, row))} |" for row in rows]
    return [head, f"|{' --- |' * (head.count(' | ') + 1)}", *rest]
