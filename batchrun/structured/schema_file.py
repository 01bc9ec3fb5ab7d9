"""Reads the value of `--schema`, a JSON schema in a file or a pydantic model, and checks a schema."""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from batchrun.errors import InputError
from batchrun.records import JsonDict, JsonObject
from batchrun.sdk_import import complete
from batchrun.structured.json_in_text import plain_loads
from batchrun.structured.mismatch import SchemaMismatch, described
from batchrun.users_errors import USERS_ERRORS, is_ctrl_c

if TYPE_CHECKING:
    from types import ModuleType

    from pydantic import BaseModel

__all__ = ["load_model", "model_name", "read_schema", "references", "rooted", "unwrapped"]

_MODEL: Final = re.compile(r"(?P<module>.+\.py|[^\W\d]\w*(\.[^\W\d]\w*)*):(?P<name>[^\W\d]\w*)")
_ROOT_REMARKS: Final = frozenset({"$schema", "$id", "$defs", "definitions", "title", "description", "$comment"})
"""Keywords that are allowed next to a `$ref` at the root."""


def model_name(text: str) -> re.Match[str] | None:
    """Return a match with `module` (dotted name or file) and `name` for a model; None for a JSON file."""
    return _MODEL.fullmatch(text)


def read_schema(path: Path, name: str) -> JsonDict:
    """Return the schema in a file, which may be wrapped as in a request (`name` and `schema`, or `json_schema`).

    Raises:
        InputError: the file cannot be read, or does not hold a schema.
    """
    try:
        schema = plain_loads(path.read_text(encoding="utf-8-sig"))
    except OSError as exc:
        raise InputError(
            f"--schema {name}: {(exc.strerror or str(exc)).lower()}; expected FILE.json, module:Model or file.py:Model"
        ) from None
    except UnicodeDecodeError as exc:
        raise InputError(f"{name}: is not valid UTF-8 ({exc.reason} at byte {exc.start})") from None
    except json.JSONDecodeError as exc:
        reason = exc.msg.removesuffix(" at")
        raise InputError(f"{name}: line {exc.lineno}, column {exc.colno}: is not valid JSON: {reason}") from None
    except SchemaMismatch as exc:
        raise InputError(f"{name}: is not valid JSON: {exc}") from None
    except RecursionError:
        raise InputError(f"{name}: is nested too deeply") from None
    if not isinstance(schema, dict):
        raise InputError(f"{name}: is not a JSON schema; expected an object with `type` and `properties`")
    return dict(unwrapped(schema))


def unwrapped(found: JsonObject) -> JsonObject:
    """Return the schema in an object that may be a request's `response_format` or `json_schema`, with its name."""
    inner = found.get("json_schema", found)
    if isinstance(inner, dict) and isinstance(inner.get("schema"), dict) and "properties" not in inner:
        title = inner.get("name")
        return {**inner["schema"], **({"title": title} if isinstance(title, str) else {})}
    return found


def load_model(text: str, folder: Path) -> type[BaseModel]:
    """Import `module:Model` or `file.py:Model`. The module is the user's code and is run.

    A module is searched for in `folder`, in the working directory, and then on Python's path.

    Raises:
        InputError: the module or the model does not exist, the module fails, or the model is not a pydantic model.
    """
    from pydantic import BaseModel

    match = model_name(text)
    if match is None:
        raise ValueError(f"{text!r} does not name a model")
    where, name = match["module"], match["name"]
    module = _file(text, folder / where) if where.endswith(".py") else _module(text, where, folder)
    model = getattr(module, name, None)
    if not (isinstance(model, type) and issubclass(model, BaseModel)) or model is BaseModel:
        models = [key for key, each in vars(module).items() if _is_model(each)]
        known = f"; it has {', '.join(models[:5])}" if models else ""
        raise InputError(f"--schema {text}: {where} has no pydantic model {name}{known}")
    return model


def _is_model(value: object) -> bool:
    from pydantic import BaseModel

    return isinstance(value, type) and issubclass(value, BaseModel) and value is not BaseModel


def _module(text: str, name: str, folder: Path) -> ModuleType:
    with _importing(text, folder, Path.cwd()):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as exc:
            if exc.name is None or not f"{name}.".startswith(f"{exc.name}."):
                raise
            places = " or ".join(dict.fromkeys(map(str, (folder.absolute(), Path.cwd()))))
            raise InputError(
                f"--schema {text}: there is no module {exc.name} in {places}; file.py:Model names a file instead"
            ) from None


def _file(text: str, path: Path) -> ModuleType:
    if not path.is_file():
        raise InputError(f"--schema {text}: {path}: no such file")
    spec = importlib.util.spec_from_file_location(f"batchrun_schema_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise InputError(f"--schema {text}: {path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # pydantic looks up the module of a model there
    with _importing(text, path.parent):
        spec.loader.exec_module(module)
    return module


@contextmanager
def _importing(text: str, *folders: Path) -> Iterator[None]:
    """Put the folders on the import path; turn every exception of the user's module into an `InputError`."""
    complete()
    before = list(sys.path)
    sys.path[:0] = [str(folder.absolute()) for folder in folders]
    importlib.invalidate_caches()
    try:
        yield
    except InputError:
        raise
    except USERS_ERRORS as exc:
        if is_ctrl_c(exc):
            raise
        reason = " ".join(f"{type(exc).__name__}: {exc}".split())
        raise InputError(f"--schema {text}: cannot be imported ({reason})") from exc
    finally:
        sys.path[:] = before


def rooted(schema: JsonObject, name: str) -> JsonDict:
    """Return a copy of the schema whose root is an object with properties; a `$ref` at the root is resolved.

    Raises:
        InputError: the schema is invalid, refers to something outside itself, or has another root.
    """
    copy = _checked_copy(schema, name)
    lookup = references(copy)
    resolved = set()
    while "$ref" in copy:
        if copy["$ref"] in resolved or not copy.keys() - {"$ref"} <= _ROOT_REMARKS:
            raise InputError(
                f"{name}: at the root: a `$ref` must not be circular or have keywords next to it; write the "
                "object itself there"
            )
        resolved.add(copy["$ref"])
        target = lookup(copy.pop("$ref"))
        copy = {**(target if isinstance(target, dict) else {}), **copy}
    properties = copy.get("properties")
    if copy.get("type", "object") not in ("object", ["object"]) or not properties:
        raise InputError(
            f"{name}: at the root: expected an object with `properties`, which become the columns; "
            "put any other schema into a property"
        )
    if "" in properties:
        raise InputError(f"{name}: a property has an empty name; name it, because its column gets that name")
    copy["type"] = "object"
    return copy


def _checked_copy(schema: JsonObject, name: str) -> JsonDict:
    """Return a copy of the schema as plain JSON.

    Raises:
        InputError: the schema is not JSON, is not a schema, refers to something outside itself, or has an invalid
            pattern.
    """
    from jsonschema import Draft3Validator, Draft202012Validator, FormatChecker, SchemaError
    from jsonschema.validators import validator_for

    try:
        copy: JsonDict = json.loads(json.dumps(schema, allow_nan=False))
        json.dumps(copy, ensure_ascii=False).encode()
        if not isinstance(copy.get("$schema", ""), str):
            raise InputError(f"{name}: `$schema` must be the URL of a draft, as text")
        dialect: Any = validator_for(copy, default=Draft202012Validator)
        if dialect is Draft3Validator:
            raise InputError(
                f"{name}: draft 3 of JSON Schema is not supported; use draft 4 or later, in which `required` is a list"
            )
        # Without formats: `_check_inside` has a better message for an invalid pattern.
        dialect.check_schema(copy, format_checker=FormatChecker(formats=()))
        _check_inside(copy, name)
    except SchemaError as exc:
        raise InputError(f"{name}: is not a valid JSON schema: {described(exc)}") from None
    except RecursionError:
        raise InputError(f"{name}: is nested too deeply") from None
    except UnicodeEncodeError:
        raise InputError(f"{name}: holds half of a character (a lone surrogate)") from None
    except (TypeError, ValueError) as exc:
        raise InputError(f"{name}: is not valid JSON: {exc}") from None
    return copy


def references(schema: JsonObject) -> Callable[[str], Any]:
    """Return a function that finds the schema of a `$ref` at the root or at one of its properties."""
    resolver = _resolver(schema)
    return lambda ref: resolver.lookup(ref).contents


def _resource(schema: JsonObject) -> Any:
    from referencing import Resource
    from referencing.jsonschema import DRAFT202012

    return Resource.from_contents(schema, default_specification=DRAFT202012)


def _resolver(schema: JsonObject) -> Any:
    from referencing import Registry

    registry: Any = Registry()
    return registry.resolver_with_root(_resource(schema))


def _check_inside(schema: JsonDict, name: str) -> None:
    """Check that every reference leads to a place in the schema, and that every pattern is valid.

    Nothing is ever fetched.
    """
    from referencing.exceptions import Unresolvable

    waiting = [(_resource(schema), _resolver(schema))]
    while waiting:
        resource, resolver = waiting.pop()
        contents = resource.contents
        if isinstance(contents, dict):
            for keyword in ("$ref", "$dynamicRef", "$recursiveRef"):
                try:
                    if keyword in contents:
                        resolver.lookup(contents[keyword])
                except Unresolvable:
                    raise InputError(
                        f"{name}: the `{keyword}` {contents[keyword]!r} leads to no place in this schema; put its "
                        "target there"
                    ) from None
            for pattern in [contents.get("pattern"), *contents.get("patternProperties", ())]:
                _check_pattern(pattern, name)
        waiting += ((each, resolver.in_subresource(each)) for each in resource.subresources())


def _check_pattern(pattern: object, name: str) -> None:
    try:
        if isinstance(pattern, str):
            re.compile(pattern)
    except (re.error, OverflowError) as exc:
        raise InputError(f"{name}: the pattern {pattern!r} is not valid in Python: {exc}") from None
