"""The one JSON object in an answer's text. Where two readings are possible there is none."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from typing import Any, Final, NoReturn

from batchrun.structured.mismatch import SchemaMismatch, shown

__all__ = ["find_object", "plain_loads"]

_FENCE: Final = re.compile(r"```[^\n`]*\n(?P<inside>.*?)```", re.DOTALL)
_OBJECT: Final = re.compile(r'\{\s*"')
"""How an object with a key begins; braces in prose do not."""
_LIST: Final = re.compile(r"\[\s*[\[{]")


def find_object(text: str) -> tuple[str, dict[str, Any]]:
    """(its JSON, its value) of the object that an answer is, or holds.

    The whole text is JSON; or one block between ``` fences is an object; or one object stands in the text, with prose
    around it. What begins as an object and breaks off is not searched for smaller ones.

    Raises:
        SchemaMismatch: no object, several of them, or something that JSON does not have: a key twice in one object,
            NaN and Infinity, numbers beyond a double's range, half of a character.
    """
    try:
        found, value = _find(text)
        _check_characters(found, value)
    except RecursionError:
        raise SchemaMismatch("the answer is nested too deeply") from None
    return found, value


def plain_loads(text: str) -> Any:
    """JSON as RFC 8259 has it, each key once in its object.

    Raises:
        json.JSONDecodeError: it is none.
        SchemaMismatch: it holds what JSON does not have, as above.
        RecursionError: it is nested too deeply.
    """
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError:
        raise
    except ValueError:
        raise _too_many_digits() from None


def _find(text: str) -> tuple[str, dict[str, Any]]:
    whole = text.strip("\ufeff \t\r\n")
    if not whole:
        raise SchemaMismatch("the answer is empty; expected one JSON object")
    try:
        value = plain_loads(whole)
    except json.JSONDecodeError as error:
        fault = error
    else:
        if not isinstance(value, dict):
            raise SchemaMismatch(f"expected one JSON object, got {shown(value)}")
        return whole, value
    if _LIST.match(whole):
        raise _broken(fault)
    found = [] if whole.startswith("{") else _fenced(whole)
    if len(found) != 1:
        found = found or _standing_in(whole)
    if len(found) > 1:
        raise SchemaMismatch(f"expected one JSON object, got {len(found)} of them")
    if found:
        return found[0]
    if whole.startswith("{"):
        raise _broken(fault)
    raise SchemaMismatch(f"expected one JSON object, got the text {shown(whole)}")


def _fenced(text: str) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for match in _FENCE.finditer(text):
        inside = match["inside"].strip()
        if inside.startswith("{"):
            try:
                found.append((inside, plain_loads(inside)))
            except json.JSONDecodeError:
                continue
    return found


def _standing_in(text: str) -> list[tuple[str, dict[str, Any]]]:
    found = []
    match = _OBJECT.search(text)
    while match:
        try:
            value, end = _DECODER.raw_decode(text, match.start())
        except json.JSONDecodeError as error:
            raise _broken(error) from None
        except ValueError:
            raise _too_many_digits() from None
        found.append((text[match.start() : end], value))
        match = _OBJECT.search(text, end)
    return found


def _broken(error: json.JSONDecodeError) -> SchemaMismatch:
    # Some of the module's messages end in "at", for the position that follows.
    reason = error.msg.removesuffix(" at")
    return SchemaMismatch(f"the answer is no valid JSON: line {error.lineno}, column {error.colno}: {reason}")


def _check_characters(found: str, value: Any) -> None:
    """Refuse halves of characters, which no file could hold, written out or as escapes."""
    try:
        found.encode()
        if "\\u" in found:
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise SchemaMismatch("the answer holds half of a character (a lone surrogate)") from None


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = counts.most_common(1)[0][0]
        raise SchemaMismatch(f"the key {shown(twice)} stands twice in one object")
    return value


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise SchemaMismatch(f"the number {shown(digits)} is too large")
    return number


def _no_number(name: str) -> NoReturn:
    raise SchemaMismatch(f"{name} is no number of JSON")


def _too_many_digits() -> SchemaMismatch:
    # Python's own limit, sys.get_int_max_str_digits: reading them would take long.
    return SchemaMismatch("a number has thousands of digits")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_each_key_once, parse_float=_finite, parse_constant=_no_number)
