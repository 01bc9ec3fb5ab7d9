"""JSON schemas of `response_format`: checked in the request, and compared with the finished answer."""

from __future__ import annotations

from typing import Any

__all__ = ["mismatch", "schema_fault"]


def _validator(schema: Any) -> Any:
    # Imported here, because most servers never see a schema, and the library costs 0.1 s at the start.
    import referencing
    from jsonschema import Draft202012Validator, validators

    # Patterns are left out: a client's regular expression could keep the server busy for hours.
    skipped = ("pattern", "patternProperties")
    keywords = {name: check for name, check in Draft202012Validator.VALIDATORS.items() if name not in skipped}
    kind = validators.create(Draft202012Validator.META_SCHEMA, keywords)
    # With an empty registry a `$ref` to another document is an error, and never a request to it.
    registry: Any = referencing.Registry()
    return kind(schema, registry=registry)


def schema_fault(schema: Any) -> str | None:
    """Return the error of an invalid schema in one line; None for a valid schema."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as exc:
        return f"{'.'.join(str(part) for part in exc.absolute_path) or 'schema'}: {exc.message}"
    except RecursionError:
        return "schema: nested too deeply"
    return None


def mismatch(data: Any, schema: Any) -> str | None:
    """Return how `data` differs from the schema, in one line; None if it matches. Patterns are not checked."""
    from jsonschema.exceptions import best_match
    from referencing.exceptions import Unresolvable

    try:
        error = best_match(_validator(schema).iter_errors(data))
    except Unresolvable as exc:
        return f"the schema refers to {exc.ref!r}, which it does not contain"
    except RecursionError:
        return "the schema or the answer is nested too deeply"
    if error is None:
        return None
    return f"{'.'.join(str(part) for part in error.absolute_path) or 'answer'}: {error.message}"
