"""Describes what is wrong with an answer, in words for the model and for people."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from jsonschema import SchemaError, ValidationError
    from pydantic_core import ErrorDetails

    _Fault: TypeAlias = ValidationError | SchemaError

__all__ = ["SchemaMismatch", "described", "model_lines", "raise_if_any", "shown"]

_MAX_LINES: Final = 10
_MAX_CHARS: Final = 60
_TYPES: Final = {
    "string": "a string",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "object": "an object",
    "array": "a list",
    "null": "null",
}


class SchemaMismatch(Exception):
    """An answer does not match the schema. The message has one line for each of the first ten problems."""


def raise_if_any(errors: Iterable[_Fault]) -> None:
    """
    Raises:
        SchemaMismatch: there are errors.
    """
    # The same error may occur twice, and a list of ten thousand wrong items needs no more lines than one of ten.
    _refuse_if_any(line for error in islice(errors, 10 * _MAX_LINES) for line in _lines(error))


def described(error: _Fault) -> str:
    """Return an error of jsonschema in one line."""
    return "; ".join(_cut_list(_lines(error)))


def model_lines(errors: Sequence[ErrorDetails]) -> str:
    """Return the errors of a pydantic model, one per line."""
    return "\n".join(_cut_list(_at(error["loc"]) + error["msg"] for error in errors))


def _refuse_if_any(lines: Iterable[str]) -> None:
    found = _cut_list(lines)
    if found:
        raise SchemaMismatch("\n".join(found))


def _cut_list(lines: Iterable[str]) -> list[str]:
    found = list(dict.fromkeys(" ".join(line.split()) for line in lines))
    return found if len(found) <= _MAX_LINES else [*found[:_MAX_LINES], "and more problems"]


def shown(value: object) -> str:
    """Return a value of an answer for a message: short, on one line."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return repr(value if len(value) <= _MAX_CHARS else value[: _MAX_CHARS - 1] + "…")
    text = str(value)
    return text if len(text) <= _MAX_CHARS else text[: _MAX_CHARS - 1] + "…"


def place(path: Iterable[object]) -> str:
    """Return a path such as `items[0].price`; "" for the whole answer."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _at(path: Iterable[object]) -> str:
    where = place(path)
    return f"at `{where}`: " if where else ""


def _lines(error: _Fault) -> Iterator[str]:
    at = _at(error.absolute_path)
    if error.context and error.validator in ("anyOf", "oneOf"):
        yield from _of_branches(error, at)
    elif error.validator in _WORDS:
        yield at + _WORDS[str(error.validator)](error)
    else:
        yield at + _cut(error.message)


def _of_branches(error: _Fault, at: str) -> Iterator[str]:
    """Yield the lines of an answer that matches no branch of `anyOf` or `oneOf`.

    If all branches only name types, the line lists these; else the lines are those of the nearest branch.
    """
    branches: dict[object, list[_Fault]] = {}
    for each in error.context or ():
        branches.setdefault(each.relative_schema_path[0], []).append(each)
    wrong_types = [each for each in error.context or () if each.validator == "type" and not each.relative_path]
    if len(wrong_types) == len(error.context or ()):
        types = dict.fromkeys(name for each in wrong_types for name in _names(each.validator_value))
        yield f"{at}expected {_either(types)}, got {shown(error.instance)}"
        return
    for nearest in min(branches.values(), key=_distance):
        yield from _lines(nearest)


def _distance(branch: Sequence[_Fault]) -> tuple[bool, bool, int]:
    """Return how far an answer is from a branch: by another type, another constant, then the number of errors."""
    return (
        any(each.validator == "type" and not each.relative_path for each in branch),
        any(each.validator in ("const", "enum") for each in branch),
        len(branch),
    )


def _names(types: Any) -> list[str]:
    return [types] if isinstance(types, str) else list(types)


def _either(types: Iterable[str]) -> str:
    return " or ".join(_TYPES.get(name, name) for name in types)


def _cut(text: str) -> str:
    return text if len(text) <= 200 else text[:199] + "…"


def _instance(error: _Fault) -> Any:
    # The library types this as possibly unset, which it is only during construction.
    return error.instance


def _missing(error: _Fault) -> str:
    names = error.validator_value if isinstance(error.validator_value, list) else []
    missing = [name for name in names if name not in _instance(error)]
    verb = "is" if len(missing) == 1 else "are"
    return _cut(f"{', '.join(f'`{name}`' for name in missing)} {verb} missing" if missing else error.message)


def _additional(error: _Fault) -> str:
    schema = error.schema if isinstance(error.schema, Mapping) else {}
    if "patternProperties" in schema:
        return _cut(error.message)
    extra = sorted(set(_instance(error)) - set(schema.get("properties", {})))
    return _cut(f"{', '.join(f'`{name}`' for name in extra)}: not among the allowed names")


def _allowed(error: _Fault) -> Any:
    return error.validator_value


def _expected(what: str) -> Callable[[_Fault], str]:
    return lambda error: f"expected {what.format(error.validator_value)}, got {shown(error.instance)}"


def _expected_size(what: str) -> Callable[[_Fault], str]:
    return lambda error: f"expected {what.format(error.validator_value)}, got {len(_instance(error))}"


_WORDS: Final[Mapping[str, Callable[[_Fault], str]]] = {
    "type": lambda error: f"expected {_either(_names(error.validator_value))}, got {shown(error.instance)}",
    "required": _missing,
    "additionalProperties": _additional,
    "enum": lambda error: (
        f"expected one of {_cut(', '.join(shown(each) for each in _allowed(error)))}, got {shown(error.instance)}"
    ),
    "const": lambda error: f"expected {shown(error.validator_value)}, got {shown(error.instance)}",
    "minimum": _expected("at least {}"),
    "maximum": _expected("at most {}"),
    "exclusiveMinimum": _expected("more than {}"),
    "exclusiveMaximum": _expected("less than {}"),
    "multipleOf": _expected("a multiple of {}"),
    "pattern": _expected("text that matches the pattern {}"),
    "minLength": _expected_size("text of at least {} characters"),
    "maxLength": _expected_size("text of at most {} characters"),
    "minItems": _expected_size("a list of at least {}"),
    "maxItems": _expected_size("a list of at most {}"),
    "uniqueItems": lambda _: "expected no item twice",
}
