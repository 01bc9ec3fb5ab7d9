"""Background responses over real sockets: at a service that stores nothing, and at the end of a row's time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.integration.reliability.batches import run_table, write_table
from tests.support.scripted_http import Answer, Request, ScriptedHttp, html, json_answer

pytestmark = pytest.mark.anyio


def response(number: int | str, status: str) -> dict[str, Any]:
    parts = [{"type": "output_text", "text": "yes", "annotations": []}]
    output = [{"type": "message", "role": "assistant", "content": parts}] if status == "completed" else []
    return {"id": f"resp_{number}", "object": "response", "status": status, "model": "m", "output": output}


@pytest.mark.parametrize("answer", [json_answer({"detail": "Not Found"}, 404), html("gone", 404), html("no", 405)])
async def test_background_at_a_service_that_cannot_look_up(tmp_path: Path, answer: Answer) -> None:
    """The batch stops with pending rows before more than the first rows are paid for, and reports what to do; without
    `--background` the same command runs the rest."""
    table = write_table(tmp_path, 60)
    made: list[str] = []

    def forgetful(request: Request) -> Answer:
        if request.method == "GET":
            return answer
        made.append(request.body["input"])
        return json_answer(response(len(made), "queued" if request.body.get("background") else "completed"))

    with ScriptedHttp(forgetful) as server:
        summary = await run_table(table, server.url, api="responses", background=True)
        assert (summary.exit_code, summary.totals.by_status["failed"]) == (5, 0)
        assert summary.stop is not None
        assert "without --background" in summary.stop.reason
        assert len(made) == len(set(made)) <= 20
        made.clear()
        summary = await run_table(table, server.url, api="responses")
    assert (summary.exit_code, summary.totals.by_status["completed"]) == (0, 60)
    assert len(made) == len(set(made)) == 60


@pytest.mark.parametrize("reply", ["answer", "refusal"])
async def test_out_of_time_behind_an_answer(tmp_path: Path, reply: str) -> None:
    """A response that has ended when its row's time is over is used, whichever way the service reports the end when it
    is cancelled."""
    table = write_table(tmp_path, 1)
    cancelled: list[str] = []

    def late(request: Request) -> Answer:
        if request.path.endswith("/cancel"):
            cancelled.append(request.path)
            if reply == "refusal":
                return json_answer({"error": {"message": "Cannot cancel a completed response.", "code": None}}, 400)
            return json_answer(response(1, "completed"))
        status = "completed" if cancelled else "in_progress"
        return json_answer(response(1, status))

    with ScriptedHttp(late) as server:
        summary = await run_table(table, server.url, api="responses", background=True, row_timeout=0.3)
    assert (summary.exit_code, len(cancelled)) == (0, 1)
    assert [row["response"] for row in table.answers()] == ["yes"]
