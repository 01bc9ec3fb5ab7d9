"""The root command, and the event loop of its commands."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import click

from batchrun.interrupts import Interrupts
from batchrun.shell_hint import command
from batchrun.version import __version__

__all__ = ["SECTIONS", "cli", "interrupts", "run_loop"]

SECTIONS = {
    "Run": ("run", "init", "check"),
    "Inspect": ("list", "status", "show", "costs", "export", "view", "report", "cleanup"),
    "Evaluate": ("score", "compare"),
    "Other programs": ("convert", "assistants", "serve"),
}
"""The sections of the list of commands, in the order of the help."""

T = TypeVar("T")


_TABLES = frozenset(
    {".csv", ".tsv", ".jsonl", ".json", ".txt", ".parquet", ".xlsx", ".toml", ".gz", ".zst", ".xz", ".zip"}
)


class Commands(click.Group):
    """A group whose help lists its commands in sections, each with its whole first sentence."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command. If a table or a job file is in its place, the message has the command that runs it."""
        if args and args[0] not in self.commands:
            if Path(args[0]).suffix.lower() in _TABLES:
                ctx.fail(f"No such command {args[0]!r}. To run a table or a job file: {command('run', Path(args[0]))}")
            if args[0] == "help":
                ctx.fail("No such command 'help'. Use batchrun --help, or batchrun COMMAND --help.")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """Write the commands, section by section. Lines that are too long are wrapped, not cut."""
        width = max(map(len, self.commands))
        for section, names in SECTIONS.items():
            with formatter.section(section):
                lines = [(name.ljust(width), self.commands[name].get_short_help_str(limit=1_000)) for name in names]
                formatter.write_dl(lines)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, "-V", "--version", message="batchrun %(version)s")
def cli() -> None:
    """Turn a table of prompts into a table of answers: one thread and one run per row."""


def interrupts() -> Interrupts:
    """Return the signal handling that `main` installed."""
    installed = click.get_current_context().find_object(Interrupts)
    assert installed is not None
    return installed


def run_loop(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run an async function of a command. A signal cancels it, unless the function handles signals itself."""
    from batchrun.api import event_loop

    return event_loop.run_loop(main, interrupts())
