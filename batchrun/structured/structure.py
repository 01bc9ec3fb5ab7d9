"""The shape of the answers, and its columns."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from batchrun.bounded_regex import TooSlow
from batchrun.errors import InputError
from batchrun.interrupts import USERS_ERRORS, is_ctrl_c
from batchrun.records import OUTPUT_COLUMNS
from batchrun.structured.column_kinds import COLUMN_TYPES, Kind, Unfit, cell, kind_of
from batchrun.structured.json_in_text import find_object
from batchrun.structured.mismatch import SchemaMismatch, checked, model_lines
from batchrun.structured.patterns import bounded
from batchrun.structured.schema_file import load_model, model_name, read_schema, references, rooted
from batchrun.structured.strict_mode import closed, sent, strict_fault

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = ["Structure"]

_OWN_COLUMNS: Final = frozenset({*OUTPUT_COLUMNS, "epoch", "citations", "files", "tool_calls", "tool_errors"})
_OWN_NUMBERED: Final = re.compile(r"response_\d+")


@dataclass(frozen=True, slots=True)
class Structure:
    """Answers as objects of one shape, whose top-level properties are columns.

    Attributes:
        schema: the JSON schema that the answers are held against; plain JSON, the order of its keys is that of the
            columns.
        name: of the shape, for the service: the schema's title, in the letters that services allow.
        not_strict: why strict mode cannot be asked for, in one line; None where it can.
        columns: name → type, in the schema's order. Objects, lists and values of several types are text (JSON).
            Any cell may be None.
    """

    schema: Mapping[str, Any]
    name: str
    not_strict: str | None
    columns: Mapping[str, type]
    _properties: Mapping[str, tuple[str, Kind]] = field(repr=False, compare=False)
    """Column → its property, and what it holds."""
    _sent: Mapping[str, Any] = field(repr=False, compare=False)
    _validator: Any = field(repr=False, compare=False)
    _model: type[BaseModel] | None = field(repr=False, compare=False)

    @property
    def strict(self) -> bool:
        """Whether the schema fits the services' strict mode."""
        return self.not_strict is None

    @classmethod
    def load(cls, text: str, folder: Path) -> Structure:
        """What `--schema` names: `FILE.json`, `module:Model` or `file.py:Model`.

        Args:
            folder: what paths are relative to; modules are looked for there and in the working directory.

        Raises:
            InputError: one line: what is wrong, where, and what to do.
        """
        if model_name(text):
            return cls.of_model(load_model(text, folder), f"--schema {text}")
        path = folder / text
        return cls._of(read_schema(path, text), text, title=path.stem)

    @classmethod
    def of_schema(cls, schema: Mapping[str, Any]) -> Structure:
        """The structure of a schema, such as `schema` of another one; no model then.

        Raises:
            InputError: it is no JSON schema of an object with properties.
        """
        return cls._of(schema, "the schema")

    @classmethod
    def of_model(cls, model: type[BaseModel], where: str | None = None) -> Structure:
        """The structure of a pydantic model. Every field is asked for, if strict mode can be; else as the model says.

        Args:
            where: the beginning of messages; None: the model's name.

        Raises:
            InputError: the model has no JSON schema, or none of an object with properties.
        """
        where = where or model.__name__
        try:
            own = model.model_json_schema()
        except USERS_ERRORS as error:
            if is_ctrl_c(error):
                raise
            raise InputError(f"{where}: the model has no JSON schema ({_one_line(error)})") from error
        structure = cls._of(own, where, model=model)
        wanted = _all_required(model)
        if wanted is not None:
            strict = cls._of(wanted, where, model=model)
            if strict.strict:
                return strict
        return structure

    @classmethod
    def _of(
        cls, schema: Mapping[str, Any], where: str, *, title: str | None = None, model: type[BaseModel] | None = None
    ) -> Structure:
        from jsonschema import Draft202012Validator
        from jsonschema.validators import validator_for
        from referencing import Registry

        whole = rooted(schema, where)
        if title is not None:
            whole.setdefault("title", title)
        try:
            tightened: dict[str, Any] = closed(whole)
            not_strict = strict_fault(tightened)
            if not_strict is None:
                whole = tightened
            properties = _columns(whole, where)
            asked = sent(whole) if not_strict is None else whole
        except RecursionError:
            raise InputError(f"{where}: is nested too deeply") from None
        # An empty registry: nothing is ever fetched. Formats are remarks: services read them differently.
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

    def response_format(self) -> dict[str, Any]:
        """What Chat and Assistants take as `response_format`; not to be changed."""
        return {
            "type": "json_schema",
            "json_schema": {"name": self.name, "strict": self.strict, "schema": self._sent},
        }

    def read(self, text: str) -> dict[str, Any]:
        """Column → cell of an answer. With a model, the cells are what it makes of the values.

        Raises:
            SchemaMismatch: the answer holds no such object; says why, a line for each problem.
        """
        found, value = find_object(text)
        try:
            checked(self._validator.iter_errors(value))
            made = value if self._model is None else _made(self._model, found)
            return {column: _cell(kind, name, made, value) for column, (name, kind) in self._properties.items()}
        except RecursionError:
            raise SchemaMismatch("the answer is nested too deeply") from None
        except TooSlow as error:
            raise SchemaMismatch(str(error)) from None
        except OverflowError:
            raise SchemaMismatch("a number is too large") from None


def _columns(schema: Mapping[str, Any], where: str) -> dict[str, tuple[str, Kind]]:
    """Column → its property, and what it holds."""
    lookup = references(schema)
    columns: dict[str, tuple[str, Kind]] = {}
    for name, each in schema["properties"].items():
        column = _column_name(name)
        if column != name and column in schema["properties"]:
            raise InputError(f"{where}: {name} becomes the column {column}, which is a property too; rename one")
        try:
            columns[column] = name, kind_of(each, lookup)
        except ValueError as error:
            raise InputError(f"{where}: at `properties.{name}`: {error}") from None
    return columns


def _all_required(model: type[BaseModel]) -> Any:
    """The model's schema as the SDK makes it for strict mode; None where it does not get on with its references."""
    from openai.lib import type_to_response_format_param

    try:
        wanted: Any = type_to_response_format_param(model)
    except (RecursionError, ValueError, TypeError, KeyError, AssertionError):
        return None
    return wanted["json_schema"]["schema"]


def _cell(kind: Kind, name: str, made: Mapping[str, Any], value: Mapping[str, Any]) -> Any:
    if made is not value and name in made:
        try:
            return cell(kind, made[name])
        except ValueError:
            pass  # a serializer of the model's own made another type of it: the column keeps the answer's
    try:
        return cell(kind, value.get(name))
    except Unfit as error:
        raise SchemaMismatch(f"at `{name}`: {error}") from None


def _made(model: type[BaseModel], found: str) -> Mapping[str, Any]:
    from pydantic import ValidationError

    try:
        return model.model_validate_json(found).model_dump(mode="json", by_alias=True, warnings=False)
    except ValidationError as error:
        raise SchemaMismatch(
            model_lines(error.errors(include_url=False, include_context=False, include_input=False))
        ) from None
    except RecursionError:
        raise
    except USERS_ERRORS as error:
        if is_ctrl_c(error):
            raise
        raise SchemaMismatch(f"the model {model.__name__} raised {_one_line(error)}") from error


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _column_name(name: str) -> str:
    return f"response_{name}" if name in _OWN_COLUMNS or _OWN_NUMBERED.fullmatch(name) else name


def _name(title: Any) -> str:
    return re.sub(r"[^a-zA-Z0-9_-]+", "_", str(title or "")).strip("_")[:64] or "answer"
