"""--fallback-model in the three protocols, as users see it: the table, the summary, a resumed batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import batchrun
from batchrun.batch.plan import make_plan
from batchrun.batch.run import run_batch
from batchrun.batch.run_summary import Summary, summary_facts, summary_lines
from batchrun.batch.status import batch_status, status_lines
from batchrun.errors import InputError
from batchrun.estimate.dry_run import DryRun, dry_run, dry_run_lines
from batchrun.estimate.recount import batch_costs
from batchrun.job.environment import Environment
from batchrun.job.validation import make_job
from batchrun.server import EmbeddedServer, ServerSettings
from batchrun.server.responders.base import Conversation, Finish, Part, ResponderError, TextDelta
from tests.support.command import batchrun as command
from tests.support.recording import Recording
from tests.support.rows import read_csv, write_csv

KEY = Environment(api_key="sk-test-0123456789")
TABLE = [{"question": "plain"}, {"question": "forbidden"}, {"question": "long"}]
PRICES = {"m": {"input": 0.0, "output": 1_000_000.0}, "b": {"input": 0.0, "output": 10_000_000.0}}


def _reply(conversation: Conversation) -> str | Sequence[Part]:
    question = conversation.messages[-1].text
    if conversation.model == "m" and question == "forbidden":
        return [TextDelta("I cannot.", refusal=True), Finish("stop")]
    if conversation.model == "m" and question == "long":
        raise ResponderError("the prompt is refused", code="invalid_prompt", status_code=400)
    return "yes"


@pytest.fixture
def service() -> Iterator[tuple[str, Recording]]:
    responder = Recording(reply=_reply)
    with EmbeddedServer(ServerSettings(shutdown_grace_s=0.05), responder) as server:
        yield server.url, responder


async def run(folder: Path, url: str, **options: Any) -> Summary:
    table = write_csv(folder / "in.csv", TABLE)
    job = make_job({"model": "m", "prices": PRICES, "base_url": url, **options})
    return await run_batch(make_plan(job, table, KEY, folder / "out.csv"), KEY)


def estimate_of(folder: Path, **options: Any) -> DryRun:
    job = make_job({"model": "m", "prices": PRICES, "fallback_model": "b", **options})
    return dry_run(make_plan(job, write_csv(folder / "in.csv", TABLE), KEY, folder / "out.csv"))


@pytest.mark.anyio
@pytest.mark.parametrize(
    "mode", [{"api": "assistants"}, {"api": "responses"}, {"api": "chat"}, {"api": "chat", "stream": True}]
)
async def test_each_protocol(tmp_path: Path, service: tuple[str, Recording], mode: dict[str, Any]) -> None:
    """A refusal and a failure are asked of the other model, whose name, attempts and cost are in the table; the
    summary and the status count them by model, and `batchrun costs` computes the same costs."""
    url, responder = service
    summary = await run(tmp_path, url, fallback_model="b", budget=1e6, **mode)
    assert summary.exit_code == 0
    rows = read_csv(tmp_path / "out.csv")
    assert [(row["response"], row["model"], row["attempts"]) for row in rows] == [
        ("yes", "m", "1"), ("yes", "b", "2"), ("yes", "b", "2"),
    ]  # fmt: skip
    assert sorted((each.messages[-1].text, each.model) for each in responder.asked) == [
        ("forbidden", "b"), ("forbidden", "m"), ("long", "b"), ("long", "m"), ("plain", "m"),
    ]  # fmt: skip
    plain, forbidden, long = (float(row["cost_usd"]) for row in rows)
    assert long == 10 * plain
    assert forbidden > long + plain  # the refusal is longer than the answer, and was paid for as well
    lines = "\n".join(summary_lines(summary))
    assert "the fallback model was asked about 2 rows: 1 × invalid_prompt, 1 × refusal" in lines
    assert "m: 1 row" in lines
    assert "b: 2 rows" in lines
    assert summary_facts(summary)["fallbacks"] == {"invalid_prompt": 1, "refusal": 1}
    facts = batch_status(tmp_path / "out.csv")
    assert {name: model["rows"] for name, model in facts["models"].items()} == {"b": 2, "m": 1}
    assert any("b: 2 rows" in line for line in status_lines(facts))
    costs = batch_costs(tmp_path / "out.csv")
    assert float(sum(entry.computed for entry in costs.models)) == pytest.approx(plain + forbidden + long)


@pytest.mark.anyio
async def test_an_option_that_comes_later(tmp_path: Path, service: tuple[str, Recording]) -> None:
    """With --retry-failed, rows that an earlier run was refused are asked of the new fallback model only, and others
    keep their answers; a later run without the option changes nothing."""
    url, responder = service
    await run(tmp_path, url, api="chat")
    responder.asked.clear()
    await run(tmp_path, url, api="chat", fallback_model="b")
    assert responder.asked == []
    estimate = estimate_of(tmp_path, base_url=url, api="chat", retry_failed=True)
    assert (estimate.to_ask, estimate.finished_before) == (2, 1)
    await run(tmp_path, url, api="chat", fallback_model="b", retry_failed=True)
    assert sorted((each.messages[-1].text, each.model) for each in responder.asked) == [
        ("forbidden", "b"), ("long", "b"), ("long", "m"),
    ]  # fmt: skip
    assert [row["model"] for row in read_csv(tmp_path / "out.csv")] == ["m", "b", "b"]
    responder.asked.clear()
    await run(tmp_path, url, api="chat")
    await run(tmp_path, url, api="chat", retry_failed=True, fallback_model="c")
    assert responder.asked == []
    assert [row["model"] for row in read_csv(tmp_path / "out.csv")] == ["m", "b", "b"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"fallback_model": "m"}, "is the model itself"),
        ({"fallback_model": " "}, "expected the name of one model"),
        ({"fallback_model": "{{ question }}"}, "not a template"),
        ({"model": "tutor", "fallback_model": "b"}, "no API key"),
    ],
)
def test_what_is_refused(options: dict[str, Any], words: str) -> None:
    """A fallback model that cannot be one is refused before anything is sent; so is one beside the tutor."""
    job: dict[str, Any] = {"model": "m", **options}
    with pytest.raises(InputError, match=words):
        batchrun.run(["1 + 1"], **job)


def test_before_the_start(tmp_path: Path) -> None:
    """An estimate has the cost of the first model and what the other one may add; a budget needs both prices."""
    estimate = estimate_of(tmp_path, base_url="http://127.0.0.1:9/v1")
    assert estimate.cost is not None
    assert estimate.fallback_cost == 10 * estimate.cost
    assert any("if the fallback model b is asked about every row" in line for line in dry_run_lines(estimate))
    estimate = estimate_of(tmp_path, base_url="http://127.0.0.1:9/v1", prices={"m": PRICES["m"]}, budget=1)
    assert "for b at" in estimate.problems[0]


@pytest.mark.parametrize("api", ["assistants", "responses", "chat"])
def test_a_rehearsal(tmp_path: Path, api: str) -> None:
    """--script rehearses the fallback after a content filter, in each protocol."""
    write_csv(tmp_path / "in.csv", TABLE[:2])
    (tmp_path / "s.jsonl").write_text(
        '{"model": "m", "pattern": "forbidden", "finish": "content_filter", "reply": "No."}\n{"default": {"reply": "yes"}}\n'
    )
    options = ("--script", "s.jsonl", "--api", api, "--model", "m", "--fallback-model", "b")
    assert command(tmp_path, "run", "in.csv", "-o", "out.csv", *options).returncode == 0
    assert [row["model"] for row in read_csv(tmp_path / "out.csv")] == ["m", "b"]
