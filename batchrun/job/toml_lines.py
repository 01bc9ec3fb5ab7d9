"""The lines of the keys in a TOML file, which Python's parser does not tell."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

__all__ = ["KeyPath", "TomlLines"]

KeyPath: TypeAlias = tuple[str | int, ...]
"""The names and list positions from the top of a file to a value: `("turns", 0, "prompt")`."""

_TOKEN = re.compile(
    r'''"""(?:[^"\\]|\\.|"(?!""))*"{3,5}'''
    r"""|\'\'\'(?:[^']|'(?!''))*'{3,5}"""
    r"""|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|\#[^\n]*|[^"'\#\[\]{}=\n]+|.""",
    re.DOTALL,
)
"""A text in any quotes, a comment, a bracket, a line end, or characters without a meaning here."""


@dataclass(slots=True)
class TomlLines:
    """Where the keys of one file are. Build it with `TomlLines.of`.

    Attributes:
        lines: path of a key or a table → its line, from 1.
        texts: path of a key whose value is a text over several lines → line of the first line of that text.
    """

    lines: dict[KeyPath, int] = field(default_factory=dict)
    texts: dict[KeyPath, int] = field(default_factory=dict)

    @classmethod
    def of(cls, text: str) -> TomlLines:
        """Return the lines of a text that `tomllib` has accepted. Keys in `{ … }` have the line of their statement."""
        found = cls()
        table: KeyPath = ()
        arrays: dict[KeyPath, int] = {}
        for line, head, value in _statements(text):
            if value is None:
                is_array = head.startswith("[[")
                table = _inside(_names(head), arrays)
                if is_array:
                    arrays[table] = arrays.get(table, -1) + 1
                    found.lines.setdefault(table, line)
                    table = (*table, arrays[table])
                found._add(table, line)
            else:
                path = (*table, *_names(f"{head} = 0"))
                found._add(path, line)
                if (opening := value.lstrip(" \t"))[:3] in ('"""', "'''"):
                    found.texts[path] = line + (opening[3:].lstrip("\r")[:1] == "\n")
        return found

    def _add(self, path: KeyPath, line: int) -> None:
        for length in range(1, len(path)):
            self.lines.setdefault(path[:length], line)
        self.lines[path] = line

    def line_of(self, path: KeyPath) -> int | None:
        """Return the line of a value or of the innermost table around it that has a line; None for the file itself."""
        return next((self.lines[path[:end]] for end in range(len(path), 0, -1) if path[:end] in self.lines), None)


def _statements(text: str) -> Iterator[tuple[int, str, str | None]]:
    """Yield (line, key, value) of each `key = value`, and (line, header, None) of each `[table]`."""
    line, start, depth = 1, 1, 0
    head, value = "", None
    for token in (*(found[0] for found in _TOKEN.finditer(text)), "\n"):
        if token == "\n" and depth == 0:
            if head.strip():
                yield start, head.strip(), value
            head, value = "", None
        elif value is None and token == "=":
            value, depth = "", 0
        elif not token.startswith("#"):
            if value is not None and token in "[]{}":
                depth += 1 if token in "[{" else -1
            if value is not None:
                value += token
            else:
                start = start if head.strip() else line
                head += token
        line += token.count("\n")


def _names(statement: str) -> KeyPath:
    """Return the names in a header or a key, which may be quoted or dotted."""
    found: Any = tomllib.loads(statement)
    names: list[str] = []
    while isinstance(found, (Mapping, list)) and found:
        if isinstance(found, list):
            found = found[0]
        else:
            names.append(next(iter(found)))
            found = found[names[-1]]
    return tuple(names)


def _inside(names: KeyPath, arrays: Mapping[KeyPath, int]) -> KeyPath:
    """Return the path of a table: its names, with the position of the element of each array that it is in."""
    path: KeyPath = ()
    for number, name in enumerate(names, start=1):
        path = (*path, name)
        if number < len(names) and path in arrays:
            path = (*path, arrays[path])
    return path
