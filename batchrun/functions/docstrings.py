"""Splits a docstring into the description of the function and those of its parameters."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Collection, Mapping

__all__ = ["split_docstring"]

_HEADING = re.compile(r"(Args|Arguments|Parameters):\s*")
_ENTRY = re.compile(r"(\w+)\s*(?:\(.*?\))?\s*:\s*(.*)")


def split_docstring(docstring: str, parameters: Collection[str]) -> tuple[str, Mapping[str, str]]:
    """Return the docstring without its `Args:` section, and that section's text for each parameter.

    The section has Google style: `name: text` or `name (type): text`, with further lines indented. A section that names
    anything but parameters of the function stays in the description, and so does every other style: nothing is lost.
    """
    lines = inspect.cleandoc(docstring).splitlines()
    start = next((number for number, line in enumerate(lines) if _HEADING.fullmatch(line)), None)
    if start is None:
        return "\n".join(lines), {}
    end = start + 1
    while end < len(lines) and (not lines[end] or lines[end][0].isspace()):
        end += 1
    texts = _entries(textwrap.dedent("\n".join(lines[start + 1 : end])).splitlines())
    if texts is None or not texts.keys() <= set(parameters):
        return "\n".join(lines), {}
    rest = [*lines[:start], *lines[end:]]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(rest)).strip(), texts


def _entries(lines: list[str]) -> dict[str, str] | None:
    """Return name → text on one line; None if a line belongs to no name."""
    texts: dict[str, list[str]] = {}
    name = None
    for line in filter(None, lines):
        if not line[0].isspace():
            entry = _ENTRY.fullmatch(line)
            if entry is None:
                return None
            name, line = entry[1], entry[2]
        if name is None:
            return None
        texts.setdefault(name, []).append(line.strip())
    return {name: " ".join(parts).strip() for name, parts in texts.items()}
