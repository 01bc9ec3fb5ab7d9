"""Pages that are generated from the code, and commands in pages and files."""

from __future__ import annotations

import click

from batchrun.cli import cli
from batchrun.cli.exit_codes import CANCEL, CLEANUP, COMPARE, EXIT_CODES, SCORE, ExitCode

__all__ = ["exit_codes_page", "help_page", "refused"]

HEAD = """# Commands and options

Generated from `--help`; a test compares the two. [Guides](../index.md) explain how things work.
"""


EXIT_CODES_HEAD = """\
# Exit codes

`batchrun run` ends with one of these codes. The other commands end with 0 for success, 1 for a bug and 2 for invalid usage or
input, and with the codes below. A message on standard error gives the reason.
"""


def help_page() -> str:
    """docs/reference/cli.md: the help of every command."""
    return HEAD + "".join(_sections(cli, "batchrun", None))


def exit_codes_page() -> str:
    """docs/reference/exit-codes.md: the exit codes of the commands."""
    rows = [f"| {each.code} | {_meaning(each)} | {each.remedy} |\n" for each in EXIT_CODES]
    page = f"{EXIT_CODES_HEAD}\n| code | meaning | after a scheduled run |\n|---|---|---|\n{''.join(rows)}"
    for names, codes in (("score", SCORE), ("compare", COMPARE), ("cancel", CANCEL), ("cleanup", CLEANUP)):
        rows = [f"| {each.code} | {_meaning(each)} |\n" for each in codes]
        page += f"\n## batchrun {names}\n| code | meaning |\n|---|---|\n{''.join(rows)}"
    return page


def _meaning(each: ExitCode) -> str:
    return f"{each.meaning}, {each.detail}" if each.detail else each.meaning


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


def _context(command: click.Command) -> click.Context:
    """Return a context with the names of the help flag, since click keeps those of the first context that asks."""
    return click.Context(command, **cli.context_settings)


def refused(arguments: list[str]) -> str:
    """Return why the command line refuses the arguments of `batchrun`, or an empty string.

    The names of commands and options are checked, and that each option has its value; values and files are not.
    """
    command: click.Command = cli
    try:
        while isinstance(command, click.Group):
            name, arguments = arguments[0], arguments[1:]
            found = command.get_command(_context(command), name)
            if found is None:
                return f"no command {name}"
            command = found
        command.make_parser(_context(command)).parse_args(arguments)
    except click.UsageError as exc:
        return exc.format_message()
    return ""
