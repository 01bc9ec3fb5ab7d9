"""Values that only Python can give an option: a pydantic model, a schema as a dict, functions."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

from batchrun.errors import InputError
from batchrun.job.options import job_options
from batchrun.records import JsonDict
from batchrun.wording import shortened

__all__ = ["read_python_values"]

_LISTS: Final = ("attach", "file_search", "keep")
"""Options with a list of texts, for which one text may be given."""


def read_python_values(values: JsonDict) -> None:
    """Turn such values into those of `Job`, in place.

    Raises:
        InputError: a switch, a number, `schema` or `tools` is of another type; names the option and what is expected.
    """
    for name in _LISTS:
        if isinstance(values.get(name), str):
            values[name] = [values[name]]
    _check_switches(values)
    for name, read in (("schema", _schema), ("tools", _tools)):
        if values.get(name) is not None:
            values[name] = read(values[name])


def _check_switches(values: JsonDict) -> None:
    """Refuse what pydantic would turn into another type: True for a number, a text or a number for a switch.

    Raises:
        InputError: names the option and what is expected.
    """
    for name, (option, default) in job_options().items():
        value = values.get(name)
        is_number = any(bound is not None for bound in (option.at_least, option.above, option.at_most))
        if is_number and isinstance(value, bool):
            raise InputError(f"--{name.replace('_', '-')}: expected a number, got {value}")
        is_switch = default is False and name in values
        if is_switch and not isinstance(value, bool) and value not in ("true", "false"):
            raise InputError(f"--{name.replace('_', '-')}: expected true or false, got {shortened(value)}")


def _schema(value: Any) -> Any:
    from pydantic import BaseModel

    if isinstance(value, str | os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, type) and issubclass(value, BaseModel):
        return value
    hint = f"; give the class {type(value).__name__} itself" if isinstance(value, BaseModel) else ""
    raise InputError(
        f"schema: expected a pydantic model, a JSON schema as a dict or the path of one, got {shortened(value)}{hint}"
    )


def _tools(value: Any) -> Any:
    if isinstance(value, str | os.PathLike | list | tuple):
        return list(value) if isinstance(value, tuple) else value
    hint = f"; give tools=[{getattr(value, '__name__', 'function')}]" if callable(value) else ""
    raise InputError(f"tools: expected a list of functions or the path of a Python file, got {shortened(value)}{hint}")
