"""A service that goes away and comes back, over real sockets: what the batch does and reports meanwhile."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import anyio
import pytest

from batchrun.batch.display import watch_lines
from batchrun.batch.progress import BatchView
from batchrun.batch.run_summary import summary_lines
from tests.integration.reliability.batches import run_table, write_table
from tests.support.chat import chat_reply
from tests.support.scripted_http import Answer, Request, ScriptedHttp, json_answer, stream

pytestmark = pytest.mark.anyio


def completion(_: Request) -> Answer:
    return json_answer(chat_reply())


async def until(holds: Callable[[], bool]) -> None:
    with anyio.fail_after(60):
        while not holds():
            await anyio.sleep(0.02)


async def test_a_server_that_goes_away_and_comes_back(tmp_path: Path) -> None:
    """Its rows wait for it, each is answered, and the display shows since when the service has been unavailable."""
    table = write_table(tmp_path, 400)
    servers = [ScriptedHttp(completion)]
    servers[0].__enter__()
    port = int(servers[0].url.rsplit(":", 1)[1].split("/")[0])
    lines: list[str] = []

    async def watch(view: BatchView) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(watch_lines, view, lines.append, as_json=False, every_s=0.05))
            await until(lambda: view.statistics().completed >= 100)
            servers[0].__exit__(None, None, None)
            await until(lambda: view.statistics().limits.away_s is not None)
            await until(lambda: "service unavailable since" in lines[-1])
            servers.append(ScriptedHttp(completion, port=port))
            servers[1].__enter__()

    try:
        summary = await run_table(table, servers[0].url, watch=watch, api="chat", concurrency=10)
    finally:
        servers[-1].__exit__(None, None, None)
    assert summary.exit_code == 0
    assert [row["status"] for row in table.answers()] == ["completed"] * 400
    assert any("retrying" in line for line in lines)


async def test_a_server_that_is_loading_its_model(tmp_path: Path) -> None:
    """A 503 "Loading model" at the start uses up no attempt: with one attempt per row all rows are answered."""
    table = write_table(tmp_path, 30)
    asked = []

    def loading(request: Request) -> Answer:
        asked.append(request)
        if len(asked) <= 6:
            return json_answer({"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}, 503)
        return completion(request)

    with ScriptedHttp(loading) as server:
        summary = await run_table(table, server.url, api="chat", max_attempts=1)
    assert (summary.exit_code, summary.totals.by_status["completed"]) == (0, 30)


class OneStream:
    """Writes one stream at a time and breaks it off when another request arrives.

    Mutable state: `_latest`, the number of the latest request.
    """

    WRITES_S = 0.03

    def __init__(self) -> None:
        self._latest = 0
        self._arrived = threading.Condition()

    def __call__(self, _: Request) -> Answer:
        with self._arrived:
            self._latest += 1
            own = self._latest
            self._arrived.notify_all()
            broken_off = self._arrived.wait_for(lambda: self._latest != own, timeout=self.WRITES_S)
        text = {"id": "c", "model": "m", "choices": [{"index": 0, "delta": {"content": "yes"}}]}
        end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        told = [text] if broken_off else [text, end]
        return stream(*(f"data: {json.dumps(each)}\n\n".encode() for each in told), b"data: [DONE]\n\n")


async def test_a_server_that_drops_a_stream_for_the_next_request(tmp_path: Path) -> None:
    """Rows are sent one at a time, no row fails, and the summary reports it."""
    table = write_table(tmp_path, 20)
    with ScriptedHttp(OneStream()) as server:
        summary = await run_table(table, server.url, api="chat", stream=True)
    assert (summary.exit_code, summary.totals.by_status["completed"]) == (0, 20)
    assert any("one at a time" in line for line in summary_lines(summary))
