"""Batches against llama.cpp's server: a real engine with one slot, which answers nonsense at the pace of a model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from batchrun.batch.plan import make_plan
from batchrun.batch.progress import BatchView
from batchrun.batch.run import run_batch
from batchrun.batch.run_summary import Summary
from batchrun.job.environment import Environment
from batchrun.job.validation import make_job
from tests.integration.compat.llama import CONTEXT_TOKENS, INSTALLED, Llama, running
from tests.support.rows import read_csv, write_csv

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.compat,
    pytest.mark.skipif(not INSTALLED, reason="run tests/integration/compat/install.sh llama first"),
    pytest.mark.timeout(300),
]

QUESTIONS = [f"What is 6 * {number}?" for number in range(5)]
VERDICT = {
    "type": "object",
    "properties": {"verdict": {"type": "string", "enum": ["yes", "no"]}},
    "required": ["verdict"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Llama]:
    """A running server."""
    with running(tmp_path_factory.mktemp("llama")) as server:
        yield server


@pytest.fixture
def own_llama(tmp_path: Path) -> Iterator[Llama]:
    """A running server that the test may kill."""
    with running(tmp_path) as server:
        yield server


async def run(
    folder: Path, llama: Llama, questions: Sequence[str] = QUESTIONS, watch: Any = None, **options: Any
) -> tuple[Summary, list[dict[str, str]]]:
    """Run a batch of questions; return its summary and its table."""
    table = write_csv(folder / "in.csv", [{"question": question} for question in questions])
    environment = Environment(api_key="none")
    given = {"api": "chat", "base_url": llama.url, "model": "smollm2", "max_completion_tokens": 12, **options}
    plan = make_plan(make_job(given), table, environment, folder / "out.csv")
    summary = await run_batch(plan, environment, watch=watch)
    if summary.output is None:
        return summary, []
    return summary, read_csv(summary.output)


@pytest.mark.parametrize("options", [{"api": "chat"}, {"api": "chat", "stream": True}, {"api": "responses"}])
async def test_an_answer_cut_at_the_limit(tmp_path: Path, llama: Llama, options: dict[str, Any]) -> None:
    """An answer that reaches the limit is incomplete and has its text and usage, in each mode."""
    _, rows = await run(tmp_path, llama, max_completion_tokens=24, temperature=0.0, **options)
    assert {(row["status"], row["completion_tokens"], row["attempts"]) for row in rows} == {("incomplete", "24", "1")}
    assert all(row["response"] and int(row["prompt_tokens"]) > 0 for row in rows)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_of_a_given_form(tmp_path: Path, llama: Llama, stream: bool) -> None:
    """A schema constrains the engine: answers end by themselves and are valid."""
    schema = tmp_path / "verdict.json"
    schema.write_text(json.dumps(VERDICT))
    summary, rows = await run(tmp_path, llama, schema=str(schema), stream=stream, max_completion_tokens=100)
    assert summary.exit_code == 0
    assert {row["verdict"] for row in rows} <= {"yes", "no"}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_row_that_is_too_long(tmp_path: Path, llama: Llama, stream: bool) -> None:
    """A row that exceeds the context fails at its first attempt with the usual error type; the other rows are
    answered."""
    questions = ["short", "long " * 2 * CONTEXT_TOKENS, "short again"]
    summary, rows = await run(tmp_path, llama, questions, stream=stream)
    assert summary.stop is None
    assert [row["status"] for row in rows] == ["incomplete", "failed", "incomplete"]
    assert (rows[1]["error_type"], rows[1]["attempts"]) == ("context_length_exceeded", "1")


@pytest.mark.parametrize(
    ("options", "endpoint"),
    [({"api": "responses", "conversation": True}, "/conversations"), ({"api": "assistants"}, "/assistants")],
)
async def test_an_endpoint_that_it_does_not_have(
    tmp_path: Path, llama: Llama, options: dict[str, Any], endpoint: str
) -> None:
    """A 404 "File Not Found" stops the batch with a line that names the endpoint."""
    summary, _ = await run(tmp_path, llama, **options)
    assert summary.exit_code == 5
    assert summary.stop is not None
    assert endpoint in summary.stop.reason


async def test_one_slot(tmp_path: Path, llama: Llama) -> None:
    """Each of two hundred rows with the default concurrency is answered at its first attempt."""
    summary, rows = await run(tmp_path, llama, [f"What is 7 * {number}?" for number in range(200)])
    assert summary.totals.by_status["failed"] == 0
    assert {row["attempts"] for row in rows} == {"1"}


@pytest.mark.parametrize("stream", [False, True])
async def test_it_is_killed_and_started_again(tmp_path: Path, own_llama: Llama, stream: bool) -> None:
    """A server that is killed during a batch and is back after 5 s costs no row."""

    async def kill_and_start(view: BatchView) -> None:
        while view.statistics().incomplete < 50:
            await anyio.sleep(0.05)
        own_llama.kill()
        await anyio.sleep(5)
        own_llama.start()

    questions = [f"What is 8 * {number}?" for number in range(150)]
    summary, rows = await run(tmp_path, own_llama, questions, kill_and_start, stream=stream, max_completion_tokens=40)
    assert summary.stop is None
    assert {row["status"] for row in rows} == {"incomplete"}


async def test_the_batch_begins_before_the_server(tmp_path: Path, own_llama: Llama) -> None:
    """The batch waits while connections are refused and while the server replies "Loading model"."""
    own_llama.kill()

    async def start(view: BatchView) -> None:
        await anyio.sleep(2)
        own_llama.start()

    summary, rows = await run(tmp_path, own_llama, watch=start)
    assert summary.stop is None
    assert {row["status"] for row in rows} == {"incomplete"}
