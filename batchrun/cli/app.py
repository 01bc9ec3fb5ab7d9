"""The root command, and the event loop of its commands."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, MutableMapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click

from batchrun.errors import InputError
from batchrun.interrupts import Interrupts
from batchrun.shell_hint import command
from batchrun.version import __version__

__all__ = ["SECTIONS", "cli", "interrupts", "run_loop"]


class Listed(NamedTuple):
    """A command in the list of commands.

    Attributes:
        module: in `batchrun.cli`; importing it adds the command to the group.
        sentence: the first sentence of the command's help.
    """

    module: str
    sentence: str


SECTIONS = {
    "Run": {
        "run": Listed("run", "Run every row of a table, or a job file."),
        "init": Listed("job_files", "Write a first job file for a table."),
        "check": Listed("job_files", "Check a job file without sending anything."),
    },
    "Inspect": {
        "list": Listed("inspect", "List the batches in a folder, even while they run."),
        "status": Listed("inspect", "Show the status of a batch, even while it runs."),
        "show": Listed("inspect", "Print the thread of one row."),
        "costs": Listed("inspect", "Recalculate the cost of a batch."),
        "export": Listed("inspect", "Write the output of a batch from its journal."),
        "view": Listed("report", "Serve a page that follows a batch live, until Ctrl-C."),
        "report": Listed("report", "Write a report page about a batch or a table."),
        "cancel": Listed("inspect", "Cancel what a batch has at the service's Batch API."),
        "cleanup": Listed("inspect", "Delete the objects that a batch created at the service."),
    },
    "Evaluate": {
        "score": Listed("evaluate", "Score the answers of a batch, or of any table."),
        "compare": Listed("evaluate", "Compare the scores of tables, or of parts of one table."),
    },
    "Other programs": {
        "convert": Listed("convert", "Convert a table to the file format of another tool, or back."),
        "assistants": Listed("assistants", "Convert assistants into job files."),
        "serve": Listed("serve", "Serve the Assistants API from one SQLite file to any client."),
    },
}
"""The sections of the list of commands, in the order of the help. The sentences are written here too, so that the list
needs none of the modules."""

T = TypeVar("T")


class _Commands(MutableMapping[str, click.Command]):
    """The commands by name. The module of a command is imported when the command is looked up.

    Mutable state: `_loaded`, the commands of the modules that were imported.
    """

    def __init__(self) -> None:
        self._listed = {name: each for section in SECTIONS.values() for name, each in section.items()}
        self._loaded: dict[str, click.Command] = {}

    def __getitem__(self, name: str) -> click.Command:
        if name not in self._loaded:
            import_module(f"batchrun.cli.{self._listed[name].module}")
        return self._loaded[name]

    def __setitem__(self, name: str, command: click.Command) -> None:
        self._loaded[name] = command

    def __delitem__(self, name: str) -> None:
        del self._listed[name], self._loaded[name]

    def __contains__(self, name: object) -> bool:
        return name in self._listed

    def __iter__(self) -> Iterator[str]:
        return iter(self._listed)

    def __len__(self) -> int:
        return len(self._listed)


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
        for section, commands in SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl([(name.ljust(width), each.sentence) for name, each in commands.items()])


@click.group(
    cls=Commands,
    commands=_Commands(),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, "-V", "--version", message="batchrun %(version)s")
def cli() -> None:
    """Turn a table of prompts into a table of answers: one thread and one run per row."""
    try:
        Path.cwd()
    except OSError as exc:
        raise InputError(
            f"the working directory cannot be used ({exc.strerror or exc}); change to a folder that exists, and run "
            "the command again"
        ) from None


def interrupts() -> Interrupts:
    """Return the signal handling that `main` installed."""
    installed = click.get_current_context().find_object(Interrupts)
    assert installed is not None
    return installed


def run_loop(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run an async function of a command. A signal cancels it, unless the function handles signals itself."""
    from batchrun.api import event_loop

    return event_loop.run_loop(main, interrupts())
