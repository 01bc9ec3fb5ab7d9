"""The template engine: its settings, the text of values, and hints for mistyped placeholders."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import minijinja

from batchrun.records import Value

__all__ = ["placeholder_hint", "placeholder_of", "template_environment", "template_value"]

FUEL = 1_000_000
"""Maximum instructions of the template engine for one rendering. A page of text takes some hundreds. The limit stops
templates with an endless loop, which would otherwise stop the batch."""


# -- values ---------------------------------------------------------------------------------------------------


def template_environment(*, lists_as_python: bool = False) -> minijinja.Environment:
    """Return an engine in which undefined names are errors, and lists and objects are rendered as JSON.

    Args:
        lists_as_python: render lists and objects as Python does, as the first versions did.
    """
    return minijinja.Environment(
        undefined_behavior="strict", fuel=FUEL, finalizer=None if lists_as_python else _printed
    )


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


# -- hints for mistyped placeholders ----------------------------------------------------------------------------

_OWN = re.compile(r"\{\{\s*([^{}]+?)\s*\}\}")
_PLACEHOLDERS = (
    _OWN,
    *(
        re.compile(pattern)
        for pattern in (
            r"\$\{\s*([^{}]+?)\s*\}",
            r"\{\s*([^{}]+?)\s*\}",
            r"<\s*([^<>]+?)\s*>",
            r"%\(\s*([^()]+?)\s*\)s",
            r"\[\s*([^\[\]]+?)\s*\]",
            r"\$(\w+)",
            r"%(\w+)%",
        )
    ),
)
"""Placeholders of this and other tools. The first group is the name."""


def placeholder_of(column: str) -> str:
    """Return the placeholder for a column."""
    return f"{{{{ {column} }}}}" if column.isidentifier() else f"{{{{ row[{column!r}] }}}}"


def placeholder_hint(templates: Iterable[str], columns: Sequence[str]) -> str:
    """Return a hint: the right placeholder for one that is mistyped or in another tool's syntax, or an example."""
    known: Mapping[str, str] = {column.casefold(): column for column in columns}
    for template in templates:
        for pattern in _PLACEHOLDERS:
            for found in pattern.finditer(template):
                near = difflib.get_close_matches(found[1].casefold(), known, n=1)
                if near and pattern is _OWN and found[1] == known[near[0]]:
                    return f"{found[0]} is in a comment or in raw text, or a variable of that name is set before it"
                if near:
                    return f"write {placeholder_of(known[near[0]])} instead of {found[0]}"
    return f"write a column as {placeholder_of(columns[0])}" if columns else "the table has no columns"
