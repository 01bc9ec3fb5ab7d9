"""Templates: the engine as it is set up here, values as it prints them, hints for mistyped placeholders."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import minijinja

from batchrun.records import Value

__all__ = ["placeholder_hint", "reference", "template_environment", "template_value"]

FUEL = 1_000_000
"""Instructions of the template engine that one rendering may take: a page of text takes some hundreds, and
a template that loops for ever ends here instead of in a hung batch."""


# -- values ---------------------------------------------------------------------------------------------------


def template_environment(*, lists_as_before: bool = False) -> minijinja.Environment:
    """An engine in which an undefined name is an error, and lists and objects are printed as JSON."""
    return minijinja.Environment(
        undefined_behavior="strict", fuel=FUEL, finalizer=None if lists_as_before else _printed
    )


def template_value(value: Value, *, lists_as_before: bool = False) -> Value:
    """A cell as templates see it: None and NaN as empty text ("none" is no question), others as they are."""
    if value.__class__ is str:
        return value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, list | dict):
        return value if lists_as_before else _told(value)
    return value if isinstance(value, int | float | bool) else str(value)


class _List(list[Any]):
    """A list that is JSON as text, also where a template makes text of it, as in `"Options: " ~ options`."""

    def __str__(self) -> str:
        return _json(self)

    __repr__ = __str__


class _Object(dict[str, Any]):
    """An object that is JSON as text; what its methods return is so too."""

    def __str__(self) -> str:
        return _json(self)

    __repr__ = __str__

    def keys(self) -> Any:
        return _List(super().keys())

    def values(self) -> Any:
        return _List(super().values())

    def items(self) -> Any:
        return _List(super().items())


def _told(value: Value) -> Value:
    if isinstance(value, list):
        return _List(map(_told, value))
    if isinstance(value, dict):
        return _Object((key, _told(each)) for key, each in value.items())
    return value


def _printed(value: Any) -> Any:
    """What an expression prints. The engine itself would print lists and objects in Python's manner; it prints
    everything else."""
    return _json(value) if isinstance(value, list | tuple | dict) else NotImplemented


def _json(value: Any) -> str:
    return json.dumps(_finite(value), ensure_ascii=False, default=str)


def _finite(value: Any) -> Any:
    """JSON has neither NaN nor infinities."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# -- what was meant as a placeholder ----------------------------------------------------------------------------

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
"""How other tools mark the place of a value; the first group is its name."""


def reference(column: str) -> str:
    """How a template names a column."""
    return f"{{{{ {column} }}}}" if column.isidentifier() else f"{{{{ row[{column!r}] }}}}"


def placeholder_hint(templates: Iterable[str], columns: Sequence[str]) -> str:
    """What to write instead of a placeholder in another tool's manner, or how a column is named at all."""
    known: Mapping[str, str] = {column.casefold(): column for column in columns}
    for template in templates:
        for pattern in _PLACEHOLDERS:
            for found in pattern.finditer(template):
                near = difflib.get_close_matches(found[1].casefold(), known, n=1)
                if near and pattern is _OWN and found[1] == known[near[0]]:
                    return f"{found[0]} is in a comment or in raw text, or a variable of that name stands before it"
                if near:
                    return f"write {reference(known[near[0]])} instead of {found[0]}"
    return f"a template names a column as {reference(columns[0])}" if columns else "the table has no columns"
