"""The event loop of code that is not async."""

from __future__ import annotations

from typing import NoReturn

import pytest

from batchrun.api.event_loop import run_loop
from batchrun.interrupts import Interrupts, Listener


class _Ended(Interrupts):
    """A process that SIGTERM ends while the loop starts."""

    def listening(self, stop: Listener, leave: Listener | None = None) -> NoReturn:
        raise SystemExit(143)


def test_a_signal_before_the_first_step_leaves_no_coroutine() -> None:
    """A signal that ends the process while the loop starts leaves no coroutine that was never awaited: the function is not
    even called."""
    called = []

    async def main() -> None:
        called.append(True)

    with pytest.raises(SystemExit):
        run_loop(main, _Ended())
    assert called == []


def test_the_result_is_returned() -> None:
    """The function runs to its end, and its result is returned."""

    async def main() -> int:
        return 3

    assert run_loop(main, Interrupts()) == 3
