"""The signature of a Python function that takes the options of a batch, for type checkers and for `help`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Literal, TypeVar

from batchrun.api.job_options import JobOptions
from batchrun.api.scored_run import ScoringOptions
from batchrun.job.environment import ApiKey
from batchrun.job.options import job_options
from batchrun.records import Outcome, Settings
from batchrun.scoring.score_options import score_options

__all__ = ["CallOptions", "PlainOptions", "RunOptions", "with_options"]

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


class RunOptions(JobOptions, ScoringOptions, total=False):
    """The options of a batch, and those of scoring its answers."""


class CallOptions(RunOptions, total=False):
    """The keyword arguments of `run` and `arun` without those that decide what is returned."""

    api_key: ApiKey | None
    client_options: Settings | None
    on_outcome: Callable[[Outcome], None] | None
    progress: bool | None


class PlainOptions(CallOptions, total=False):
    """The keyword arguments of a call that returns a table of answers, so that each of its overloads is one line."""

    score: None
    dry_run: Literal[False]
    pilot: None


def with_options(function: FunctionT) -> FunctionT:
    """Give a function's signature one parameter per option in place of `**options`: notebooks complete from it."""
    signature = inspect.signature(function)
    parameters = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
    defaults = {name: default for name, (_, default) in job_options().items()}
    if "RunOptions" in str(signature.parameters["options"].annotation):
        defaults |= {name: default for name, (_, default) in score_options("run").items() if name != "scorer"}
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=_annotation(name))
        for name, default in defaults.items()
    ]
    function.__signature__ = signature.replace(parameters=[*parameters, *options])  # type: ignore[attr-defined]
    return function


def _annotation(name: str) -> str:
    annotation = (JobOptions.__annotations__ | ScoringOptions.__annotations__)[name]
    return getattr(annotation, "__forward_arg__", str(annotation))
