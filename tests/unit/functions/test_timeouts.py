"""Timeouts of async functions, on a virtual clock."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import anyio
import pytest

from batchrun.functions import Toolbox
from batchrun.records import ToolCall, ToolOutput

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


@pytest.fixture
def toolbox(tmp_path: Path) -> Toolbox:
    path = tmp_path / "tools.py"
    path.write_text(
        dedent(
            """
            import asyncio, anyio
            async def wait(s: float) -> str:
                "Wait."
                await anyio.sleep(s)
                return "done"
            async def stubborn() -> str:
                "Answer too late."
                try:
                    await asyncio.sleep(100)
                except asyncio.CancelledError:
                    return "half an answer"
            async def impatient() -> str:
                "Have a timeout of one's own."
                async with asyncio.timeout(1):
                    await asyncio.sleep(100)
            async def ends_itself() -> str:
                "Cancel the task."
                asyncio.current_task().cancel()
                await asyncio.sleep(100)
            """
        )
    )
    return Toolbox.load(path, timeout_s=60, max_parallel=1)


async def test_each_call_has_its_time(toolbox: Toolbox) -> None:
    """Calls run concurrently, and the timeout of one does not affect the others."""
    began_s = anyio.current_time()
    outputs = await toolbox.call([ToolCall(str(s), "wait", f'{{"s": {s}}}') for s in (59, 61, 1, 1e6)])
    late = '{"error": "timeout: the function took longer than 60 s"}'
    assert outputs == (
        ToolOutput("59", "done"),
        ToolOutput("61", late, failed=True),
        ToolOutput("1", "done"),
        ToolOutput("1000000.0", late, failed=True),
    )
    assert anyio.current_time() - began_s == pytest.approx(60)


async def test_an_answer_at_the_last_moment(toolbox: Toolbox) -> None:
    """A function that returns a value on cancellation has answered."""
    assert await toolbox.call([ToolCall("1", "stubborn", "{}")]) == (ToolOutput("1", "half an answer"),)


async def test_a_timeout_of_its_own(toolbox: Toolbox) -> None:
    """A timeout inside the function is an exception of the function."""
    (output,) = await toolbox.call([ToolCall("1", "impatient", "{}")])
    assert output == ToolOutput("1", '{"error": "TimeoutError"}', failed=True)
    assert anyio.current_time() < 2


async def test_cancellation_goes_through(toolbox: Toolbox) -> None:
    """A cancelled row gets no output."""
    with anyio.move_on_after(5) as scope:
        await toolbox.call([ToolCall("1", "wait", '{"s": 10}')])
    assert scope.cancelled_caught


async def test_a_function_that_cancels_its_own_task(toolbox: Toolbox) -> None:
    """A call whose task the function cancels has failed, and the calls beside it have their outputs."""
    calls = [ToolCall("1", "ends_itself", "{}"), ToolCall("2", "wait", '{"s": 1}')]
    ended, beside = await toolbox.call(calls)
    assert (ended.failed, beside) == (True, ToolOutput("2", "done"))
    assert "cancelled its own task" in ended.text
