"""SIGINT, SIGTERM and SIGHUP: the first signal asks the running code to stop, the second ends it at once.

The handlers are Python's own and not the event loop's: they run between two instructions of the main thread, even while
the loop is busy. They cannot run during a call of a C library that holds the interpreter lock, so the second SIGINT of
a command is left to the operating system (`second_kills`).
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final, TypeAlias

__all__ = ["SAME_KEY_S", "Interrupted", "Interrupts"]

SAME_KEY_S: Final = 0.3
"""Seconds within which a second SIGINT is the same key press, or the same Ctrl-C sent to the process and its group."""
SAME_END_S: Final = 2.0
"""Seconds within which a second ending signal is the same: `timeout` and service managers send SIGTERM, and often
SIGHUP, to the process and to its group."""

_ENDING: Final = tuple(signal.Signals[name] for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
EVERY: Final = (signal.SIGINT, *_ENDING)

Listener: TypeAlias = Callable[[signal.Signals], None]
"""Called with the signal, in the main thread, between any two instructions."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, or the interruption of a notebook's cell; the message states where the answers are, if there are any.

    Attributes:
        answers: the output file or journal with the answers so far; None if there are none.
    """

    answers: Path | None = None


@dataclass(frozen=True, slots=True)
class _Listeners:
    stop: Listener
    leave: Listener


class Interrupts:
    """Signals of one process, or of one call from Python.

    Mutable state: `_listeners`, the current callbacks; `_is_stopping`, whether they were asked to stop; `_pending`, a
    signal that came before there were listeners; `_last_s`, when a signal of each kind last counted; `_kills`, whether
    the operating system handles SIGINT.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._listeners: _Listeners | None = None
        self._is_stopping = False
        self._pending: signal.Signals | None = None
        self._last_s: dict[bool, float] = {}
        self._kills = False

    @contextmanager
    def installed(self, numbers: Sequence[signal.Signals] = EVERY) -> Iterator[None]:
        """Handle the signals while the context lasts; does nothing outside the main thread.

        A signal that is ignored stays ignored: `nohup` relies on that.
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
    def listening(self, stop: Listener, leave: Listener | None = None) -> Iterator[None]:
        """Call `stop` on the first signal while the context lasts, and `leave` on the second (None: `stop` again)."""
        before = self._listeners, self._is_stopping
        self._listeners, self._is_stopping = _Listeners(stop, leave or stop), False
        if self._pending is not None:
            number, self._pending = self._pending, None
            self._notify(self._listeners, number)
        try:
            yield
        finally:
            self._listeners, self._is_stopping = before
            if self._kills:
                self._kills = False
                signal.signal(signal.SIGINT, self._handle)

    def second_kills(self) -> None:
        """Leave SIGINT to the operating system until `listening` ends: the next one ends the process in any state.

        Call it in the main thread, `SAME_KEY_S` seconds after the first SIGINT. It does nothing if nothing is stopping
        any more, or if these handlers are not installed.
        """
        if self._is_stopping and signal.getsignal(signal.SIGINT) == self._handle:
            self._kills = True
            signal.signal(signal.SIGINT, signal.SIG_DFL)

    def interrupt(self) -> None:
        """Act as on Ctrl-C, from another thread."""
        if self._listeners is None:
            self._pending = signal.SIGINT
        else:
            self._notify(self._listeners, signal.SIGINT)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        found = signal.Signals(number)
        if self._is_repeat(found):
            return
        if self._listeners is not None:
            self._notify(self._listeners, found)
        elif found is signal.SIGINT:
            raise Interrupted("interrupted")
        else:
            raise SystemExit(128 + number)

    def _notify(self, listeners: _Listeners, number: signal.Signals) -> None:
        first, self._is_stopping = not self._is_stopping, True
        (listeners.stop if first else listeners.leave)(number)

    def _is_repeat(self, number: signal.Signals) -> bool:
        """Return whether the signal repeats one that counted: two that come together are meant as one."""
        now_s, ending = self._clock(), number in _ENDING
        last_s = self._last_s.get(ending)
        if last_s is not None and now_s - last_s < (SAME_END_S if ending else SAME_KEY_S):
            return True
        self._last_s[ending] = now_s
        return False
