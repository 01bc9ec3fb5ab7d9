"""Counts and paths as people read them."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["rows_text", "shown_path"]


def rows_text(number: int, kind: str = "") -> str:
    """`1 row`, `2 rows`, `1,000 failed rows`."""
    return " ".join(filter(None, (f"{number:,}", kind, "row" if number == 1 else "rows")))


def shown_path(path: Path) -> str:
    """The path from the working directory where it lies below it, without detours such as `inputs/../outputs`."""
    plain = os.path.normpath(path)
    if os.path.realpath(plain) != os.path.realpath(path):
        return str(path)  # a link on the way: `..` leads elsewhere than it looks
    below = Path(plain)
    return str(below.relative_to(Path.cwd())) if below.is_relative_to(Path.cwd()) else plain
