"""Options of commands: the options of `Job`, the sections of the help, types of values."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

import click

from batchrun.cli.completion import completion_of
from batchrun.cli.exit_codes import CANCEL, CLEANUP, EXIT_CODES, ExitCode
from batchrun.errors import InputError
from batchrun.job.options import job_options
from batchrun.local_paths import check_local, check_output_path, check_table, is_url

__all__ = [
    "CleanupCommand",
    "CleanupOption",
    "CostOption",
    "FiniteRange",
    "LocalPath",
    "OutputPath",
    "SectionedCommand",
    "SectionedOption",
    "TablePath",
    "job_parameters",
]


class FiniteRange(click.FloatRange):
    """A number in a range. NaN, which passes click's comparisons, is refused."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a number from {self.min:g} to {self.max:g}", param, ctx)
        return number


_INSTEAD = {
    "--api-key": "Set the environment variable OPENAI_API_KEY: other users of the machine can read a command line.",
    "--token": "Set the environment variable OPENAI_API_KEY: other users of the machine can read a command line.",
    "--input": "Give the table as the argument: batchrun run TABLE.",
    "--file": "Give the table as the argument: batchrun run TABLE.",
    "--column": "Name the column in the prompt: --prompt '{{ COLUMN }}'.",
    "--system": "Use --instructions TEXT.",
    "--max-tokens": "Use --max-completion-tokens N.",
    "--resume": "Run the same command again: it resumes.",
    "--overwrite": "Use --fresh to start over; the old journal is kept.",
    "--force": "Use --fresh to start over; the old journal is kept.",
}
"""Options that people know from other programs, and what to do here."""


class SectionedCommand(click.Command):
    """A command whose help groups the options in sections."""

    exit_codes: tuple[ExitCode, ...] = EXIT_CODES

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments. Options of other programs get a message with what batchrun has instead."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as exc:
            instead = _INSTEAD.get(exc.option_name)
            known = {name for param in self.get_params(ctx) for name in param.opts}
            if instead is not None and known.issuperset(re.findall(r"--[a-z-]+", instead)):
                raise click.UsageError(f"No such option '{exc.option_name}'. {instead}", ctx) from None
            raise

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, section by section."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None and isinstance(param, click.Option):
                sections.setdefault(getattr(param, "section", "Display"), []).append(record)
        sections["Display"] = sections.pop("Display", [])
        for section, records in sections.items():
            with formatter.section(section):
                formatter.write_dl(records)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """Write the exit codes."""
        with formatter.section("Exit codes"):
            formatter.write_dl([(each.code, each.meaning) for each in self.exit_codes])


class SectionedOption(click.Option):
    """An option with the section of the help that lists it."""

    section: str = "Display"


class CleanupOption(SectionedOption):
    """An option of `cleanup` alone."""

    section = "Cleanup"


class CleanupCommand(SectionedCommand):
    """A command that deletes objects, with the exit codes for that."""

    exit_codes = CLEANUP


class CancelCommand(SectionedCommand):
    """A command that cancels batches at the service, with the exit codes for that."""

    exit_codes = CANCEL


class LocalPath(click.Path):
    """A path on this machine. A URL is refused, and so is a file to write whose name is that of a new folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path after checking it."""
        if isinstance(param, click.Option):
            where = param.opts[-1]
        else:
            where = param.metavar or param.human_readable_name if param is not None else "the path"
        check_local(value, where)
        is_written = type(self) is LocalPath and param is not None and param.name in ("output", "to")
        if is_written and str(value).endswith("/") and not Path(value).is_dir():
            raise InputError(f"{where}: {value} ends with /, and this command writes one file; remove the slash")
        return super().convert(value, param, ctx)


class OutputPath(LocalPath):
    """The path of an output or of its journal, or the path of a job file."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path after checking it."""
        check_output_path(value, "OUTPUT")
        return super().convert(value, param, ctx)


class TablePath(LocalPath):
    """The path or the URL of a table, or the path of a job file."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the table after checking it."""
        if not value.endswith(".toml"):
            where = param.opts[-1] if isinstance(param, click.Option) else getattr(param, "metavar", None)
            check_table(value, where or "the table")
            if is_url(value):
                return value
        return super().convert(value, param, ctx)


class CostOption(SectionedOption):
    """An option of `run` in the section of cost options, although it is not an option of `Job`."""

    section = "Cost"


def job_parameters(command: Callable[..., Any], only: Container[str] | None = None) -> Callable[..., Any]:
    """Add the options of `Job`, or `only` the named ones. Flags that are not given are None or ()."""
    for name, (option, default) in reversed(job_options().items()):
        if option.flagless or (only is not None and name not in only):
            continue
        flags = option.flags or (f"--{name.replace('_', '-')}",)
        text = option.help if default in (None, False, "") else f"{option.help}. Default: {_shown(default)}"
        if default is False:
            parameter = click.option(
                name, *flags, is_flag=True, default=None, help=text, cls=SectionedOption, type=bool
            )
        else:
            parameter = click.option(
                name,
                *flags,
                metavar=option.metavar,
                help=text,
                cls=SectionedOption,
                shell_complete=completion_of(name, option.metavar, is_path=option.path),
                multiple=option.pairs is not None or option.repeated,
            )
        command = parameter(command)
        command.__click_params__[-1].section = option.section  # type: ignore[attr-defined] # click keeps them there
    return command


def _shown(default: object) -> str:
    return f"{default:g}" if isinstance(default, float) else str(default)
