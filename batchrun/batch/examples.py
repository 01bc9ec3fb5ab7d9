"""The examples that are sent before each question, read from a table of questions and answers."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from batchrun.errors import InputError
from batchrun.prompts.placeholders import DEFAULT_COLUMNS
from batchrun.prompts.template_engine import names_in, template_value
from batchrun.records import JsonDict
from batchrun.shell_hint import option
from batchrun.tables import ReadOptions, Source, notes_of, open_source
from batchrun.tables.values import ErrorCell, json_text

__all__ = ["ANSWER_COLUMNS", "ExamplePairs", "read_examples"]

ANSWER_COLUMNS = ("target", "answer", "response", "completion")
"""Columns with the answer of an example. The first one that exists is used; otherwise the only other column."""

ExamplePairs: TypeAlias = list[tuple[str | JsonDict, str]]
"""The question of each example, as a text or as the cells that the prompt uses, and its answer."""


def read_examples(path: Path, prompts: Sequence[str], notices: list[str]) -> ExamplePairs:
    """Return the examples of a file. They are a setting of the batch, so JSON must hold them.

    Args:
        prompts: the prompts of the job, of which each makes the question from the cells of an example; none if rows
            have the default prompt or conversations. The question is then in `prompt` or `question`.
        notices: gets the lines for people about how the file was read, such as the choice of a sheet.

    Raises:
        InputError: the file is not a table of examples; one line with its name.
    """
    try:
        source = open_source(path, ReadOptions())
    except InputError as exc:
        raise InputError(f"--examples: {exc}") from None
    notices += [f"--examples: {note}" for note in notes_of(source)]
    used = _columns_used(prompts, source) if prompts else [_question_column(source)]
    answer = _answer_column(source, used)
    pairs: ExamplePairs = []
    for number, row in enumerate(source.rows(), start=1):
        cells = {column: row.values[column] for column in used}
        texts = [str(template_value(row.values[column])) for column in (*used, answer)]
        for column in (*used, answer):
            if isinstance(row.values[column], ErrorCell):
                error = f"the cell in column {column!r} has the error {row.values[column]}"
                raise InputError(f"{_called(source)}, {row.where}: {error}; mend it in the workbook")
        if not texts[-1].strip() or (not prompts and not texts[0].strip()):
            raise InputError(
                f"{_called(source)}, {row.where}: example {number} has no {'answer' if texts[0] else 'question'}"
            )
        pairs.append((json.loads(json_text(cells)) if prompts else texts[0], texts[-1]))
    if not pairs:
        raise InputError(f"{_called(source)}: the table has no rows, so there are no examples")
    return pairs


def _columns_used(prompts: Sequence[str], source: Source) -> list[str]:
    """Return the columns of the examples that the prompts use.

    If some of them are missing, they may be axes of a matrix; rendering the first example finds out.
    """
    if any(re.search(r"\brow\b", prompt) for prompt in prompts):
        return list(source.columns)
    names = {name for prompt in prompts for name in names_in(prompt)}
    if names.isdisjoint(source.columns):
        wanted = ", ".join(map(repr, sorted(names)))
        raise InputError(
            f"{_called(source)}: the prompt makes the questions of examples too, and uses {wanted}; there is no such "
            f"column (columns: {_listed(source)})"
        )
    return [column for column in source.columns if column in names]


def _question_column(source: Source) -> str:
    for column in DEFAULT_COLUMNS:
        if column in source.columns:
            return column
    others = [column for column in source.columns if column not in ANSWER_COLUMNS]
    if len(others) == 1:
        return others[0]
    raise InputError(
        f"{_called(source)}: no column is named 'prompt' or 'question' (columns: {_listed(source)}); "
        "name the column of the examples' questions so"
    )


def _answer_column(source: Source, used: Sequence[str]) -> str:
    columns = [column for column in source.columns if column not in used] or source.columns
    for column in ANSWER_COLUMNS:
        if column in columns:
            return column
    if len(columns) == 1:
        return columns[0]
    names = ", ".join(map(repr, ANSWER_COLUMNS))
    raise InputError(
        f"{_called(source)}: no column has the answers of the examples (columns: {_listed(source)}); name it one of "
        f"{names}"
    )


def _called(source: Source) -> str:
    return option("--examples", source.name)


def _listed(source: Source) -> str:
    return ", ".join(map(repr, source.columns))
