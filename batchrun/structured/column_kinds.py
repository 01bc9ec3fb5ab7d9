"""Derives the type of a column from the schema of its property."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal, TypeAlias

from batchrun.records import Value

__all__ = ["COLUMN_TYPES", "Kind", "Unfit", "cell", "kind_of"]

Kind: TypeAlias = Literal["text", "int", "float", "bool", "json"]
"""`json` is for objects, lists and values of several types; such cells are JSON text."""

COLUMN_TYPES: Final[Mapping[Kind, type]] = {"text": str, "int": int, "float": float, "bool": bool, "json": str}

Lookup: TypeAlias = Callable[[str], Any]
"""Returns the schema that a `$ref` names."""

_OF_TYPE: Final[Mapping[str, Kind]] = {"string": "text", "integer": "int", "number": "float", "boolean": "bool"}
_OF_VALUE: Final[Mapping[type, Kind]] = {str: "text", int: "int", float: "float", bool: "bool"}
_INT_END: Final = 2**63
"""A column's integers have 64 bits: they are below this number, and not below its negative."""


class Unfit(ValueError):
    """A value does not fit into its column; the message gives the expected kind."""


def kind_of(schema: object, lookup: Lookup) -> Kind:
    """Return the kind of a property, regardless of whether it may be null.

    Raises:
        ValueError: a `$ref` of the property leads back to itself.
    """
    kinds = _kinds(schema, lookup, frozenset())
    if kinds == {"int", "float"}:
        return "float"
    return next(iter(kinds)) if len(kinds) == 1 else "json"


def cell(kind: Kind, value: object) -> Value:
    """Return the cell of a value; None for null.

    Raises:
        Unfit: the value is of another kind, or too large for the column's type.
    """
    if value is None:
        return None
    if kind == "json":
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    if (type(value) is int or type(value) is float) and kind in ("int", "float"):
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
    if value != int(value) or not -_INT_END <= value < _INT_END:
        raise Unfit("expected an integer of at most 64 bits")
    return int(value)


def _kinds(schema: object, lookup: Lookup, refs: frozenset[str]) -> set[Kind]:
    """Return the kinds that the schema allows; `json` if it does not restrict them."""
    if not isinstance(schema, dict):
        return {"json"}
    if "type" in schema:
        types = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
        kinds: set[Kind] = {_OF_TYPE.get(name, "json") for name in types if name != "null"}
        if len(kinds) < 2 or not {"const", "enum"} & schema.keys():
            return kinds
    if "const" in schema or "enum" in schema:
        return _kinds_of_values([schema["const"]] if "const" in schema else schema["enum"])
    if "$ref" in schema:
        ref = schema["$ref"]
        if ref in refs:
            raise ValueError(f"the `$ref` {ref!r} leads back to itself")
        return _kinds(lookup(ref), lookup, refs | {ref})
    for keyword in ("anyOf", "oneOf"):
        if keyword in schema:
            return set().union(*(_kinds(each, lookup, refs) for each in schema[keyword]))
    if len(schema.get("allOf", ())) == 1:
        return _kinds(schema["allOf"][0], lookup, refs)
    return {"json"}


def _kinds_of_values(values: Iterable[object]) -> set[Kind]:
    return {_OF_VALUE.get(type(value), "json") for value in values if value is not None}
