"""The modules of the package, parsed once for all tests that read them."""

from __future__ import annotations

import ast
import gc
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import batchrun

__all__ = ["PACKAGE", "parsed"]

PACKAGE = Path(batchrun.__file__).parent


@cache
def parsed() -> Mapping[Path, ast.Module]:
    """Return path → tree of every module of the package, in the order of the paths."""
    gc.disable()  # half a million objects that stay: collections between them would take three times as long as the parser
    try:
        return {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}
    finally:
        gc.freeze()
        gc.enable()
