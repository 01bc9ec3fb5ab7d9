"""How options are made and shown: sections, the options of a job, exit codes."""

from __future__ import annotations

import math
from collections.abc import Callable, Container
from typing import Any

import click

from batchrun.job.options import job_options
from batchrun.local_paths import check_local

__all__ = [
    "EXIT_CODES",
    "CleanupCommand",
    "FiniteRange",
    "LocalPath",
    "MoneyOption",
    "SectionedCommand",
    "SectionedOption",
    "job_parameters",
]


EXIT_CODES = (
    ("0", "every row completed"),
    ("1", "internal error"),
    ("2", "bad usage, input or settings"),
    ("3", "finished with failed rows"),
    ("4", "budget reached"),
    ("5", "refused by the service (authentication, quota, unknown model), or it could not be reached"),
    ("6", "another batch holds this output"),
    ("7", "score below the bar"),
    ("129, 130, 143", "interrupted"),
)


class FiniteRange(click.FloatRange):
    """A number in a range; NaN, which every comparison lets through, is not one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a number from {self.min:g} to {self.max:g}", param, ctx)
        return number


class SectionedCommand(click.Command):
    """A command whose options stand under headings."""

    exit_codes: tuple[tuple[str, str], ...] = EXIT_CODES

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
            formatter.write_dl(list(self.exit_codes))


class CleanupCommand(SectionedCommand):
    """A command about objects rather than rows."""

    exit_codes = (
        ("0", "everything is deleted"),
        ("1", "internal error"),
        ("2", "bad usage or settings"),
        ("3", "something could not be deleted"),
        ("5", "refused by the service, or it cannot delete"),
        ("6", "a batch holds this output"),
        ("130", "interrupted"),
    )


class SectionedOption(click.Option):
    """An option that knows its heading."""

    section: str = "Display"


class LocalPath(click.Path):
    """A path of a file on this machine; a URL is refused."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path, checked."""
        if isinstance(param, click.Option):
            check_local(value, param.opts[-1])
        else:
            check_local(value, param.metavar or param.human_readable_name if param is not None else "the path")
        return super().convert(value, param, ctx)


class MoneyOption(SectionedOption):
    """An option beside those of `Job` that are about money."""

    section = "Money"


def job_parameters(command: Callable[..., Any], only: Container[str] | None = None) -> Callable[..., Any]:
    """Add the options of `Job`, or `only` some. A flag not given is left out: `Job` alone knows the defaults."""
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
                multiple=option.pairs is not None or option.repeated,
            )
        command = parameter(command)
        command.__click_params__[-1].section = option.section  # type: ignore[attr-defined] # click keeps them there
    return command


def _shown(default: object) -> str:
    return f"{default:g}" if isinstance(default, float) else str(default)
