"""The supervisor: a unit of work is settled and removed however its task ends."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import anyio
import pytest

from batchrun.server.execution.supervisor import Live, Supervisor
from batchrun.server.replies.event_log import EventLog

if TYPE_CHECKING:
    from batchrun.server.execution.parts import Parts

pytestmark = pytest.mark.anyio


@dataclass(slots=True)
class Unit(Live):
    """A unit that does what its test decides."""

    work: Callable[[], Awaitable[None]]
    settle: Callable[[], None] = lambda: None


class Units(Supervisor[Unit]):
    """Executes units and records the failure that each is settled with."""

    noun = "unit"
    expected = (KeyError,)

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self.failures: list[BaseException | None] = []

    async def _answer(self, live: Unit) -> None:
        await live.work()

    def _settle(self, live: Unit, failure: BaseException | None) -> None:
        self.failures.append(failure)
        live.settle()


async def executed(unit: Unit, act: Callable[[Units], None] = lambda _: None) -> Units:
    """Start a unit, act while it is live, and return the supervisor when its task has ended."""
    async with anyio.create_task_group() as tasks:
        units = Units(cast("Parts", SimpleNamespace(tasks=tasks)))
        units.start(unit)
        await anyio.lowlevel.checkpoint()
        act(units)
    return units


def raising(error: Exception) -> Callable[[], Awaitable[None]]:
    """Return work that fails."""

    async def work() -> None:
        raise error

    return work


@pytest.mark.parametrize(("error", "logged"), [(KeyError("expected"), 0), (ValueError("a bug"), 1)])
async def test_a_failure_is_settled_and_a_bug_is_logged(
    error: Exception, logged: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The unit is settled with its failure; only an unexpected one appears in the server's log."""
    unit = Unit(EventLog("u", 0), raising(error))
    with caplog.at_level(logging.ERROR, "batchrun.server"):
        units = await executed(unit)
    assert (units.failures, units.live) == ([error], {})
    assert (unit.log.closed, unit.log.done) == (True, False)
    assert len(caplog.records) == logged


async def test_a_finished_unit_keeps_its_end() -> None:
    """A log that the unit closed itself stays done, and there is no failure."""
    log = EventLog("u", 0)
    units = await executed(Unit(log, anyio.lowlevel.checkpoint, log.close))
    assert (units.failures, units.live, log.done) == ([None], {}, True)


async def test_an_interrupted_unit_is_settled_with_its_cancellation() -> None:
    """interrupt marks every unit, cancels its task and lets it settle."""
    unit = Unit(EventLog("u", 0), anyio.sleep_forever)
    units = await executed(unit, Units.interrupt)
    assert unit.interrupted
    assert isinstance(units.failures[0], anyio.get_cancelled_exc_class())
    assert (units.live, unit.log.closed) == ({}, True)


async def test_a_unit_whose_end_cannot_be_stored_is_removed(caplog: pytest.LogCaptureFixture) -> None:
    """If the end cannot be written, the error is logged, readers are released and other units continue."""

    def settle() -> None:
        raise OSError("disk full")

    unit = Unit(EventLog("u", 0), anyio.lowlevel.checkpoint, settle)
    units = await executed(unit)
    assert (units.live, unit.log.closed, unit.log.done) == ({}, True, False)
    assert "the end of unit u could not be stored" in caplog.text


async def test_the_next_task_of_a_unit_is_not_removed_by_the_last() -> None:
    """A unit that was started again with the same id stays live when its first task ends."""
    first, second = (Unit(EventLog("u", segment), anyio.sleep_forever) for segment in range(2))
    async with anyio.create_task_group() as tasks:
        units = Units(cast("Parts", SimpleNamespace(tasks=tasks)))
        units.start(first)
        await anyio.lowlevel.checkpoint()
        units.start(second)
        first.scope.cancel()
        while not first.log.closed:
            await anyio.lowlevel.checkpoint()
        assert units.live == {"u": second}
        units.forget("u")
