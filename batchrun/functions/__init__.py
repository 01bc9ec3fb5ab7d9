"""Lets the model call the user's own Python functions.

`loading` runs the file of functions, `schemas` and `docstrings` declare each function, and `toolbox` and `threads`
check and run the calls. docs/guides/tools.md describes the rules for users.
"""

from __future__ import annotations

from batchrun.functions.toolbox import Toolbox

__all__ = ["Toolbox"]
