"""Exceptions of the user's code, and a Ctrl-C among them."""

from __future__ import annotations

import asyncio
import signal
import threading
from typing import Final

from batchrun.interrupts import Interrupted

__all__ = ["USERS_ERRORS", "is_ctrl_c"]

USERS_ERRORS: Final = (Exception, SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError)
"""Exceptions that the user's synchronous code may raise: `sys.exit` in a scorer is the scorer's fault, and does not end
the program. Code that catches them lets a real Ctrl-C through with `is_ctrl_c`."""


def is_ctrl_c(error: BaseException) -> bool:
    """Return whether a KeyboardInterrupt that the user's code raised came from a signal, and not from that code.

    If `Interrupts` is installed, signals raise `Interrupted`. Under Python's own handler the two look the same in the
    main thread, the only one that signals reach.
    """
    if not isinstance(error, KeyboardInterrupt):
        return False
    own_handler = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    return isinstance(error, Interrupted) or (own_handler and threading.current_thread() is threading.main_thread())
