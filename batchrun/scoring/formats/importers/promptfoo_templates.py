"""promptfoo's templates, which are Nunjucks: rendered with the variables of a test, or kept as a prompt of a job."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final

from batchrun.prompts.template_engine import names_in, template_environment, template_value
from batchrun.records import Value
from batchrun.scoring.formats.notes import Notes

__all__ = ["prompt_of", "rendered"]

_MARK: Final = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
_OWN_NAMES: Final = frozenset({"range", "dict", "namespace"})


@cache
def _environment() -> Any:
    return template_environment()


def rendered(value: Value, variables: Mapping[str, Value], notes: Notes) -> Value:
    """Return a value of a test with the test's variables in its texts, as promptfoo renders it.

    A text that cannot be rendered stays as it is, and is noted.

    >>> rendered(["{{ city }}", 4], {"city": "Paris"}, Notes())
    ['Paris', 4]
    """
    if isinstance(value, list):
        return [rendered(each, variables, notes) for each in value]
    if isinstance(value, dict):
        return {key: rendered(each, variables, notes) for key, each in value.items()}
    if not isinstance(value, str) or not _MARK.search(value):
        return value
    from minijinja import TemplateError

    cells = {name: template_value(cell) for name, cell in variables.items()}
    try:
        text: str = _environment().render_str(value, **{**cells, "vars": cells})
    except (TemplateError, TypeError):
        notes.add_value("template that cannot be rendered, and is kept as text", value)
        return value
    return text


def prompt_of(template: str, columns: Mapping[str, str], notes: Notes, where: str) -> str:
    """Return a prompt as a template of batchrun.

    Args:
        columns: variable → its column.
        where: the prompt, for notes about names that no column has.
    """
    renamed = {name: column for name, column in columns.items() if name != column}

    def replaced(mark: re.Match[str]) -> str:
        inside = re.sub(r"\bvars\.(?=\w)", "", mark[0])
        for name, column in renamed.items():
            inside = re.sub(rf"(?<![\w.\"']){re.escape(name)}(?![\w\"'])", _constant(column), inside)
        return inside

    text = _MARK.sub(replaced, template)
    unknown = sorted(names_in(text) - set(columns.values()) - _OWN_NAMES)
    if unknown:
        notes.remark(f"{where} uses {', '.join(map(repr, unknown))}, which no test has: add a column, or change it", 0)
    return text


def _constant(text: str) -> Callable[[re.Match[str]], str]:
    return lambda _: text
