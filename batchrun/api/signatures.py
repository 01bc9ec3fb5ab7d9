"""The signature of a Python function that takes the options of a batch, for type checkers and for `help`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from batchrun.api.job_options import JobOptions
from batchrun.job.environment import ApiKey
from batchrun.job.options import job_options
from batchrun.records import Outcome, Settings

__all__ = ["CallOptions", "with_options"]

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


class CallOptions(JobOptions, total=False):
    """All keyword arguments of `run` and `arun`, so that each of their overloads is one line."""

    api_key: ApiKey | None
    client_options: Settings | None
    on_outcome: Callable[[Outcome], None] | None
    progress: bool | None


def with_options(function: FunctionT) -> FunctionT:
    """Give a function's signature one parameter per option in place of `**options`: notebooks complete from it."""
    signature = inspect.signature(function)
    parameters = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=_annotation(name))
        for name, (_, default) in job_options().items()
    ]
    function.__signature__ = signature.replace(parameters=[*parameters, *options])  # type: ignore[attr-defined]
    return function


def _annotation(name: str) -> str:
    annotation = JobOptions.__annotations__[name]
    return getattr(annotation, "__forward_arg__", str(annotation))
