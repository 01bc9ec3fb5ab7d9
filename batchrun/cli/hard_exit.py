"""`os._exit(0)` in the user's own code cannot look like a success."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

__all__ = ["no_hard_success"]


@contextmanager
def no_hard_success() -> Iterator[None]:
    """Turn `os._exit(0)` in this process into exit code 1 with a line on standard error.

    Scorers and tools are Python code of the user. `os._exit` ends the process at once, so that in CI every bar would
    seem to be reached. No command of batchrun ends in that way with code 0. A child process may: forked workers do.
    """
    leave, owner = os._exit, os.getpid()

    def exit_visibly(status: int) -> NoReturn:
        if status == 0 and os.getpid() == owner:
            # Neither Python's streams nor the command's own printing can be relied upon here.
            os.write(2, b"batchrun: os._exit(0) was called by a scorer, a tool or a library: the command did not end\n")
            leave(1)
        leave(status)

    os._exit = exit_visibly
    try:
        yield
    finally:
        os._exit = leave
