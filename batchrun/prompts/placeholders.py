"""Placeholders of columns in templates, and hints for a prompt that is missing or names no column."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence

from batchrun.errors import InputError
from batchrun.prompts.conversations import is_conversation
from batchrun.shell_hint import option
from batchrun.tables import Source, header_hint, longest_text_column

__all__ = [
    "DEFAULT_COLUMNS",
    "default_template",
    "expression_of",
    "no_prompt",
    "placeholder_hint",
    "placeholder_of",
    "prompt_option",
]

DEFAULT_COLUMNS = ("prompt", "question")
"""Columns that are the prompt if no template is given. The first one that exists is used."""

_ESCAPED_QUOTE = '\\"'

_KEYWORDS = frozenset({"not", "true", "false", "none", "True", "False", "None", "self"})
"""Identifiers that cannot be the name of a variable in a template."""

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


def default_template(columns: Sequence[str]) -> str | None:
    """Return the default template: the column `prompt` or `question`, or the only column; None for other tables."""
    for name in DEFAULT_COLUMNS:
        if name in columns:
            return f"{{{{ {name} }}}}"
    if len(columns) == 1:
        # In a table with a column `row`, the name `row` means the column.
        return "{{ row }}" if columns[0] == "row" else f"{{{{ {_item(columns[0])} }}}}"
    return None


def no_prompt(source: Source) -> InputError:
    """Return the error for a table that has no default template, with a prompt to paste."""
    names = ", ".join(map(repr, source.columns))
    first = next(source.rows(), None)
    talks = [column for column in source.columns if first is not None and is_conversation(first.values[column], column)]
    if talks:
        return InputError(
            f"{source.name}: no column is named 'prompt', 'question' or 'messages' (columns: {names}): the cells of "
            f"{talks[0]!r} are lists of messages: give {option('--messages', talks[0])}, or a prompt"
        )
    example = longest_text_column(source)
    hint = header_hint(source)
    if hint:
        unnamed_example = f"column_{source.columns.index(example) + 1}"
        hint = f"{hint}, with a prompt: --no-header {prompt_option(unnamed_example)}; else "
    return InputError(
        f"{source.name}: {hint}no column is named 'prompt' or 'question' (columns: {names}): give a prompt, for "
        f"example {prompt_option(example)}"
    )


def expression_of(column: str) -> str:
    """Return the expression of a column in a template.

    >>> print(expression_of("question"), expression_of("Full question"), expression_of("it's"))
    question row['Full question'] row["it's"]
    """
    return column if column.isidentifier() and column not in _KEYWORDS else _item(column)


def placeholder_of(column: str) -> str:
    """Return the placeholder of a column in a template."""
    return f"{{{{ {expression_of(column)} }}}}"


def prompt_option(column: str) -> str:
    """Return the option `--prompt` with the placeholder of a column, quoted for a shell.

    >>> print(prompt_option("Full question"))
    --prompt "{{ row['Full question'] }}"
    """
    if expression_of(column) == column:
        return option("--prompt", placeholder_of(column))
    items = (_item(column), f"row[{json.dumps(column, ensure_ascii=False)}]")
    return min((option("--prompt", f"{{{{ {item} }}}}") for item in items), key=len)


def _item(column: str) -> str:
    """Return `row['…']`. The template engine reads the escapes of JSON."""
    text = json.dumps(column, ensure_ascii=False)
    return f"row[{text}]" if "'" in column else f"row['{text[1:-1].replace(_ESCAPED_QUOTE, chr(34))}']"


def placeholder_hint(templates: Iterable[str], columns: Sequence[str], example: str | None = None) -> str:
    """Return a hint: the right placeholder for one that is mistyped or in another tool's syntax, or an example.

    Args:
        example: the column of the example; None for the first.
    """
    known: Mapping[str, str] = {column.casefold(): column for column in columns}
    for template in templates:
        for pattern in _PLACEHOLDERS:
            for found in pattern.finditer(template):
                near = difflib.get_close_matches(found[1].casefold(), known, n=1)
                if near and pattern is _OWN and found[1] == known[near[0]]:
                    return f"{found[0]} is in a comment or in raw text, or a variable of that name is set before it"
                if near:
                    return f"write {placeholder_of(known[near[0]])} instead of {found[0]}"
    return f"write a column as {placeholder_of(example or columns[0])}" if columns else "the table has no columns"
