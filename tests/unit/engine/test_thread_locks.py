"""Locks by name."""

from __future__ import annotations

import anyio
import pytest

from batchrun.engine.thread_locks import ThreadLocks

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


class Passers:
    """Who went through, and when."""

    def __init__(self) -> None:
        self.turnstiles = ThreadLocks()
        self.passed: list[tuple[str, float]] = []
        self.inside: dict[str, int] = {}

    async def go(self, who: str, name: str, stays_s: float = 1.0) -> None:
        async with self.turnstiles.through(name):
            self.inside[name] = self.inside.get(name, 0) + 1
            assert self.inside[name] == 1, "two at once"
            self.passed.append((who, round(anyio.current_time(), 3)))
            try:
                await anyio.sleep(stays_s)
            finally:
                self.inside[name] -= 1

    @property
    def kept(self) -> int:
        return len(self.turnstiles._waiting)


async def test_one_after_the_other_in_the_order_of_coming() -> None:
    """Whoever comes first goes first, also among many."""
    passers = Passers()
    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(passers.go, str(number), "thread")
    assert passers.passed == [(str(number), float(number)) for number in range(20)]


async def test_names_do_not_wait_for_one_another() -> None:
    """Another thread is another lock."""
    passers = Passers()
    async with anyio.create_task_group() as tasks:
        for name in "abc":
            tasks.start_soon(passers.go, name, name)
    assert [when for _, when in passers.passed] == [0.0] * 3


async def test_nothing_is_kept_of_names_that_nobody_uses() -> None:
    """A batch of a million threads keeps as many locks as there are rows in flight."""
    passers = Passers()
    for number in range(3):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(passers.go, "first", str(number))
            tasks.start_soon(passers.go, "second", str(number))
            await anyio.wait_all_tasks_blocked()
            assert passers.kept == 1
    assert passers.kept == 0


async def test_leaving_with_an_error() -> None:
    """The next row gets the lock."""
    passers = Passers()

    async def broken() -> None:
        async with passers.turnstiles.through("thread"):
            await anyio.sleep(1)
            raise ValueError("broken")

    async def break_down() -> None:
        with pytest.raises(ValueError, match="broken"):
            await broken()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(break_down)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(passers.go, "next", "thread")
    assert passers.passed == [("next", 1.0)]
    assert passers.kept == 0


async def test_giving_up_while_waiting() -> None:
    """A row that leaves the queue delays no other, and leaves no lock."""
    passers = Passers()

    async def impatient() -> None:
        with anyio.move_on_after(0.5):
            await passers.go("impatient", "thread")

    async with anyio.create_task_group() as tasks:
        for goer in (lambda: passers.go("first", "thread", 2.0), impatient, lambda: passers.go("last", "thread")):
            tasks.start_soon(goer)
            await anyio.wait_all_tasks_blocked()
    assert [who for who, _ in passers.passed] == ["first", "last"]
    assert passers.kept == 0
