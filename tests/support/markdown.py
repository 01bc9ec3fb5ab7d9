"""Code blocks of documentation pages, for tests that run them."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["CODE_BLOCK", "code_blocks", "marked_block"]

CODE_BLOCK = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
"""A fenced block with its fences."""


def code_blocks(page: Path, language: str) -> list[str]:
    """Return the contents of all code blocks of a language, in a list item with their indentation."""
    return re.findall(rf"^ *```{language}\n(.*?)^ *```$", page.read_text(encoding="utf-8"), re.M | re.S)


def marked_block(page: Path, mark: str) -> tuple[str, str]:
    """Return the rest of the comment that begins with `mark`, and the code block below it."""
    pattern = rf"<!-- {re.escape(mark)} ?([^\n]*?) -->\n```\w+\n(.*?)```"
    found = re.search(pattern, page.read_text(encoding="utf-8"), re.S)
    assert found is not None, f"{page.name}: no block is marked {mark!r}"
    return found[1], found[2]
