"""JobOption: the help text, flag, bounds and value format of one option of a batch."""

from __future__ import annotations

import inspect
import textwrap
from dataclasses import dataclass, field, fields
from itertools import groupby
from typing import Any, Literal

__all__ = ["JobOption", "add_option_help", "job_option"]


@dataclass(frozen=True, slots=True)
class JobOption:
    """The help text, flag, bounds and value format of one field of `Job`.

    Attributes:
        section: heading of the option in the help.
        help: help text on one line, with the unit of the value.
        metavar: placeholder for the value in the help; None for click's own.
        flags: flags to use instead of the one made from the field's name.
        at_least, above, at_most: bounds of a number; None if there is no bound.
        repeated: the flag may be repeated; in job files and Python the value is a list.
        pairs: the flag takes KEY=VALUE and may be repeated. Values are `text`, or are parsed as `json` where they are
            valid JSON. None: the option does not take pairs.
        path: the value names files on this machine.
        flagless: the option has no flag, because its value is too complex for one.
        secret: the value may contain a key, so that reprs and messages do not show it.
        decides_answer: the value is part of a row's fingerprint, because another value may give another answer.
    """

    section: str
    help: str
    metavar: str | None = None
    flags: tuple[str, ...] = ()
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    repeated: bool = False
    pairs: Literal["text", "json"] | None = None
    path: bool = False
    flagless: bool = False
    secret: bool = False
    decides_answer: bool = False


def job_option(default: Any, section: str, help: str, **rest: Any) -> Any:  # noqa: A002 - as in click
    """Return a dataclass field that carries a `JobOption`. `dict` as the default gives each job an empty dict."""
    option = JobOption(section, help, **rest)
    metadata = {"option": option}
    return (
        field(default_factory=dict, metadata=metadata) if default is dict else field(default=default, metadata=metadata)
    )


def add_option_help(job: type) -> None:
    """Append the help of every option to the docstring of `job`, which notebooks and `help` show."""
    if job.__doc__ is None:  # python -OO
        return
    named = [(option_field.name, option_field.metadata["option"]) for option_field in fields(job)]
    lines = [inspect.cleandoc(job.__doc__), "", "Options:"]
    for section, options in groupby(named, lambda named_option: named_option[1].section):
        lines += ["", f"    {section}"]
        for name, option in options:
            text = f"{name}: {option.help.removesuffix('.')}."
            lines += textwrap.wrap(
                text, 112, initial_indent="    - ", subsequent_indent="      ", break_on_hyphens=False
            )
    job.__doc__ = "\n".join(lines)
