"""No batch waits forever, whatever the service fails to do."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.reliability.batches import Table, run_table, write_table
from tests.support.scripted_http import Answer, Request, ScriptedHttp, event, json_answer, stream

pytestmark = pytest.mark.anyio

NOTHING = Answer(b"", "silence")
ASSISTANT = json_answer({"id": "asst_1"})


def run(row: str, status: str) -> dict[str, Any]:
    return {"id": f"run_{row}", "thread_id": f"thread_{row}", "status": status, "model": "m", "usage": None}


def row_of(request: Request) -> str:
    return str(request.body["metadata"]["row"])


def begun(row: str) -> bytes:
    return event("thread.run.created", run(row, "queued"))


def answered(row: str) -> Answer:
    part = {"type": "text", "text": {"value": f"answer {row}", "annotations": []}}
    message = {"id": "msg_1", "role": "assistant", "content": [part]}
    return stream(
        begun(row),
        event("thread.message.completed", message),
        event("thread.run.completed", run(row, "completed")),
        event("done", "[DONE]"),
    )


def statuses(table: Table) -> list[tuple[str, str]]:
    return [(row["status"], row["error_type"]) for row in table.answers()]


async def test_a_server_that_accepts_and_never_answers(tmp_path: Path) -> None:
    """Rows whose requests are never answered fail as `timeout` after their attempts, and the batch ends."""
    table = write_table(tmp_path, 3)

    def script(request: Request) -> Answer:
        return ASSISTANT if request.path.endswith("/assistants") else NOTHING

    with ScriptedHttp(script) as server:
        summary = await run_table(table, server.url, api="assistants", max_attempts=2, silence_timeout=0.2)
    assert summary.exit_code == 3
    assert statuses(table) == [("failed", "timeout")] * 3


async def test_a_server_that_never_answers_at_all(tmp_path: Path) -> None:
    """If not even the first request is answered, the batch stops with one line and exit code 5."""
    table = write_table(tmp_path, 3)
    with ScriptedHttp(lambda _: NOTHING) as server:
        summary = await run_table(table, server.url, api="assistants", max_attempts=2, silence_timeout=0.1)
    assert summary.exit_code == 5
    assert summary.stop is not None
    assert "sent nothing within the deadline" in summary.stop.reason


async def test_a_stream_that_falls_silent(tmp_path: Path) -> None:
    """A stream that stops without an end is abandoned after the silence timeout, and its run is looked up by its id."""
    table = write_table(tmp_path, 2)

    def script(request: Request) -> Answer:
        if request.path.endswith("/assistants"):
            return ASSISTANT
        if request.method == "POST":
            return stream(begun(row_of(request)), end="silence")
        row = request.path.split("run_")[-1]
        if "/runs/" in request.path:
            return json_answer(run(row, "completed"))
        row = request.path.split("/thread_")[1].split("/")[0]
        part = {"type": "text", "text": {"value": f"answer {row}", "annotations": []}}
        return json_answer({"data": [{"role": "assistant", "content": [part]}], "has_more": False})

    with ScriptedHttp(script) as server:
        summary = await run_table(table, server.url, api="assistants", max_attempts=2, silence_timeout=0.2)
    assert summary.exit_code == 0
    assert [row["response"] for row in table.answers()] == ["answer 0", "answer 1"]
    assert sum(request.method == "POST" and "threads" in request.path for request in server.requests) == 2


@pytest.mark.parametrize("beginning", ["queued for ever", "kept alive for ever"])
async def test_a_run_that_never_ends(tmp_path: Path, beginning: str) -> None:
    """A run that stays queued, or whose stream carries only comments, ends at the row's deadline and is cancelled."""
    table = write_table(tmp_path, 2)

    def script(request: Request) -> Answer:
        if request.path.endswith("/assistants"):
            return ASSISTANT
        if request.path.endswith("/cancel"):
            return json_answer(run(request.path.split("/run_")[1].split("/")[0], "cancelling"))
        if request.method == "GET":
            return json_answer(run(request.path.split("run_")[-1], "queued"), openai_poll_after_ms="20")
        row = row_of(request)
        if beginning == "queued for ever":
            return json_answer(run(row, "queued"))
        comments = [b": keep-alive\n\n"] * 5_000
        return stream(begun(row), *comments, end="silence")

    with ScriptedHttp(script) as server:
        summary = await run_table(
            table, server.url, api="assistants", max_attempts=2, silence_timeout=30.0, row_timeout=0.8
        )
    assert summary.exit_code == 3
    assert statuses(table) == [("failed", "row_timeout")] * 2
    assert {path for path in server.paths() if path.endswith("/cancel")} == {
        f"POST /threads/thread_{row}/runs/run_{row}/cancel" for row in range(2)
    }


def failing_once(of_rows: Callable[[str], bool]) -> Callable[[Request], Answer]:
    """Return a server on which the first attempt of some rows breaks before it names a run."""
    tries: dict[str, itertools.count[int]] = {}

    def script(request: Request) -> Answer:
        if request.path.endswith("/assistants"):
            return ASSISTANT
        row = row_of(request)
        if of_rows(row) and next(tries.setdefault(row, itertools.count())) == 0:
            return stream(end="cut")
        return answered(row)

    return script


@pytest.mark.parametrize("row", ["0", "11"])
async def test_the_last_row_is_tried_again_like_the_first(tmp_path: Path, row: str) -> None:
    """A lost first attempt is repeated, whether it belongs to the batch's first row or to its last."""
    table = write_table(tmp_path, 12)
    with ScriptedHttp(failing_once(lambda each: each == row)) as server:
        summary = await run_table(table, server.url, api="assistants", max_attempts=2)
    assert summary.exit_code == 0
    assert [answer["response"] for answer in table.answers()] == [f"answer {each}" for each in range(12)]
    assert [answer["attempts"] for answer in table.answers()].count("2") == 1
    assert table.answers()[int(row)]["attempts"] == "2"
