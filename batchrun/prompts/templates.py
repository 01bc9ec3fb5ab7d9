"""Stage 2: rendering the prompt of a row from its template."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from batchrun.errors import InputError, together
from batchrun.job.fingerprint import digest
from batchrun.job.option_values import suggestion
from batchrun.prompts.attachments import AttachmentError, attachments_in
from batchrun.prompts.combination_templates import CombinationTemplates
from batchrun.prompts.combinations import Combination, combinations_of
from batchrun.prompts.placeholders import placeholder_hint
from batchrun.prompts.plain_template import PlainTemplate
from batchrun.prompts.prompt_error import PromptError, check_unicode
from batchrun.prompts.prompt_fingerprint import fingerprint_of, hashed
from batchrun.prompts.row_conversation import conversation_turn
from batchrun.prompts.row_settings import SettingTemplates, setting_templates
from batchrun.prompts.template_engine import template_environment, template_value
from batchrun.prompts.template_filters import TEMPLATE_ERRORS, explained
from batchrun.prompts.template_names import add_template, cells_used, listed
from batchrun.records import Attachment, JsonDict, JsonObject, Prompt, Row, RowSettings, Settings, Turn, Value
from batchrun.tables.values import ErrorCell

__all__ = ["PromptError", "Prompter", "prompter_for"]


class Prompter:
    """Renders rows with the templates of their turns, or reads their conversations.

    A template can use every column by its name, or as `{{ row['Full name'] }}` if the name is not an identifier. All
    values are plain Python values. A missing cell (None, NaN) is rendered as empty text, a list or an object as JSON.
    An undefined name is an error. Later turns and their conditions can also use `responses`, the answers so far.

    If a batch has several combinations, it renders the rows of `tables.expand`, which repeats each row for every
    combination.
    """

    def __init__(
        self,
        combinations: Sequence[Combination],
        columns: Sequence[str],
        *,
        key: str | None = None,
        thread_column: str | None = None,
        lists_as_python: bool = False,
        row_settings: bool = True,
    ) -> None:
        """
        Args:
            combinations: the settings with which every row is run.
            columns: columns of the input, with those of combinations.
            key: column that identifies rows; None for their position.
            thread_column: column with the thread that a row continues; None if rows start new threads.
            lists_as_python: render lists and objects as the first versions did, to match the answers in their journals.
            row_settings: instructions, model and parameters may be templates, as they could not be in earlier versions.

        Raises:
            InputError: the syntax of a template is wrong, or a column does not exist. Further faults are notes.
        """
        self._key = key
        self._thread_column = thread_column
        faults: list[str] = []
        attachment_columns = {name: None for each in combinations for name in each.settings.get("attach") or ()}
        for option, name in (
            ("messages", combinations[0].settings.get("messages")),
            ("key", key),
            ("thread-column", thread_column),
            *(("attach", name) for name in attachment_columns),
        ):
            if name is not None and name not in columns:
                faults.append(
                    f"--{option}: no column named {name!r} in the input (columns: {listed(columns)})"
                    f"{suggestion(name, columns)}"
                )
        self._lists_as_python = lists_as_python
        self._environment = template_environment(lists_as_python=lists_as_python)
        self._columns = columns
        self._row_settings = row_settings
        self._templates = [self._templates_of(combination, faults) for combination in combinations]
        if faults:
            raise together(faults)

    def _templates_of(self, combination: Combination, faults: list[str]) -> CombinationTemplates:
        """Add the templates of a combination to the engine and return their names and the columns that they use.

        Args:
            faults: gets a text for each template that is wrong.
        """
        settings, columns = combination.settings, self._columns
        conversation = settings.get("messages")
        turns: Sequence[Mapping[str, str]] = settings.get("turns") or ()
        if not turns and "prompt" in settings:
            turns = [{"prompt": settings["prompt"]}]
        names = []
        used: set[str] = {conversation} if conversation is not None else set()
        for number, turn in enumerate(turns, start=1):
            name = f"{combination.variant}: turn {number}"
            used |= self._add(name, turn["prompt"], number, faults)
            when = None
            if turn.get("when"):
                when = f"{name}, when"
                used |= self._add(when, f"{{% if {turn['when']} %}}yes{{% endif %}}", number, faults, option="when")
            names.append((name, when))
        own = setting_templates(self._environment, combination, columns, faults) if self._row_settings else None
        digested, columns_used = self._digested(combination, turns, used, own)
        used |= own.names if own is not None else set()
        uses_cells = bool(used & ({*columns, "row", "debug"} - set(combination.cells)))
        is_plain = conversation is None and own is None and len(turns) == 1 and self._thread_column is None
        return CombinationTemplates(
            combination=combination,
            plain=(
                PlainTemplate.of(turns[0]["prompt"], columns)
                if is_plain and combination.epoch <= 1 and not settings.get("attach")
                else None
            ),
            names=tuple(names),
            varies=uses_cells or self._thread_column is not None or bool(settings.get("attach")),
            settings_digest=digest(*digested),
            columns_used=columns_used,
            cells=cells_used({*used, self._thread_column or ""}, _texts_of(turns, own), columns),
            conversation=conversation,
            examples=() if faults else self._examples(combination, names[0][0] if names else ""),
            own=own,
        )

    def _digested(
        self,
        combination: Combination,
        turns: Sequence[Mapping[str, str]],
        used: Iterable[str],
        own: SettingTemplates | None,
    ) -> tuple[list[Any], tuple[str, ...]]:
        """Return the settings and later turns that decide answers, and the columns that later turns use.

        The prompt of the first turn, and settings that are templates, are left out: their rendered texts are in the
        fingerprint of each row. The text of later turns is not known before the first answer, so their templates and
        the cells that they use represent it.

        Args:
            used: names that the templates of the turns use.
        """
        left_out = {"prompt", "turns", "messages", *(own.settings if own is not None else ())}
        digested: list[Any] = [{name: each for name, each in combination.settings.items() if name not in left_out}]
        if len(turns) <= 1:
            return digested, ()
        digested += [turns[1:], sorted({*used} & {*self._columns})]
        # Without the columns of the combination, whose settings are in the digest: an axis or epochs may be added
        # later without changing the fingerprints of rows.
        columns = [column for column in self._columns if column not in combination.cells]
        return digested, tuple(column for column in columns if column in used or "row" in used)

    def _examples(self, combination: Combination, template: str) -> tuple[JsonObject, ...]:
        """Return the messages of the batch's examples.

        Args:
            template: name of the template for questions that are given as cells.

        Raises:
            InputError: the template fails on an example.
        """
        messages: list[JsonObject] = []
        for number, (question, answer) in enumerate(combination.settings.get("examples") or (), start=1):
            if not isinstance(question, str):
                values = {name: template_value(value) for name, value in {**combination.cells, **question}.items()}
                try:
                    question = self.text(template, values, ())
                except PromptError as exc:
                    raise InputError(f"--examples: example {number}: {exc}") from None
            messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        return tuple(messages)

    def _add(self, name: str, template: str, number: int, faults: list[str], option: str = "prompt") -> frozenset[str]:
        """Add the template of a turn to the engine and return the names that it uses.

        Args:
            number: number of the turn, counted from 1.
            faults: gets a text if the syntax is wrong, or a name is not a column.
            option: `prompt` or `when`, for messages.
        """
        where = f"--{option}" if number == 1 else f"turn {number}: {option}"
        others = ("responses",) if number > 1 else ()
        try:
            return add_template(self._environment, name, template, self._columns, where=where, others=others)
        except InputError as exc:
            faults.append(str(exc))
            return frozenset()

    def check_varies(self, example: str) -> None:
        """Check that rows do not all send the same text.

        Args:
            example: column for the example of a message.

        Raises:
            InputError: all rows of a combination would send the same. The message has a hint if a placeholder seems to
                be mistyped.
        """
        for templates in self._templates:
            if not templates.varies:
                settings, cells = templates.combination.settings, templates.combination.cells
                texts = [turn["prompt"] for turn in settings.get("turns") or [{"prompt": settings["prompt"]}]]
                input_columns = [column for column in self._columns if column not in cells]
                hint = placeholder_hint(texts, input_columns, example if example in input_columns else None)
                raise InputError(
                    f"--prompt: no template names a column (columns: {listed(input_columns)}), "
                    f"so every row would send the same text: {hint}, or give --constant-prompt if that is intended"
                )

    @property
    def conversation(self) -> str | None:
        """The column of the conversations; None for prompts."""
        return self._templates[0].conversation

    @property
    def examples(self) -> tuple[JsonObject, ...]:
        """The messages of the examples before each question, as the first combination has them."""
        return self._templates[0].examples

    def row_key(self, row: Row) -> str:
        """Return the key of a row, which is the same in all runs of the batch."""
        combinations = len(self._templates)
        key = str(row.row_index // combinations) if self._key is None else self.key_cell(row)
        return key + self._templates[row.row_index % combinations].combination.suffix

    def key_cell(self, row: Row) -> str:
        """Return the text in the key column; empty if there is no key column."""
        return str(template_value(row.values[self._key])) if self._key is not None else ""

    def render(self, row: Row) -> Prompt:
        """Return the prompt of a row: its first turn, and an object that renders the others.

        Raises:
            PromptError: the rendered text is empty, a cell that it uses has an error of Excel, or the template fails on
                this row.
        """
        templates = self._templates[row.row_index % len(self._templates)]
        text = None if templates.plain is None else templates.plain.text(row.values)
        if text is not None:
            return self._plain_prompt(row, templates, text)
        for column in templates.cells:
            if type(row.values[column]) is ErrorCell:
                text = f"the cell in column {column!r} has the error {row.values[column]}; mend it in the workbook"
                raise PromptError("error_cell", text)
        as_python = self._lists_as_python
        values = {
            name: value if type(value) is str else template_value(value, lists_as_python=as_python)
            for name, value in row.values.items()
        }
        combination = templates.combination
        attached = _attachments(row, combination.settings.get("attach") or ())
        own = self._own_settings(templates.own, values) if templates.own is not None else None
        if templates.is_conversation(row):
            cell = row.values[str(templates.conversation)]
            first, own = conversation_turn(cell, combination.settings, own, attached, templates.examples)
        else:
            first = Turn(self.text(templates.names[0][0], values, ()), 1, attached, examples=templates.examples)
        thread_id = str(values[self._thread_column]).strip() if self._thread_column is not None else ""
        if not thread_id.isascii():
            check_unicode(thread_id, "the id of the thread")
        return Prompt(
            row_key=self.row_key(row),
            row_index=row.row_index,
            first=first,
            fingerprint=fingerprint_of(
                templates.settings_digest,
                first,
                [values[column] for column in templates.columns_used],
                thread_id,
                combination.epoch,
                own,
            ),
            later=_LaterTurns(self, templates, values) if len(templates.names) > 1 else None,
            thread_id=thread_id or None,
            variant=combination.variant,
            model=combination.settings.get("model") if own is None or own.model is None else own.model,
            own=own,
        )

    def _plain_prompt(self, row: Row, templates: CombinationTemplates, text: str) -> Prompt:
        """Return the prompt of a row whose text is all that differs from other rows."""
        combination = templates.combination
        return Prompt(
            row_key=self.row_key(row),
            row_index=row.row_index,
            first=Turn(text, 1, examples=templates.examples),
            fingerprint=hashed(templates.settings_digest, (text,)),
            variant=combination.variant,
            model=combination.settings.get("model"),
        )

    def plain_fingerprint(self, row: Row) -> str | None:
        """Return the fingerprint of a row's prompt without making the prompt, where that is possible: the template is
        text with the names of columns, and their cells are texts. None otherwise.
        """
        templates = self._templates[row.row_index % len(self._templates)]
        if templates.plain is None:
            return None
        text = templates.plain.text(row.values)
        return None if text is None else hashed(templates.settings_digest, [text])

    def _own_settings(self, templates: SettingTemplates, values: Mapping[str, Value]) -> RowSettings:
        own = templates.render({"row": values, **values})
        settings = [own.model, own.instructions, own.param]
        # A parameter that is one expression has the value of the cell, which the template engine has not written.
        check_unicode(settings)
        _check_rendered(json.dumps(settings, ensure_ascii=False), values)
        return own

    @property
    def has_row_models(self) -> bool:
        """Whether the model is a template in one of the combinations."""
        return any(each.own is not None and "model" in each.own.settings for each in self._templates)

    def text(self, name: str, values: Mapping[str, Value], responses: Sequence[str]) -> str:
        """Return the rendered text of a template.

        Args:
            name: name of the template in the engine.
            values: cells of the row by column.
            responses: the answers so far.

        Raises:
            PromptError: the template fails on this row, or the text is empty.
        """
        text = self._rendered(name, values, responses)
        if not text.strip():
            raise PromptError("empty_prompt", "the rendered prompt is empty")
        _check_rendered(text, [values, responses])
        return text

    def condition_holds(self, name: str, values: Mapping[str, Value], responses: Sequence[str]) -> bool:
        """Return whether the condition of a turn is true.

        Raises:
            PromptError: the condition fails on this row.
        """
        return bool(self._rendered(name, values, responses))

    def _rendered(self, name: str, values: Mapping[str, Value], responses: Sequence[str]) -> str:
        context: JsonDict = {"row": values, **values}
        if responses:
            context["responses"] = list(responses)
        try:
            return self._environment.render_template(name, **context)
        except TEMPLATE_ERRORS as exc:
            raise PromptError("template_error", f"the template fails on this row: {explained(exc)}") from None


def _texts_of(turns: Sequence[Mapping[str, str]], own: SettingTemplates | None) -> list[str]:
    conditions = [f"{{% if {turn['when']} %}}" for turn in turns if turn.get("when")]
    return [*(turn["prompt"] for turn in turns), *conditions, *(own.texts if own is not None else ())]


def _check_rendered(text: str, values: object) -> None:
    """Refuse halves of surrogate pairs in the values of a text: the template engine replaces them with U+FFFD."""
    if "\ufffd" in text:
        check_unicode(values)


def _attachments(row: Row, columns: Sequence[str]) -> tuple[Attachment, ...]:
    try:
        return tuple(each for column in columns for each in attachments_in(row.values[column]))
    except AttachmentError as exc:
        raise PromptError(exc.error_type, str(exc)) from None


@dataclass(frozen=True, slots=True)
class _LaterTurns:
    """The turns of one row after the first."""

    prompter: Prompter
    templates: CombinationTemplates
    values: Mapping[str, Value]

    @property
    def count(self) -> int:
        return len(self.templates.names)

    @property
    def identity(self) -> str:
        turns = self.templates.combination.settings["turns"]
        cells = {name: self.values[name] for name in sorted(self.templates.cells)}
        return json.dumps([turns[1:], cells], default=str)

    def turn(self, number: int, responses: Sequence[str]) -> Turn | None:
        name, when = self.templates.names[number - 1]
        try:
            if when is not None and not self.prompter.condition_holds(when, self.values, responses):
                return None
            return Turn(self.prompter.text(name, self.values, responses), number)
        except PromptError as exc:
            raise PromptError(exc.error_type, f"turn {number}: {exc}") from None


def prompter_for(
    settings: Settings,
    columns: Sequence[str],
    key: str | None,
    *,
    lists_as_python: bool = False,
    row_settings: bool = True,
) -> Prompter:
    """Return the prompter of a batch.

    Args:
        settings: the options that decide answers (`batchrun.job.fingerprint.settings_of`), as they are in the journal.
        columns: columns of the input, with those of combinations.
        key: column that identifies rows; None for their position.
        lists_as_python, row_settings: see `Prompter`.
    """
    return Prompter(
        combinations_of(settings),
        columns,
        key=key,
        thread_column=settings.get("thread_column"),
        lists_as_python=lists_as_python,
        row_settings=row_settings,
    )
