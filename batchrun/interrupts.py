"""SIGINT, SIGTERM and SIGHUP: the first asks what runs to stop, the second ends it at once.

The handlers are Python's own and not the event loop's: they run between two instructions of the main thread, also while
the loop is busy. A call of a C library that holds the interpreter lock has no such moment, so the second SIGINT of a
command is left to the operating system (`second_kills`).
"""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Final, TypeAlias

__all__ = ["SAME_KEY_S", "USERS_ERRORS", "Interrupted", "Interrupts", "is_ctrl_c"]

SAME_KEY_S: Final = 0.3
"""A second SIGINT this soon is the same key, or the same Ctrl-C for the process and for its group."""
SAME_END_S: Final = 2.0
"""`timeout` and service managers send SIGTERM, and often SIGHUP, to the process and to its group."""

_ENDING: Final = tuple(signal.Signals[name] for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
EVERY: Final = (signal.SIGINT, *_ENDING)

Listener: TypeAlias = Callable[[signal.Signals], None]
"""Is told the signal; called in the main thread, between any two instructions."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, or the interruption of a notebook's cell; the text says where the answers are, if there are any."""


@dataclass(frozen=True, slots=True)
class _Ears:
    stop: Listener
    leave: Listener


class Interrupts:
    """Signals of one process, or of one call from Python.

    All state: `_ears`, who listens; `_asked`, whether they were asked to stop; `_pending`, a signal that nobody heard
    yet; `_last_s`, when a signal of each kind counted last; `_kills`, whether SIGINT is the operating system's.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ears: _Ears | None = None
        self._asked = False
        self._pending: signal.Signals | None = None
        self._last_s: dict[bool, float] = {}
        self._kills = False

    @contextmanager
    def installed(self, numbers: Sequence[signal.Signals] = EVERY) -> Iterator[None]:
        """Handle the signals while the context lasts; in the main thread only, elsewhere nothing happens.

        What is ignored stays ignored: `nohup` asks for that.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        earlier = {number: signal.getsignal(number) for number in numbers}
        earlier = {number: found for number, found in earlier.items() if found not in (signal.SIG_IGN, None)}
        for number in earlier:
            signal.signal(number, self._handle)
        try:
            yield
        finally:
            for number, found in earlier.items():
                signal.signal(number, found)

    @contextmanager
    def heard(self, stop: Listener, leave: Listener | None = None) -> Iterator[None]:
        """While the context lasts the first signal calls `stop`, and the second `leave` (None: `stop` again)."""
        before = self._ears, self._asked
        self._ears, self._asked = _Ears(stop, leave or stop), False
        if self._pending is not None:
            number, self._pending = self._pending, None
            self._hear(self._ears, number)
        try:
            yield
        finally:
            self._ears, self._asked = before
            if self._kills:
                self._kills = False
                signal.signal(signal.SIGINT, self._handle)

    def second_kills(self) -> None:
        """Leave SIGINT to the operating system until `heard` ends: the next one ends the process whatever it does.

        To be called in the main thread, `SAME_KEY_S` after the first SIGINT. Does nothing where nobody is stopping any
        more, or where these handlers are not installed.
        """
        if self._asked and signal.getsignal(signal.SIGINT) == self._handle:
            self._kills = True
            signal.signal(signal.SIGINT, signal.SIG_DFL)

    def interrupt(self) -> None:
        """What Ctrl-C does, from another thread."""
        if self._ears is None:
            self._pending = signal.SIGINT
        else:
            self._hear(self._ears, signal.SIGINT)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        found = signal.Signals(number)
        if self._is_the_same(found):
            return
        if self._ears is not None:
            self._hear(self._ears, found)
        elif found is signal.SIGINT:
            raise Interrupted("interrupted")
        else:
            raise SystemExit(128 + number)

    def _hear(self, ears: _Ears, number: signal.Signals) -> None:
        first, self._asked = not self._asked, True
        (ears.stop if first else ears.leave)(number)

    def _is_the_same(self, number: signal.Signals) -> bool:
        """Whether it repeats one that counted: two that come together are meant as one."""
        now_s, ending = self._clock(), number in _ENDING
        last_s = self._last_s.get(ending)
        if last_s is not None and now_s - last_s < (SAME_END_S if ending else SAME_KEY_S):
            return True
        self._last_s[ending] = now_s
        return False


USERS_ERRORS: Final = (Exception, SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError)
"""What code of the user's that awaits nothing may raise: `sys.exit` in a scorer is that scorer's fault, and ends no
program. Where it is caught, `is_ctrl_c` lets a real Ctrl-C through."""


def is_ctrl_c(error: BaseException) -> bool:
    """Whether a KeyboardInterrupt that the user's code let through came from a signal, and not from that code.

    Where `Interrupts` is installed signals raise `Interrupted`. Under Python's own handler the two are alike in the
    main thread, the only one that signals reach.
    """
    if not isinstance(error, KeyboardInterrupt):
        return False
    own_handler = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    return isinstance(error, Interrupted) or (own_handler and threading.current_thread() is threading.main_thread())
