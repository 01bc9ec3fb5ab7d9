"""Tests that need a sandbox for code. It is looked for once in a process: that runs a program."""

from __future__ import annotations

import pytest

from batchrun.server.sandbox.code_interpreter import find_sandbox

__all__ = ["SANDBOX", "needs_bubblewrap", "needs_sandbox"]

SANDBOX = getattr(find_sandbox(), "name", None)
"""The name of the sandbox of this machine, None without one."""

needs_sandbox = pytest.mark.skipif(SANDBOX is None, reason="needs a sandbox, which this machine lacks")
needs_bubblewrap = pytest.mark.skipif(SANDBOX != "bubblewrap", reason="needs bubblewrap, which this machine lacks")
