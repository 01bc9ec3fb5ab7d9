"""The value of `--schema`: a file with a JSON schema, or a pydantic model. And a schema's own check."""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from batchrun.errors import InputError
from batchrun.interrupts import USERS_ERRORS, is_ctrl_c
from batchrun.structured.json_in_text import plain_loads
from batchrun.structured.mismatch import SchemaMismatch, described

if TYPE_CHECKING:
    from types import ModuleType

    from pydantic import BaseModel

__all__ = ["load_model", "model_name", "read_schema", "references", "rooted"]

_MODEL: Final = re.compile(r"(?P<module>.+\.py|[^\W\d]\w*(\.[^\W\d]\w*)*):(?P<name>[^\W\d]\w*)")
_ROOT_REMARKS: Final = frozenset({"$schema", "$id", "$defs", "definitions", "title", "description", "$comment"})
"""What may stand beside a `$ref` at the root."""


def model_name(text: str) -> re.Match[str] | None:
    """The groups `module` (dotted, or a file) and `name`, where the option names a model and no file of JSON."""
    return _MODEL.fullmatch(text)


def read_schema(path: Path, name: str) -> dict[str, Any]:
    """The schema in a file: alone, or wrapped as a request has it (`name` and `schema`, also within `json_schema`).

    Raises:
        InputError: the file cannot be read, or holds something else.
    """
    try:
        schema = plain_loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(
            f"--schema {name}: {(error.strerror or str(error)).lower()}; "
            "FILE.json, module:Model or file.py:Model is expected"
        ) from None
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: is no UTF-8 ({error.reason} at byte {error.start})") from None
    except json.JSONDecodeError as error:
        reason = error.msg.removesuffix(" at")
        raise InputError(f"{name}: line {error.lineno}, column {error.colno}: is no JSON: {reason}") from None
    except SchemaMismatch as error:
        raise InputError(f"{name}: is no JSON: {error}") from None
    except RecursionError:
        raise InputError(f"{name}: is nested too deeply") from None
    if not isinstance(schema, dict):
        raise InputError(f"{name}: a JSON schema is an object with `type` and `properties`")
    return _unwrapped(schema)


def _unwrapped(found: dict[str, Any]) -> dict[str, Any]:
    inner = found.get("json_schema", found)
    if isinstance(inner, dict) and isinstance(inner.get("schema"), dict) and "properties" not in inner:
        title = inner.get("name")
        return {**inner["schema"], **({"title": title} if isinstance(title, str) else {})}
    return found


def load_model(text: str, folder: Path) -> type[BaseModel]:
    """Import `module:Model` or `file.py:Model`; the module is code of the user's and is run.

    A module is looked for in `folder`, in the working directory, then where Python looks.

    Raises:
        InputError: there is no such module or model, an error while it is run, or it is no pydantic model.
    """
    from pydantic import BaseModel

    match = model_name(text)
    if match is None:
        raise ValueError(f"{text!r} names no model")
    where, name = match["module"], match["name"]
    module = _file(text, folder / where) if where.endswith(".py") else _module(text, where, folder)
    model = getattr(module, name, None)
    if not (isinstance(model, type) and issubclass(model, BaseModel)) or model is BaseModel:
        models = [key for key, each in vars(module).items() if _is_model(each)]
        known = f"; it has {', '.join(models[:5])}" if models else ""
        raise InputError(f"--schema {text}: {where} has no pydantic model {name}{known}")
    return model


def _is_model(value: Any) -> bool:
    from pydantic import BaseModel

    return isinstance(value, type) and issubclass(value, BaseModel) and value is not BaseModel


def _module(text: str, name: str, folder: Path) -> ModuleType:
    with _importing(text, folder, Path.cwd()):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise
            places = " or ".join(dict.fromkeys(map(str, (folder.absolute(), Path.cwd()))))
            raise InputError(
                f"--schema {text}: there is no module {error.name} in {places}; file.py:Model also works"
            ) from None


def _file(text: str, path: Path) -> ModuleType:
    if not path.is_file():
        raise InputError(f"--schema {text}: {path}: no such file")
    spec = importlib.util.spec_from_file_location(f"batchrun_schema_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise InputError(f"--schema {text}: {path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # pydantic looks up a model's module there
    with _importing(text, path.parent):
        spec.loader.exec_module(module)
    return module


@contextmanager
def _importing(text: str, *folders: Path) -> Iterator[None]:
    """Python also looks into these folders; whatever the user's module raises becomes one line."""
    before = list(sys.path)
    sys.path[:0] = [str(folder.absolute()) for folder in folders]
    importlib.invalidate_caches()
    try:
        yield
    except InputError:
        raise
    except USERS_ERRORS as error:
        if is_ctrl_c(error):
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"--schema {text}: cannot be imported ({reason})") from error
    finally:
        sys.path[:] = before


def rooted(schema: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A copy of the schema, whose root is an object with properties; a `$ref` at the root is resolved.

    Raises:
        InputError: it is no JSON schema, it refers to something outside, or its root is no such object.
    """
    from jsonschema import Draft3Validator, Draft202012Validator, FormatChecker, SchemaError
    from jsonschema.validators import validator_for

    try:
        copy: dict[str, Any] = json.loads(json.dumps(schema, allow_nan=False))
        json.dumps(copy, ensure_ascii=False).encode()
        if not isinstance(copy.get("$schema", ""), str):
            raise InputError(f"{name}: `$schema` is the address of a draft, as text")
        dialect: Any = validator_for(copy, default=Draft202012Validator)
        if dialect is Draft3Validator:
            raise InputError(f"{name}: JSON schemas are read from draft 4 on; `required` is a list there")
        # No formats: `_check_inside` says more of a pattern that cannot be read.
        dialect.check_schema(copy, format_checker=FormatChecker(formats=()))
        lookup = references(copy)
        _check_inside(copy, name)
    except SchemaError as error:
        raise InputError(f"{name}: is no JSON schema: {described(error)}") from None
    except RecursionError:
        raise InputError(f"{name}: is nested too deeply") from None
    except UnicodeEncodeError:
        raise InputError(f"{name}: holds half of a character (a lone surrogate)") from None
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: is no JSON: {error}") from None
    seen = set()
    while "$ref" in copy:
        if copy["$ref"] in seen or not copy.keys() - {"$ref"} <= _ROOT_REMARKS:
            raise InputError(f"{name}: at the root: write the object itself in place of the `$ref`")
        seen.add(copy["$ref"])
        target = lookup(copy.pop("$ref"))
        copy = {**(target if isinstance(target, dict) else {}), **copy}
    properties = copy.get("properties")
    if copy.get("type", "object") not in ("object", ["object"]) or not properties:
        raise InputError(
            f"{name}: at the root: an object with `properties` is needed, which become the columns; "
            "put anything else into a property"
        )
    if "" in properties:
        raise InputError(f"{name}: a property has no name; it becomes a column's name")
    copy["type"] = "object"
    return copy


def references(schema: Mapping[str, Any]) -> Callable[[str], Any]:
    """What finds the schema that a `$ref` at the root, or at a property of it, names."""
    resolver = _resolver(schema)
    return lambda ref: resolver.lookup(ref).contents


def _resource(schema: Mapping[str, Any]) -> Any:
    from referencing import Resource
    from referencing.jsonschema import DRAFT202012

    return Resource.from_contents(schema, default_specification=DRAFT202012)


def _resolver(schema: Mapping[str, Any]) -> Any:
    from referencing import Registry

    registry: Any = Registry()
    return registry.resolver_with_root(_resource(schema))


def _check_inside(schema: dict[str, Any], name: str) -> None:
    """Every reference leads to a place in the schema (nothing is ever fetched), every pattern can be read."""
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
                        f"{name}: the `{keyword}` {contents[keyword]!r} leads nowhere within the schema; put it inside"
                    ) from None
            for pattern in [contents.get("pattern"), *contents.get("patternProperties", ())]:
                _check_pattern(pattern, name)
        waiting += ((each, resolver.in_subresource(each)) for each in resource.subresources())


def _check_pattern(pattern: Any, name: str) -> None:
    try:
        if isinstance(pattern, str):
            re.compile(pattern)
    except (re.error, OverflowError) as error:
        raise InputError(f"{name}: the pattern {pattern!r} cannot be read by Python: {error}") from None
