"""Values that only Python can give an option: a pydantic model, a schema as a dict, functions."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

from batchrun.errors import InputError
from batchrun.records import JsonDict
from batchrun.wording import shortened

__all__ = ["read_python_values"]

_LISTS: Final = ("attach", "file_search", "keep")
"""Options with a list of texts, for which one text may be given."""


def read_python_values(values: JsonDict) -> None:
    """Turn such values into those of `Job`, in place.

    Raises:
        InputError: `schema` or `tools` is of another type; names the option and what is expected.
    """
    for name in _LISTS:
        if isinstance(values.get(name), str):
            values[name] = [values[name]]
    for name, read in (("schema", _schema), ("tools", _tools)):
        if values.get(name) is not None:
            values[name] = read(values[name])


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
