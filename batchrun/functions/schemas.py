"""Declares a function as a tool: its description for the model, and the schema that its arguments must match."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final, TypedDict

from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema

from batchrun.errors import InputError
from batchrun.functions.docstrings import split_docstring
from batchrun.functions.loading import Function, one_line
from batchrun.records import JsonDict, JsonObject
from batchrun.structured.strict_mode import closed, sent, strict_fault

__all__ = ["Declared", "ToolDeclaration", "declare"]

_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
"""Names of tools that the services accept."""

_TYPES: Final = "str, int, float, bool, list, dict, Literal, an Enum, a date, a dataclass or a pydantic model"


class ToolDeclaration(TypedDict):
    """A tool as the services' requests have it.

    Attributes:
        parameters: JSON Schema of the arguments.
        strict: whether the schema fits the services' strict mode.
    """

    name: str
    description: str
    parameters: JsonObject
    strict: bool


@dataclass(frozen=True, slots=True)
class Declared:
    """A function of the user's, declared as a tool.

    Attributes:
        declaration: for the service.
        model: checks the arguments; its fields have the parameters' names as aliases.
        parameters: of the function, in order.
    """

    function: Function
    declaration: ToolDeclaration
    model: type[BaseModel]
    parameters: tuple[inspect.Parameter, ...]

    def read(self, arguments: str) -> tuple[Sequence[Any], JsonObject]:
        """Return the positional and the named arguments for the function, of the types of its hints.

        Arguments that the model omits get the function's own defaults.

        Raises:
            pydantic.ValidationError: the text is not valid JSON, or does not match the parameters.
        """
        checked = self.model.model_validate_json(arguments if arguments.strip() else "{}")
        positional, named = [], {}
        for number, parameter in enumerate(self.parameters):
            field = _field(number)
            is_default = field not in checked.model_fields_set and parameter.default is not parameter.empty
            value = parameter.default if is_default else getattr(checked, field)
            if parameter.kind is parameter.POSITIONAL_ONLY:
                positional.append(value)
            else:
                named[parameter.name] = value
        return positional, named


def declare(name: str, function: Function) -> Declared:
    """Declare the function as the tool of that name.

    Raises:
        InputError: the name is not allowed, the docstring is missing, the function is a generator, or a parameter
            cannot be declared.
    """
    where = f"{_place(function)}: {name}"
    if _NAME.fullmatch(name) is None:
        raise InputError(f"{where}: is not a valid tool name; use at most 64 characters of a-z, A-Z, 0-9 and _")
    docstring = inspect.getdoc(function) or ""
    if not docstring.strip():
        raise InputError(
            f"{where}: has no docstring, from which the model learns when to call it; "
            "write one, or start the name with _ if the function is not a tool"
        )
    if any(
        kind(each)
        for each in (function, inspect.unwrap(function))
        for kind in (inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    ):
        raise InputError(f"{where}: is a generator; a tool must return its value, such as a list")
    try:
        parameters = tuple(inspect.signature(function).parameters.values())
    except Exception as exc:  # a decorator may set __signature__
        raise InputError(f"{where}: its parameters cannot be read ({one_line(exc)})") from exc
    for parameter in parameters:
        _check_parameter(where, parameter)
    description, texts = split_docstring(docstring, [parameter.name for parameter in parameters])
    try:
        model = _model(function, parameters, texts)
        schema = model.model_json_schema()
    except Exception as exc:  # from pydantic, or from the code of the types
        raise InputError(_parameter_fault(where, function, parameters, exc)) from exc
    strict = _strict(schema)
    declaration: ToolDeclaration = {
        "name": name,
        "description": description,
        "parameters": schema if strict is None else strict,
        "strict": strict is not None,
    }
    return Declared(function, declaration, model, parameters)


def _place(function: Function) -> str:
    """Return the file and physical line of the function itself, inside all its decorators."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return f"{code.co_filename}, line {code.co_firstlineno}" if code else f"module {function.__module__}"


def _strict(schema: JsonDict) -> JsonDict | None:
    """Return the schema as strict mode has it, with every property required; None if that changes its meaning."""
    whole = closed(deepcopy(schema))
    return sent(whole) if _all_required(whole) and strict_fault(whole) is None else None


def _all_required(schema: JsonDict) -> bool:
    """Require every property, in place. Return False if a property may be omitted and null does not mean the same."""
    properties = schema.get("properties", {})
    for name in properties.keys() - set(schema.get("required", ())):
        nullable = {"type": "null"} in properties[name].get("anyOf", ())
        if not nullable or properties[name].get("default", ...) is not None:
            return False
    if "properties" in schema:
        schema["required"] = list(properties)
    inner = [*properties.values(), *schema.get("$defs", {}).values(), *schema.get("anyOf", ()), schema.get("items")]
    return all(_all_required(each) for each in inner if isinstance(each, dict))


class _Schema(GenerateJsonSchema):
    """Omits the titles that pydantic derives from names: every request would have to pay for them."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002
        return False


class _Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid")

    @classmethod
    def model_json_schema(cls, *_: Any, **__: Any) -> JsonDict:
        schema = super().model_json_schema(schema_generator=_Schema)
        return {key: value for key, value in schema.items() if key != "title"}


def _field(number: int) -> str:
    # A parameter may be named `json` or `_x`, but a field of a model may not.
    return f"p{number}"


def _model(function: Function, parameters: Iterable[inspect.Parameter], texts: Mapping[str, str]) -> type[BaseModel]:
    """Return a model with the parameters as fields. A description in a hint (`Field`) replaces the one in `texts`."""

    def create(described: Mapping[str, str]) -> type[BaseModel]:
        fields: JsonDict = {
            _field(number): (parameter.annotation, _specified(parameter, described.get(parameter.name)))
            for number, parameter in enumerate(parameters)
        }
        model = create_model("Arguments", __base__=_Arguments, __module__=function.__module__, **fields)
        model.model_rebuild(_types_namespace=getattr(inspect.unwrap(function), "__globals__", None))
        return model

    if not texts:
        return create({})
    own = {field.alias for field in create({}).model_fields.values() if field.description}
    return create({name: text for name, text in texts.items() if name not in own})


def _specified(parameter: inspect.Parameter, description: str | None) -> Any:
    given: JsonDict = {"alias": parameter.name}
    if parameter.default is not parameter.empty:
        given["default"] = parameter.default
    if description is not None:
        given["description"] = description
    return Field(**given)


def _check_parameter(where: str, parameter: inspect.Parameter) -> None:
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        raise InputError(f"{where}: takes {parameter}; a tool must name every parameter")
    if parameter.annotation is parameter.empty:
        raise InputError(
            f"{where}: the parameter {parameter.name!r} has no type hint; add one, such as {parameter.name}: str"
        )
    if isinstance(parameter.default, FieldInfo):
        raise InputError(
            f"{where}: the parameter {parameter.name!r} has Field(...) as its default; "
            "write it as a hint: Annotated[type, Field(...)]"
        )


def _parameter_fault(where: str, function: Function, parameters: Iterable[inspect.Parameter], exc: Exception) -> str:
    """Return the message for parameters that cannot be declared, with the name of the first such parameter."""
    for parameter in parameters:
        try:
            _model(function, [parameter], {}).model_json_schema()
        except NameError as unknown:
            return f"{where}: the type of the parameter {parameter.name!r} is unknown ({one_line(unknown)})"
        except Exception:  # noqa: BLE001 - the same error as before
            written = str(parameter).replace(f"{function.__module__}.", "")
            return f"{where}: the type of the parameter {written!r} cannot be written as JSON; use {_TYPES}"
    return f"{where}: its parameters cannot be declared ({one_line(exc)})"
