"""The code interpreter: Python in the best sandbox that this machine has, and never without one."""

from __future__ import annotations

from .bubblewrap import BubblewrapSandbox
from .monty import MontySandbox
from .sandbox import Execution, Sandbox, SandboxLimits

__all__ = ["Execution", "Sandbox", "SandboxLimits", "find_sandbox"]


def find_sandbox() -> Sandbox | None:
    """The sandbox to run code in: bubblewrap where it works, else Monty where it is installed, else None.

    Each call tries bubblewrap for real, which takes a moment: ask once and keep the answer.
    """
    sandbox = BubblewrapSandbox.find()
    if sandbox is not None:
        return sandbox
    try:
        return MontySandbox()
    except ImportError:
        return None
