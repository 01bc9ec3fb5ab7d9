"""The validation of request bodies: JSON, then a strict model. Every error is a 400 that names the parameter."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import pydantic_core
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from pydantic.types import AllowInfNan

from batchrun.server.errors import ApiError
from batchrun.server.protocol.bodies import Body

if TYPE_CHECKING:
    from pydantic import GetJsonSchemaHandler
    from pydantic_core import CoreSchema, ErrorDetails

__all__ = ["Metadata", "MetadataUpdate", "OpenModel", "RequestModel", "parse_json", "refusal", "validate"]


class RequestModel(BaseModel):
    """Base of all request bodies. Unknown keys are errors, values are not converted, and null means "not given"."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _null_is_not_given(cls, data: Any) -> Any:
        if isinstance(data, dict) and None in data.values():
            optional = _optional(cls)
            return {key: value for key, value in data.items() if value is not None or key not in optional}
        return data

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> Body:
        """Return the schema, in which every optional key may be null."""
        schema = handler(core_schema)
        body = handler.resolve_ref_schema(schema)
        for name, value in body.get("properties", {}).items():
            if name not in body.get("required", ()) and {"type": "null"} not in value.get("anyOf", ()):
                facts = {key: value[key] for key in ("title", "default", "description") if key in value}
                inner = {key: each for key, each in value.items() if key not in facts}
                body["properties"][name] = {**facts, "anyOf": [inner, {"type": "null"}]} if inner else value
        return schema


@functools.cache
def _optional(model: type[BaseModel]) -> frozenset[str]:
    """Return the keys that a body may leave out."""
    return frozenset(field.alias or name for name, field in model.model_fields.items() if not field.is_required())


class OpenModel(RequestModel):
    """Base of bodies that may have any further key: a service has parameters that this server does not know.

    They change nothing here. A rehearsal must not stop at a parameter that the real service takes.
    """

    model_config = ConfigDict(extra="allow", strict=True, frozen=True, defer_build=True)


MetadataKey = Annotated[str, StringConstraints(max_length=64)]
MetadataValue = Annotated[str, StringConstraints(max_length=512)]
Metadata = Annotated[dict[MetadataKey, MetadataValue], Field(max_length=16)]
"""Up to 16 pairs, with keys of up to 64 and values of up to 512 characters."""

MetadataUpdate = Annotated[dict[MetadataKey, MetadataValue | None], Field(max_length=16)]
"""Pairs to set; null or an empty value removes a key."""

Temperature = Annotated[float, Field(ge=0, le=2), AllowInfNan(False)]
Probability = Annotated[float, Field(ge=0, le=1), AllowInfNan(False)]

ModelT = TypeVar("ModelT", bound=BaseModel)


def parse_json(raw: bytes) -> Body:
    """Return the body as a dict; an empty body is {}.

    Raises:
        ApiError: 400: it is not exactly one JSON object (NaN, Infinity and lone surrogates are not valid JSON).
    """
    if not raw:
        return {}
    try:
        data = pydantic_core.from_json(raw, allow_inf_nan=False)
    except ValueError as exc:
        raise ApiError(
            400, f"We could not parse the JSON body of your request. ({exc}) The API expects a JSON payload."
        ) from exc
    if not isinstance(data, dict):
        raise ApiError(400, f"Invalid body: expected a JSON object, but got {_kind(data)} instead.")
    return data


def validate(model: type[ModelT], data: Any) -> ModelT:
    """Return `data` as the model.

    Raises:
        ApiError: 400 with the first error.
    """
    try:
        return model.model_validate(data)
    except ValidationError as exc:
        raise refusal(exc, data) from None


def refusal(error: ValidationError, data: Any) -> ApiError:
    """Return the first error of a validation in the form of the hosted API."""
    errors = error.errors(include_url=False)
    first, others = _meant(errors, data) if len(errors) > 1 else (errors[0], [])
    kind, value, context = first["type"], first["input"], first.get("ctx", {})
    location = first["loc"]
    if kind == "value_error" and isinstance(value, dict) and location[-1:] == (value.get("type"),):
        location = location[:-1]  # the tag of a union, for an error of the member as a whole
    param = _path(location, data)
    if others:
        return _union_refusal(param, [first, *others])
    if kind == "missing":
        return ApiError(400, f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter")
    if kind == "extra_forbidden":
        return ApiError(400, f"Unknown parameter: '{param}'.", param=param, code="unknown_parameter")
    if kind in ("string_too_long", "string_too_short", "too_long", "too_short"):
        return _length_refusal(kind, param, value, context)
    if kind in ("greater_than_equal", "less_than_equal"):
        return _bound_refusal(kind, param, value, context)
    if kind == "value_error":
        return ApiError(400, str(context["error"]), param=param or None, code="invalid_value")
    if kind in ("literal_error", "union_tag_invalid", "enum"):
        expected = context.get("expected") or context.get("expected_tags")
        shown = value.get("type") if kind == "union_tag_invalid" and isinstance(value, dict) else value
        param = f"{param}.type" if kind == "union_tag_invalid" else param
        return ApiError(
            400,
            # One tag may stand for several types of items; it is quoted in another way.
            f"Invalid value: '{shown}'. Supported values are: {expected}.".replace('"', "'"),
            param=param,
            code="invalid_value",
        )
    if kind == "union_tag_not_found":
        return ApiError(
            400,
            f"Missing required parameter: '{param}.type'.",
            param=f"{param}.type",
            code="missing_required_parameter",
        )
    expected_type = _EXPECTED_TYPES.get(kind)
    if expected_type is not None:
        return ApiError(
            400,
            f"Invalid type for '{param}': expected {expected_type}, but got {_kind(value)} instead.",
            param=param,
            code="invalid_type",
        )
    return ApiError(400, f"Invalid '{param}': {first['msg']}.", param=param, code="invalid_value")


_EXPECTED_TYPES = {
    "string_type": "a string",
    "int_type": "an integer",
    "int_from_float": "an integer",
    "int_parsing": "an integer",
    "float_type": "a decimal",
    "float_parsing": "a decimal",
    "bool_type": "a boolean",
    "bool_parsing": "a boolean",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "list_type": "an array",
}


def _meant(errors: list[ErrorDetails], data: Any) -> tuple[ErrorDetails, list[ErrorDetails]]:
    """Return the error to report, and those of the other members of its union if they say no more than it does.

    Every member of a union reports an error. The deepest one belongs to the member that was meant; of several at one
    place, one about more than the value's type.
    """
    if len({each["loc"][:1] for each in errors}) > 1:
        return errors[0], []
    paths = [_path(each["loc"], data) for each in errors]
    deepest = max(paths, key=lambda path: path.count(".") + path.count("["))
    there = [each for each, path in zip(errors, paths, strict=True) if path == deepest]
    closer = [each for each in there if each["type"] not in _EXPECTED_TYPES and each["type"] != "literal_error"]
    return (closer[0], []) if closer else (there[0], there[1:])


def _union_refusal(param: str, errors: list[ErrorDetails]) -> ApiError:
    """Return the error of a value that fits no member of a union; it names all of them."""
    value = errors[0]["input"]
    words = [each["ctx"]["expected"] for each in errors if each["type"] == "literal_error"]
    kinds = [_EXPECTED_TYPES[each["type"]] for each in errors if each["type"] != "literal_error"]
    kinds = list(dict.fromkeys(kinds))
    if words and isinstance(value, str):
        alternative = "".join(f", or {kind}" for kind in kinds)
        message = f"Invalid value: '{value}'. Supported values are: {', '.join(words)}{alternative}."
        return ApiError(400, message, param=param, code="invalid_value")
    expected = [*(f"one of {each}" for each in words), *kinds]
    listed = ", ".join(expected[:-1]) + f" or {expected[-1]}" if len(expected) > 1 else expected[0]
    message = f"Invalid type for '{param}': expected {listed}, but got {_kind(value)} instead."
    return ApiError(400, message, param=param, code="invalid_type")


def _bound_refusal(kind: str, param: str, value: Any, context: Body) -> ApiError:
    word, sign, bound = (
        ("below minimum", ">=", context["ge"])
        if kind == "greater_than_equal"
        else ("above maximum", "<=", context["le"])
    )
    number = "integer" if isinstance(value, int) else "decimal"
    return ApiError(
        400,
        f"Invalid '{param}': {number} {word} value. Expected a value {sign} {bound}, but got {value} instead.",
        param=param,
        code=f"{number}_{word.replace(' ', '_')}_value",
    )


def _length_refusal(kind: str, param: str, value: Any, context: Body) -> ApiError:
    text = kind.startswith("string")
    long = kind.endswith("long")
    noun = "string" if text else ("array" if isinstance(value, list) else "object")
    side, limit = ("maximum", context["max_length"]) if long else ("minimum", context["min_length"])
    word = "long" if long else "short"
    unit = "length" if text else ("length" if noun == "array" else "number of properties")
    return ApiError(
        400,
        f"Invalid '{param}': {noun} too {word}. Expected {'a' if noun == 'string' else 'an'} {noun} with "
        f"{side} {unit} {limit}, but got {'a' if noun == 'string' else 'an'} {noun} with {unit} "
        f"{len(value)} instead.",
        param=param,
        code=f"{noun}_{'above_max' if long else 'below_min'}_length",
    )


def _path(location: tuple[str | int, ...], data: Any) -> str:
    """Return a path such as `tools[0].function.name` for a pydantic location.

    Pydantic's locations also contain the members of unions, which are not keys of the body: the tag of a discriminated
    union, or the type of a plain one. They are recognised by comparison with the body.
    """
    path, node, tagged = "", data, False
    for number, part in enumerate(location):
        last = number == len(location) - 1
        if isinstance(part, int):
            path += f"[{part}]"
            node = node[part] if isinstance(node, list) and part < len(node) else None
        elif isinstance(node, dict) and not tagged and not last and part == node.get("type", "message"):
            tagged = True
            continue
        elif not (isinstance(node, dict) and part in node) and _is_member(part):
            tagged = not part.startswith("tagged-union")  # what follows a model is one of its keys, and not a tag
            continue
        else:
            path += f".{part}" if path else part
            node = node.get(part) if isinstance(node, dict) else None
        tagged = False
    return path


def _is_member(part: str) -> bool:
    # A quote is in the tag of several types of items.
    return part[:1].isupper() or "[" in part or "'" in part or part in _MEMBERS


_MEMBERS = frozenset({"str", "literal", "constrained-str", "bool", "int", "float", "list", "dict", "constrained-float"})


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    names = {
        bool: "a boolean", int: "an integer", float: "a decimal",
        str: "a string", list: "an array", dict: "an object",
    }  # fmt: skip
    return names.get(type(value), "another type")
