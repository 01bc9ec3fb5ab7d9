"""Finds the one JSON object in an answer's text. A text that can be read in two ways is rejected."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from typing import Any, Final, NoReturn

from batchrun.records import JsonDict
from batchrun.structured.mismatch import SchemaMismatch, shown

__all__ = ["find_object", "plain_loads"]

_FENCE: Final = re.compile(r"```[^\n`]*\n(?P<inside>.*?)```", re.DOTALL)
_OBJECT: Final = re.compile(r'\{\s*"')
"""The beginning of an object with a key; braces in prose do not match."""
_LIST: Final = re.compile(r"\[\s*[\[{]")


def find_object(text: str) -> tuple[str, JsonDict]:
    """Return (JSON, value) of the object that an answer is or contains.

    The whole text may be JSON; or one block between ``` fences may be an object; or the text may contain one object
    with prose around it. A truncated object is not searched for smaller ones inside.

    Raises:
        SchemaMismatch: the text has no object or several, or something that JSON does not allow: a duplicate key, NaN
            or Infinity, a number beyond a double's range, or half of a character.
    """
    try:
        found, value = _find(text)
        _check_characters(found, value)
    except RecursionError:
        raise SchemaMismatch("the answer is nested too deeply") from None
    return found, value


def plain_loads(text: str) -> Any:
    """Return the value of a JSON text (RFC 8259) without duplicate keys.

    Raises:
        json.JSONDecodeError: the text is not valid JSON.
        SchemaMismatch: the text has something that JSON does not allow; see `find_object`.
        RecursionError: the text is nested too deeply.
    """
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError:
        raise
    except ValueError:
        raise _too_many_digits() from None


def _find(text: str) -> tuple[str, JsonDict]:
    whole = text.strip("\ufeff \t\r\n")
    if not whole:
        raise SchemaMismatch("the answer is empty; expected one JSON object")
    try:
        value = plain_loads(whole)
    except json.JSONDecodeError as exc:
        fault = exc
    else:
        if not isinstance(value, dict):
            raise SchemaMismatch(f"expected one JSON object, got {shown(value)}")
        return whole, value
    if _LIST.match(whole):
        raise _broken(fault)
    found = [] if whole.startswith("{") else _fenced_objects(whole)
    if len(found) != 1:
        found = found or _objects_in_prose(whole)
    if len(found) > 1:
        raise SchemaMismatch(f"expected one JSON object, got {len(found)} of them")
    if found:
        return found[0]
    if whole.startswith("{"):
        raise _broken(fault)
    raise SchemaMismatch(f"expected one JSON object, got the text {shown(whole)}")


def _fenced_objects(text: str) -> list[tuple[str, JsonDict]]:
    found = []
    for match in _FENCE.finditer(text):
        inside = match["inside"].strip()
        if inside.startswith("{"):
            try:
                found.append((inside, plain_loads(inside)))
            except json.JSONDecodeError:
                continue
    return found


def _objects_in_prose(text: str) -> list[tuple[str, JsonDict]]:
    found = []
    match = _OBJECT.search(text)
    while match:
        try:
            value, end = _DECODER.raw_decode(text, match.start())
        except json.JSONDecodeError as exc:
            raise _broken(exc) from None
        except ValueError:
            raise _too_many_digits() from None
        found.append((text[match.start() : end], value))
        match = _OBJECT.search(text, end)
    return found


def _broken(exc: json.JSONDecodeError) -> SchemaMismatch:
    # Some messages of the json module end in "at", before the position.
    reason = exc.msg.removesuffix(" at")
    return SchemaMismatch(f"the answer is not valid JSON: line {exc.lineno}, column {exc.colno}: {reason}")


def _check_characters(found: str, value: object) -> None:
    """Reject half characters, literal or escaped: no file can hold them."""
    try:
        found.encode()
        if "\\u" in found:
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise SchemaMismatch("the answer holds half of a character (a lone surrogate)") from None


def _each_key_once(pairs: list[tuple[str, Any]]) -> JsonDict:
    value = dict(pairs)
    if len(value) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = counts.most_common(1)[0][0]
        raise SchemaMismatch(f"the key {shown(twice)} appears twice in one object")
    return value


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise SchemaMismatch(f"the number {shown(digits)} is too large")
    return number


def _no_number(name: str) -> NoReturn:
    raise SchemaMismatch(f"{name} is not a JSON number")


def _too_many_digits() -> SchemaMismatch:
    # Beyond sys.get_int_max_str_digits, Python refuses to read an integer, because that takes long.
    return SchemaMismatch("a number has thousands of digits")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_each_key_once, parse_float=_finite, parse_constant=_no_number)
