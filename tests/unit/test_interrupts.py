"""Which signals count, and which callback they call."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

import pytest

from batchrun.interrupts import Interrupted, Interrupts
from batchrun.users_errors import is_ctrl_c

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGHUP")

INT, TERM, HUP = signal.SIGINT, signal.SIGTERM, signal.SIGHUP


@pytest.mark.parametrize(
    ("sent", "heard"),
    [
        ([(0, TERM), (0.001, TERM)], ["stop SIGTERM"]),  # GNU timeout: to the process and to its group
        ([(0, TERM), (0.001, HUP), (1.9, TERM)], ["stop SIGTERM"]),
        ([(0, HUP), (0.5, TERM)], ["stop SIGHUP"]),
        ([(0, TERM), (2.1, TERM)], ["stop SIGTERM", "leave SIGTERM"]),
        ([(0, HUP), (1.5, HUP), (2.5, HUP)], ["stop SIGHUP", "leave SIGHUP"]),
        ([(0, INT), (0.29, INT)], ["stop SIGINT"]),
        ([(0, INT), (0.3, INT)], ["stop SIGINT", "leave SIGINT"]),
        ([(0, INT), (0.1, INT), (0.31, INT)], ["stop SIGINT", "leave SIGINT"]),
        ([(0, INT), (0.1, TERM)], ["stop SIGINT", "leave SIGTERM"]),
        ([(0, TERM), (0.1, INT)], ["stop SIGTERM", "leave SIGINT"]),
    ],
)
def test_what_counts_as_the_second(sent: Sequence[tuple[float, signal.Signals]], heard: list[str]) -> None:
    """SIGTERM and SIGHUP within 2 s count as one signal, as do two SIGINT within 0.3 s; any other second signal ends
    the process."""
    now_s, found = 0.0, []
    interrupts = Interrupts(clock=lambda: now_s)
    with (
        interrupts.installed(),
        interrupts.listening(lambda n: found.append(f"stop {n.name}"), lambda n: found.append(f"leave {n.name}")),
    ):
        for now_s, number in sent:  # noqa: B007 - the clock reads it
            signal.raise_signal(number)
    assert found == heard


@pytest.mark.parametrize(("number", "raised"), [(INT, Interrupted), (TERM, SystemExit), (HUP, SystemExit)])
def test_where_nobody_listens_a_signal_is_an_exception(number: signal.Signals, raised: type[BaseException]) -> None:
    """Outside a batch a signal raises an exception, so that files and processes are closed."""
    with Interrupts().installed(), pytest.raises(raised):
        signal.raise_signal(number)


def test_handlers_are_given_back_and_ignored_signals_stay_ignored() -> None:
    """A SIGHUP that `nohup` ignores stays ignored; the other handlers are restored afterwards."""
    before = [signal.getsignal(number) for number in (INT, TERM, HUP)]
    signal.signal(HUP, signal.SIG_IGN)
    try:
        with Interrupts().installed():
            signal.raise_signal(HUP)
            assert signal.getsignal(HUP) is signal.SIG_IGN
        assert [signal.getsignal(number) for number in (INT, TERM)] == before[:2]
    finally:
        signal.signal(HUP, before[2])


def test_an_interrupt_that_comes_too_early_is_heard_later() -> None:
    """An interrupt of a cell whose batch has not started yet stops the batch when it starts."""
    interrupts = Interrupts()
    found: list[int] = []
    interrupts.interrupt()
    with interrupts.listening(found.append):
        assert found == [INT]


def test_a_ctrl_c_is_distinguished_from_an_exception_of_the_users_code() -> None:
    """While batchrun's handlers are installed, a plain KeyboardInterrupt comes from the user's code."""
    with Interrupts().installed():
        assert not is_ctrl_c(KeyboardInterrupt())
        assert is_ctrl_c(Interrupted())
    assert not is_ctrl_c(SystemExit())


def test_the_second_sigint_is_the_operating_systems_only_while_a_batch_stops() -> None:
    """Before the first signal and after the batch, batchrun handles SIGINT, so that nothing is left open."""
    interrupts = Interrupts()
    with interrupts.installed():
        ours = signal.getsignal(INT)
        with interrupts.listening(lambda _: None):
            interrupts.second_kills()
            assert signal.getsignal(INT) == ours
            signal.raise_signal(INT)
            interrupts.second_kills()
            assert signal.getsignal(INT) == signal.SIG_DFL
        assert signal.getsignal(INT) == ours
        interrupts.second_kills()
        assert signal.getsignal(INT) == ours
