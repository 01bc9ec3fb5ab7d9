"""Templates of OpenAI's Evals, rewritten: `{{ item.question }}` becomes `{{ question }}`, in MiniJinja's syntax."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final

import minijinja

from batchrun.prompts.template_engine import template_environment, template_value
from batchrun.records import Value
from batchrun.scoring.formats.importers.openai_evals import data_column
from batchrun.scoring.formats.notes import Notes

__all__ = ["PROMPT_NAMES", "column_in", "expression_of", "is_answer", "rendered_messages", "rewritten"]

_MARK: Final = re.compile(r"\{\{\s*(?P<path>.*?)\s*\}\}|\{[%#]", re.DOTALL)
_ITEM: Final = re.compile(r"item\.(?P<column>[^.\s|]+)(?P<rest>(?:\.\w+)*)")
PROMPT_NAMES: Final = frozenset({"row", "responses"})
"""Names that have a meaning of their own in a prompt."""
_NAMES: Final = frozenset({"response", "target", "question", "grade_line", "grades", "fence", "row", "responses"})
"""Names that have a meaning of their own in a rubric."""


def is_answer(template: str) -> bool:
    """Return whether a template is the answer and nothing else."""
    return re.fullmatch(r"\s*\{\{\s*sample\.output_text\s*\}\}\s*", template) is not None


def column_in(template: str) -> str | None:
    """Return the column of a template that is one field of the item and nothing else.

    >>> column_in("{{item.label}}"), column_in("The {{ item.label }}")
    ('label', None)
    """
    mark = _MARK.fullmatch(template.strip())
    item = None if mark is None or mark["path"] is None else _ITEM.fullmatch(mark["path"])
    return data_column(item["column"]) if item is not None and not item["rest"] else None


def expression_of(template: str) -> str | None:
    """Return the Python expression of a template that is the answer, one column, or a text; None for others.

    >>> expression_of("{{ sample.output_text }}"), expression_of("{{ item.label }}"), expression_of("yes")
    ('answer', "row['label']", "'yes'")
    """
    if is_answer(template):
        return "answer"
    column = column_in(template)
    if column is not None:
        return f"row[{column!r}]"
    return None if _MARK.search(template) else repr(template)


def rendered_messages(messages: Value, cells: Mapping[str, Value], notes: Notes) -> Value:
    """Return messages of a template, or a part of them, with the cells of a row in their texts."""
    if isinstance(messages, list):
        return [rendered_messages(each, cells, notes) for each in messages]
    if isinstance(messages, dict):
        return {key: rendered_messages(each, cells, notes) for key, each in messages.items()}
    if not isinstance(messages, str) or "{" not in messages:
        return messages
    values = {name: template_value(cell) for name, cell in cells.items()}
    try:
        text: str = template_environment().render_str(rewritten(messages, notes), **{**values, "row": values})
    except minijinja.TemplateError:
        notes.add_value("template of a message that cannot be rendered, and is kept as text", messages)
        return messages
    return text


def rewritten(template: str, notes: Notes, *, reserved: frozenset[str] = _NAMES) -> str:
    """Return a template with the names of batchrun. What has no counterpart is kept as text, and noted.

    Args:
        reserved: names that are not columns there; those of a rubric by default.

    >>> rewritten("{{item.q}}: {{ sample.output_text }} {% x %}", Notes())
    '{{ q }}: {{ response }} {{ "{%" }} x %}'
    """

    def replaced(mark: re.Match[str]) -> str:
        path = mark["path"]
        if path is None:
            return f"{{{{ {json.dumps(mark[0])} }}}}"
        if path == "sample.output_text":
            return "{{ response }}"
        if path == "item":
            return "{{ row }}"
        item = _ITEM.fullmatch(path)
        if item is None:
            notes.add(f"template: {{{{ {path} }}}} has no counterpart, and is kept as text")
            return f"{{{{ {json.dumps(mark[0])} }}}}"
        column = data_column(item["column"])
        is_name = column.isidentifier() and column not in reserved
        return f"{{{{ {column if is_name else f'row[{json.dumps(column)}]'}{item['rest']} }}}}"

    return _MARK.sub(replaced, template)
