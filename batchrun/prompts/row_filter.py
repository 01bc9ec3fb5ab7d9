"""RowFilter: the expression of --where, which decides for each row of the input whether it is run."""

from __future__ import annotations

import re
from collections.abc import Sequence

import minijinja

from batchrun.errors import InputError
from batchrun.job.option_values import suggestion
from batchrun.prompts.placeholders import expression_of
from batchrun.prompts.template_engine import names_in, template_environment, template_value
from batchrun.prompts.template_filters import TEMPLATE_ERRORS, explained
from batchrun.records import Row, Value
from batchrun.wording import shortened

__all__ = ["RowFilter"]

_REFERENCE = r"""(?:row\[(?:'[^']*'|"[^"]*")\]|row\.\w+|[A-Za-z_]\w*)"""
_NUMBER = r"-?\d[\d_]*(?:\.\d+)?"
_ORDER = r"(?:<=|>=|<|>)"
_COMPARED = rf"(?:{_ORDER}|==|!=)"
_WITH_NUMBER = re.compile(
    r"(?:^|(?<=[(,\[])|\b(?:and|or|not|if|else)\b)\s*"
    rf"(?P<comparison>(?P<left>{_REFERENCE})\s*(?:{_COMPARED}\s*{_NUMBER}"
    rf"|(?:not\s+)?in\s*\[\s*{_NUMBER}(?:\s*,\s*{_NUMBER})*\s*\])"
    rf"|{_NUMBER}\s*{_COMPARED}\s*(?P<right>{_REFERENCE}))"
    r"\s*(?=$|[),\]]|\b(?:and|or|else|if)\b)"
)
"""A column that is compared with a number, or looked for in a list of numbers, between the words of an expression."""

_CHAINED = re.compile(rf"{_NUMBER}\s*{_ORDER}\s*({_REFERENCE})\s*{_ORDER}\s*{_NUMBER}")
_FUNCTIONS = frozenset({"dict", "range"})
"""Functions of the engine that an expression may call."""

_ITEM = re.compile(r"""\brow\[(?:'([^']*)'|"([^"]*)")\]""")


class RowFilter:
    """An expression over the columns of a row, in the language of the templates.

    Cells are what they are in templates: those of a CSV are text, missing ones are empty text. The engine compares a
    text with a number by their types, which is never meant: such a comparison is an error where it decides.

    Examples:
        >>> row_filter = RowFilter("lang == 'de' and id|int > 1", ["id", "lang"])
        >>> [row_filter.matches(Row(n, {"id": str(n), "lang": "de"})) for n in (1, 2)]
        [False, True]
    """

    def __init__(self, expression: str, columns: Sequence[str]) -> None:
        """
        Args:
            columns: columns of the input.

        Raises:
            InputError: the syntax is wrong, or a column does not exist.
        """
        self._expression = expression
        self._environment = template_environment()
        self._check_syntax()
        used = self._names()
        for name in sorted(used - {*columns, *_FUNCTIONS, "row"}):
            raise _no_column(name, columns)
        for match in _ITEM.finditer(expression) if "row" not in columns else ():
            if (name := match[1] or match[2] or "") not in columns and "\\" not in name:
                raise _no_column(name, columns)
        self._columns = tuple(column for column in columns if column in used or "row" in used)
        self._comparisons = tuple(_WITH_NUMBER.finditer(expression))

    def matches(self, row: Row) -> bool:
        """Return whether the expression is true for a row.

        Raises:
            InputError: it fails on this row.
        """
        values = {name: template_value(row.values[name]) for name in self._columns}
        try:
            holds = self._holds(self._expression, values)
        except TEMPLATE_ERRORS as exc:
            raise InputError(f"--where fails on {row.numbered}: {explained(exc)}") from None
        for comparison in self._comparisons:
            column = _column_of(comparison["left"] or comparison["right"])
            cell = values.get(column)
            if isinstance(cell, str) and self._decides(comparison, values):
                raise InputError(
                    f"--where fails on {row.numbered}: {comparison['comparison']!r} compares a number with text "
                    f"({shortened(cell)}); {_instead(comparison['left'] or comparison['right'], comparison, cell)}"
                )
        return holds

    def _holds(self, expression: str, values: dict[str, Value]) -> bool:
        # `not` makes the engine refuse an undefined result, which would otherwise count as false.
        context = {"row": values, **values}
        context.pop("self", None)  # the engine's method has a parameter of that name; `row['self']` is the column
        return not self._environment.eval_expr(f"not (\n{expression}\n)", **context)

    def _decides(self, comparison: re.Match[str], values: dict[str, Value]) -> bool:
        """Return whether the result depends on a comparison: a condition before it may exclude the row already."""
        start, end = comparison.span("comparison")
        results = []
        for constant in ("true", "false"):
            try:
                replaced = f"{self._expression[:start]} {constant} {self._expression[end:]}"
                results.append(self._holds(replaced, values))
            except TEMPLATE_ERRORS:
                return True
        return results[0] != results[1]

    def _check_syntax(self) -> None:
        """Raise InputError if the expression cannot be read."""
        text = self._expression
        if not text.strip():
            raise InputError("--where: the expression is empty; write one such as lang == 'de'")
        if "{{" in text or "{%" in text:
            raise InputError(
                f"--where: write the expression without braces, such as lang == 'de', got {shortened(text)}"
            )
        if (chained := _CHAINED.search(text)) is not None:
            raise InputError(
                f"--where: {chained[0]!r} is not one comparison: write it as two, such as "
                f"1 < {chained[1]} and {chained[1]} < 5"
            )
        try:
            self._environment.eval_expr(f"(\n{text}\n)")  # without parentheses it ignores what follows an expression
        except minijinja.TemplateError as exc:
            # Without a row, other errors mean nothing.
            if exc.kind in ("SyntaxError", "UnknownFilter", "UnknownTest"):
                message = explained(exc).removesuffix(", expected `)`")
                if ")" not in text:  # the parenthesis is ours
                    message = message.replace("unexpected `)`", "unexpected end")
                raise InputError(f"--where: {message} in {shortened(text)}{_syntax_hint(text)}") from None

    def _names(self) -> set[str]:
        """Return the names that the expression takes from the row."""
        return names_in(f"{{{{ (\n{self._expression}\n) }}}}") | ({"row"} if "row" in self._expression else set())


def _no_column(name: str, columns: Sequence[str]) -> InputError:
    listed = ", ".join(map(repr, columns))
    spaced = next((column for column in columns if not column.isidentifier() and column.split(" ")[0] == name), None)
    hint = f"; write it as {expression_of(spaced)}" if spaced is not None else suggestion(name, columns)
    return InputError(f"--where: no column named {name!r} in the input (columns: {listed}){hint}")


def _column_of(reference: str) -> str:
    """Return the column of `name`, `row.name` or `row['name']`."""
    if reference.startswith("row["):
        return reference[5:-2]
    return reference.removeprefix("row.")


def _instead(reference: str, comparison: re.Match[str], cell: str) -> str:
    """Return what to write instead of a comparison of text with a number."""
    number = comparison["comparison"].replace(reference, f"{reference}|float")
    if not cell.strip():
        return f"the cell is empty: write {reference} != '' and {comparison['comparison']}"
    try:
        float(cell)
    except ValueError:
        return "compare it with a text in quotes, or leave such rows out first"
    return f"write {number}"


def _syntax_hint(text: str) -> str:
    """Return what to write instead of the usual slips."""
    for slip, hint in (
        (r"(?<![=!<>])=(?!=)", "=="),
        (r"<>", "!="),
        (r"&&?", "and"),
        (r"\|\|", "or"),
        (r"\b(?:AND|OR|NOT)\b", "and, or, not in lower case"),
        (r"(?i)\blike\b", "'text' in column"),
        (r"!(?!=)", "not"),
    ):
        if found := re.search(slip, text):
            return f"; write {hint} instead of {found[0]}"
    return ""
