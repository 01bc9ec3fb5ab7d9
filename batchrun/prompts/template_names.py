"""The names in a template: each must be a column, and a message says which column was probably meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

import minijinja

from batchrun.errors import InputError
from batchrun.prompts.placeholders import expression_of, placeholder_of
from batchrun.prompts.template_filters import explained

__all__ = ["add_template", "cells_used", "listed"]

_BUILTINS = frozenset({"range", "dict", "debug", "namespace", "cycler", "joiner", "lipsum"})
_EXPRESSION = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
_ROW = re.compile(r"""\brow\b(?:\s*\[\s*(?:'([^'\\]*)'|"([^"\\]*)")\s*\]|\.([A-Za-z_]\w*))?""")
"""The row in an expression, with the column that is taken from it."""


def add_template(
    environment: minijinja.Environment,
    name: str,
    template: str,
    columns: Sequence[str],
    *,
    where: str,
    others: Iterable[str] = (),
    hint: str = "",
) -> frozenset[str]:
    """Add a template to the engine and return the names that it uses.

    Args:
        name: name of the template in the engine.
        columns: columns that the template can use.
        where: the option or the turn, for messages.
        others: further names that the template can use.
        hint: added to a message; begins with a semicolon.

    Raises:
        InputError: the syntax is wrong, or a name is not a column.
    """
    try:
        environment.add_template(name, template)
        used = frozenset(environment.undeclared_variables_in_template(name))
    except minijinja.TemplateError as exc:
        words = explained(exc)
        odd = next((column for column in columns if not column.isidentifier() and column in template), None)
        written = f"; write the column {odd!r} as {expression_of(odd)}" if odd is not None else ""
        raise InputError(f"{where}: {words} (line {exc.line or 1} of the template){written}{hint}") from None
    unknown = sorted(used - {*columns, *_BUILTINS, "row", *others})
    if unknown:
        raise InputError(
            f"{where}: no column named {listed(unknown)} in the input (columns: {listed(columns)}"
            + _hint_for_spaces(unknown, columns)
            + ("; only later turns have `responses`" if unknown == ["responses"] else "")
            + ")"
            + _near_placeholder(unknown[0], columns)
            + hint
        )
    return used


def cells_used(used: Iterable[str], templates: Iterable[str], columns: Sequence[str]) -> tuple[str, ...]:
    """Return the columns whose cells templates may use: all, if the whole row is used.

    Args:
        used: names that the templates use.
        templates: their texts.

    Examples:
        >>> cells_used({"a", "row"}, ["{{ a }} {{ row['b c'] }}"], ["a", "b c", "d"])
        ('a', 'b c')
    """
    names = set(used)
    if "row" in names and "row" not in columns:
        expressions = (found[0] for template in templates for found in _EXPRESSION.finditer(template))
        items = {"".join(map(str, filter(None, each))) for text in expressions for each in _ROW.findall(text)}
        names |= items if items <= {*columns} else {"debug"}
    return tuple(columns) if "debug" in names else tuple(column for column in columns if column in names)


def _hint_for_spaces(unknown: Sequence[str], columns: Sequence[str]) -> str:
    """Return a hint if an unknown name is the first word of a column: the engine reads `{{ Unit price }}` as `Unit`."""
    candidates = [column for column in columns if not column.isidentifier() and column.split(" ")[0] in unknown]
    return f"; write the column {candidates[0]!r} as {expression_of(candidates[0])}" if candidates else ""


def _near_placeholder(unknown: str, columns: Sequence[str]) -> str:
    """Return the placeholder of a column that was most likely meant, as a question; else empty text."""
    words = {word: column for column in columns for word in (column.casefold(), *column.casefold().split())}
    near = difflib.get_close_matches(unknown.casefold(), words, n=1)
    return f"; did you mean {placeholder_of(words[near[0]])}?" if near else ""


def listed(names: Sequence[str]) -> str:
    """Return names in quotes, joined by commas."""
    return ", ".join(repr(name) for name in names)
