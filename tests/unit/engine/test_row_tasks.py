"""Tasks that run one row after the other."""

from __future__ import annotations

import asyncio
from contextlib import closing

import anyio
import pytest

from batchrun.engine.row_tasks import RowTasks

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


class Rows:
    """Rows of a second, and the tasks that ran them."""

    def __init__(self) -> None:
        self.tasks: list[object] = []
        self.ended_s: list[float] = []

    async def one(self) -> None:
        self.tasks.append(asyncio.current_task())
        await anyio.sleep(1.0)
        self.ended_s.append(round(anyio.current_time(), 3))


async def test_a_task_whose_row_has_ended_runs_another_one() -> None:
    """Rows that come at once are run at once; later ones need no further task."""
    rows = Rows()
    start_s = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        with closing(RowTasks(tasks)) as row_tasks:
            for _ in range(3):
                for _ in range(4):
                    row_tasks.start(rows.one())
                await anyio.sleep(1.5)
    assert [round(ended_s - start_s, 3) for ended_s in rows.ended_s] == [1.0] * 4 + [2.5] * 4 + [4.0] * 4
    assert len(set(rows.tasks)) == 4


async def test_an_error_of_a_later_row_ends_all() -> None:
    """What a row raises in a task that ran another row before ends the task group."""
    rows = Rows()

    async def broken() -> None:
        raise OSError("the journal cannot be written")

    async def run() -> None:
        async with anyio.create_task_group() as tasks:
            with closing(RowTasks(tasks)) as row_tasks:
                row_tasks.start(rows.one())
                await anyio.sleep(1.5)
                row_tasks.start(broken())
                await anyio.sleep(1.0)
                pytest.fail("not cancelled")

    with pytest.raises(ExceptionGroup) as caught:
        await run()
    assert [str(each) for each in caught.value.exceptions] == ["the journal cannot be written"]


async def test_a_row_given_while_all_are_cancelled_begins() -> None:
    """A row begins even if its task is cancelled in the same moment: it has a lease to give back."""
    given_back = []

    async def row() -> None:
        try:
            await anyio.sleep(1.0)
        finally:
            given_back.append(True)

    async with anyio.create_task_group() as tasks:
        with closing(RowTasks(tasks)) as row_tasks:
            row_tasks.start(row())
            await anyio.sleep(1.5)
            row_tasks.start(row())
            tasks.cancel_scope.cancel()
    assert len(given_back) == 2
