"""Rubric: the template of a grader's prompt, over a row, its answer and its expected answer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Final

from batchrun.errors import InputError
from batchrun.records import JsonObject, Value
from batchrun.scoring.score_columns import columns_text
from batchrun.scoring.scorers.base import Sample, as_text, is_blank, is_missing
from batchrun.scoring.scorers.targets import has_target, targets_of

__all__ = ["NAMES", "Rubric", "RubricError"]

NAMES: Final = ("response", "target", "question", "context", "fence", "grade_line", "grades", "row")
"""Names in a rubric besides the table's columns; a column with such a name is available in `row`."""

_FENCE_DIGITS: Final = 12


class RubricError(Exception):
    """The rubric cannot be rendered for this row, so the row cannot be graded."""


class Rubric:
    """A template, checked against the columns of a table.

    Its names are the table's columns, `row` with all of them, `response` (the answer), `target` (several are joined by
    "or"), `question`, `context`, `grade_line` (how to end the reply), `grades` (the possible grades), and `fence`: a
    word that occurs in no cell of the row, and so separates outside texts from the rubric's own.
    """

    def __init__(
        self,
        template: str,
        columns: Sequence[str],
        *,
        where: str,
        question: str | None,
        target: str | None,
        context: str | None = None,
        grade_line: str,
        grades: Sequence[str],
    ) -> None:
        """
        Args:
            columns: columns of the table.
            where: source of the template, for messages.
            question: column of the question, or a template for it; None for `prompt`, `question`, `messages` or
                `conversations`, the first one that exists. A cell with messages is shown as text, without an answer
                at its end.
            target: column of the expected answer; None if no such column is named.
            context: column of the context, which no row may lack; None if a template's `context` is a column like
                every other.

        Raises:
            InputError: the syntax is wrong, or the template names an unknown column.
        """
        # Imported late: most scoring uses no grader.
        from batchrun.prompts.conversations import CONVERSATION_COLUMNS
        from batchrun.prompts.placeholders import DEFAULT_COLUMNS
        from batchrun.prompts.template_engine import template_environment

        self._environment = template_environment()
        self._columns = columns
        self._fixed = {"grade_line": grade_line, "grades": list(grades)}
        used = self._add("rubric", template, where, NAMES)
        self.needs_target = "target" in used
        if self.needs_target and target is None:
            raise InputError(f"{where}: needs a target: name its column with --target COLUMN")
        self._needs_question = "question" in used
        self._question_column: str | None = None
        if self._needs_question:
            known = (*DEFAULT_COLUMNS, *CONVERSATION_COLUMNS)
            question = question or next((name for name in known if name in columns), None)
            if question is None:
                raise InputError(
                    f"{where}: needs the question, but no column is named {', '.join(map(repr, known[:-1]))} or "
                    f"{known[-1]!r}; name its column with --question COLUMN ({columns_text(columns)})"
                )
            if question in columns:
                self._question_column = question
                question = f"{{{{ row[{json.dumps(question)}] }}}}"
            elif "{" not in question:
                raise InputError(f"--question {question}: the table has no such column ({columns_text(columns)})")
            self._add("question", question, "--question", ("row",))
        self.uses_context = "context" in used
        self._context = context
        if self.uses_context and (context or "context") not in columns:
            raise InputError(
                f"{where}: needs the context, but no column is named {context or 'context'!r}; name its column with "
                f"--context COLUMN ({columns_text(columns)})"
            )

    def _add(self, name: str, template: str, where: str, known: Sequence[str]) -> set[str]:
        """Add a template, and return the names that it uses."""
        from minijinja import TemplateError

        from batchrun.prompts.template_filters import explained

        try:
            self._environment.add_template(name, template)
            used = set(self._environment.undeclared_variables_in_template(name))
        except TemplateError as exc:
            raise InputError(f"{where}: {explained(exc)} (line {exc.line or 1} of the template)") from None
        unknown = sorted(used - {*self._columns, *known, "range", "dict", "namespace"})
        if unknown:
            raise InputError(
                f"{where}: the table has no column {', '.join(map(repr, unknown))} ({columns_text(self._columns)}; "
                f"also {', '.join(known)})"
            )
        return used

    def render(self, sample: Sample) -> str:
        """Return the grader's prompt for one row.

        Raises:
            RubricError: the template fails or renders to nothing, the row has no context although it needs one, or its
                messages cannot be read.
        """
        from batchrun.prompts.template_engine import template_value

        row = {name: template_value(cell) for name, cell in sample.row.items()}
        texts = {
            "response": sample.answer,
            "target": " or ".join(targets_of(sample.target)) if has_target(sample.target) else "",
        }
        if self.uses_context and self._context is not None:
            texts["context"] = _context_text(sample.row[self._context])
            if is_blank(texts["context"]):
                raise RubricError("the context is blank")
        from batchrun.prompts.template_filters import TEMPLATE_ERRORS, explained

        try:
            if self._needs_question:
                conversation = self._conversation(sample)
                texts["question"] = (
                    self._environment.render_template("question", **{**row, "row": row})
                    if conversation is None
                    else conversation
                )
            context = {**row, **self._fixed, **texts, "fence": _fence(texts, row), "row": row}
            text = self._environment.render_template("rubric", **context)
        except TEMPLATE_ERRORS as exc:
            raise RubricError(f"the rubric fails on this row: {explained(exc)}") from None
        if not text.strip():
            raise RubricError("the rubric is empty on this row")
        return text

    def _conversation(self, sample: Sample) -> str | None:
        """Return the messages of the row's question as text; None if its question is not a list of messages.

        Raises:
            RubricError: the messages cannot be read.
        """
        from batchrun.prompts.conversations import ConversationError, is_conversation, messages_in, text_of_messages

        column = self._question_column
        if column is None or not is_conversation(sample.row[column], column):
            return None
        try:
            return text_of_messages(messages_in(sample.row[column]))
        except ConversationError as exc:
            raise RubricError(f"the messages in {column!r} cannot be read: {exc}") from None


def _context_text(value: Value) -> str:
    """Return a context as one text; the members of a list, such as passages, are separate paragraphs."""
    if isinstance(value, list):
        return "\n\n".join(map(as_text, value))
    return "" if is_missing(value) else as_text(value)


def _fence(texts: Mapping[str, str], row: JsonObject) -> str:
    """Return a word that occurs in no cell.

    It is computed from the texts alone, so that equal texts give equal requests, whenever and however often a row was
    answered.
    """
    everything = json.dumps([texts, row], ensure_ascii=False, default=str)
    word = json.dumps(texts, ensure_ascii=False, sort_keys=True)
    while word in everything or len(word) != _FENCE_DIGITS:
        word = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=_FENCE_DIGITS // 2).hexdigest()
    return word
