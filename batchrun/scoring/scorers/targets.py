"""Expected answers: a cell, any of a list, or a part of an object that a path such as `answers.text` names."""

from __future__ import annotations

import ast
import json
from collections.abc import Sequence
from typing import Final

from batchrun.records import Value
from batchrun.scoring.scorers.base import Score, as_text, is_missing

__all__ = ["NO_TARGET", "at_path", "has_target", "members_of", "number_texts_of", "targets_of", "texts_of", "unusable"]

NO_TARGET: Final = Score(None, "no target")
_MAX_LIST_CHARS: Final = 100_000


def has_target(value: Value) -> bool:
    """Return whether a cell holds an expected answer: it is not empty, and not a list of nothing but empty cells."""
    return any(not is_missing(each) for each in value) if isinstance(value, list) else not is_missing(value)


def at_path(value: Value, path: Sequence[str]) -> Value:
    """Return the part of a cell at a path of field names and list positions; None if it does not exist.

    In a list, a field's name selects that field of each member. A text is read as JSON.

    >>> at_path({"text": ["Paris", "paris city"], "start": [1, 2]}, ["text"])
    ['Paris', 'paris city']
    >>> at_path([{"text": "Paris"}, {"text": "Lyon"}], ["text"])
    ['Paris', 'Lyon']
    >>> at_path('{"a": [5, 6]}', ["a", "1"])
    6
    """
    for name in path:
        if isinstance(value, str):
            value = _from_json(value)
        if isinstance(value, dict):
            value = value.get(name)
        elif isinstance(value, list) and name.isdecimal():
            value = value[int(name)] if int(name) < len(value) else None
        elif isinstance(value, list):
            value = [each.get(name) for each in value if isinstance(each, dict)]
        else:
            return None
    return value


def members_of(value: Value) -> list[Value]:
    """Return the expected answers of a cell: the members of a list that are not empty, else the cell alone.

    A text that is a list of quoted texts, as JSON or as Python writes it, is such a list: tables of text cannot hold
    another one.

    >>> members_of("['Paris', 'paris city']")
    ['Paris', 'paris city']
    """
    if isinstance(value, str):
        value = _listed(value)
    if isinstance(value, list):
        return [each for each in value if not is_missing(each)]
    return [value]


def targets_of(value: Value) -> list[str]:
    """Return the texts that an answer may match; `members_of` has the rule."""
    return [as_text(each) for each in members_of(value)]


def number_texts_of(value: Value) -> list[str]:
    """Return the texts with the numbers that an answer may be: a text such as `[4, 5]` is a list of numbers.

    >>> number_texts_of("[4, 5]"), number_texts_of("[4] 5")
    (['4', '5'], ['[4] 5'])
    """
    if isinstance(value, str) and value.strip()[:1] == "[" and len(value) <= _MAX_LIST_CHARS:
        listed = _from_json(value.strip())
        if isinstance(listed, list) and listed and all(type(each) in (int, float) for each in listed):
            value = listed
    return targets_of(value)


def texts_of(value: Value) -> list[str]:
    """Return the texts that an answer may be: those of `targets_of`, and a text that writes a list as it is."""
    texts = targets_of(value)
    return texts if not isinstance(value, str) or value in texts else [*texts, value]


def unusable(value: Value) -> Score | None:
    """Return why a scorer of texts or numbers cannot use a cell as expected answer; None if it can."""
    if not has_target(value):
        return NO_TARGET
    example = (
        next((each for each in value if isinstance(each, dict | list)), None) if isinstance(value, list) else value
    )
    if isinstance(example, dict):
        if not example:
            return Score(None, "the target is an empty object")
        names = ", ".join(sorted(example)[:5])
        return Score(None, f"the target is an object with the fields {names}; name one, as in --target COLUMN.FIELD")
    if isinstance(example, list):
        return Score(None, "the target is a list of lists; name one, as in --target COLUMN.0")
    return None


def _from_json(text: str) -> Value:
    if text[:1] not in ("{", "["):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _listed(text: str) -> Value:
    """Return the list that a text writes; the text itself if it writes something else."""
    if not (text.startswith(('["', "['")) and text.endswith(('"]', "']")) and len(text) <= _MAX_LIST_CHARS):
        return text
    for read in (json.loads, ast.literal_eval):
        try:
            value = read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(value, list) and all(isinstance(each, str) for each in value):
            return value
    return text
