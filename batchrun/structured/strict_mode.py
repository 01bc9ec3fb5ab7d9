"""The rules of strict mode, in which a service forces the model's answer to match the schema.

Source: https://developers.openai.com/api/docs/guides/structured-outputs, "Supported schemas", as of 2026. A keyword
that is not documented as supported counts as refused: a refused schema fails every row, one without strict mode few.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final
from urllib.parse import unquote

from batchrun.records import JsonDict

__all__ = ["closed", "sent", "strict_fault"]

_ENFORCED: Final = frozenset({
    "$ref", "$defs", "definitions", "type", "properties", "required", "additionalProperties", "items", "anyOf",
    "enum", "const", "pattern", "multipleOf", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
    "minItems", "maxItems",
})  # fmt: skip
"""Keywords that strict mode enforces."""
_INFORMATIVE: Final = frozenset({"title", "description", "format"})
"""Keywords that only inform the model."""
_REFUSED: Final = frozenset({
    "allOf", "not", "oneOf", "if", "then", "else", "dependentRequired", "dependentSchemas", "dependencies",
    "patternProperties", "propertyNames", "unevaluatedProperties", "unevaluatedItems", "minProperties",
    "maxProperties", "prefixItems", "additionalItems", "contains", "minContains", "maxContains", "$dynamicRef",
    "$recursiveRef",
})  # fmt: skip
"""Keywords that restrict and that strict mode does not support. All other keywords, such as `default` and `examples`,
only inform, and are not sent."""
_DESCRIBED: Final = {
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "uniqueItems": "no item twice",
}
"""Keywords that restrict without changing the shape, and that strict mode does not support. They do not prevent strict
mode: they are added to the description for the model, and the answer is checked against them here."""
_FORMATS: Final = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"},
)
_MAPS: Final = ("properties", "$defs", "definitions")
_MAX_PROPERTIES: Final = 5_000
_MAX_LEVELS: Final = 10
_MAX_CHARS: Final = 120_000
_MAX_VALUES: Final = 1_000
_MANY_VALUES: Final = 250
_MAX_CHARS_OF_MANY_VALUES: Final = 15_000


def closed(schema: Any) -> Any:
    """Return the schema with `additionalProperties: false` in every object that has `properties` and does not set it.

    An additional property has no column: the model's text for it would be paid for and not seen.
    """
    if not isinstance(schema, dict):
        return schema
    same = _each(schema, closed)
    if "properties" in same and "additionalProperties" not in same:
        same["additionalProperties"] = False
    return same


def sent(schema: Any) -> Any:
    """Return a strict schema in the form to send: the same meaning in keywords that the services support."""
    if not isinstance(schema, dict):
        return schema
    same = _each(schema, sent)
    if _is_discriminated(same):
        same["anyOf"] = same.pop("oneOf")
    limits = [words.format(same[key]) for key, words in _DESCRIBED.items() if same.get(key, False) is not False]
    if limits:
        same["description"] = f"{same.get('description', '')} ({', '.join(limits)})".lstrip()
    same = {key: value for key, value in same.items() if key in _ENFORCED | _INFORMATIVE}
    if same.get("format") not in _FORMATS:
        same.pop("format", None)
    if "$ref" in same and len(same) > 1:
        # Strict mode allows no other keyword next to a reference.
        same["anyOf"] = [{"$ref": same.pop("$ref")}]
    if not {"type", "anyOf", "$ref"} & same.keys():
        types = list(dict.fromkeys(_type_name(value) for value in _values(same)))
        same["type"] = types[0] if len(types) == 1 else types
    return same


def strict_fault(schema: JsonDict) -> str | None:
    """Return the first rule that a schema breaks, in one line; None if it is strict. Its root must not be a `$ref`."""
    if "anyOf" in schema or "oneOf" in schema:
        return "alternatives at the root"
    return next(_faults(schema, ""), None) or _excess(schema)


def _each(schema: JsonDict, change: Callable[[Any], Any]) -> JsonDict:
    """Return the schema with `change` applied to its direct subschemas, in the places that strict mode supports."""
    same = dict(schema)
    for keyword in _MAPS:
        if isinstance(same.get(keyword), dict):
            same[keyword] = {name: change(each) for name, each in same[keyword].items()}
    for keyword in ("anyOf", "oneOf"):
        if keyword in same:
            same[keyword] = [change(each) for each in same[keyword]]
    if "items" in same:
        same["items"] = change(same["items"])
    return same


def _subschemas(schema: JsonDict, at: str) -> Iterator[tuple[str, Any]]:
    for keyword in _MAPS:
        for name, each in schema.get(keyword, {}).items():
            yield f"{at}.{name}" if at else name, each
    for keyword in ("anyOf", "oneOf"):
        for each in schema.get(keyword, ()):
            yield at, each
    if "items" in schema:
        yield f"{at}[]", schema["items"]


def _faults(schema: object, at: str) -> Iterator[str]:
    here = f"at `{at}`: " if at else ""
    if not isinstance(schema, dict):
        yield f"{here}{str(schema).lower()} is not a schema with a type"
        return
    refused = _REFUSED & schema.keys()
    for keyword in sorted(refused - {"oneOf"} if _is_discriminated(schema) else refused):
        yield f"{here}`{keyword}` is not supported"
    beside = sorted(schema.keys() & _ENFORCED - {"$defs", "definitions"})
    if "$ref" in schema:
        if beside != ["$ref"]:
            yield f"{here}`{next(name for name in beside if name != '$ref')}` is next to a `$ref`"
        if not _is_known_reference(schema["$ref"]):
            yield f"{here}the `$ref` {schema['$ref']!r} is neither # nor #/$defs/NAME"
    elif "anyOf" in schema or "oneOf" in schema:
        if beside not in (["anyOf"], []):
            yield f"{here}`{next(name for name in beside if name != 'anyOf')}` is next to alternatives"
    elif not {"type", "enum", "const"} & schema.keys():
        yield f"{here}no `type`"
    else:
        yield from _faults_of_type(schema, here)
    for where, each in _subschemas(schema, at):
        yield from _faults(each, where)


def _faults_of_type(schema: JsonDict, here: str) -> Iterator[str]:
    types = [schema["type"]] if isinstance(schema.get("type"), str) else schema.get("type", [])
    if "object" in types or "properties" in schema:
        properties = schema.get("properties")
        if "object" not in types or properties is None:
            yield f"{here}an object without `type: object` or `properties`"
            return
        optional = [name for name in properties if name not in schema.get("required", ())]
        if optional:
            yield f"{here}`{optional[0]}` is not `required`"
        if schema.get("additionalProperties") is not False:
            yield f"{here}`additionalProperties` is not false"
    if "array" in types and not isinstance(schema.get("items"), dict):
        yield f"{here}a list without `items`"


def _is_discriminated(schema: JsonDict) -> bool:
    """Return whether the alternatives exclude each other by a property's value: `oneOf` then equals `anyOf`."""
    return "oneOf" in schema and "discriminator" in schema


def _is_known_reference(ref: object) -> bool:
    if ref == "#":
        return True
    parts = str(ref).split("/")
    return len(parts) == 3 and parts[0] == "#" and parts[1] in ("$defs", "definitions")


def _values(schema: JsonDict) -> list[Any]:
    return [schema["const"]] if "const" in schema else list(schema.get("enum", ()))


def _type_name(value: object) -> str:
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return names.get(type(value), "null")


def _excess(root: JsonDict) -> str | None:
    """Return the size limit that the schema exceeds; None if it exceeds none."""
    properties = chars = values = 0
    waiting: list[Any] = [root]
    while waiting:
        schema = waiting.pop()
        found = _values(schema)
        size = sum(len(value) for value in found if isinstance(value, str))
        if len(found) > _MANY_VALUES and size > _MAX_CHARS_OF_MANY_VALUES:
            return f"more than {_MANY_VALUES} values with more than {_MAX_CHARS_OF_MANY_VALUES:,} characters in all"
        values += len(found)
        chars += size + sum(len(name) for keyword in _MAPS for name in schema.get(keyword, ()))
        properties += len(schema.get("properties", ()))
        waiting += (each for _, each in _subschemas(schema, ""))
    for count, most, what in (
        (properties, _MAX_PROPERTIES, "properties"),
        (values, _MAX_VALUES, "values in lists of values"),
        (chars, _MAX_CHARS, "characters in names and values"),
    ):
        if count > most:
            return f"{count:,} {what}, more than {most:,}"
    levels = _levels(root, root, {})
    return f"{levels} levels of objects, more than {_MAX_LEVELS}" if levels > _MAX_LEVELS else None


def _levels(schema: Any, root: JsonDict, known: dict[str, int]) -> int:
    """Return the levels of nested objects. References are followed, circular ones once."""
    ref = schema.get("$ref")
    if ref is not None:
        if ref not in known:
            known[ref] = 0
            known[ref] = 0 if ref == "#" else _levels(_target(root, ref), root, known)
        return known[ref]
    below = [each for name, each in schema.get("properties", {}).items()]
    below += [*schema.get("anyOf", ()), *schema.get("oneOf", ()), *([schema["items"]] if "items" in schema else ())]
    return int("properties" in schema) + max((_levels(each, root, known) for each in below), default=0)


def _target(root: JsonDict, ref: str) -> Any:
    _, keyword, name = ref.split("/")
    return root[keyword][unquote(name).replace("~1", "/").replace("~0", "~")]
