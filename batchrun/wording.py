"""Counts as people read them."""

from __future__ import annotations

__all__ = ["rows_text"]


def rows_text(number: int, kind: str = "") -> str:
    """`1 row`, `2 rows`, `1,000 failed rows`."""
    return " ".join(filter(None, (f"{number:,}", kind, "row" if number == 1 else "rows")))
