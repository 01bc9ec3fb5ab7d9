"""Commands in messages do what they say when they are pasted into a shell."""

from __future__ import annotations

import ast
import doctest
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchrun import shell_hint
from batchrun.prompts import placeholders
from batchrun.shell_hint import command, option, quoted
from batchrun.tables import column_names
from batchrun.wording import visible_line
from tests.support.odd_names import each_odd_name
from tests.support.sources import PACKAGE, parsed


def words(line: str) -> list[str]:
    """The words that a real shell makes of a line."""
    done = subprocess.run(["sh", "-c", f"printf '%s\\0' {line}"], capture_output=True, check=True)
    return done.stdout.decode().split("\0")[:-1]


@each_odd_name()
def test_a_shell_reads_the_quoted_text(name: str) -> None:
    """One word, the text itself, and also after a message has escaped what a terminal would execute."""
    assert words(quoted(name)) == [name]
    assert words(visible_line(quoted(name))) == [name]


@each_odd_name()
def test_a_shell_reads_the_command(name: str) -> None:
    """A command has its words; a path that begins with a dash is not an option."""
    path = f"./{name}" if name.startswith("-") else name
    assert words(command("export", Path(name))) == ["batchrun", "export", path]
    assert words(option("--key", name)) == ["--key", name]


@pytest.mark.parametrize("module", [shell_hint, placeholders, column_names], ids=lambda module: module.__name__)
def test_the_examples(module: object) -> None:
    """The examples of the docstrings are true."""
    found = doctest.testmod(module)  # type: ignore[arg-type] # a parameter's type is object
    assert found.attempted
    assert not found.failed


# -- every message ------------------------------------------------------------------------------------------

_SHOWN = re.compile(r"(?:(?:\bbatchrun [a-z]+|--[a-z][a-z-]*)[ =]|(?<=\s)-o )['\"`]?$")
"""The text before a value that a message shows as part of a command."""

_QUOTING = {"quoted", "option", "command", "prompt_option"}


def shown_values() -> Iterator[tuple[str, ast.expr, str]]:
    """Each value that an f-string of the package shows right after a command or an option: place, value, text after it.

    A message that begins with an option states a place (`--key COLUMN: …`), and is not for pasting.
    """
    for path, tree in parsed().items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.JoinedStr):
                continue
            before = ""
            for part, after in zip(node.values, [*node.values[1:], ast.Constant("")], strict=True):
                if isinstance(part, ast.Constant):
                    before += str(part.value)
                    continue
                found = _SHOWN.search(before)
                rest = str(after.value) if isinstance(after, ast.Constant) else ""
                if found and found.start() and isinstance(part, ast.FormattedValue) and part.format_spec is None:
                    yield f"{path.relative_to(PACKAGE)}:{node.lineno}: {before[-40:]}", part.value, rest
                before += "…"


def is_quoted(value: ast.expr) -> bool:
    """Whether the value is quoted, or one of the program's own words, which need no quotes."""
    if isinstance(value, ast.Call):
        name = value.func.attr if isinstance(value.func, ast.Attribute) else getattr(value.func, "id", "")
        return name in _QUOTING or ast.unparse(value) in ("' or '.join(apis)", "' and --from '.join(_JOBS)")
    text = ast.unparse(value)
    return text.isupper() or text in ("api", "conversion.to_format", "named", "source.skip + 1", "header_line")


def test_every_message_quotes_what_it_shows_in_a_command() -> None:
    """A message that shows a command or an option with a value makes it with `batchrun.shell_hint`."""
    places = list(shown_values())
    assert places, "the search finds nothing: its pattern is wrong"
    assert [place for place, value, rest in places if not is_quoted(value) and not rest.startswith(":")] == []
