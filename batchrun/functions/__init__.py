"""What a run may use beside its prompt: the user's own Python functions, and files.

A file of functions is loaded (`module`), each function is declared (`schemas`, `docstrings`), and calls are checked
and run (`functions`, `threads`); docs/tools.md says it to users. `files` finds and checks local files.
"""

from __future__ import annotations

from batchrun.functions.toolbox import Toolbox

__all__ = ["Toolbox"]
