"""The `.env` of a command: the option that ignores it, and the line that announces it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batchrun.cli.console import note
from batchrun.cli.options import SectionedOption

if TYPE_CHECKING:
    from batchrun.job.environment import Environment
    from batchrun.job.variables import Variables

__all__ = ["announce_env_file", "env_file_option", "name_job_file", "read_environment", "variables_for"]

_IGNORED = "batchrun.no_env_file"
_JOB_FILE = "batchrun.job_file"
_VARIABLES = "batchrun.variables"
_ANNOUNCED = "batchrun.announced"
"""What a command knows about its `.env`, by its key in `click.Context.meta`."""


class _EnvFileOption(SectionedOption):
    """An option in the section of the service's options, although it is not an option of `Job`."""

    section = "Service"


def _remember(context: click.Context, _parameter: click.Parameter, ignored: bool) -> None:
    context.meta[_IGNORED] = ignored


env_file_option: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "--no-env-file",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_remember,
    help="Ignore the .env in the folder of the job file or in the working folder",
    cls=_EnvFileOption,
)
"""The option of every command that reads keys from the environment."""


def name_job_file(context: click.Context, name: str) -> None:
    """Record the job file of a command whose argument is replaced by the output of that job."""
    context.meta[_JOB_FILE] = name


def variables_for(table: str | None = None) -> Variables:
    """Return the variables of the current command: the environment's, and those of one `.env`.

    The `.env` is that in the folder of the job file; if there is none, that in the working folder. The first call of a
    command decides.

    Args:
        table: the job file or the table of the command, None if it has neither.

    Raises:
        InputError: see `find_env_file`.
    """
    from batchrun.job.env_file import find_env_file
    from batchrun.job.file import is_job_file
    from batchrun.job.variables import Variables

    meta = click.get_current_context().meta
    if _VARIABLES not in meta:
        table = table or meta.get(_JOB_FILE)
        folders = [Path(table).parent] if table is not None and is_job_file(table) else []
        file = None if meta.get(_IGNORED) else find_env_file([*folders, Path()])
        meta[_VARIABLES] = Variables(os.environ, file)
    variables: Variables = meta[_VARIABLES]
    return variables


def read_environment(table: str | None = None) -> Environment:
    """Return the settings of the environment and of the `.env`, and announce the file.

    Args:
        table: see `variables_for`.

    Raises:
        InputError: the file cannot be used.
    """
    from batchrun.job.environment import Environment

    environment = Environment.read(variables_for(table))
    announce_env_file()
    return environment


def announce_env_file() -> None:
    """Print one line with the path of the `.env` and the names of what was taken from it, never with a value.

    Nothing is printed if the file concerns no name that batchrun knows, if the names were announced before, or with
    `--quiet`.
    """
    from batchrun.wording import shown_path

    context = click.get_current_context()
    variables = variables_for()
    parts = [
        f"{what}: {', '.join(names)}"
        for what, names in (
            ("used", variables.taken),
            ("already in the environment", variables.overridden()),
            ("never taken from a .env", variables.passed_over()),
        )
        if names
    ]
    if variables.file is None or not parts or context.meta.get(_ANNOUNCED) == parts:
        return
    context.meta[_ANNOUNCED] = parts
    if not context.params.get("quiet"):
        note(f"{shown_path(variables.file.path)}: {' · '.join(parts)}")
