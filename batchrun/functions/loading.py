"""The user's file of functions, run as a module of its own."""

from __future__ import annotations

import importlib.util
import inspect
import sys
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, TypeAlias

from batchrun.errors import InputError
from batchrun.interrupts import USERS_ERRORS, is_ctrl_c

__all__ = ["Function", "load_functions", "one_line", "text_of"]

Function: TypeAlias = Callable[..., Any]

_LONGEST = 300
"""Characters of an error's text that a line for a person has room for."""


def load_functions(path: Path) -> Mapping[str, Function]:
    """Run the file and return its public functions by name, in the file's order.

    `__all__` decides where the file has one. Otherwise they are the functions that the file defines, without those
    whose name starts with an underscore.

    Raises:
        InputError: no such file, an error in it, no function, or a name in `__all__` that is no function.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; a Python file with functions is expected")
    names = vars(_run(path))
    found = _listed(path, names) if "__all__" in names else _defined(names)
    if not found:
        raise InputError(
            f"{path}: has no public function; every function with type hints and a docstring becomes a tool"
        )
    return found


def one_line(error: BaseException) -> str:
    """The error for a person: its type and text on one line, cut where it goes on and on."""
    text = " ".join(text_of(error).split())
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def text_of(error: BaseException) -> str:
    """What the error says, and nothing if it cannot even say that."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - whatever the code of the user's exception raises
        return ""


def _listed(path: Path, names: Mapping[str, Any]) -> dict[str, Function]:
    listed = names["__all__"]
    if not isinstance(listed, list | tuple) or not all(isinstance(name, str) for name in listed):
        raise InputError(f"{path}: __all__ is to be a list of names")
    for name in listed:
        if not _is_function(names.get(name)):
            raise InputError(f"{path}: __all__ lists {name!r}, which is no function; take it out, or define it")
    return {name: names[name] for name in listed}


def _defined(names: Mapping[str, Any]) -> dict[str, Function]:
    return {
        name: value
        for name, value in names.items()
        if not name.startswith("_") and _is_function(value) and value.__module__ == names["__name__"]
    }


def _is_function(value: Any) -> bool:
    # What functools.cache makes of a function is no function, and knows the one that it wraps.
    wrapped = getattr(value, "__dict__", {}).get("__wrapped__")
    return inspect.isfunction(value) or (callable(value) and inspect.isfunction(wrapped))


class _Loader(SourceFileLoader):
    """Compiles the file as it stands: a kept .pyc could be older, and would be left beside the user's file."""

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002
        return self.source_to_code(self.get_data(self.path), self.path)


def _run(path: Path) -> ModuleType:
    name = f"batchrun_tools_{path.stem}_{uuid.uuid4().hex}"
    spec = importlib.util.spec_from_loader(name, _Loader(name, str(path)))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses, pydantic and pickle look for what a class's hints mean
    try:
        with _importable(path.resolve().parent):
            spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, OSError) and error.filename == str(path):
            raise InputError(f"{path}: cannot be read ({error.strerror})") from error
        if isinstance(error, USERS_ERRORS) and not is_ctrl_c(error):
            raise InputError(f"{path}{_line_of(error, str(path))}: {_what_happened(error)}") from error
        raise
    return module


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """The folder's modules can be imported meanwhile, before all others, as Python has it for a script."""
    before = sys.path[:]
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path[:] = before


def _line_of(error: BaseException, file: str) -> str:
    """The physical line of the file at which it went wrong, as the tail of its name."""
    line = error.lineno if isinstance(error, SyntaxError) and error.filename == file else None
    for frame, number in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_filename == file:
            line = number
    return f", line {line}" if line else ""


def _what_happened(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return "ends the program while it is loaded; keep that under if __name__ == '__main__':"
    if isinstance(error, SyntaxError):
        return f"is no Python ({one_line(error)})"
    return f"cannot be loaded ({one_line(error)})"
