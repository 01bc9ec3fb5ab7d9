"""The actor of a worker, without Ray: its methods are called as Ray calls them, on one event loop."""

from __future__ import annotations

import anyio
import pytest

from batchrun.scale.links import LeaderLost, Port
from batchrun.scale.ray_worker import BEAT_S, LEASE_S, RayWorker

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


async def echo(port: Port) -> None:
    """Answer each message with itself."""
    while True:
        await port.send(await port.receive())


async def test_messages_stay_until_they_are_confirmed() -> None:
    """An answer that the leader did not get is given again; once confirmed it is not."""
    worker = RayWorker(echo)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.live)
        assert await worker.take(((1, "a"), (2, "b"))) == 2
        assert await worker.take(((1, "a"), (2, "b"))) == 2
        await anyio.wait_all_tasks_blocked()
        assert await worker.give(0, 1.0) == (((1, "a"), (2, "b")), None)
        assert await worker.give(0, 1.0) == (((1, "a"), (2, "b")), None)
        assert await worker.give(1, 1.0) == (((2, "b"),), None)
        before_s = anyio.current_time()
        assert await worker.give(2, 1.0) == ((), None)
        assert anyio.current_time() - before_s == pytest.approx(1.0, abs=0.01)
        await worker.end()


async def test_a_beat_keeps_the_worker() -> None:
    """A worker lives as long as beats come, also if nothing else does; after `end` it loses its leader."""
    worker = RayWorker(echo)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.live)
        for _ in range(20):
            await anyio.sleep(LEASE_S - 2 * BEAT_S)
            await worker.beat()
        assert await worker.give(0, 0.0) == ((), None)
        await worker.end()
    assert (await worker.give(0, 1.0))[1] == "has ended, because it did not hear from the leader"


async def test_messages_before_the_end_are_given_with_it() -> None:
    """A worker that ends after a message has given both; its leader confirms the message by the next call."""

    async def once(port: Port) -> None:
        await port.send("the last words")

    worker = RayWorker(once)
    await worker.live()
    assert await worker.give(0, 1.0) == (((1, "the last words"),), "has ended")
    assert await worker.give(1, 1.0) == ((), "has ended")


async def test_an_error_is_how_a_worker_ended(capsys: pytest.CaptureFixture[str]) -> None:
    """The leader gets the error in a line; all of it is on the standard error of the actor, which Ray keeps."""

    async def fail(_port: Port) -> None:
        raise ValueError("seven is not a colour")

    worker = RayWorker(fail)
    await worker.live()
    assert await worker.give(0, 1.0) == ((), "has failed: ValueError: seven is not a colour")
    assert "Traceback" in capsys.readouterr().err


async def test_a_lost_leader_is_lost_for_sending_too() -> None:
    """Both directions of the port raise, and messages that were not taken are dropped: the worker stops at once."""
    seen = []

    async def look(port: Port) -> None:
        seen.append(await port.receive())
        await anyio.sleep(1)
        for step in (port.receive, lambda: port.send("late")):
            try:
                await step()
            except LeaderLost:
                seen.append("lost")

    worker = RayWorker(look)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.live)
        await worker.take(((1, "a"), (2, "b")))
        await anyio.sleep(0.5)
        await worker.end()
    assert seen == ["a", "lost", "lost"]
