"""The import of OpenAI's SDK without the classes of its requests and replies, which take half of its time.

`import openai` imports every module of `openai.types`, some 450. A batch uses none of these classes: `AsyncOpenAI`
sends its requests, and the replies stay bytes. Here the packages of `openai.types` get their contents when a name in
them is first used, as PEP 562 allows. `complete` fills those that are still empty. It is called before code of the user
is imported, which may use the SDK in several threads.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any

__all__ = ["complete", "import_sdk"]

_TYPES = "openai.types"


def import_sdk() -> None:
    """Import the SDK, for a command that runs a batch. Does nothing if it was imported before.

    If a version of the SDK cannot be imported this way, it is imported as usual.
    """
    if "openai" in sys.modules:
        return
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        import openai
    except Exception:  # noqa: BLE001 - whatever it is: the usual import either does without it or raises it again
        for name in [name for name in sys.modules if name == "openai" or name.startswith("openai.")]:
            del sys.modules[name]
    finally:
        sys.meta_path.remove(finder)
    import openai  # noqa: F401 - for whoever needs it next


def complete() -> None:
    """Fill the packages of `openai.types` that are still empty."""
    for name, module in list(sys.modules.items()):
        if not name.startswith(_TYPES):
            continue
        filling = vars(module).get("__getattr__")
        if isinstance(filling, _Filling):
            filling.fill()


class _Finder(MetaPathFinder):
    """Finds the packages of `openai.types`, to be filled later. Everything else is left to the other finders."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the usual specification of a package, with a loader that leaves the package empty."""
        if fullname != _TYPES and not fullname.startswith(f"{_TYPES}."):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.submodule_search_locations is None or type(spec.loader) is not SourceFileLoader:
            return None
        spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    """Leaves a package empty, until a name in it is used."""

    def exec_module(self, module: ModuleType) -> None:
        """Give the package a `__getattr__` that fills it."""
        vars(module)["__getattr__"] = _Filling(module, self)

    def fill(self, module: ModuleType) -> None:
        """Run the package's own `__init__`."""
        super().exec_module(module)


class _Filling:
    """The `__getattr__` of an empty package.

    Mutable state: `_is_filled`, set when the package's own `__init__` begins.
    """

    def __init__(self, module: ModuleType, loader: _Loader) -> None:
        self._module, self._loader = module, loader
        self._is_filled = False

    def __call__(self, name: str) -> Any:
        """Return a name of the package."""
        if not self._is_filled:
            self.fill()
            return getattr(self._module, name)
        raise AttributeError(f"module {self._module.__name__!r} has no attribute {name!r}")

    def fill(self) -> None:
        """Run the package's own `__init__`, once."""
        if self._is_filled:
            return
        self._is_filled = True
        try:
            self._loader.fill(self._module)
        except BaseException:
            self._is_filled = False
            raise
