"""JSON schemas of `response_format`: checked when they come, and held against the answer when it is finished."""

from __future__ import annotations

from typing import Any

__all__ = ["mismatch", "schema_fault"]


def _validator(schema: Any) -> Any:
    # Imported here: most servers never see a schema, and the library costs a tenth of a second at start.
    import referencing
    from jsonschema import Draft202012Validator, validators

    # `pattern` is left out: a regular expression of a client could occupy the server for hours.
    unhurried = {"pattern": None, "patternProperties": None}
    keywords = {name: check for name, check in Draft202012Validator.VALIDATORS.items() if name not in unhurried}
    kind = validators.create(Draft202012Validator.META_SCHEMA, keywords)
    # An empty registry: a `$ref` to another place is an error, never a request to it.
    registry: Any = referencing.Registry()
    return kind(schema, registry=registry)


def schema_fault(schema: Any) -> str | None:
    """What is wrong with a schema, in one line; None for a valid one."""
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
    """How `data` differs from the schema, in one line; None where it agrees. Patterns are not checked."""
    from jsonschema.exceptions import best_match
    from referencing.exceptions import Unresolvable

    try:
        error = best_match(_validator(schema).iter_errors(data))
    except Unresolvable as exc:
        return f"the schema refers to {exc.ref!r}, which is not in it"
    except RecursionError:
        return "the schema or the answer is nested too deeply"
    if error is None:
        return None
    return f"{'.'.join(str(part) for part in error.absolute_path) or 'answer'}: {error.message}"
