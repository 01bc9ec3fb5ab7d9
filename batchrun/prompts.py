"""Stage 2: a row and a template become a prompt."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import minijinja

from batchrun.errors import InputError
from batchrun.job import digest
from batchrun.records import Prompt, Row, Turn, Value

__all__ = ["DEFAULT_COLUMNS", "PromptError", "Prompter", "default_template", "prompter_for"]

DEFAULT_COLUMNS = ("prompt", "question")
"""Columns that are taken as the prompt where no template is given, the first one that exists."""

FUEL = 1_000_000
"""Instructions of the template engine that one rendering may take: a page of text takes some hundreds, and
a template that loops for ever ends here instead of in a hung batch."""

_BUILTINS = frozenset({"range", "dict", "debug", "namespace", "cycler", "joiner", "lipsum"})


_SURROGATE = re.compile("[\ud800-\udfff]")


class PromptError(Exception):
    """This row cannot be asked: it fails, the batch goes on.

    Attributes:
        error_type: `empty_prompt`, `template_error` or `bad_text`.
    """

    def __init__(self, error_type: str, message: str) -> None:
        super().__init__(message)
        self.error_type = error_type


def default_template(columns: Sequence[str]) -> str:
    """The template where the user gave none: the column `prompt` or `question`, or the only column.

    Raises:
        InputError: no such column; names the columns there are.
    """
    for name in DEFAULT_COLUMNS:
        if name in columns:
            return f"{{{{ {name} }}}}"
    if len(columns) == 1:
        # A column named `row` hides the row.
        return "{{ row }}" if columns[0] == "row" else "{{ row[" + repr(columns[0]) + "] }}"
    raise InputError(
        f"no column is named 'prompt' or 'question' (columns: {_listed(columns)}); "
        "say what to ask, for example --prompt '{{ " + _example(columns) + " }}'"
    )


class Prompter:
    """Renders rows with one or more templates, one template a turn.

    A template sees every column by its name, and all of them as `row`, for names that are no identifiers
    (`{{ row['Full name'] }}`). It gets plain Python values only; a missing cell (None, NaN) renders as empty
    text, an undefined name is an error.
    """

    def __init__(
        self, templates: Sequence[str], columns: Sequence[str], settings_digest: str, key: str | None = None
    ) -> None:
        """
        Args:
            key: column that identifies rows; their position where there is none.
            settings_digest: hash of the settings that decide answers beside the prompt's own text.

        Raises:
            InputError: a template's syntax is wrong, or it names a column that there is not.
        """
        self._environment = minijinja.Environment(undefined_behavior="strict", fuel=FUEL)
        self._names = [f"turn {number}" for number in range(1, len(templates) + 1)]
        self._settings_digest = settings_digest
        self._key = key
        if key is not None and key not in columns:
            raise InputError(f"--key: no column named {key!r} in the input (columns: {_listed(columns)})")
        for name, template in zip(self._names, templates, strict=True):
            self._add(name, template, columns)

    def _add(self, name: str, template: str, columns: Sequence[str]) -> None:
        try:
            self._environment.add_template(name, template)
            used = self._environment.undeclared_variables_in_template(name)
        except minijinja.TemplateError as exc:
            raise InputError(f"--prompt: {exc.message} (line {exc.line or 1} of the template)") from None
        unknown = sorted(used - set(columns) - _BUILTINS - {"row"})
        if unknown:
            raise InputError(f"--prompt: no column named {_listed(unknown)} in the input (columns: {_listed(columns)})")

    def row_key(self, row: Row) -> str:
        """The row's stable id."""
        return str(row.row_index) if self._key is None else str(_plain(row.values[self._key]))

    def render(self, row: Row) -> Prompt:
        """The row's prompt.

        Raises:
            PromptError: the rendered text is empty, or the template fails on this row.
        """
        values = {name: _plain(value) for name, value in row.values.items()}
        turns = tuple(self._turns(values))
        return Prompt(
            row_key=self.row_key(row),
            row_index=row.row_index,
            turns=turns,
            fingerprint=_fingerprint(self._settings_digest, turns),
        )

    def _turns(self, values: dict[str, Value]) -> Iterator[Turn]:
        context: dict[str, Any] = {"row": values, **values}
        for name in self._names:
            try:
                text = self._environment.render_template(name, **context)
            except minijinja.TemplateError as exc:
                raise PromptError("template_error", f"the template fails on this row: {exc.message}") from None
            if not text.strip():
                raise PromptError("empty_prompt", "the rendered prompt is empty")
            # The template engine puts U+FFFD in the place of what UTF-8 lacks.
            if "\ufffd" in text and _SURROGATE.search(json.dumps(values, ensure_ascii=False, default=str)):
                raise PromptError(
                    "bad_text", "the prompt holds half of a character (a lone surrogate), which UTF-8 lacks"
                )
            yield Turn(text)


def _fingerprint(settings_digest: str, turns: Sequence[Turn]) -> str:
    """A hash (32 hex digits) of the settings and the turns; each part's length goes before it, so that none can be
    taken for a part of another."""
    whole = hashlib.blake2b(settings_digest.encode(), digest_size=16)
    for turn in turns:
        text = turn.text.encode("utf-8", "surrogatepass")
        whole.update(b"%d:" % len(text))
        whole.update(text)
    return whole.hexdigest()


def prompter_for(settings: Mapping[str, Any], columns: Sequence[str], key: str | None) -> Prompter:
    """The prompter of a batch with these settings (`Job`'s options that decide answers, as the journal keeps them)."""
    decisive = {name: value for name, value in settings.items() if name != "prompt"}
    return Prompter([settings["prompt"]], columns, digest(decisive), key)


def _plain(value: Value) -> Value:
    """None and NaN render as nothing: strict mode does not catch them, and "none" is no question."""
    if value.__class__ is str:
        return value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return value if isinstance(value, (int, float, bool, list, dict)) else str(value)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names)


def _example(columns: Sequence[str]) -> str:
    name = columns[0] if columns else "question"
    return name if name.isidentifier() else f"row[{name!r}]"
