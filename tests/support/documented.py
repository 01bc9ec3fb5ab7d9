"""Pages that are generated from the code."""

from __future__ import annotations

import click

from batchrun.cli import cli

__all__ = ["help_page"]

HEAD = """# Commands and options

Generated from `--help`; a test compares the two. [Guides](../index.md) explain how things work.
"""


def help_page() -> str:
    """docs/reference/cli.md: the help of every command."""
    return HEAD + "".join(_sections(cli, "batchrun", None))


def _sections(command: click.Command, name: str, parent: click.Context | None) -> list[str]:
    # The settings of the command (names of the help flag) are applied by `make_context` only, and click keeps the flag of
    # the first context that asks.
    settings = {**command.context_settings, "max_content_width": 100}
    context = click.Context(command, info_name=name, parent=parent, terminal_width=100, **settings)
    path = context.command_path
    found = [f"\n## {path}\n\n```text\n{command.get_help(context)}\n```\n"]
    if isinstance(command, click.Group):
        for each in command.list_commands(context):
            child = command.get_command(context, each)
            assert child is not None
            found += _sections(child, each, context)
    return found
