"""The tasks that run rows. A task whose row has ended runs another one, which takes less CPU than a new task."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeAlias

import anyio.abc

__all__ = ["RowTasks"]

_Row: TypeAlias = Coroutine[Any, Any, None]


class RowTasks:
    """Runs rows in tasks of a task group, as many at once as there are rows.

    Mutable state: `_waiting`, the tasks without a row, by the future that gives them one; `_is_closed`, set when no
    more rows come.
    """

    def __init__(self, tasks: anyio.abc.TaskGroup) -> None:
        self._tasks = tasks
        self._waiting: list[asyncio.Future[_Row | None]] = []
        self._is_closed = False

    def start(self, row: _Row) -> None:
        """Run a row, at once or when this task waits."""
        while self._waiting:
            waiting = self._waiting.pop()
            if not waiting.done():  # else its task was cancelled
                waiting.set_result(row)
                return
        self._tasks.start_soon(self._run, row)

    def close(self) -> None:
        """Let the tasks end when their rows have ended."""
        self._is_closed = True
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)
        self._waiting.clear()

    async def _run(self, row: _Row | None) -> None:
        while row is not None:
            await row
            row = None if self._is_closed else await self._next()

    async def _next(self) -> _Row | None:
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        found: _Row | None = await waiting
        return found
