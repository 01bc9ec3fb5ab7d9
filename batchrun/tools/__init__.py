"""Function tools: the user's own Python functions, which the model may call.

A file of functions is loaded (`module`), each function is declared (`schemas`, `docstrings`), and calls are checked
and run (`functions`, `threads`). docs/tools.md says it to users.
"""

from __future__ import annotations

from batchrun.tools.functions import Toolbox

__all__ = ["Toolbox"]
