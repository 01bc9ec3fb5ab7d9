"""The template engine: its settings and the text of values."""

from __future__ import annotations

import json
import math
from typing import Any

import minijinja

from batchrun.prompts.template_filters import add_filters
from batchrun.records import Value

__all__ = ["names_in", "template_environment", "template_value"]

FUEL = 1_000_000
"""Maximum instructions of the template engine for one rendering. A page of text takes some hundreds. The limit stops
templates with an endless loop, which would otherwise stop the batch."""


def template_environment(*, lists_as_python: bool = False) -> minijinja.Environment:
    """Return an engine in which undefined names are errors, and lists and objects are rendered as JSON.

    Args:
        lists_as_python: render lists and objects as Python does, as the first versions did.
    """
    environment = minijinja.Environment(
        undefined_behavior="strict", fuel=FUEL, finalizer=None if lists_as_python else _printed
    )
    add_filters(environment)
    return environment


def names_in(template: str) -> set[str]:
    """Return the names that a template takes from outside; none if its syntax is wrong."""
    environment = minijinja.Environment()
    try:
        environment.add_template("template", template)
    except minijinja.TemplateError:
        return set()
    return set(environment.undeclared_variables_in_template("template")) - {"row", "responses"}


def template_value(value: Value, *, lists_as_python: bool = False) -> Value:
    """Return the value of a cell for templates. None and NaN become empty text, because "none" is not a question.

    Args:
        lists_as_python: see `template_environment`.
    """
    if value.__class__ is str:
        return value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, list | dict):
        return value if lists_as_python else _as_json(value)
    return value if isinstance(value, int | float | bool) else str(value)


class _List(list[Any]):
    """A list whose text is JSON, even where a template converts it to text, as in `"Options: " ~ options`."""

    def __str__(self) -> str:
        return _json(self)

    __repr__ = __str__


class _Object(dict[str, Any]):
    """An object whose text is JSON, as is the text of the lists that its methods return."""

    def __str__(self) -> str:
        return _json(self)

    __repr__ = __str__

    def keys(self) -> Any:
        return _List(super().keys())

    def values(self) -> Any:
        return _List(super().values())

    def items(self) -> Any:
        return _List(super().items())


def _as_json(value: Value) -> Value:
    if isinstance(value, list):
        return _List(map(_as_json, value))
    if isinstance(value, dict):
        return _Object((key, _as_json(each)) for key, each in value.items())
    return value


def _printed(value: Any) -> Any:
    """Return the text of an expression. Without it, the engine would render lists and objects as Python does.

    NotImplemented leaves all other values to the engine.
    """
    return _json(value) if isinstance(value, list | tuple | dict) else NotImplemented


def _json(value: Any) -> str:
    return json.dumps(_finite(value), ensure_ascii=False, default=str)


def _finite(value: Any) -> Any:
    """Return the value with None for NaN and infinities, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
