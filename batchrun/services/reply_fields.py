"""Reading replies, in which nothing is taken for granted.

What passes one of these readers has the type that it says and fits where it is kept: text that can be written as UTF-8,
counts that SQLite holds. What a row cannot do without and is of another type is a `bad_reply` of that row; all else is
left out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from pydantic_core import from_json

from batchrun.errors import PermanentFault
from batchrun.records import Usage

__all__ = [
    "arguments",
    "billed",
    "cleaned",
    "count",
    "in_path",
    "loaded",
    "mapping",
    "members",
    "name",
    "objects",
    "odd",
    "required",
    "text",
    "whole_text",
]

COUNTS_END = 2**63
"""Integers from here on are none to SQLite."""
MAX_DEPTH = 100
"""Containers in containers. What is deeper is left out: writing it again would exhaust Python's stack."""


def loaded(data: bytes, *, halves: bool = False) -> Any:
    """The value that JSON text stands for: whole characters, and nothing nested beyond all reason.

    Args:
        halves: half a character, escaped, is kept: a server that cuts a text by UTF-16 sends the other half in the next
            piece.

    Raises:
        ValueError: it is not JSON.
        PermanentFault: it is nested so deeply that it cannot be read.
    """
    try:
        return from_json(data)  # a third of the CPU of json.loads
    except ValueError:
        pass
    try:
        return cleaned(json.loads(data, parse_constant=_nothing, parse_int=_integer), halves=halves)
    except RecursionError:
        raise PermanentFault("the server's reply is nested too deeply to be read", error_type="bad_reply") from None


def _nothing(_: str) -> None:
    """For NaN and Infinity, which JSON does not have."""


def _integer(digits: str) -> int | None:
    return int(digits) if len(digits) < 1_000 else None  # Python refuses to read some thousands of digits


def cleaned(value: Any, *, halves: bool = False, depth: int = 0) -> Any:
    """A copy that can be written as JSON and as UTF-8: numbers that are not finite and what is too deep become None.

    Args:
        halves: keep half characters.
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
    """The text, in which halves of a character that meet have become it, and others U+FFFD."""
    if found.isascii():
        return found
    try:
        found.encode()
    except UnicodeEncodeError:
        return found.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return found


# -- what may be missing ----------------------------------------------------------------------------------------


def name(found: Any) -> str | None:
    """An id, a model, a status or a kind: text that is not empty; None for anything else."""
    return whole_text(found) if isinstance(found, str) and found else None


def count(found: Any) -> int | None:
    """A number of tokens or a position: an integer that the journal can hold; None for anything else."""
    return found if type(found) is int and 0 <= found < COUNTS_END else None


def mapping(found: Any) -> Mapping[str, Any]:
    """An object; an empty one for anything else."""
    return found if isinstance(found, dict) else {}


def objects(found: Any) -> list[Mapping[str, Any]]:
    """The objects in a list; none where it is not a list."""
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


# -- what a row cannot do without -------------------------------------------------------------------------------


def text(found: Any, what: str) -> str:
    """A piece of the answer; null is none.

    Args:
        what: the piece's name, for the message.

    Raises:
        PermanentFault: it is not text. The rest must not pass for the whole.
    """
    if found is None:
        return ""
    if not isinstance(found, str):
        raise odd(found, what, "text")
    return found


def required(found: Any, what: str) -> str:
    """An id, or another name, without which nothing can be done; raises as `text`."""
    known = name(found)
    if known is None:
        raise odd(found, what, "text")
    return known


def members(found: Any, what: str) -> list[Mapping[str, Any]]:
    """A list of which each member counts, but those that are null; null is an empty one. Raises as `text`."""
    if found is None:
        return []
    if not isinstance(found, list):
        raise odd(found, what, "a list")
    there = [each for each in found if each is not None]
    for each in there:
        if not isinstance(each, dict):
            raise odd(each, f"a member of {what}", "an object")
    return there


def arguments(found: Any) -> str:
    """The arguments of a call as JSON text; some servers send the object itself. Raises as `text`."""
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


def odd(found: Any, what: str, wanted: str) -> PermanentFault:
    """The fault of a reply with something else in a place where the answer depends on it."""
    kind = "empty text" if found == "" else _KINDS.get(type(found), "something else")
    return PermanentFault(
        f"the server's reply cannot be understood: {what} has to be {wanted}, and is {kind}", error_type="bad_reply"
    )


@contextmanager
def billed(usage: Usage) -> Iterator[None]:
    """Around the reading of a run that ended: what it took counts, also where its reply cannot be understood."""
    try:
        yield
    except PermanentFault as fault:
        if fault.error_type == "bad_reply":
            fault.usage, fault.run_ended = usage, True
        raise


def in_path(object_id: str | None) -> str:
    """An id as one segment of a URL's path."""
    return quote(str(object_id), safe="")
