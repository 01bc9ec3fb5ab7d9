"""What a column holds, told from the schema of its property."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal, TypeAlias

from batchrun.records import Value

__all__ = ["COLUMN_TYPES", "Kind", "Unfit", "cell", "kind_of"]

Kind: TypeAlias = Literal["text", "int", "float", "bool", "json"]
"""`json`: objects, lists, and whatever may be of several types; such cells are JSON text."""

COLUMN_TYPES: Final[Mapping[Kind, type]] = {"text": str, "int": int, "float": float, "bool": bool, "json": str}

Lookup: TypeAlias = Callable[[str], Any]
"""The schema that a `$ref` names."""

_OF_TYPE: Final[Mapping[str, Kind]] = {"string": "text", "integer": "int", "number": "float", "boolean": "bool"}
_OF_VALUE: Final[Mapping[type, Kind]] = {str: "text", int: "int", float: "float", bool: "bool"}
_MOST: Final = 2**63
"""The integers of a column, in 64 bits, lie below this and not below its negative."""


class Unfit(ValueError):
    """A value is none of its column's kind; says what was expected."""


def kind_of(schema: Any, lookup: Lookup) -> Kind:
    """The kind of a property. That it may be null does not count.

    Raises:
        ValueError: the property is said to be itself.
    """
    kinds = _kinds(schema, lookup, frozenset())
    if kinds == {"int", "float"}:
        return "float"
    return next(iter(kinds)) if len(kinds) == 1 else "json"


def cell(kind: Kind, value: Any) -> Value:
    """The cell of a value; null is None.

    Raises:
        Unfit: the value is of another kind, or the column's type cannot hold it.
    """
    if value is None:
        return None
    if kind == "json":
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    if type(value) in (float, int) and kind in ("int", "float"):
        return _number(kind, value)
    if type(value) is COLUMN_TYPES[kind]:
        return value
    raise Unfit(f"expected a value for a column of type {COLUMN_TYPES[kind].__name__}")


def _number(kind: Kind, value: int | float) -> int | float:
    if kind == "float":
        try:
            return float(value)
        except OverflowError:
            raise Unfit("expected a number within a double's range") from None
    if value != int(value) or not -_MOST <= value < _MOST:
        raise Unfit("expected an integer of at most 64 bits")
    return int(value)


def _kinds(schema: Any, lookup: Lookup, seen: frozenset[str]) -> set[Kind]:
    """The kinds that a value may have, as far as the schema tells; `json` where it may have any."""
    if not isinstance(schema, dict):
        return {"json"}
    if "type" in schema:
        types = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
        kinds: set[Kind] = {_OF_TYPE.get(name, "json") for name in types if name != "null"}
        if len(kinds) < 2 or not {"const", "enum"} & schema.keys():
            return kinds
    if "const" in schema or "enum" in schema:
        return _of_values([schema["const"]] if "const" in schema else schema["enum"])
    if "$ref" in schema:
        ref = schema["$ref"]
        if ref in seen:
            raise ValueError(f"the `$ref` {ref!r} leads back to itself")
        return _kinds(lookup(ref), lookup, seen | {ref})
    for keyword in ("anyOf", "oneOf"):
        if keyword in schema:
            return set().union(*(_kinds(each, lookup, seen) for each in schema[keyword]))
    if len(schema.get("allOf", ())) == 1:
        return _kinds(schema["allOf"][0], lookup, seen)
    return {"json"}


def _of_values(values: Iterable[Any]) -> set[Kind]:
    return {_OF_VALUE.get(type(value), "json") for value in values if value is not None}
