"""Pages that are generated from the code, and commands in pages and files."""

from __future__ import annotations

import click

from batchrun.cli import cli

__all__ = ["help_page", "refused"]

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


def refused(arguments: list[str]) -> str:
    """Return why the command line refuses the arguments of `batchrun`, or an empty string.

    The names of commands and options are checked, and that each option has its value; values and files are not.
    """
    command: click.Command = cli
    try:
        while isinstance(command, click.Group):
            name, arguments = arguments[0], arguments[1:]
            found = command.get_command(click.Context(command), name)
            if found is None:
                return f"no command {name}"
            command = found
        command.make_parser(click.Context(command)).parse_args(arguments)
    except click.UsageError as exc:
        return exc.format_message()
    return ""
