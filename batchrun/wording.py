"""Counts as people read them."""

from __future__ import annotations

__all__ = ["rows_text"]


def rows_text(number: int) -> str:
    """`1 row`, `2 rows`, `1,000 rows`."""
    return f"{number:,} row" if number == 1 else f"{number:,} rows"
