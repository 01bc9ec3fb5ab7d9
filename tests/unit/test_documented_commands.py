"""Every batchrun command in a code block of the docs is one that the command line accepts."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

import batchrun
from batchrun.cli import cli
from tests.support.markdown import code_blocks

ROOT = Path(batchrun.__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "inputs" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMAND = re.compile(r"(?:^|&& )(batchrun .+?)(?= && |$)", re.M)


def commands(page: Path) -> list[str]:
    """Return the batchrun commands of a page's shell blocks."""
    blocks = [block.replace("\\\n", " ") for block in code_blocks(page, "sh")]
    return [command for block in blocks for command in COMMAND.findall(block)]


def parse(command: str) -> None:
    """Raise an error if there is no such command or option."""
    found: click.Command | None = cli
    # Below its group, as in use: click keeps the help flag that a command's first context asks for.
    context = click.Context(cli, **cli.context_settings)
    _, *arguments = shlex.split(command, comments=True)
    while isinstance(found, click.Group):
        name, *arguments = arguments
        found = found.get_command(context, name)
    assert found is not None, f"there is no command {name}"
    found.make_context(name, arguments, parent=context)


@pytest.mark.parametrize(
    "command", [pytest.param(command, id=f"{page.name}: {command}") for page in PAGES for command in commands(page)]
)
def test_the_command_line_accepts_the_documented_commands(command: str) -> None:
    """Each command and option in the docs exists."""
    parse(command)


def test_a_wrong_command_is_found() -> None:
    """An unknown command and an unknown option are errors."""
    for command in ("batchrun run t.csv --nope", "batchrun walk", "batchrun assistants walk"):
        with pytest.raises((click.ClickException, AssertionError)):
            parse(command)
