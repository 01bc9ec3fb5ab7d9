"""Finds the user's functions: the public ones of a file, which is run as a module, or those given from Python."""

from __future__ import annotations

import importlib.util
import inspect
import sys
import traceback
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, TypeAlias

from batchrun.errors import InputError
from batchrun.records import JsonObject
from batchrun.sdk_import import complete
from batchrun.users_errors import USERS_ERRORS, is_ctrl_c
from batchrun.wording import clipped

__all__ = ["Function", "load_functions", "named_functions", "one_line", "text_of"]

Function: TypeAlias = Callable[..., Any]

_MAX_CHARS = 300
"""Maximum length of an exception's text in a message."""


def load_functions(path: Path) -> Mapping[str, Function]:
    """Run the file and return its public functions by name, in the file's order.

    If the file has `__all__`, that list decides. Otherwise, the public functions are those that the file defines,
    except names that start with an underscore.

    Raises:
        InputError: the file does not exist, fails, or has no function; or a name in `__all__` is not a function.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected a Python file with functions")
    names = vars(_run(path))
    found = _listed(path, names) if "__all__" in names else _defined(names)
    if not found:
        raise InputError(
            f"{path}: has no public function; define one with type hints and a docstring to make it a tool"
        )
    return found


def named_functions(functions: Iterable[object]) -> Mapping[str, Function]:
    """Return functions that were given from Python by their names, in order.

    Raises:
        InputError: one of them is not a function with a name, or two have the same name.
    """
    named: dict[str, Function] = {}
    for number, function in enumerate(functions):
        name = getattr(function, "__name__", None)
        if not callable(function) or isinstance(function, type) or not isinstance(name, str):
            raise InputError(f"tools[{number}]: expected a function with a name, got a {type(function).__name__}")
        if name in named:
            raise InputError(f"tools[{number}]: another function is named {name!r}; rename one")
        named[name] = function
    if not named:
        raise InputError("tools: the list is empty; expected at least one function")
    return named


def one_line(exc: BaseException) -> str:
    """Return the type and text of an exception on one line, cut if it is long."""
    text = " ".join(text_of(exc).split())
    return f"{type(exc).__name__}: {clipped(text, _MAX_CHARS)}" if text else type(exc).__name__


def text_of(exc: BaseException) -> str:
    """Return the text of an exception; "" if its own code raises."""
    try:
        return str(exc)
    except Exception:  # noqa: BLE001 - the user's exception may raise anything
        return ""


def _listed(path: Path, names: JsonObject) -> dict[str, Function]:
    listed = names["__all__"]
    if not isinstance(listed, list | tuple) or not all(isinstance(name, str) for name in listed):
        raise InputError(f"{path}: __all__ must be a list of names")
    for name in listed:
        if not _is_function(names.get(name)):
            raise InputError(
                f"{path}: __all__ lists {name!r}, which is not a function; remove the name or define the function"
            )
    return {name: names[name] for name in listed}


def _defined(names: JsonObject) -> dict[str, Function]:
    return {
        name: value
        for name, value in names.items()
        if not name.startswith("_") and _is_function(value) and value.__module__ == names["__name__"]
    }


def _is_function(value: object) -> bool:
    # functools.cache returns an object that is not a function but has the wrapped function as an attribute.
    wrapped = getattr(value, "__dict__", {}).get("__wrapped__")
    return inspect.isfunction(value) or (callable(value) and inspect.isfunction(wrapped))


class _Loader(SourceFileLoader):
    """Always compiles the source: a cached .pyc may be outdated, and would be written next to the user's file."""

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002
        return self.source_to_code(self.get_data(self.path), self.path)


def _run(path: Path) -> ModuleType:
    name = f"batchrun_tools_{path.stem}_{uuid.uuid4().hex}"
    spec = importlib.util.spec_from_loader(name, _Loader(name, str(path)))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses, pydantic and pickle look up the names of type hints there
    complete()
    try:
        with _importable(path.resolve().parent):
            spec.loader.exec_module(module)
    except BaseException as exc:
        del sys.modules[name]
        if isinstance(exc, OSError) and exc.filename == str(path):
            raise InputError(f"{path}: cannot be read ({exc.strerror})") from exc
        if isinstance(exc, USERS_ERRORS) and not is_ctrl_c(exc):
            raise InputError(f"{path}{_line_of(exc, str(path))}: {_failure(exc)}") from exc
        raise
    return module


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Put the folder first on the import path, as Python does for a script."""
    before = sys.path[:]
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path[:] = before


def _line_of(exc: BaseException, file: str) -> str:
    """Return ", line N" for the physical line of the file that failed; "" if unknown."""
    line = exc.lineno if isinstance(exc, SyntaxError) and exc.filename == file else None
    for frame, number in traceback.walk_tb(exc.__traceback__):
        if frame.f_code.co_filename == file:
            line = number
    return f", line {line}" if line else ""


def _failure(exc: BaseException) -> str:
    if isinstance(exc, SystemExit):
        return "ends the program when it is loaded; move that code below if __name__ == '__main__':"
    if isinstance(exc, SyntaxError):
        return f"is not valid Python ({one_line(exc)})"
    return f"cannot be loaded ({one_line(exc)})"
