"""What the columns of a table seem to be for: the prompt, the key of a row, and the expected answer."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from minijinja import TemplateError

from batchrun.batch.message_column import MessageColumn, default_conversation
from batchrun.errors import InputError
from batchrun.prompts.placeholders import DEFAULT_COLUMNS, expression_of
from batchrun.prompts.template_engine import template_environment, template_value
from batchrun.records import Value
from batchrun.tables import Source

__all__ = ["ColumnRoles", "column_roles"]

_TARGETS = re.compile(
    r"(?:(?:correct|expected|gold|golden|ideal|reference|right|true)[ _-]?)?"
    r"(?:answers?|expected|gold|ground[ _-]?truth|ideal|labels?|reference|solution|targets?)",
    re.IGNORECASE,
)
_KEYS = re.compile(r"(?:.*[ _-])?(?i:id|key|uid|uuid|guid|sku|isbn|doi|slug)|.*[a-z](?:Id|ID)", re.DOTALL)
_IDENTIFIER = re.compile(r"[^\s{}]{1,64}")
_MAX_KEY_CANDIDATES = 8
"""Columns whose values are compared, since each of them takes memory for every row."""


@dataclass(frozen=True, slots=True)
class ColumnRoles:
    """The roles of columns in a table.

    Attributes:
        template: a prompt of the column that holds the prompt.
        messages: the column that holds conversations, which are asked in place of a prompt; None if there is none.
        key: a column that is named as an identifier and is different in every row, None if there is none.
        possible_key: a column of another name whose values could identify the rows, None if there is none or a `key`.
        target: a column that is named as an expected answer, None if there is none.
        scorer: a scorer that fits the values of `target`.
    """

    template: str
    messages: MessageColumn | None
    key: str | None
    possible_key: str | None
    target: str | None
    scorer: Literal["choice", "includes", "numeric"]


@dataclass(slots=True)
class _Column:
    """Facts about one column. Mutable state: all counts and sets, filled row by row."""

    name: str
    is_compared: bool
    """No value was empty, repeated or unlike an identifier so far."""
    text_chars: int = 0
    other_chars: int = 0
    is_numeric: bool = True
    is_choice: bool = True
    seen: set[int] = field(default_factory=set)

    @property
    def has_values(self) -> bool:
        return self.text_chars + self.other_chars > 0

    def add(self, value: Value) -> None:
        text = str(template_value(value)).strip()
        if isinstance(value, str) and not _is_number(value):
            self.text_chars += len(text)
        else:
            self.other_chars += len(text)
        if text:
            self.is_numeric = self.is_numeric and _is_number(text)
            self.is_choice = self.is_choice and len(text) == 1 and "A" <= text.upper() <= "J"
        if self.is_compared:
            identity = hash(text)
            if isinstance(value, float | bool) or identity in self.seen or not _IDENTIFIER.fullmatch(text):
                self.is_compared = False
                self.seen.clear()
            self.seen.add(identity)


def column_roles(source: Source) -> ColumnRoles:
    """Return the roles of the columns of a table, from their names and from all rows.

    Raises:
        InputError: a row cannot be read, or no template can name the column of the prompt.
    """
    texts = [name for name in source.columns if _is_unicode(name)]
    named = [name for name in texts if _KEYS.fullmatch(name)]
    candidates = dict.fromkeys([*named, *texts])
    compared = set(list(candidates)[:_MAX_KEY_CANDIDATES])
    columns = [_Column(name, name in compared) for name in source.columns]
    for row in source.rows():
        for column in columns:
            column.add(row.values[column.name])
    target = next((column for column in columns if column.has_values and _TARGETS.fullmatch(column.name)), None)
    prompt, template = _prompt_of(columns, target, source.name)
    if target is prompt:
        target = None
    unique = [column.name for column in columns if column.is_compared and column not in (prompt, target)]
    key = next((name for name in named if name in unique), None)
    return ColumnRoles(
        template=template,
        messages=default_conversation(source),
        key=key,
        possible_key=unique[0] if unique and key is None else None,
        target=target.name if target is not None else None,
        scorer=_scorer_of(target),
    )


def _prompt_of(columns: Sequence[_Column], target: _Column | None, table: str) -> tuple[_Column, str]:
    """Return the column of the prompt and its template: `prompt` or `question`, else the longest text.

    The next best column is taken if no template can name it.
    """

    def rank(column: _Column) -> tuple[bool, bool, bool, int, int]:
        name = column.name.casefold()
        has_text = column.text_chars > 0
        named = name in DEFAULT_COLUMNS and column.has_values
        return (not named, not has_text, column is target, -column.text_chars, -column.other_chars)

    for column in sorted(columns, key=rank):
        if (template := _template_of(column.name, [each.name for each in columns])) is not None:
            return column, template
    raise InputError(f"{table}: no template can name its columns; rename the column of the prompt to `prompt`")


def _template_of(name: str, columns: Sequence[str]) -> str | None:
    """Return a template that gives the cells of a column, None if there is none.

    A name can be a word of the template language, hold quotes, or be hidden by a column `row`: each way to write it is
    tried with the engine.
    """
    cells: Mapping[str, Value] = {each: f"cell {number}" for number, each in enumerate(columns)}
    environment = template_environment()
    for expression in (expression_of(name), f"row[{json.dumps(name)}]"):
        template = f"{{{{ {expression} }}}}"
        try:
            environment.add_template("prompt", template)
            used = environment.undeclared_variables_in_template("prompt")
            found = environment.render_template("prompt", **{"row": cells, **cells})
        except (TemplateError, UnicodeError):
            continue
        if used and found == cells[name]:
            return template
    return None


def _scorer_of(target: _Column | None) -> Literal["choice", "includes", "numeric"]:
    if target is not None and target.is_numeric:
        return "numeric"
    return "choice" if target is not None and target.is_choice else "includes"


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", ""))
    except ValueError:
        return False
    return True


def _is_unicode(text: str) -> bool:
    """Return whether a file can hold the text: a name in JSON may be half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
