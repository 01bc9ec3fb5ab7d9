"""Lives of workers for the tests of links over Ray. The actors import this module."""

from __future__ import annotations

import os
import time
from pathlib import Path

import anyio

from batchrun.scale.links import LeaderLost, Port

__all__ = ["echo", "fail", "leave", "record"]


async def echo(port: Port) -> None:
    """Answer each message with itself and the number of the process; a number of seconds is slept first."""
    while True:
        message = await port.receive()
        if isinstance(message, float):
            time.sleep(message)  # noqa: ASYNC251 - a worker whose loop is busy
        await port.send((message, os.getpid()))


async def record(port: Port) -> None:
    """Write a line into the file whose path comes first, ten times a second, and one with the end of the life."""
    path = await port.receive()
    assert isinstance(path, Path)
    async with anyio.create_task_group() as tasks:

        async def wait_for_end() -> None:
            try:
                await port.receive()
            except LeaderLost:
                _write(path, "lost the leader")
                raise

        tasks.start_soon(wait_for_end)
        await port.send(os.getpid())
        while True:
            _write(path, str(os.getpid()))
            await anyio.sleep(0.1)


def _write(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(f"{text}\n")


async def fail(port: Port) -> None:
    """Fail after the first message."""
    await port.receive()
    raise ValueError("seven is not a colour")


async def leave(port: Port) -> None:
    """Answer two messages and end."""
    for _ in range(2):
        await port.send(await port.receive())
