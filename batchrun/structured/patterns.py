"""Limits the time of the JSON-schema keywords that match regular expressions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from batchrun.bounded_regex import found
from batchrun.records import JsonObject

__all__ = ["bounded"]


def bounded(kind: Any) -> Any:
    """Return a validator class of jsonschema whose patterns raise `TooSlow` instead of running for hours."""
    from jsonschema import validators

    further = kind.VALIDATORS["additionalProperties"]

    def additional(validator: Any, wanted: Any, instance: Any, schema: JsonObject) -> Iterator[Any]:
        patterns = schema.get("patternProperties")
        if isinstance(instance, dict) and patterns:
            # Properties that match a pattern are not additional. They are removed here, because the library would match
            # the patterns itself, without a time limit.
            instance = {key: each for key, each in instance.items() if not any(found(one, key) for one in patterns)}
            schema = {key: each for key, each in schema.items() if key != "patternProperties"}
        yield from further(validator, wanted, instance, schema) or ()

    keywords = {"pattern": _pattern, "patternProperties": _properties, "additionalProperties": additional}
    extend: Any = validators.extend
    return extend(kind, keywords)


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[Any]:  # noqa: ARG001 - the library's
    from jsonschema import ValidationError

    if isinstance(instance, str) and not found(pattern, instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _properties(validator: Any, patterns: JsonObject, instance: Any, schema: Any) -> Iterator[Any]:  # noqa: ARG001
    if isinstance(instance, dict):
        for pattern, inner in patterns.items():
            for key, each in instance.items():
                if found(pattern, key):
                    yield from validator.descend(each, inner, path=key, schema_path=pattern)
