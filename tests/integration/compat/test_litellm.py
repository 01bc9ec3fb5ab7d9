"""Batches against LiteLLM's proxy: the real replies of a compatible server, where they differ from OpenAI's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from batchrun.batch.plan import make_plan
from batchrun.batch.run import run_batch
from batchrun.batch.run_summary import Summary
from batchrun.job.environment import Environment
from batchrun.job.validation import make_job
from tests.integration.compat.litellm import ANSWER, BRIDGED, INSTALLED, KEY, running
from tests.integration.reliability.network import Proxy
from tests.support.rows import read_csv, write_csv

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.compat,
    pytest.mark.skipif(not INSTALLED, reason="run tests/integration/compat/install.sh first"),
    pytest.mark.timeout(300),
]

ROWS = 5


@pytest.fixture(scope="module")
def litellm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of the proxy."""
    with running(tmp_path_factory.mktemp("litellm")) as url:
        yield url


async def run(folder: Path, url: str, **options: Any) -> tuple[Summary, list[dict[str, str]]]:
    """Run a batch of five rows; return its summary and its table."""
    table = write_csv(folder / "in.csv", [{"question": f"What is 6 * {number}?"} for number in range(ROWS)])
    environment = Environment(api_key=options.pop("key", KEY))
    job = make_job({"base_url": url, "model": "mocked", "max_attempts": 2, **options})
    plan = make_plan(job, table, environment, folder / "out.csv")
    summary = await run_batch(plan, environment)
    if summary.output is None:
        return summary, []
    return summary, read_csv(summary.output)


@pytest.mark.parametrize("model", ["mocked", BRIDGED])
@pytest.mark.parametrize("stream", [False, True])
async def test_chat(tmp_path: Path, litellm: str, model: str, stream: bool) -> None:
    """Chat Completions, plain and streamed, are complete, with ids and usage, for one request per row."""
    with Proxy(litellm) as proxy:
        summary, rows = await run(tmp_path, proxy.url, api="chat", model=model, stream=stream)
    assert summary.exit_code == 0
    assert {row["response"] for row in rows} == {ANSWER}
    assert len({row["run_id"] for row in rows}) == ROWS
    assert all(int(row["prompt_tokens"]) > 0 and int(row["total_tokens"]) > 0 for row in rows)
    assert [request.path for request in proxy.requests] == ["/v1/chat/completions"] * ROWS


@pytest.mark.parametrize(
    ("model", "options"),
    [("mocked", {}), ("mocked", {"background": True}), (BRIDGED, {}), (BRIDGED, {"stream": True})],
)
async def test_responses(tmp_path: Path, litellm: str, model: str, options: dict[str, bool]) -> None:
    """Responses are complete, with ids and usage, for one request per row, even from a stream without event lines."""
    with Proxy(litellm) as proxy:
        summary, rows = await run(tmp_path, proxy.url, api="responses", model=model, **options)
    assert summary.exit_code == 0
    assert {row["response"] for row in rows} == {ANSWER}
    assert len({row["run_id"] for row in rows}) == ROWS
    assert all(row["thread_id"] == row["run_id"] for row in rows)
    assert all(int(row["total_tokens"]) > 0 for row in rows)
    assert [request.path for request in proxy.requests] == ["/v1/responses"] * ROWS


@pytest.mark.parametrize("api", ["chat", "responses"])
async def test_an_unknown_model_stops_the_batch(tmp_path: Path, litellm: str, api: str) -> None:
    """A model that the proxy does not know stops the batch with the proxy's message, although the reply is a 400
    without `param`."""
    summary, _ = await run(tmp_path, litellm, api=api, model="nosuch", concurrency=1)
    assert summary.exit_code == 5
    assert summary.stop is not None
    assert "nosuch" in summary.stop.reason


async def test_a_rate_limit(tmp_path: Path, litellm: str) -> None:
    """A 429 of the proxy is a rate limit: the row is retried and then fails with the usual error type."""
    summary, rows = await run(tmp_path, litellm, api="chat", model="limited")
    assert summary.exit_code == 3
    assert {(row["status"], row["error_type"], row["attempts"]) for row in rows} == {
        ("failed", "rate_limit_exceeded", "2")
    }


async def test_a_row_that_is_too_long(tmp_path: Path, litellm: str) -> None:
    """A row that exceeds the context fails, and the batch continues."""
    summary, rows = await run(tmp_path, litellm, api="chat", model="long", max_completion_tokens=5)
    assert summary.stop is None
    assert {(row["status"], row["attempts"]) for row in rows} == {("failed", "1")}
    assert all("context" in row["error"].lower() for row in rows)


async def test_no_conversations(tmp_path: Path, litellm: str) -> None:
    """The proxy has no Conversations: the batch stops with a line that names the endpoint."""
    summary, _ = await run(tmp_path, litellm, api="responses", conversation=True)
    assert summary.exit_code == 5
    assert summary.stop is not None
    assert "/conversations" in summary.stop.reason
