"""Counts and paths as people read them."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["plain_path", "rows_text", "shown_path"]


def rows_text(number: int, kind: str = "") -> str:
    """`1 row`, `2 rows`, `1,000 failed rows`."""
    return " ".join(filter(None, (f"{number:,}", kind, "row" if number == 1 else "rows")))


def plain_path(path: Path) -> str:
    """The path without detours such as `inputs/../outputs`, unless a link on the way makes `..` lead elsewhere."""
    plain = os.path.normpath(path)
    return plain if os.path.realpath(plain) == os.path.realpath(path) else str(path)


def shown_path(path: Path) -> str:
    """The path from the working directory where it lies below it, without detours."""
    plain = Path(plain_path(path))
    if ".." in plain.parts or not plain.is_relative_to(Path.cwd()):
        return str(plain)
    return str(plain.relative_to(Path.cwd()))
