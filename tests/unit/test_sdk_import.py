"""The import of the SDK without its types: the same names, only later."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import openai.types


def printed(code: str, **environment: str) -> Any:
    """Run code in a new interpreter; return the JSON that it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, **environment}
    )
    return json.loads(done.stdout)


def test_types_are_imported_when_a_name_is_used() -> None:
    """The types are missing after the import and complete after the first use, and `complete` leaves no package empty."""
    code = """
import json, sys
from batchrun.sdk_import import complete, import_sdk
import_sdk()
import openai
early = "openai.types.responses.response" in sys.modules
from openai.types.responses import Response
used = "openai.types.responses.response" in sys.modules
complete()
empty = [name for name, module in sys.modules.items() if name.startswith("openai.types") and "fill" in dir(vars(module).get("__getattr__"))
         and not vars(module)["__getattr__"]._is_filled]
print(json.dumps([early, used, Response.__module__, empty, sorted(set(vars(openai.types)) - {"__getattr__"})]))
"""
    early, used, home, empty, names = printed(code)
    assert (early, used, home, empty) == (False, True, "openai.types.responses.response", [])
    assert set(names) >= {name for name, value in vars(openai.types).items() if not isinstance(value, ModuleType)}


def test_a_missing_name_is_an_error() -> None:
    """A name that a package of types does not have raises AttributeError, and importing it ImportError."""
    code = """
import json
from batchrun.sdk_import import import_sdk
import_sdk()
import openai
found = [hasattr(openai.types, "Missing"), hasattr(openai.types, "Completion")]
try:
    from openai.types.beta import Missing
except ImportError as exc:
    found.append(exc.name)
print(json.dumps(found))
"""
    assert printed(code) == [False, True, "openai.types.beta"]


def test_an_sdk_that_needs_its_types_at_once_is_imported_as_usual(tmp_path: Path) -> None:
    """A version of the SDK that cannot be imported without its types is imported with them."""
    package = tmp_path / "openai"
    (package / "types").mkdir(parents=True)
    (package / "__init__.py").write_text("from . import types\nNUMBER = vars(types)['NUMBER']\n", encoding="utf-8")
    (package / "types" / "__init__.py").write_text("NUMBER = 3\n", encoding="utf-8")
    code = "import json; from batchrun.sdk_import import import_sdk; import_sdk(); import openai; print(json.dumps([openai.NUMBER, '__getattr__' in vars(openai.types)]))"
    assert printed(code, PYTHONPATH=str(tmp_path)) == [3, False]
