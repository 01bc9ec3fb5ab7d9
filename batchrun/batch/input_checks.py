"""Checks of the input table before the first request: readable rows, unique keys, a first prompt."""

from __future__ import annotations

import itertools

from batchrun.errors import InputError
from batchrun.job.options import Job
from batchrun.prompts.prompt_error import check_unicode
from batchrun.prompts.templates import Prompter, PromptError
from batchrun.tables import Source, longest_text_column, validate

__all__ = ["check_rows"]


def check_rows(source: Source, asked: Source, prompter: Prompter, job: Job, combinations: int) -> int:
    """Read the whole table once; return its number of rows.

    Args:
        source: with one row for each combination.
        asked: the rows of `source` that are run.
        combinations: rows of `source` per row of the input.

    Raises:
        InputError: a row cannot be read, has no unique key, or the first row's prompt cannot be rendered.
    """
    rows = validate(source)
    if rows > combinations and not job.constant_prompt:
        prompter.check_varies(longest_text_column(source))
    if job.key is not None:
        _check_keys(prompter, source, job.key)
    _check_first_prompt(prompter, asked, combinations)
    return rows


def _check_keys(prompter: Prompter, source: Source, column: str) -> None:
    """Refuse empty, repeated and unencodable keys: the journal identifies a row by its key."""
    known: set[str] = set()
    for row in source.rows():
        key = prompter.row_key(row)
        if not prompter.key_cell(row):
            raise InputError(f"{source.name}, {row.where}: --key {column}: the cell is empty")
        if not key.isascii():
            _check_key_text(key, f"{source.name}, {row.where}: --key {column}: the cell")
        if key in known:
            # The first row of the key is searched for only now: keeping a position per key would double the memory.
            first = next(each for each in source.rows() if prompter.row_key(each) == key)
            raise InputError(
                f"{source.name}: --key {column}: {key!r} is in {first.where} and in {row.where}; "
                "each row needs a unique key"
            )
        known.add(key)


def _check_key_text(key: str, what: str) -> None:
    """Refuse a key with half of a surrogate pair, as JSON can have one: no file can hold it."""
    try:
        check_unicode(key, what)
    except PromptError as exc:
        raise InputError(str(exc)) from None


def _check_first_prompt(prompter: Prompter, source: Source, combinations: int) -> None:
    """A template that fails on the first row most likely fails on all: refuse it before anything is sent. The same
    holds for a column whose first cell is not a list of messages.

    Other errors of a prompt (an empty cell, a missing file) concern a single row, which fails when its turn comes.
    """
    for row in itertools.islice(source.rows(), combinations):
        try:
            prompter.render(row)
        except PromptError as exc:
            if exc.error_type == "template_error":
                raise InputError(f"--{exc.option.split()[0]}: the first row cannot be rendered: {exc}") from None
            if exc.error_type == "not_messages":
                column = prompter.conversation
                raise InputError(f"{source.name}, {row.where}: column {column!r}: {exc}") from None
