"""The shape of structured answers, and the columns of its properties."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from batchrun.bounded_regex import TooSlow
from batchrun.errors import InputError
from batchrun.records import OUTPUT_COLUMNS, JsonDict, JsonObject, Value
from batchrun.structured.column_kinds import COLUMN_TYPES, Kind, Unfit, cell, kind_of
from batchrun.structured.json_in_text import find_object
from batchrun.structured.mismatch import SchemaMismatch, model_lines, raise_if_any
from batchrun.structured.patterns import bounded
from batchrun.structured.schema_file import load_model, model_name, read_schema, references, rooted, unwrapped
from batchrun.structured.strict_mode import closed, sent, strict_fault
from batchrun.users_errors import USERS_ERRORS, is_ctrl_c

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = ["Structure"]

_OWN_COLUMNS: Final = frozenset({*OUTPUT_COLUMNS, "epoch", "citations", "files", "tool_calls", "tool_errors"})
_OWN_NUMBERED: Final = re.compile(r"response_\d+")


@dataclass(frozen=True, slots=True)
class Structure:
    """The shape of answers that are objects, whose top-level properties become columns.

    Attributes:
        schema: the JSON schema against which answers are checked, as plain JSON. The order of its keys is the order of
            the columns.
        name: of the shape, for the service: the schema's title, in characters that services allow.
        not_strict: why strict mode is not possible, in one line; None if it is.
        columns: name → type, in the schema's order. Objects, lists and values of several types are JSON text. Any cell
            may be None.
    """

    schema: JsonObject
    name: str
    not_strict: str | None
    columns: Mapping[str, type]
    _properties: Mapping[str, tuple[str, Kind]] = field(repr=False, compare=False)
    """Column → (property, kind)."""
    _sent: JsonObject = field(repr=False, compare=False)
    _validator: Any = field(repr=False, compare=False)
    _model: type[BaseModel] | None = field(repr=False, compare=False)

    @property
    def strict(self) -> bool:
        """Whether the schema obeys the rules of strict mode."""
        return self.not_strict is None

    @classmethod
    def load(cls, text: str, folder: Path) -> Structure:
        """Return the structure for a value of `--schema`: `FILE.json`, `module:Model` or `file.py:Model`.

        Args:
            folder: paths are relative to it; modules are searched for there and in the working directory.

        Raises:
            InputError: the schema or model cannot be read, or cannot be used.
        """
        if model_name(text):
            return cls.of_model(load_model(text, folder), f"--schema {text}")
        path = folder / text
        return cls._of(read_schema(path, text), text, title=path.stem)

    @classmethod
    def of_schema(cls, schema: JsonObject) -> Structure:
        """Return the structure of a schema, such as the `schema` of another structure, without a model.

        As in a file, the schema may be wrapped as in a request. Without a title, its name for the service is `answer`.

        Raises:
            InputError: it is not a JSON schema of an object with properties.
        """
        return cls._of(unwrapped(schema), "the schema")

    @classmethod
    def of_model(cls, model: type[BaseModel], where: str | None = None) -> Structure:
        """Return the structure of a pydantic model. If that makes strict mode possible, every field is required.

        Args:
            where: the beginning of messages; None for the model's name.

        Raises:
            InputError: the model has no JSON schema of an object with properties.
        """
        where = where or model.__name__
        try:
            own = model.model_json_schema()
        except USERS_ERRORS as exc:
            if is_ctrl_c(exc):
                raise
            raise InputError(f"{where}: the model has no JSON schema ({_one_line(exc)})") from exc
        structure = cls._of(own, where, model=model)
        required = _all_required(model)
        if required is not None:
            strict = cls._of(required, where, model=model)
            if strict.strict:
                return strict
        return structure

    @classmethod
    def _of(
        cls, schema: JsonObject, where: str, *, title: str | None = None, model: type[BaseModel] | None = None
    ) -> Structure:
        from jsonschema import Draft202012Validator
        from jsonschema.validators import validator_for
        from referencing import Registry

        whole = rooted(schema, where)
        if title is not None:
            whole.setdefault("title", title)
        try:
            tightened: JsonDict = closed(whole)
            not_strict = strict_fault(tightened)
            if not_strict is None:
                whole = tightened
            properties = _columns(whole, where)
            asked = sent(whole) if not_strict is None else whole
        except RecursionError:
            raise InputError(f"{where}: is nested too deeply") from None
        # The registry is empty: nothing is ever fetched. Formats are not checked: services interpret them differently.
        validator = bounded(validator_for(whole, default=Draft202012Validator))(whole, registry=Registry())
        return cls(
            schema=whole,
            name=_name(whole.get("title")),
            not_strict=not_strict,
            columns={column: COLUMN_TYPES[kind] for column, (_, kind) in properties.items()},
            _properties=properties,
            _sent=asked,
            _validator=validator,
            _model=model,
        )

    def response_format(self) -> JsonDict:
        """Return the `response_format` of Chat Completions and Assistants. The caller must not change it."""
        return {
            "type": "json_schema",
            "json_schema": {"name": self.name, "strict": self.strict, "schema": self._sent},
        }

    def read(self, text: str) -> JsonDict:
        """Return column → cell of an answer. A model converts the values first.

        Raises:
            SchemaMismatch: the answer does not match; the message has one line per problem.
        """
        found, value = find_object(text)
        try:
            raise_if_any(self._validator.iter_errors(value))
            converted = value if self._model is None else _converted(self._model, found)
            return {column: _cell(kind, name, converted, value) for column, (name, kind) in self._properties.items()}
        except RecursionError:
            raise SchemaMismatch("the answer is nested too deeply") from None
        except TooSlow as exc:
            raise SchemaMismatch(str(exc)) from None
        except OverflowError:
            raise SchemaMismatch("a number is too large") from None


def _columns(schema: JsonObject, where: str) -> dict[str, tuple[str, Kind]]:
    """Return column → (property, kind)."""
    lookup = references(schema)
    columns: dict[str, tuple[str, Kind]] = {}
    for name, each in schema["properties"].items():
        column = _column_name(name)
        if column != name and column in schema["properties"]:
            raise InputError(
                f"{where}: {name} becomes the column {column}, which is also a property; rename one of them"
            )
        try:
            columns[column] = name, kind_of(each, lookup)
        except ValueError as exc:
            raise InputError(f"{where}: at `properties.{name}`: {exc}") from None
    return columns


def _all_required(model: type[BaseModel]) -> Any:
    """Return the model's schema as the SDK writes it for strict mode; None if the SDK cannot read its references."""
    from openai.lib import type_to_response_format_param

    try:
        wanted: Any = type_to_response_format_param(model)
    except (RecursionError, ValueError, TypeError, KeyError, AssertionError):
        return None
    return wanted["json_schema"]["schema"]


def _cell(kind: Kind, name: str, converted: JsonObject, value: JsonObject) -> Value:
    if converted is not value and name in converted:
        try:
            return cell(kind, converted[name])
        except ValueError:
            pass  # a serializer of the model returned another type: the cell gets the answer's own value
    try:
        return cell(kind, value.get(name))
    except Unfit as exc:
        raise SchemaMismatch(f"at `{name}`: {exc}") from None


def _converted(model: type[BaseModel], found: str) -> JsonObject:
    from pydantic import ValidationError

    try:
        return model.model_validate_json(found).model_dump(mode="json", by_alias=True, warnings=False)
    except ValidationError as exc:
        raise SchemaMismatch(
            model_lines(exc.errors(include_url=False, include_context=False, include_input=False))
        ) from None
    except RecursionError:
        raise
    except USERS_ERRORS as exc:
        if is_ctrl_c(exc):
            raise
        raise SchemaMismatch(f"the model {model.__name__} raised {_one_line(exc)}") from exc


def _one_line(exc: BaseException) -> str:
    return " ".join(f"{type(exc).__name__}: {exc}".split())[:300]


def _column_name(name: str) -> str:
    return f"response_{name}" if name in _OWN_COLUMNS or _OWN_NUMBERED.fullmatch(name) else name


def _name(title: object) -> str:
    return re.sub(r"[^a-zA-Z0-9_-]+", "_", str(title or "")).strip("_")[:64] or "answer"
