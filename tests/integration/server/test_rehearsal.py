from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

from batchrun.server import EmbeddedServer, ManualClock, ServerSettings
from batchrun.server.responders.fault_injection import FaultPlan
from tests.integration.server.conftest import Running
from tests.integration.server.scripted import Scripted, echo

PLAN = """
[[fault]]
kind = "http_429"
rows = ["1"]
retry_after_s = 2

[[fault]]
kind = "http_500"
rows = ["2"]

[[fault]]
kind = "html"
rows = ["3"]

[[fault]]
kind = "drop"
rows = ["4"]
after_deltas = 1
"""


@pytest.fixture
def rehearsing(tmp_path: Path) -> Iterator[Running]:
    path = tmp_path / "faults.toml"
    path.write_text(PLAN)
    responder, clock = Scripted(echo), ManualClock()
    server = EmbeddedServer(ServerSettings(shutdown_grace_s=0.05), responder, clock=clock, faults=FaultPlan.load(path))
    with server, OpenAI(base_url=server.url, api_key="any", max_retries=0) as client:
        yield Running(server, client, responder, clock)


def run(running: Running, row: str, **options: Any) -> Any:
    return running.client.beta.threads.create_and_run(
        assistant_id=running.assistant(), metadata={"row": row}, stream=True, **options
    )


def test_planned_errors_do_no_work(rehearsing: Running) -> None:
    """The replies are the planned 429 with Retry-After, 500 and HTML page, and no run is created."""
    with pytest.raises(openai.RateLimitError) as limited:
        run(rehearsing, "1")
    assert limited.value.response.headers["retry-after"] == "2"
    with pytest.raises(openai.InternalServerError):
        run(rehearsing, "2")
    with pytest.raises(openai.InternalServerError) as html:
        run(rehearsing, "3")
    assert html.value.response.headers["content-type"] == "text/html"
    assert rehearsing.responder.asked == []


def test_a_dropped_stream_breaks_off_and_its_run_continues(rehearsing: Running) -> None:
    """A drop closes the connection after its deltas; the run finishes, and the same key returns it."""
    seen: list[str] = []
    with run(rehearsing, "4") as stream, pytest.raises(openai.APIConnectionError):
        seen.extend(event.event for event in stream)
    assert seen.count("thread.message.delta") == 1
    listed: Any = rehearsing.client.get(
        "/threads", cast_to=object, options={"headers": {"OpenAI-Beta": "assistants=v2"}}
    )
    (thread,) = listed["data"]
    (finished,) = rehearsing.client.beta.threads.runs.list(thread["id"]).data
    assert finished.status == "completed"


def test_other_rows_get_no_fault(rehearsing: Running) -> None:
    """A row that the plan does not name gets its answer."""
    assert [event.event for event in run(rehearsing, "5")][-1] == "thread.run.completed"


def test_limits_are_reported_and_enforced(rehearsing: Running, tmp_path: Path) -> None:
    """With a request limit replies have x-ratelimit headers, and a request over the limit gets a 429 with Retry-After."""
    settings = ServerSettings(requests_per_minute=2, shutdown_grace_s=0.05, data=tmp_path / "data.sqlite3")
    clock = ManualClock()
    with (
        EmbeddedServer(settings, Scripted(echo), clock=clock) as server,
        OpenAI(base_url=server.url, api_key="any", max_retries=0) as client,
    ):
        reply = client.models.with_raw_response.list()
        assert reply.headers["x-ratelimit-limit-requests"] == "2"
        assert reply.headers["x-ratelimit-remaining-requests"] == "1"
        client.models.list()
        with pytest.raises(openai.RateLimitError) as caught:
            client.models.list()
        assert caught.value.response.headers["retry-after"] == "30"
        clock.advance(30)
        client.models.list()
