"""The flags of scoring: click options made from the fields of `ScoreOptions`, and the parsed values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from batchrun.cli.completion import completion_of
from batchrun.cli.exit_codes import COMPARE, SCORE
from batchrun.cli.options import FiniteRange, LocalPath, SectionedCommand, SectionedOption
from batchrun.records import JsonDict, Settings
from batchrun.scoring.score_options import ScoreOption, ScoreOptions, Use, score_options

__all__ = ["CompareCommand", "ComparisonOption", "ScoreCommand", "parsed_options", "run_score_options", "scoring_flags"]

_SCORER_REQUIRED = ("score",)
_WITHOUT_GRADERS = ("report", "view")


class ComparisonOption(SectionedOption):
    """An option of `compare` alone."""

    section = "Comparison"


class CompareCommand(SectionedCommand):
    """A command that scores tables."""

    exit_codes = COMPARE


class ScoreCommand(CompareCommand):
    """A command that scores tables and checks bars."""

    exit_codes = SCORE


def scoring_flags(use: Use) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add the scoring options of a command. A flag that is not given is None or (): `ScoreOptions` has the defaults."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for name, (option, default) in reversed(score_options(use).items()):
            flags = option.flags or (f"--{name.replace('_', '-')}",)
            if use == "run" and name == "scorer":
                flags = ("--score",)
            parameter = click.option(
                name,
                *flags,
                type=_type(option, name),
                is_flag=option.is_flag or None,  # False would make the value optional
                metavar=option.metavar,
                help=_help(option, name, default, use),
                shell_complete=completion_of(name, option.metavar),
                multiple=option.repeated,
                required=name == "scorer" and use in _SCORER_REQUIRED,
                cls=SectionedOption,
            )
            command = parameter(command)
            section = "Scoring" if use == "run" else option.section
            command.__click_params__[-1].section = section  # type: ignore[attr-defined] # click keeps them there
        return command

    return add


def _type(option: ScoreOption, name: str) -> click.ParamType[Any] | None:
    if option.choices:
        return click.Choice(option.choices)
    if option.is_share:
        return FiniteRange(0, 1)
    if option.is_path:
        # A baseline is a table, whose name is text everywhere; the others are files to be written or read.
        return LocalPath() if name == "no_worse_than" else LocalPath(path_type=Path)
    return None


def _help(option: ScoreOption, name: str, default: object, use: Use) -> str:
    text = option.help
    if name == "scorer" and use in _WITHOUT_GRADERS:
        text = text.replace(", column or model-graded", " or column")
    if name == "scorer" and use == "run":
        text = text.replace("Scorer:", "Scorer for the output, after the batch:")
    return text if default in (None, (), False) else f"{text}. Default: {default}"


def parsed_options(flags: Settings) -> ScoreOptions:
    """Return the options of parsed flags; click has validated each value."""
    return ScoreOptions(**{name: value for name, value in flags.items() if value not in (None, ())})


def run_score_options(table: str, flags: JsonDict) -> ScoreOptions | None:
    """Return how `run` scores the output: by flags over the job file's `[score]`; None if neither asks for scores.

    Args:
        flags: all flags of `run`; those of scoring are taken out.
    """
    from batchrun.scoring.after_batch import options_after_batch

    given = {name: flags.pop(name, None) for name in score_options("run")}
    return options_after_batch(table, {name: value for name, value in given.items() if value not in (None, ())})
