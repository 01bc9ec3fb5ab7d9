"""Readers for the fields of replies, which a server may leave out or fill with another type.

A value that passes one of these readers has the type that the reader promises and fits its storage: text that can be
written as UTF-8, counts that SQLite can hold. If a field on which the row's answer depends has another type, the row
fails with `bad_reply`; any other such field is left out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from pydantic_core import from_json

from batchrun.errors import PermanentFault
from batchrun.records import JsonObject
from batchrun.token_usage import Usage

__all__ = [
    "Billed",
    "arguments",
    "cleaned",
    "count",
    "in_path",
    "loaded",
    "mapping",
    "members",
    "name",
    "objects",
    "required",
    "text",
    "unexpected",
    "whole_text",
]

COUNTS_END = 2**63
"""The first integer that SQLite cannot hold."""
MAX_DEPTH = 100
"""Levels of nested containers. Deeper ones are left out: writing them again would exhaust Python's stack."""


def loaded(data: bytes, *, halves: bool = False) -> Any:
    """Return the value of a JSON text, without half characters and without containers nested too deeply.

    Args:
        halves: keep escaped half characters: a server that cuts a text by UTF-16 units sends the other half in the next
            piece.

    Raises:
        ValueError: the data is not JSON.
        PermanentFault: the data is nested too deeply to be read.
    """
    try:
        return from_json(data)  # takes a third of the CPU time of json.loads
    except ValueError:
        pass
    try:
        return cleaned(json.loads(data, parse_constant=_null, parse_int=_integer), halves=halves)
    except RecursionError:
        raise PermanentFault("the server's reply is nested too deeply to be read", error_type="bad_reply") from None


def _null(_: str) -> None:
    """Read NaN and Infinity, which JSON does not have, as null."""


def _integer(digits: str) -> int | None:
    return int(digits) if len(digits) < 1_000 else None  # Python refuses to read integers of some thousands of digits


def cleaned(value: Any, *, halves: bool = False, depth: int = 0) -> Any:
    """Return a copy that can be written as JSON and as UTF-8.

    Numbers that are not finite, and containers nested too deeply, become None.

    Args:
        halves: keep half characters.
        depth: level of nesting of the value.
    """
    if isinstance(value, str):
        return value if halves else whole_text(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (dict, list)) and depth == MAX_DEPTH:
        return None
    if isinstance(value, dict):
        return {whole_text(key): cleaned(inner, halves=halves, depth=depth + 1) for key, inner in value.items()}
    if isinstance(value, list):
        return [cleaned(inner, halves=halves, depth=depth + 1) for inner in value]
    return value


def whole_text(found: str) -> str:
    """Return the text with adjacent halves of a character joined, and every other half replaced by U+FFFD."""
    if found.isascii():
        return found
    try:
        found.encode()
    except UnicodeEncodeError:
        return found.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return found


# -- fields that may be missing ---------------------------------------------------------------------------------


def name(found: object) -> str | None:
    """Return an id, a model, a status or a kind: text that is not empty. None for anything else."""
    return whole_text(found) if isinstance(found, str) and found else None


def count(found: object) -> int | None:
    """Return a number of tokens or a position: an integer that the journal can hold. None for anything else."""
    return found if type(found) is int and 0 <= found < COUNTS_END else None


def mapping(found: object) -> JsonObject:
    """Return an object; an empty one for anything else."""
    return found if isinstance(found, dict) else {}


def objects(found: object) -> list[JsonObject]:
    """Return the objects in a list; an empty list for anything else."""
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


# -- fields on which the answer depends -------------------------------------------------------------------------


def text(found: object, field: str) -> str:
    """Return a piece of the answer; "" for null.

    Args:
        field: name of the field, for the message.

    Raises:
        PermanentFault: the piece is not text. The rest of the answer must not pass for the whole.
    """
    if found is None:
        return ""
    if not isinstance(found, str):
        raise unexpected(found, field, "text")
    return found


def required(found: object, field: str) -> str:
    """Return an id, or another name that is indispensable. Raises as `text` does, also for null and empty text."""
    known = name(found)
    if known is None:
        raise unexpected(found, field, "text")
    return known


def members(found: object, field: str) -> list[JsonObject]:
    """Return the members of a list in which every member counts, without nulls; an empty list for null.

    Raises as `text` does.
    """
    if found is None:
        return []
    if not isinstance(found, list):
        raise unexpected(found, field, "a list")
    present = [each for each in found if each is not None]
    for each in present:
        if not isinstance(each, dict):
            raise unexpected(each, f"a member of {field}", "an object")
    return present


def arguments(found: object) -> str:
    """Return the arguments of a call as JSON text; some servers send the object itself. Raises as `text` does."""
    if isinstance(found, dict):
        return json.dumps(cleaned(found))
    return text(found, "the arguments of a call")


_KINDS: Mapping[type, str] = {
    type(None): "null",
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "an object",
}


def unexpected(found: object, field: str, expected: str) -> PermanentFault:
    """Return the fault of a reply in which a field that the answer depends on has another type or value."""
    kind = "empty text" if found == "" else _KINDS.get(type(found), "something else")
    return PermanentFault(
        f"the server's reply cannot be understood: expected {field} to be {expected}, got {kind}",
        error_type="bad_reply",
    )


class Billed:
    """Puts the usage of an ended run on a `bad_reply` raised inside: the run is paid for, even if it cannot be read."""

    __slots__ = ("_usage",)

    def __init__(self, usage: Usage | Callable[[], Usage]) -> None:
        """
        Args:
            usage: of the run, or a function that returns it, called only for such a fault.
        """
        self._usage = usage

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, PermanentFault) and error.error_type == "bad_reply":
            error.usage = self._usage if isinstance(self._usage, Usage) else self._usage()
            error.run_ended = True


def in_path(object_id: str | None) -> str:
    """Return an id as one segment of a URL's path."""
    return quote(str(object_id), safe="")
