"""The choice of the sandbox: the best one that this machine has. Code never runs without a sandbox."""

from __future__ import annotations

from batchrun.server.sandbox.bubblewrap import BubblewrapSandbox
from batchrun.server.sandbox.monty import MontySandbox
from batchrun.server.sandbox.sandbox import Execution, Sandbox, SandboxLimits

__all__ = ["Execution", "Sandbox", "SandboxLimits", "find_sandbox"]


def find_sandbox() -> Sandbox | None:
    """Return the sandbox for code: bubblewrap if it works, otherwise Monty if it is installed, otherwise None.

    Each call runs a program in bubblewrap, which takes a moment, so callers keep the result.
    """
    sandbox = BubblewrapSandbox.find()
    if sandbox is not None:
        return sandbox
    try:
        return MontySandbox()
    except ImportError:
        return None
